//! The CPU kernels one by one, each compared with its bound.
//!
//!     cargo bench -p ragweave-engine --bench kernels
//!
//! Products are compared with Burn's product of two 2048 x 2048 matrices, passes over memory with
//! reading a large array, both measured in the same run. Shapes are those of SmolLM2-135M.

mod bound;

use std::ops::Range;

use bound::{best, gemm_rate, read_rate};
use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use ragweave_engine::config::Activation;
use ragweave_engine::{
    KvDtype, KvSide, Rotation, StoredBlock, attend_rows, glu, place_block, project, rms_norm,
    row_distance, weight,
};

const HIDDEN: usize = 576;
const MLP: usize = 1536;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
const CONTEXT: usize = 3136;

type T<const D: usize> = Tensor<Flex, D>;

fn random<const D: usize>(shape: [usize; D]) -> T<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn main() {
    let (gemm, read) = (gemm_rate(), read_rate());
    println!(
        "bounds: product {:.0} GFLOP/s, read {:.1} GB/s\n",
        gemm / 1e9,
        read / 1e9
    );
    println!(
        "{:<44} {:>10} {:>10} {:>7}",
        "kernel", "time", "rate", "bound"
    );
    products(gemm, read);
    attention(gemm, read);
    passes(read);
}

fn flops(name: &str, flops: f64, bound: f64, work: impl FnMut()) {
    report(name, flops, bound, "GFLOP/s", work);
}

fn bytes(name: &str, bytes: f64, bound: f64, work: impl FnMut()) {
    report(name, bytes, bound, "GB/s", work);
}

fn report(name: &str, amount: f64, bound: f64, unit: &str, mut work: impl FnMut()) {
    work();
    let seconds = best(work);
    let rate = amount / seconds;
    println!(
        "{name:<44} {:>7.2} ms {:>7.1} {unit:<8} {:>4.0} %",
        seconds * 1e3,
        rate / 1e9,
        100.0 * rate / bound
    );
}

fn products(gemm: f64, read: f64) {
    for dtype in [DType::F32, DType::F16] {
        let name = dtype.name();
        for [n, k] in [[MLP, HIDDEN], [HIDDEN, MLP]] {
            let matrix = random([n, k]).cast(dtype);
            let packed = weight::<Flex>(matrix.clone());
            for m in [8, 64, 448] {
                let work = 2.0 * (m * n * k) as f64;
                let x = random([m, k]).cast(dtype);
                let shape = format!("{m} x {k} to {n}, {name}");
                flops(&format!("project {shape}"), work, gemm, || {
                    std::hint::black_box(project(x.clone(), &packed));
                });
                flops("  the same, Burn's product", work, gemm, || {
                    std::hint::black_box(x.clone().matmul(matrix.clone().transpose()));
                });
            }
        }
        // As many outputs as a vocabulary: the weight is read from memory, as all weights are in decoding.
        let head = weight::<Flex>(random([49152, HIDDEN]).cast(dtype));
        let x = random([1, HIDDEN]).cast(dtype);
        let size = (49152 * HIDDEN * dtype.size()) as f64;
        bytes(
            &format!("project 1 x {HIDDEN} to 49152, {name}"),
            size,
            read,
            || {
                std::hint::black_box(project(x.clone(), &head));
            },
        );
    }
}

fn attention(gemm: f64, read: f64) {
    let (k, v) = (
        random([CONTEXT, KV_HEADS, HEAD_DIM]),
        random([CONTEXT, KV_HEADS, HEAD_DIM]),
    );
    let every = |step: usize| (0..CONTEXT).step_by(step).map(|row| 0..row + 1).collect();
    let visible: [(&str, Vec<Range<usize>>); 3] = [
        ("all rows", every(1)),
        ("scattered rows, 1 in 7", every(7)),
        (
            "the last 64 rows",
            (CONTEXT - 64..CONTEXT).map(|row| 0..row + 1).collect(),
        ),
    ];
    for (name, visible) in visible {
        let q = random([visible.len(), HEADS, HEAD_DIM]);
        let pairs: usize = visible.iter().map(Range::len).sum();
        let work = 4.0 * (pairs * HEADS * HEAD_DIM) as f64;
        flops(&format!("attend, {name}"), work, gemm, || {
            std::hint::black_box(attend_rows(q.clone(), k.clone(), v.clone(), &visible));
        });
    }
    let q = random([1, HEADS, HEAD_DIM]);
    let size = (2 * CONTEXT * KV_HEADS * HEAD_DIM * 4) as f64;
    let visible: Vec<Range<usize>> = std::iter::once(0..CONTEXT).collect();
    bytes("attend, one row (in cache)", size, read, || {
        std::hint::black_box(attend_rows(q.clone(), k.clone(), v.clone(), &visible));
    });
}

fn passes(read: f64) {
    let shape = [CONTEXT, KV_HEADS, HEAD_DIM];
    let rotation = Rotation::new(
        &random([CONTEXT, 1, HEAD_DIM]),
        &random([CONTEXT, 1, HEAD_DIM]),
    );
    for dtype in [KvDtype::F32, KvDtype::F16, KvDtype::Int8] {
        let [k, v] = [KvSide::K, KvSide::V].map(|side| vec![0u8; dtype.block_bytes(side, shape)]);
        let mut buffers = Some([random(shape), random(shape)]);
        bytes(
            &format!("place K and V, {dtype} to f32"),
            (k.len() + v.len()) as f64,
            read,
            || {
                let block = StoredBlock::new(&k, &v, dtype, shape);
                buffers = buffers
                    .take()
                    .map(|buffers| place_block(buffers, 0, &block, &rotation));
            },
        );
    }
    let (a, b) = (random(shape), random(shape));
    bytes(
        "deviation",
        (2 * CONTEXT * KV_HEADS * HEAD_DIM * 4) as f64,
        read,
        || {
            std::hint::black_box(row_distance(a.clone(), b.clone()));
        },
    );
    let (x, scale) = (random([CONTEXT, HIDDEN]), random([HIDDEN]));
    bytes("RMSNorm", (2 * CONTEXT * HIDDEN * 4) as f64, read, || {
        std::hint::black_box(rms_norm(x.clone(), &scale, 1e-5));
    });
    let (gate, up) = (random([512, MLP]), random([512, MLP]));
    for (name, activation) in [
        ("SwiGLU", Activation::Silu),
        ("GeGLU (tanh)", Activation::GeluTanh),
    ] {
        bytes(name, (3 * 512 * MLP * 4) as f64, read, || {
            std::hint::black_box(glu(gate.clone(), up.clone(), activation));
        });
    }
}
