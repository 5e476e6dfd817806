//! The operations on the CPU backend.

use std::ops::Range;

use burn_flex::{Flex, FlexTensor};

use super::{FusionBackend, masked_softmax, overwrite_rows};

impl FusionBackend for Flex {
    fn overwrite_rows(buffer: FlexTensor, rows: FlexTensor, values: FlexTensor) -> FlexTensor {
        overwrite_rows::on_flex(buffer, rows, values)
    }

    fn masked_softmax(scores: FlexTensor, visible: &[Range<usize>]) -> FlexTensor {
        masked_softmax::on_flex(scores, visible)
    }
}

/// The tensor as one dense buffer. A dense tensor is moved, not cloned: a second reference would
/// turn the in-place write into a copy.
pub(super) fn whole(tensor: FlexTensor) -> FlexTensor {
    let dense = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.bytes().len() == tensor.layout().num_elements() * tensor.dtype().size();
    if dense {
        tensor
    } else {
        tensor.to_contiguous()
    }
}
