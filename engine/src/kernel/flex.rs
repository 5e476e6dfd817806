//! The operations on Flex, the CPU backend.

use std::ops::Range;

use burn_flex::{Flex, FlexTensor};

use super::backend::FusionBackend;
use super::linear::FlexWeight;
use super::rotate::Rotation;
use super::{
    add, attend, glu, masked_softmax, overwrite_rows, place_rows, rms_norm, rotate, row_distance,
};
use crate::config::Activation;
use crate::kv::StoredBlock;

impl FusionBackend for Flex {
    type Weight = FlexWeight;

    fn close_by<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| work())
    }

    fn weight(matrix: FlexTensor) -> FlexWeight {
        FlexWeight::new(matrix)
    }

    fn project(x: FlexTensor, weight: &FlexWeight) -> FlexTensor {
        weight.project(x)
    }

    fn embed(weight: &FlexWeight, ids: &[u32]) -> FlexTensor {
        weight.rows(ids)
    }

    fn overwrite_rows(buffer: FlexTensor, rows: FlexTensor, values: FlexTensor) -> FlexTensor {
        overwrite_rows::on_flex(buffer, rows, values)
    }

    fn place_block(
        [k, v]: [FlexTensor; 2],
        start: usize,
        block: &StoredBlock<'_>,
        rotation: &Rotation<Flex>,
    ) -> [FlexTensor; 2] {
        [
            place_rows::on_flex(k, start, block.k(), Some(rotation)),
            place_rows::on_flex(v, start, block.v(), None),
        ]
    }

    fn rotate(x: FlexTensor, rotation: &Rotation<Flex>) -> FlexTensor {
        rotate::on_flex(x, rotation)
    }

    fn attend_rows(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        visible: &[Range<usize>],
    ) -> FlexTensor {
        attend::on_flex(q, k, v, visible)
    }

    fn masked_softmax(scores: FlexTensor, visible: &[Range<usize>]) -> FlexTensor {
        masked_softmax::on_flex(scores, visible)
    }

    fn row_distance(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        row_distance::on_flex(a, b)
    }

    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        rms_norm::on_flex(x, weight, eps)
    }

    fn add(x: FlexTensor, y: FlexTensor) -> FlexTensor {
        add::on_flex(x, y)
    }

    fn glu(gate: FlexTensor, up: FlexTensor, activation: Activation) -> FlexTensor {
        glu::on_flex(gate, up, activation)
    }
}
