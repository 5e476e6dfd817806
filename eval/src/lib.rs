//! Measures ragweave against full prefill: `logits` for cross-checks with other implementations,
//! `compare` and `quality` for answers and fidelity, `ttft` and `bench` for time alone, `load` for time
//! under many requests, `decay` for time over many different ones, `index` and `retrieval` for search, `tune` for the choice of a policy,
//! and `report` for pages with charts and tables of what runs measured.
//!
//! ```
//! use ragweave_eval::metric;
//!
//! assert!(metric::is_exact_match(" Belhaven\n", &["Belhaven".to_owned()]));
//! assert_eq!(metric::median(&[3.0, 1.0, 2.0]), Some(2.0));
//! ```

pub mod cli;

mod compare;
mod controller;
mod decay;
mod embed;
mod index;
mod load;
mod logits;
mod quality;
mod report;
mod retrieval;
mod tokens;
mod ttft;
mod tune;

pub mod dataset;
mod examiner;
mod experiment;
mod flags;
pub mod metric;
pub mod mode_spec;
mod query;
mod random;
mod run_dir;
mod shelf;
mod subject;
mod table;
mod vectors;
