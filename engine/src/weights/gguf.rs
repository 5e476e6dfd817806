//! The weights of a GGUF file, under the names of the Hugging Face model.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contents::{Contents, Shard, TensorPlace};
use super::convert::WeightDtype;
use crate::error::EngineError;
use crate::model_files::gguf::GgufModel;
use crate::model_files::gguf::container::Tensor;
use crate::model_files::gguf::family::{Family, Named};
use crate::model_files::gguf::rope_freqs;
use crate::model_files::gguf::tensor_type::TensorType;

/// What states the shapes of the tensors.
const CONFIG: &str = "metadata";

/// The tensors of all parts.
///
/// # Errors
/// [`EngineError::ModelFile`] for a tensor that the family does not have: a model that needs it would be
/// computed wrongly without.
pub(super) fn open(model: &GgufModel) -> Result<Contents, EngineError> {
    let (family, heads) = (model.family()?, model.heads()?);
    let mut tensors = BTreeMap::new();
    // RoPE's scaling is read with the metadata.
    for (shard, part) in model.parts().enumerate() {
        for (name, tensor) in part
            .tensors
            .iter()
            .filter(|(name, _)| *name != rope_freqs::TENSOR)
        {
            let named = family.named(name, &heads).ok_or_else(|| {
                EngineError::model_file(part.file.path(), unexpected(name, family))
            })?;
            let place = place(shard, name, tensor, &named);
            tensors.insert(named.name, place);
        }
    }
    let shards = model.parts().map(|part| Shard {
        file: Arc::clone(&part.file),
        len_bytes: part.file_bytes,
    });
    Ok(Contents {
        shards: shards.collect(),
        tensors,
        config: CONFIG,
    })
}

fn place(shard: usize, name: &str, tensor: &Tensor, named: &Named) -> TensorPlace {
    TensorPlace {
        shard,
        offset_bytes: tensor.offset_bytes,
        len_bytes: tensor.len_bytes,
        shape: tensor.shape.clone(),
        dtype: Ok(match tensor.kind {
            TensorType::F32 => WeightDtype::F32,
            TensorType::F16 => WeightDtype::F16,
            TensorType::Bf16 => WeightDtype::Bf16,
            TensorType::Block(block) => WeightDtype::Block(block),
        }),
        stored: named.stored,
        file_name: Some(name.to_owned()),
    }
}

fn unexpected(name: &str, family: Family) -> String {
    format!(
        "has a tensor {name}, which the model family {} does not have here; this variant of it is \
         not supported",
        family.name()
    )
}
