//! Embedders from sentence-transformers directories: their vectors against those of
//! sentence-transformers, texts beyond the maximum, and directories that cannot be used.
//! `scripts/fixtures/make_embedders.py` makes the fixtures.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod bad_input;
mod directory;
mod parity;
mod windows;
