//! Tests of the store through its public API and its files. One binary, so that RocksDB is linked
//! once.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod compat;
mod concurrent;
mod corruption;
mod crash;
mod disks;
mod documents;
mod harness;
mod kv_io;
mod model;
mod opening;
mod power_loss;
mod readme;
mod recovery;
mod round_trip;
mod verify;
mod write_faults;
