//! Measures ragweave against full prefill: `logits` for cross-checks with other implementations,
//! `compare` for answer quality and time to first token on questions, `bench` for time alone,
//! `report` for pages with charts and tables of what runs measured.
//!
//! ```
//! use ragweave_eval::metric;
//!
//! assert!(metric::is_exact_match(" Belhaven\n", &["Belhaven".to_owned()]));
//! assert_eq!(metric::median(&[3.0, 1.0, 2.0]), Some(2.0));
//! ```

pub mod cli;

mod bench;
mod compare;
mod logits;
mod report;

mod dataset;
mod engine_args;
pub mod metric;
pub mod mode_spec;
mod progress;
mod rounds;
mod table;
