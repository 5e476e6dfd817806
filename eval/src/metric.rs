//! Scores of answers, fidelity to full prefill, and summaries of samples. Pure.
//!
//! Every score is defined for an empty answer and for no references: it is then 0, or what the
//! work it follows says. What has no value (an interval of nothing) is `None`.

mod bootstrap;
mod deviation;
mod exact_match;
mod f1;
mod fidelity;
mod name;
mod normalise;
mod normalised_f1;
mod porter;
mod rouge;
mod ruler;
mod sample;
mod token_f1;

pub use bootstrap::{bootstrap_ci, paired_difference_ci};
pub use deviation::{spearman, top_share};
pub use exact_match::{is_exact_match, is_normalised_match};
pub use f1::word_f1;
pub use fidelity::{KL_CAP, agrees_on_top1, kl_divergence, relative_l2};
pub use name::{Metric, UnknownMetric};
pub use normalise::normalise_answer;
pub use normalised_f1::normalised_f1;
pub use rouge::rouge_l;
pub use ruler::string_match;
pub use sample::{mean, median, ms, percentile, share};
pub use token_f1::{first_line, parse_generation, token_f1};
