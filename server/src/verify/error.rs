//! Why a model could not be probed.

use ragweave_engine::EngineError;

use crate::prompt::PromptError;

/// Why no verdict could be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(
        "the context of {context} tokens leaves {room} for chunks, too few to probe; raise limits.max_model_len"
    )]
    ContextTooShort { context: usize, room: usize },
    #[error(
        "the context leaves {room} tokens for chunks, which two passages of one sentence do not fit: no policy can be \
         compared with plain reuse; raise limits.max_model_len"
    )]
    NothingToFuse { room: usize },
}
