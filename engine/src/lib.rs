//! The engine: model, KV, fusion, kernels and decoding, on Burn.

pub mod config;
pub mod error;
pub mod weights;

pub use config::ModelConfig;
pub use error::EngineError;
