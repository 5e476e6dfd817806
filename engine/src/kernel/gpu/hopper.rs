//! Kernels for the warpgroups of Hopper (H100, H200), whose `wgmma` multiplies straight from shared memory, twice as
//! fast as planes do.
//!
//! CubeCL 0.10 has no `wgmma`, so these kernels are written in CUDA: products in `linear/hopper/product.cu`, attention
//! in `attend/hopper/attend.cu`, and what both need in `hopper/warpgroup.cu`. CubeCL compiles and launches them like
//! its own.

mod instructions;

use std::fmt::Debug;
use std::hash::Hash;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::Tma;
use cubecl::prelude::*;
use cubecl::server::{KernelArguments, MetadataBindingInfo, TensorMapBinding};
use cubecl::zspace::metadata::Metadata;
use cubecl::{CompilationError, Compiler, CubeTask};

use self::instructions::pack;
pub(super) use self::instructions::{Left, Right, multiply};

const WARPGROUP: &str = include_str!("hopper/warpgroup.cu");
/// The most shared memory that a block may have.
pub(super) const SHARED_BYTES: usize = 227 << 10;
/// Shared memory in addition to the tiles: barriers, and the padding that aligns the first tile to 1,024 bytes.
pub(super) const MARGIN_BYTES: usize = 2048;
/// Values of a tile's row in shared memory: the 128 bytes of the swizzle.
pub(super) const SPAN: usize = 64;
/// Rows of a warpgroup's products.
pub(super) const GROUP_ROWS: usize = 64;
/// Threads of a warpgroup.
const GROUP_UNITS: usize = 128;

/// Whether the device is a Hopper. Blackwell copies as Hopper does, but multiplies otherwise.
pub(super) fn is_here<R: CubeRuntime>(client: &ComputeClient<R>) -> bool {
    let properties = client.properties();
    let tma = &properties.features.tma;
    tma.contains(Tma::Base)
        && !tma.contains(Tma::Im2colWide)
        && properties.hardware.max_shared_memory_size >= SHARED_BYTES
}

/// Whether `wgmma` takes values of this type.
pub(super) fn multiplies(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// A kernel's source and what it needs. Each distinct value is one kernel, so it must hold all that the source depends
/// on.
pub(super) trait Source: Copy + Debug + Eq + Hash + Send + Sync + 'static {
    const NAME: &'static str;

    /// The dtype of the matrices that are multiplied: f16 or bf16.
    fn dtype(&self) -> DType;

    /// Warpgroups that multiply; one more copies.
    fn groups(&self) -> usize;

    fn shared_bytes(&self) -> usize;

    /// Macros to define.
    fn defines(&self) -> Vec<(&'static str, usize)>;

    /// Functions and the kernel, in CUDA.
    fn code(&self) -> String;
}

/// One launch. The kernel's arguments are the maps, the buffers they are of, the other buffers and the sizes.
pub(super) struct Launch<R: CubeRuntime, const N: usize> {
    pub cubes: [usize; 3],
    /// Maps of memory that this thread's stream wrote: CubeCL orders the launch only after the writers of the other
    /// buffers.
    pub maps: Vec<TensorMapBinding>,
    pub buffers: Vec<CubeTensor<R>>,
    pub sizes: [usize; N],
}

impl<R: CubeRuntime, const N: usize> Launch<R, N> {
    pub(super) fn run<S: Source>(self, client: &ComputeClient<R>, source: S) {
        let buffers = self.buffers.into_iter();
        let buffers = buffers.map(|buffer| buffer.handle.binding());
        let arguments = KernelArguments::new()
            .with_tensor_maps(self.maps)
            .with_buffers(buffers.collect())
            .with_info(packed(self.sizes));
        let [x, y, z] = self.cubes.map(|n| n as u32);
        let count = CubeCount::Static(x, y, z);
        client.launch(Box::new(Task(source)), count, arguments);
    }
}

/// How tiles of `[rows, SPAN]` of a matrix `[n, width]` are copied: zeros outside the matrix, swizzled as `wgmma`
/// reads them.
pub(super) fn tensor_map<R: CubeRuntime>(
    matrix: &CubeTensor<R>,
    [n, width]: [usize; 2],
    rows: usize,
) -> TensorMapBinding {
    let mut matrix = into_contiguous(matrix.clone());
    *matrix.meta = Metadata::new([n, width], [width, 1]);
    let dtype: StorageType = matrix.dtype.into();
    let tile = TiledArgs::new(Shape::from([rows, SPAN]));
    let argument = TensorMapArg::<R, Tiled>::new(tile, matrix.into_tensor_arg(), dtype);
    let argument = argument
        .with_swizzle(TensorMapSwizzle::B128)
        .with_prefetch(TensorMapPrefetch::B128);
    let TensorArg::Handle { handle } = argument.tensor else {
        unreachable!("made of a handle above");
    };
    TensorMapBinding {
        binding: handle.handle,
        map: argument.metadata,
    }
}

/// 32-bit values in the layout of a struct of the kernel.
fn packed<const N: usize>(values: [usize; N]) -> MetadataBindingInfo {
    let pairs = values.chunks(2).map(|pair| {
        let second = pair.get(1).copied().unwrap_or_default();
        pair[0] as u64 | (second as u64) << 32
    });
    let words: Vec<u64> = pairs.collect();
    let n_words = words.len();
    MetadataBindingInfo::new(words, n_words)
}

/// What CubeCL compiles and launches.
#[derive(Clone, Copy)]
struct Task<S>(S);

impl<S: Source> Task<S> {
    fn cube_dim(&self) -> CubeDim {
        let units = (self.0.groups() + 1) * GROUP_UNITS;
        CubeDim::new_1d(units as u32)
    }

    /// The registers that `setmaxnreg` leaves for each multiplying thread, of 65,536 in all.
    fn registers(&self) -> usize {
        match self.0.groups() {
            1 | 2 => 240,
            _ => 160,
        }
    }

    fn source(&self) -> String {
        let mut defines = self.0.defines();
        defines.extend([("GROUPS", self.0.groups()), ("REGISTERS", self.registers())]);
        let defines = defines.iter();
        let defines = defines.map(|(name, value)| format!("#define {name} {value}\n"));
        let name = format!("#define NAME {}\n", S::NAME);
        let parts = std::iter::once(name).chain(defines).chain([
            WARPGROUP.to_owned(),
            pack(self.0.dtype()),
            self.0.code(),
        ]);
        parts.collect()
    }
}

impl<S: Source> KernelMetadata for Task<S> {
    fn id(&self) -> KernelId {
        let id = KernelId::new::<Self>().info(self.0);
        id.cube_dim(self.cube_dim())
    }

    fn address_type(&self) -> StorageType {
        u32::as_type_native_unchecked().storage_type()
    }
}

/// Asks for `n` words of shared memory.
#[cube]
fn reserve(#[comptime] n: usize) {
    let mut shared = SharedMemory::<u32>::new(n);
    shared[UNIT_POS as usize] = 0;
}

/// What CubeCL reads from its own kernels: units, and bytes of shared memory.
impl<S: Source> CubeKernel for Task<S> {
    fn define(&self) -> KernelDefinition {
        let mut builder = KernelBuilder::default();
        AddressType::U32.register(&mut builder.scope);
        reserve::expand(&mut builder.scope, self.0.shared_bytes() / size_of::<u32>());
        let settings = KernelSettings::default().cube_dim(self.cube_dim());
        builder.build(settings.kernel_name(S::NAME))
    }
}

impl<C: Compiler, S: Source> CubeTask<C> for Task<S> {
    fn compile(
        &self,
        compiler: &mut C,
        options: &C::CompilationOptions,
        mode: ExecutionMode,
        address_type: StorageType,
    ) -> Result<CompiledKernel<C>, CompilationError> {
        let task = KernelTask::<C, Self>::new(*self);
        let compiled = task.compile(compiler, options, mode, address_type)?;
        Ok(CompiledKernel {
            entrypoint_name: S::NAME.to_owned(),
            source: self.source(),
            ..compiled
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    struct Example;

    impl Source for Example {
        const NAME: &'static str = "example";

        fn dtype(&self) -> DType {
            DType::BF16
        }

        fn groups(&self) -> usize {
            2
        }

        fn shared_bytes(&self) -> usize {
            SHARED_BYTES
        }

        fn defines(&self) -> Vec<(&'static str, usize)> {
            vec![("COLUMNS", 256)]
        }

        fn code(&self) -> String {
            let (left, right) = (Left::Registers, Right::AsItIs);
            multiply("multiply", self.dtype(), 8, left, right)
        }
    }

    #[test]
    #[cfg(feature = "vulkan")]
    fn cubecl_takes_the_source_in_place_of_its_own() {
        let (task, mode) = (Task(Example), ExecutionMode::Checked);
        let (mut compiler, options) = (burn_wgpu::VkSpirvCompiler::default(), Default::default());
        let compiled = task.compile(&mut compiler, &options, mode, task.address_type());
        let compiled = compiled.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(compiled.entrypoint_name, "example");
        assert_eq!(compiled.cube_dim, CubeDim::new_1d(384));
        assert!(compiled.repr.is_some());
        assert!(compiled.source.contains("#define COLUMNS 256"));
        assert!(compiled.source.contains("#define REGISTERS 240"));
    }

    #[test]
    fn operands_are_counted_in_the_order_of_the_instruction() {
        let source = Example.code();
        let instruction =
            "m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, add, 1, 1, 1;";
        assert!(source.contains(instruction), "{source}");
        assert!(source.contains("setp.ne.b32 add, %9, 0;"), "{source}");
    }
}
