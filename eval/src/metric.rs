//! Scores of answers, fidelity to full prefill, and summaries of samples. Pure.
//!
//! Every score is defined for an empty answer and for no references: it is then 0, or what the
//! work it follows says. What has no value (an interval of nothing) is `None`.

mod answer;
mod bootstrap;
mod deviation;
mod fidelity;
mod name;
mod porter;
mod rouge;
mod ruler;
mod sample;

pub use answer::{
    first_line, is_exact_match, is_normalised_match, normalise_answer, normalised_f1,
    parse_generation, token_f1, word_f1,
};
pub use bootstrap::{bootstrap_ci, paired_difference_ci};
pub use deviation::{spearman, top_share};
pub use fidelity::relative_l2;
pub use name::{Metric, UnknownMetric};
pub use ragweave_server::fidelity::{KL_CAP, agrees_on_top1, kl_divergence};
pub use rouge::rouge_l;
pub use ruler::string_match;
pub use sample::{column_means, mean, median, ms, percentile, share};
