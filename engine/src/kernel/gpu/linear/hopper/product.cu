// out = x w^T, of 16-bit x [m, k] and one or two w [n, k], summed in f32; a residual may be added.
//
// One warpgroup copies tiles of x and w into a ring of stages in shared memory; each of the others multiplies 64
// rows of the tile. A block takes tiles until none is left, so that the copies for the next run while the sums of
// this one are written.
//
// Defined for each kernel:
//   NAME
//   GROUPS     warpgroups that multiply
//   COLUMNS    rows of w in a stage
//   STAGES     of the ring
//   GATED      1: out is f(x first^T) * (x second^T), of two w
//   GELU       1: f is GELU in its tanh form; 0: f is SiLU
//   PARTIAL    1: out is f32, [parts, weights, m, n], each part the sum over some of k
//   multiply, pack, unpack: the instructions for the dtype of x and w

struct Sizes {
    unsigned m;
    unsigned n;      // columns of out, a multiple of 16
    unsigned stages; // along k, in all
    unsigned part;   // stages of a part
    unsigned parts;
    unsigned weights; // 1 or 2; out is [weights, m, n]
    unsigned adds;    // 1: to a residual [m, n]
};

#if PARTIAL
typedef float Out;
#else
typedef unsigned short Out; // 16 bits of any kind
#endif

static constexpr unsigned ROWS = GROUPS * 64;
static constexpr unsigned SUMS = COLUMNS / 2; // of a thread
static constexpr unsigned X_BYTES = ROWS * SPAN * 2;
static constexpr unsigned W_BYTES = COLUMNS * SPAN * 2;
static constexpr unsigned STAGE_BYTES = X_BYTES + W_BYTES;
static constexpr unsigned OUT_COLUMNS = GATED ? COLUMNS / 2 : COLUMNS;

// Work of a block: columns of out, and stages along k.
struct Tile {
    unsigned row, column, weight, first, last, part;
};

// Columns of tiles over all results: a gated product has one result, although it has two weights.
__device__ __forceinline__ unsigned columns_of(const Sizes &sizes) {
    return (sizes.n + OUT_COLUMNS - 1) / OUT_COLUMNS * (GATED ? 1 : sizes.weights);
}

__device__ __forceinline__ unsigned tiles_of(const Sizes &sizes) {
    return (sizes.m + ROWS - 1) / ROWS * columns_of(sizes) * sizes.parts;
}

// Rows first: blocks that work at the same time share columns of w.
__device__ __forceinline__ Tile tile_of(unsigned index, const Sizes &sizes) {
    unsigned rows = (sizes.m + ROWS - 1) / ROWS, columns = (sizes.n + OUT_COLUMNS - 1) / OUT_COLUMNS;
    unsigned column = index / rows % columns_of(sizes);
    Tile tile;
    tile.row = index % rows * ROWS;
    tile.column = column % columns * OUT_COLUMNS;
    tile.weight = column / columns;
    tile.part = index / (rows * columns_of(sizes));
    tile.first = tile.part * sizes.part;
    tile.last = min(tile.first + sizes.part, sizes.stages);
    return tile;
}

typedef Ring<STAGES, STAGE_BYTES> Stages;

// Computes the sums of a tile whose first stage is the `i`-th of the block; ends when its last stage may be refilled.
__device__ __forceinline__ void add_stages(float (&sums)[SUMS], const Stages &ring, unsigned i, const Tile &tile) {
    unsigned group = threadIdx.x / 128 - 1;
    for (unsigned stage = tile.first; stage < tile.last; stage++, i++) {
        ring.await_full(i);
        unsigned at = ring.tile(i);
        unsigned long long x = matrix_at(at + group * 64 * SPAN * 2, 0), w = matrix_at(at + X_BYTES, 0);
        begin_products();
#pragma unroll
        for (unsigned step = 0; step < SPAN / 16; step++) // 16 values are 32 bytes, two units of an address
            multiply(sums, x + step * 2, w + step * 2, stage > tile.first || step > 0);
        commit_products();
        if (stage > tile.first) {
            await_products<1>(sums);
            ring.release(i - 1);
        }
    }
    await_products<0>(sums);
    ring.release(i - 1);
}

#if GELU
// (1 + tanh y) / 2 is 1 / (1 + e^-2y); the factors are sqrt(8 / pi) and 0.044715 sqrt(8 / pi).
__device__ __forceinline__ float activate(float x) { return x / (1.0f + __expf(-x * (1.59576912f + 0.0713548163f * x * x))); }
#else
__device__ __forceinline__ float activate(float x) { return x / (1.0f + __expf(-x)); }
#endif

// A thread holds two rows, eight apart, and of each eight columns a pair.
#if PARTIAL
__device__ __forceinline__ void write(const float (&sums)[SUMS], const unsigned *, Out *out, const Tile &tile, const Sizes &sizes) {
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32 - 4;
    unsigned first = tile.row + warp * 16 + lane / 4;
#pragma unroll
    for (unsigned eight = 0; eight < COLUMNS / 8; eight++) {
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            unsigned row = first + half * 8, column = tile.column + eight * 8 + lane % 4 * 2, at = eight * 4 + half * 2;
            unsigned long long line = (unsigned long long)(tile.part * sizes.weights + tile.weight) * sizes.m + row;
            if (row < sizes.m && column < sizes.n)
                *(float2 *)(out + line * sizes.n + column) = make_float2(sums[at], sums[at + 1]);
        }
    }
}
#else
// The pair that begins at `at`, in `row` and from `column` on.
__device__ __forceinline__ unsigned pair_of(
    const float (&sums)[SUMS], unsigned at, const unsigned *residual, unsigned row, unsigned column, const Sizes &sizes) {
    float a = sums[at], b = sums[at + 1];
#if GATED
    a = activate(a) * sums[at + SUMS / 2];
    b = activate(b) * sums[at + SUMS / 2 + 1];
#else
    if (sizes.adds && row < sizes.m && column < sizes.n) {
        float2 added = unpack(residual[((unsigned long long)row * sizes.n + column) / 2]);
        a += added.x;
        b += added.y;
    }
#endif
    return pack(a, b);
}

__device__ __forceinline__ void write(const float (&sums)[SUMS], const unsigned *residual, Out *out, const Tile &tile, const Sizes &sizes) {
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32 - 4;
    unsigned first = tile.row + warp * 16 + lane / 4;
#pragma unroll
    for (unsigned eight = 0; eight < OUT_COLUMNS / 8; eight += 2) {
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            unsigned row = first + half * 8, column = tile.column + eight * 8, at = eight * 4 + half * 2;
            unsigned pair = column + lane % 4 * 2;
            uint2 four = four_of(pair_of(sums, at, residual, row, pair, sizes), pair_of(sums, at + 4, residual, row, pair + 8, sizes));
            column += column_of_four();
            unsigned long long line = (unsigned long long)tile.weight * sizes.m + row;
            if (row < sizes.m && column < sizes.n) *(uint2 *)(out + line * sizes.n + column) = four;
        }
    }
}
#endif

extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1) NAME(
    const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap first_map, const __grid_constant__ TensorMap second_map,
    const void *x, const void *first, const void *second,
    const unsigned *residual, // [m, n / 2]
    Out *out, const __grid_constant__ Sizes sizes) {
    extern __shared__ unsigned char shared[];
    unsigned base = first_tile(shared);
    Stages ring(base, base + STAGES * STAGE_BYTES);
    __syncthreads();
    unsigned i = 0; // stages of the block so far
    if (threadIdx.x < 128) {
        give_registers();
        if (threadIdx.x != 0) return;
        for (unsigned index = blockIdx.x; index < tiles_of(sizes); index += gridDim.x) {
            Tile tile = tile_of(index, sizes);
            const TensorMap &w_map = tile.weight == 0 ? first_map : second_map;
            for (unsigned stage = tile.first; stage < tile.last; stage++, i++) {
                ring.begin_fill(i);
                unsigned full = ring.full_at(i), at = ring.tile(i), k = stage * SPAN;
                copy(at, x_map, full, k, tile.row);
                copy(at + X_BYTES, w_map, full, k, tile.column);
#if GATED
                copy(at + X_BYTES + W_BYTES / 2, second_map, full, k, tile.column);
#endif
            }
        }
    } else {
        take_registers();
        for (unsigned index = blockIdx.x; index < tiles_of(sizes); index += gridDim.x) {
            Tile tile = tile_of(index, sizes);
            float sums[SUMS];
            add_stages(sums, ring, i, tile);
            i += tile.last - tile.first;
            write(sums, residual, out, tile, sizes);
        }
    }
}
