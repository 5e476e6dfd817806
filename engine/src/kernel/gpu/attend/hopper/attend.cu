// Attention of rows over ranges of keys, after FlashAttention-3 (arXiv 2407.08608): a line is a row and one of the
// query heads that share a KV head.
//
// One warpgroup copies tiles of K and V; each of the others keeps 64 lines in registers: queries, softmax and sums.
// While it weighs the scores of one tile, the tensor cores add the weighted values of the previous tile.
//
// Defined for each kernel:
//   NAME
//   GROUPS     warpgroups that multiply
//   HEAD       dimensions of a head, 64 or 128
//   KEYS       of a tile
//   STAGES     tiles of K, and of V, in shared memory
//   PARTIAL    1: a block takes a part of the keys; out is f32 [parts, m, heads, HEAD], sums, and states
//              [parts, m, heads, 2] a peak and a total for each
//   multiply_keys, multiply_values, pack, unpack: the instructions for the dtype

struct Sizes {
    unsigned m;     // rows
    unsigned group; // query heads of a KV head
    unsigned part;  // keys of a part, whole tiles
};

static constexpr unsigned SPANS = HEAD / SPAN;
static constexpr unsigned LINES = GROUPS * 64;
static constexpr unsigned SPAN_BYTES = KEYS * SPAN * 2;
static constexpr unsigned TILE_BYTES = SPANS * SPAN_BYTES;
static constexpr unsigned NOBODY = ~0u;
static constexpr float HIDDEN = -3.402823466e+38f; // the score of a key that a line may not see

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Of a quad of lanes that hold two lines.
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

// A lane's two lines, eight apart.
struct Lines {
    unsigned q[HEAD / 16][4];
    float sums[HEAD / 2];
    float peaks[2], totals[2]; // the largest scores; sums of the lane's own weights
    unsigned from[2], to[2];   // the keys that each line sees
    unsigned heads[2];         // in [m, heads]
};

// Scores become weights under the new peaks; sums under the old peaks are scaled down.
__device__ __forceinline__ void weigh(float (&scores)[KEYS / 2], Lines &lines, float (&shrink)[2]) {
    const float scale = rsqrtf((float)HEAD) * 1.4426950408889634f; // and e to 2
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float peak = lines.peaks[r];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) peak = fmaxf(peak, fmaxf(scores[j * 4 + r * 2], scores[j * 4 + r * 2 + 1]));
        peak = quad_max(peak);
        shrink[r] = exp2_fast((lines.peaks[r] - peak) * scale);
        lines.peaks[r] = peak;
        // If a line has seen no key yet, all its scores are HIDDEN and count for nothing.
        float base = peak == HIDDEN ? 0.0f : peak * scale;
        float total = 0.0f;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float &score = scores[j * 4 + r * 2 + i];
                score = exp2_fast(fmaf(score, scale, -base));
                total += score;
            }
        lines.totals[r] = lines.totals[r] * shrink[r] + total;
    }
}

__device__ __forceinline__ void scale_sums(Lines &lines, const float (&shrink)[2]) {
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            lines.sums[j * 4 + r * 2] *= shrink[r];
            lines.sums[j * 4 + r * 2 + 1] *= shrink[r];
        }
}

// HIDDEN for keys that a line may not see.
__device__ __forceinline__ void mask(float (&scores)[KEYS / 2], const Lines &lines, unsigned start) {
    unsigned first = start + threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                unsigned key = first + j * 8 + i;
                if (key < lines.from[r] || key >= lines.to[r]) scores[j * 4 + r * 2 + i] = HIDDEN;
            }
}

// Scores of a tile's keys, not scaled.
__device__ __forceinline__ void score(float (&scores)[KEYS / 2], const Lines &lines, unsigned tile) {
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++)
        multiply_keys(scores, lines.q[step], matrix_at(tile + step / 4 * SPAN_BYTES + step % 4 * 32, 0), step > 0);
}

// Adds the weighted values of a tile.
__device__ __forceinline__ void accumulate(Lines &lines, const unsigned (&weights)[KEYS / 16][4], unsigned tile) {
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
        multiply_values(lines.sums, weights[step], matrix_at(tile + step * 2 * EIGHT_ROWS, SPAN_BYTES), 1);
}

// The sums of one product are the left side of the next.
__device__ __forceinline__ void pack_weights(const float (&scores)[KEYS / 2], unsigned (&weights)[KEYS / 16][4]) {
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
#pragma unroll
        for (int at = 0; at < 4; at++) {
            int j = (step * 2 + at / 2) * 4 + at % 2 * 2;
            weights[step][at] = pack(scores[j], scores[j + 1]);
        }
}

typedef Ring<STAGES, TILE_BYTES> Tiles;

// Begins to copy the `i`-th tile of a head, from key `row` on.
__device__ __forceinline__ void fill(const Tiles &ring, unsigned i, const TensorMap &map, unsigned head, unsigned row) {
    ring.begin_fill(i);
#pragma unroll
    for (unsigned span = 0; span < SPANS; span++)
        copy(ring.tile(i) + span * SPAN_BYTES, map, ring.full_at(i), head * HEAD + span * SPAN, row);
}

struct Keys {
    unsigned begin, end;
    __device__ __forceinline__ unsigned tiles() const { return end > begin ? (end - begin + KEYS - 1) / KEYS : 0; }
};

// Lines are rows times the query heads of the block's KV head.
struct Place {
    unsigned n_lines, first_line, kv_head, kv_heads;
};

__device__ __forceinline__ Place place_of_block(const Sizes &sizes) {
    Place place;
    place.n_lines = sizes.m * sizes.group;
    // The last lines see most keys and go first, so that no block runs alone at the end.
    place.first_line = (gridDim.x - 1 - blockIdx.x) * LINES;
    place.kv_head = blockIdx.y;
    place.kv_heads = gridDim.y;
    return place;
}

// The keys that any of the block's lines sees, in its part; starts and ends ascend with the lines.
__device__ __forceinline__ Keys keys_of_block(const int *visible, const Place &place, const Sizes &sizes) {
    unsigned first = place.first_line / sizes.group;
    unsigned last = (min(place.first_line + LINES, place.n_lines) - 1) / sizes.group;
    Keys keys = {(unsigned)visible[first], (unsigned)visible[sizes.m + last]};
#if PARTIAL
    // Tiles end where the part does.
    unsigned part = visible[0] + blockIdx.z * sizes.part;
    keys.begin = keys.begin > part ? part + (keys.begin - part) / KEYS * KEYS : part;
    keys.end = min(keys.end, part + sizes.part);
#endif
    return keys;
}

// The keys that all lines of the warpgroup see.
__device__ __forceinline__ Keys keys_of_all(const int *visible, const Place &place, const Sizes &sizes) {
    unsigned begin = place.first_line + (threadIdx.x / 128 - 1) * 64;
    unsigned first = min(begin, place.n_lines - 1) / sizes.group, last = (min(begin + 64, place.n_lines) - 1) / sizes.group;
    return {(unsigned)visible[last], (unsigned)visible[sizes.m + first]};
}

// Lines past the last one are zeros that see nothing and belong to no head.
__device__ __forceinline__ void load_lines(Lines &lines, const unsigned *q, const int *visible, const Place &place, const Sizes &sizes) {
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32 - 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        unsigned line = place.first_line + warp * 16 + lane / 4 + r * 8, row = line / sizes.group;
        bool there = line < place.n_lines;
        unsigned head = (row * place.kv_heads + place.kv_head) * sizes.group + line % sizes.group;
        lines.heads[r] = there ? head : NOBODY;
        lines.from[r] = there ? visible[row] : 0;
        lines.to[r] = there ? visible[sizes.m + row] : 0;
        lines.peaks[r] = HIDDEN;
        lines.totals[r] = 0.0f;
        const unsigned *pairs = q + (unsigned long long)head * (HEAD / 2) + lane % 4;
#pragma unroll
        for (int step = 0; step < HEAD / 16; step++)
#pragma unroll
            for (int half = 0; half < 2; half++) lines.q[step][half * 2 + r] = there ? pairs[step * 8 + half * 4] : 0;
    }
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) lines.sums[i] = 0.0f;
}

// Scores of tile `i` become weights.
__device__ __forceinline__ void weigh_tile(Lines &lines, float (&scores)[KEYS / 2], float (&shrink)[2], unsigned start, const Keys &all) {
    if (start < all.begin || start + KEYS > all.end) mask(scores, lines, start);
    weigh(scores, lines, shrink);
}

__device__ __forceinline__ void walk(Lines &lines, const Tiles &k, const Tiles &v, const Keys &keys, const Keys &all) {
    float scores[KEYS / 2], shrink[2];
    unsigned weights[KEYS / 16][4], n_tiles = keys.tiles();
    k.await_full(0);
    begin_products();
    score(scores, lines, k.tile(0));
    commit_products();
    await_products<0>(scores);
    k.release(0);
    weigh_tile(lines, scores, shrink, keys.begin, all);
    pack_weights(scores, weights);
    for (unsigned i = 1; i < n_tiles; i++) {
        k.await_full(i);
        begin_products();
        score(scores, lines, k.tile(i));
        commit_products();
        v.await_full(i - 1);
        begin_products();
        accumulate(lines, weights, v.tile(i - 1));
        commit_products();
        await_products<1>(scores);
        k.release(i);
        weigh_tile(lines, scores, shrink, keys.begin + i * KEYS, all);
        await_products<0>(lines.sums);
        v.release(i - 1);
        scale_sums(lines, shrink);
        pack_weights(scores, weights);
    }
    v.await_full(n_tiles - 1);
    begin_products();
    accumulate(lines, weights, v.tile(n_tiles - 1));
    commit_products();
    await_products<0>(lines.sums);
}

#if PARTIAL
__device__ __forceinline__ void write(const Lines &lines, float *out, float *states, const Place &place) {
    unsigned lane = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = quad_sum(lines.totals[r]);
        if (lines.heads[r] == NOBODY) continue;
        unsigned long long head = (unsigned long long)blockIdx.z * place.n_lines * place.kv_heads + lines.heads[r];
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++)
            *(float2 *)(out + head * HEAD + j * 8 + lane * 2) = make_float2(lines.sums[j * 4 + r * 2], lines.sums[j * 4 + r * 2 + 1]);
        if (lane == 0) *(float2 *)(states + head * 2) = make_float2(lines.peaks[r] * rsqrtf((float)HEAD), total);
    }
}
#else
__device__ __forceinline__ void write(const Lines &lines, unsigned short *out) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float share = 1.0f / quad_sum(lines.totals[r]);
        unsigned short *head = out + (unsigned long long)lines.heads[r] * HEAD + column_of_four();
#pragma unroll
        for (int j = 0; j < HEAD / 8; j += 2) {
            int at = j * 4 + r * 2;
            unsigned first = pack(lines.sums[at] * share, lines.sums[at + 1] * share);
            unsigned second = pack(lines.sums[at + 4] * share, lines.sums[at + 5] * share);
            uint2 four = four_of(first, second);
            if (lines.heads[r] != NOBODY) *(uint2 *)(head + j * 8) = four;
        }
    }
}
#endif

extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1) NAME(
    const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map, // [n, kv_heads * HEAD]
    const void *k, const void *v,
    const unsigned *q,  // [m, heads, HEAD / 2]
    const int *visible, // [2, m]: starts, then ends
#if PARTIAL
    float *out, float *states,
#else
    unsigned short *out, // [m, heads, HEAD]
#endif
    const __grid_constant__ Sizes sizes) {
    extern __shared__ unsigned char shared[];
    unsigned base = first_tile(shared), barriers = base + 2 * STAGES * TILE_BYTES;
    Tiles k_ring(base, barriers), v_ring(base + STAGES * TILE_BYTES, barriers + Tiles::BARRIER_BYTES);
    __syncthreads();
    Place place = place_of_block(sizes);
    Keys keys = keys_of_block(visible, place, sizes);
    if (threadIdx.x < 128) {
        give_registers();
        if (threadIdx.x != 0) return;
        for (unsigned i = 0; i < keys.tiles(); i++) {
            fill(k_ring, i, k_map, place.kv_head, keys.begin + i * KEYS);
            fill(v_ring, i, v_map, place.kv_head, keys.begin + i * KEYS);
        }
    } else {
        take_registers();
        Lines lines;
        load_lines(lines, q, visible, place, sizes);
        if (keys.tiles() > 0) walk(lines, k_ring, v_ring, keys, keys_of_all(visible, place, sizes));
#if PARTIAL
        write(lines, out, states, place);
#else
        write(lines, out);
#endif
    }
}
