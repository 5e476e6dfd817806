//! The network: a decoder-only transformer with grouped heads, as layers that take rows at
//! arbitrary positions. `fusion` decides the order of the work (prefill, fusion, decode).

mod attention;
mod decoder;
mod index;
mod layer;
mod linear;
pub(crate) mod load;
mod norm;
mod rope;
mod tensor_names;

pub use decoder::Decoder;
pub(crate) use index::row_tensor;
pub use layer::{DecoderLayer, SequenceRows};
pub use rope::{RopeRows, RopeTable};
