//! Questions with answers: over chunks of a data directory (`questions`), or over documents of their own.

mod example;
mod questions;

pub use example::{Dataset, Example, SkippedLine, Task};
pub(crate) use questions::{Question, read_questions};
