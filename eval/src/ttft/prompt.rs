//! A prompt of random ids in a given shape.

use clap::Args;
use ragweave_engine::PromptSegments;
use serde::Serialize;

use crate::flags::parse_count;
use crate::random::Random;

/// Lengths of a prompt's segments, in tokens; the number of chunks is the command's.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct PromptShape {
    /// Tokens of each chunk
    #[arg(long, value_name = "N", default_value = "512", value_parser = parse_count)]
    pub(crate) chunk_tokens: usize,
    /// Tokens of the question
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse_count)]
    pub(crate) question_tokens: usize,
    /// Tokens before the first chunk: system text, whose KV every mode takes from the device's cache, full prefill too;
    /// without any, full prefill computes the whole prompt
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) prefix_tokens: usize,
    /// Seed of the token ids
    #[arg(long, value_name = "SEED", default_value = "0")]
    #[serde(skip)]
    pub(crate) seed: u64,
}

impl PromptShape {
    /// A prompt of that many chunks, with ids below `vocab_size`.
    pub(crate) fn segments(&self, n_chunks: usize, vocab_size: usize) -> PromptSegments {
        let mut random = Random::new(self.seed);
        let mut ids = |n| (0..n).map(|_| random.below(vocab_size) as u32).collect();
        PromptSegments {
            prefix: ids(self.prefix_tokens),
            chunks: (0..n_chunks).map(|_| ids(self.chunk_tokens)).collect(),
            question: ids(self.question_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_its_shape_and_depends_on_its_seed() {
        let shape = PromptShape {
            chunk_tokens: 7,
            question_tokens: 2,
            prefix_tokens: 0,
            seed: 5,
        };
        let segments = shape.segments(3, 11);
        assert_eq!(segments.n_tokens(), 23);
        assert_eq!(segments.chunks.len(), 3);
        assert!(segments.token_ids().iter().all(|&id| id < 11));
        assert_ne!(segments.chunks[0], segments.chunks[1]);
        assert_eq!(segments, shape.segments(3, 11));
        assert_ne!(segments, PromptShape { seed: 6, ..shape }.segments(3, 11));
    }
}
