//! Questions with answers: over chunks of a data directory (`questions`), or over documents of
//! their own, read from files or made ([`open`]).
//!
//! Lines that cannot be read are skipped, counted and listed in the [`Dataset`]; a file without
//! one good line is an error.

mod example;
mod source;

mod demo_world;
mod jsonl;
mod longbench;
mod musique;
mod ruler;

mod collector;
mod json;
mod questions;

pub use example::{Dataset, Example, SkippedLine, Task};
pub(crate) use json::{lines, parse_line};
pub(crate) use questions::{Question, read_questions};
pub use ruler::{RulerTask, UnknownRulerTask};
pub use source::{Format, Making, Source, UnknownDataset, open};
