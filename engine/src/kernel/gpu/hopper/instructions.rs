//! Functions of one instruction each, in CUDA, for a dtype and a width.

use std::ops::Range;

use burn::tensor::DType;

/// Where `wgmma` has the left side of a product. The right one is in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Left {
    Shared,
    Registers,
}

/// The layout of a product's right side in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Right {
    /// A row for each column of the product.
    Transposed,
    /// A row for each step along the sum.
    AsItIs,
}

/// A function that adds the product of 64 rows, 16 deep, and `columns` columns to its `sums`; it starts from zero if
/// `add` is 0.
pub(in crate::kernel) fn multiply(
    name: &str,
    dtype: DType,
    columns: usize,
    left: Left,
    right: Right,
) -> String {
    let (n, dtype) = (columns / 2, ptx_name(dtype));
    let numbered = |numbers: Range<usize>, item: &dyn Fn(usize) -> String| {
        let items: Vec<String> = numbers.map(item).collect();
        items.join(", ")
    };
    let register = |i: usize| format!("%{i}");
    let sums = numbered(0..n, &register);
    let outputs = numbered(0..n, &|i| format!("\"+f\"(sums[{i}])"));
    let (parameter, input, operand, n_left) = match left {
        Left::Shared => (
            "unsigned long long left",
            "\"l\"(left)".to_owned(),
            register(n),
            1,
        ),
        Left::Registers => {
            let inputs = numbered(0..4, &|i| format!("\"r\"(left[{i}])"));
            let operand = format!("{{{}}}", numbered(n..n + 4, &register));
            ("const unsigned (&left)[4]", inputs, operand, 4)
        }
    };
    let (right_operand, add) = (n + n_left, n + n_left + 1);
    // Signs of both sides, then the layout of each side that is in shared memory.
    let layouts = match (left, right) {
        (Left::Shared, Right::Transposed) => "1, 1, 0, 0",
        (Left::Shared, Right::AsItIs) => "1, 1, 0, 1",
        (Left::Registers, Right::Transposed) => "1, 1, 0",
        (Left::Registers, Right::AsItIs) => "1, 1, 1",
    };
    format!(
        "__device__ __forceinline__ void {name}(float (&sums)[{n}], {parameter}, unsigned long long right, int add) {{
    asm volatile(\"{{ .reg .pred add; setp.ne.b32 add, %{add}, 0; \"
        \"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{dtype}.{dtype} {{{sums}}}, {operand}, %{right_operand}, add, {layouts}; }}\"
        : {outputs} : {input}, \"l\"(right), \"r\"(add));
}}
"
    )
}

/// `pack`: two sums rounded to 16 bits each, the first in the lower half; `unpack`: back.
pub(super) fn pack(dtype: DType) -> String {
    let widen = match dtype {
        DType::F16 => {
            "unsigned short first = pair, second = pair >> 16;
    float2 both;
    asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(both.x) : \"h\"(first));
    asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(both.y) : \"h\"(second));
    return both;"
        }
        _ => "return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000));",
    };
    let dtype = ptx_name(dtype);
    format!(
        "__device__ __forceinline__ unsigned pack(float first, float second) {{
    unsigned pair;
    asm(\"cvt.rn.{dtype}x2.f32 %0, %2, %1;\" : \"=r\"(pair) : \"f\"(first), \"f\"(second));
    return pair;
}}
__device__ __forceinline__ float2 unpack(unsigned pair) {{
    {widen}
}}
"
    )
}

fn ptx_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "f16",
        _ => "bf16",
    }
}
