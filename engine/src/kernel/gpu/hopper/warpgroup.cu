// What the kernels for Hopper share: copies from device memory to shared memory by the copy engine (TMA),
// barriers they complete at, and products of warpgroups (wgmma).
//
// `hopper.rs` defines GROUPS, the warpgroups that multiply, and REGISTERS, of each of their threads.

struct alignas(64) TensorMap { unsigned long long words[16]; };

// A row of a tile in shared memory: the 128 bytes of the 128-byte swizzle.
static constexpr unsigned SPAN = 64;
// Eight such rows.
static constexpr unsigned EIGHT_ROWS = 1024;

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

// `count` arrivals complete a phase.
__device__ __forceinline__ void begin_barrier(unsigned barrier, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// Makes new barriers visible to the copy engine and to the other threads.
__device__ __forceinline__ void publish_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Waits for the end of the phase with this parity.
__device__ __forceinline__ void await(unsigned barrier, unsigned parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra finished;\n"
        "bra again;\n"
        "finished:\n"
        "}\n" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives; the phase then also waits for copies of `bytes` bytes.
__device__ __forceinline__ void expect(unsigned barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Begins to copy the map's tile at a column and a row; what lies outside the matrix becomes zeros.
__device__ __forceinline__ void copy(unsigned to, const TensorMap &map, unsigned barrier, unsigned column, unsigned row) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
        ::"r"(to), "l"(&map), "r"(barrier), "r"(column), "r"(row) : "memory");
}

// A ring of tiles of BYTES in shared memory: the i-th tile is copied into slot i % SLOTS once the tile that was there
// has been multiplied.
template <unsigned SLOTS, unsigned BYTES> struct Ring {
    static constexpr unsigned BARRIER_BYTES = SLOTS * 16;
    unsigned tiles, full, empty; // shared addresses

    // One thread makes the barriers; all must wait for it.
    __device__ __forceinline__ Ring(unsigned tiles, unsigned barriers)
        : tiles(tiles), full(barriers), empty(barriers + SLOTS * 8) {
        if (threadIdx.x == 0) {
            for (unsigned slot = 0; slot < SLOTS; slot++) {
                begin_barrier(full + slot * 8, 1);
                begin_barrier(empty + slot * 8, GROUPS * 4); // one arrival per warp
            }
            publish_barriers();
        }
    }
    __device__ __forceinline__ unsigned tile(unsigned i) const { return tiles + i % SLOTS * BYTES; }
    __device__ __forceinline__ unsigned full_at(unsigned i) const { return full + i % SLOTS * 8; }
    __device__ __forceinline__ void await_full(unsigned i) const { await(full_at(i), i / SLOTS % 2); }
    // Waits until tile `i` may be copied; then announces how many bytes will arrive.
    __device__ __forceinline__ void begin_fill(unsigned i) const {
        await(empty + i % SLOTS * 8, i / SLOTS % 2 ^ 1);
        expect(full_at(i), BYTES);
    }
    // The warp has multiplied tile `i`.
    __device__ __forceinline__ void release(unsigned i) const {
        if (threadIdx.x % 32 == 0) arrive(empty + i % SLOTS * 8);
    }
};

// The first address in shared memory that is aligned for the swizzle.
__device__ __forceinline__ unsigned first_tile(const void *shared) {
    return (shared_address(shared) + EIGHT_ROWS - 1) / EIGHT_ROWS * EIGHT_ROWS;
}

// Rows of a tile as wgmma reads them; `stride`: bytes from one span of columns to the next, where the product runs
// over more than one.
__device__ __forceinline__ unsigned long long matrix_at(unsigned address, unsigned stride) {
    unsigned long long start = address >> 4 & 0x3FFF, spans = stride >> 4, eights = EIGHT_ROWS >> 4, swizzle_128 = 1;
    return start | spans << 16 | eights << 32 | swizzle_128 << 62;
}

// To be called before products that read registers written since the last products.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `N` of the commits so far are unfinished; nothing reads the sums earlier.
template <int N, int M> __device__ __forceinline__ void await_products(float (&sums)[M]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#pragma unroll
    for (int i = 0; i < M; i++) asm volatile("" : "+f"(sums[i])::"memory");
}

// The warpgroup that copies leaves its registers to those that multiply.
__device__ __forceinline__ void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 24;"); }

__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// Of two blocks of eight columns a quad of lanes holds a pair each; afterwards each lane holds four neighbours of one
// block, eight bytes, at `column_of_four()`.
__device__ __forceinline__ uint2 four_of(unsigned first, unsigned second) {
    unsigned lane = threadIdx.x % 4, from = (threadIdx.x & 28) + lane % 2 * 2;
    unsigned a = __shfl_sync(~0u, first, from), b = __shfl_sync(~0u, second, from);
    unsigned c = __shfl_sync(~0u, first, from + 1), d = __shfl_sync(~0u, second, from + 1);
    return lane < 2 ? make_uint2(a, c) : make_uint2(b, d);
}

__device__ __forceinline__ unsigned column_of_four() { return threadIdx.x % 4 / 2 * 8 + threadIdx.x % 2 * 4; }
