//! From logits to the next token, and from text to the place where an answer stops. Pure values:
//! the same parameters, seed and logits give the same answer on every machine.

mod params;
mod random;
mod sampler;
mod stop;

pub use params::SamplingParams;
pub(crate) use random::Random;
pub(crate) use sampler::{Sampled, Sampler, TokenHistory};
pub use sampler::{TokenLogprob, TopLogprob};
pub(crate) use stop::StopMatcher;
