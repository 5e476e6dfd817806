//! Fragments of 16-bit matrices, which tensor cores multiply: 16 x 16 by 16 x 8, summed in f32.
//!
//! A lane of a plane holds parts of each fragment, two values to a register: "Matrix Fragments for
//! mma.m16n8k16" in the PTX ISA. Of sums it holds the rows `lane_row` and eight below, and of each eight
//! columns two, from `lane_column`.

use burn_cubecl::CubeRuntime;
use cubecl::cmma::MmaDefinition;
use cubecl::features::MmaConfig;
use cubecl::ir::MatrixIdent;
use cubecl::prelude::*;

/// Two values side by side: one register of 16-bit values.
pub(super) type Pair<N> = Vector<N, Const<2>>;
/// 16 bytes: one row of the 8 x 8 matrices that are loaded together.
pub(super) type Octet<F> = Vector<F, Const<8>>;
/// Registers of one fragment: four of a left one, two of a right one or of sums.
pub(super) type Fragment<N> = Array<Pair<N>>;

/// Units of a plane, over which fragments are spread.
pub(super) const PLANE_UNITS: usize = 32;
/// Values of an octet.
pub(super) const OCTET: usize = 8;

/// Whether the device multiplies fragments of this type, and copies to shared memory while it does.
pub(super) fn are_supported<R: CubeRuntime>(client: &ComputeClient<R>, dtype: StorageType) -> bool {
    let properties = client.properties();
    let product = MmaConfig {
        a_type: dtype,
        b_type: dtype,
        cd_type: f32::cube_type(),
        m: 16,
        n: 8,
        k: 16,
    };
    let matmul = &properties.features.matmul;
    let hardware = &properties.hardware;
    hardware.plane_size_min as usize == PLANE_UNITS
        && hardware.plane_size_max as usize == PLANE_UNITS
        && properties.features.copy_async
        && matmul.mma.contains(&product)
        && matmul.ldmatrix.contains(&dtype)
}

#[cube]
pub(super) fn lane() -> usize {
    UNIT_POS as usize % PLANE_UNITS
}

#[cube]
pub(super) fn plane() -> usize {
    UNIT_POS as usize / PLANE_UNITS
}

/// The lane's first row of sums.
#[cube]
pub(super) fn lane_row() -> usize {
    lane() / 4
}

/// The lane's first column of each eight.
#[cube]
pub(super) fn lane_column() -> usize {
    lane() % 4 * 2
}

#[cube]
pub(super) fn zeros() -> Fragment<f32> {
    let mut pairs = Array::<Pair<f32>>::new(2usize);
    pairs[0] = Pair::<f32>::new(0.0);
    pairs[1] = Pair::<f32>::new(0.0);
    pairs
}

/// `n` fragments of zeros.
#[cube]
pub(super) fn new_sums(#[comptime] n: usize) -> Sequence<Fragment<f32>> {
    let mut sums = Sequence::<Fragment<f32>>::new();
    #[unroll]
    for _ in 0..n {
        sums.push(zeros());
    }
    sums
}

/// `sums += left * right`.
#[cube]
pub(super) fn multiply_add<F: Float>(
    left: &Fragment<F>,
    right: &Fragment<F>,
    sums: &mut Fragment<f32>,
) {
    let def = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    def.execute_inplace(left, right, sums);
}

/// The four 8 x 8 matrices whose rows begin at the octets that the lanes name, eight lanes a matrix.
#[cube]
fn load_four<F: Float>(
    shared: &SharedMemory<Octet<F>>,
    at: usize,
    #[comptime] transpose: bool,
) -> Fragment<F> {
    let def = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let row = shared.slice(at, at + 1);
    def.load_matrix::<Octet<F>, Const<2>>(&row, MatrixIdent::A, 4usize, transpose)
}

/// A left fragment: 16 rows from `row`, two octets from `octet`; rows are `stride` octets apart.
#[cube]
pub(super) fn load_left<F: Float>(
    shared: &SharedMemory<Octet<F>>,
    row: usize,
    octet: usize,
    #[comptime] stride: usize,
) -> Fragment<F> {
    let at = (row + lane() % 16) * stride + octet + lane() / 16;
    load_four(shared, at, false)
}

/// Adds two right fragments to `fragments`: the columns are stored as the 16 rows from `row`, so that the product
/// is with the transpose of what is stored.
#[cube]
pub(super) fn load_right_transposed<F: Float>(
    fragments: &mut Sequence<Fragment<F>>,
    shared: &SharedMemory<Octet<F>>,
    row: usize,
    octet: usize,
    #[comptime] stride: usize,
) {
    let at = (row + lane() / 16 * 8 + lane() % 8) * stride + octet + lane() / 8 % 2;
    push_halves(fragments, &load_four(shared, at, false));
}

/// Adds two right fragments to `fragments`: 16 rows from `row`, the octet at `octet` and the one after it.
#[cube]
pub(super) fn load_right<F: Float>(
    fragments: &mut Sequence<Fragment<F>>,
    shared: &SharedMemory<Octet<F>>,
    row: usize,
    octet: usize,
    #[comptime] stride: usize,
) {
    let at = (row + lane() % 16) * stride + octet + lane() / 16;
    push_halves(fragments, &load_four(shared, at, true));
}

#[cube]
fn push_halves<F: Float>(fragments: &mut Sequence<Fragment<F>>, four: &Fragment<F>) {
    #[unroll]
    for i in 0..2usize {
        let mut half = Array::<Pair<F>>::new(2usize);
        half[0] = four[i * 2];
        half[1] = four[i * 2 + 1];
        fragments.push(half);
    }
}
