//! Between text and token ids: the tokenizer, the chat template and the incremental
//! detokeniser of a model directory.

mod bytes;
mod codec;
mod detokenize;
mod named_tokens;
mod template;
mod token_decoder;

pub use codec::TextCodec;
pub use detokenize::Detokenizer;
pub use template::{ChatMessage, ChatTemplate};

#[cfg(test)]
mod tests;
