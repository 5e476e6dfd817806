//! Loads the committed fixtures and compares numbers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ragweave_engine::{
    ChunkKv, ChunkState, Engine, EngineOptions, FuseReport, FusionBackend, FusionPlan, KvDtype,
    LayerSource, MemorySource, Mode, ModelInfo, PromptSegments,
};
use safetensors::{SafeTensors, tensor::TensorView};

/// The fixture directory in the checkout, or below the working directory on another machine.
pub fn fixtures_dir() -> PathBuf {
    let of_checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    match of_checkout.is_dir() {
        true => of_checkout,
        false => PathBuf::from("engine/tests/fixtures"),
    }
}

/// Options for a model variant, in f32.
pub fn options(variant: &str) -> EngineOptions {
    EngineOptions::new(fixtures_dir().join("models").join(variant))
}

/// Loads a model variant.
pub fn load<B: FusionBackend>(options: &EngineOptions, device: &B::Device) -> Engine<B> {
    let info = Arc::new(ModelInfo::read(options).expect("the fixture is readable"));
    Engine::load(options, info, device).expect("the fixture loads")
}

/// [`load`] with another stored dtype.
pub fn load_with_kv<B: FusionBackend>(
    variant: &str,
    kv_dtype: KvDtype,
    device: &B::Device,
) -> Engine<B> {
    load(
        &EngineOptions {
            kv_dtype,
            ..options(variant)
        },
        device,
    )
}

/// The file of expected values of a variant, kept open.
pub struct Expected {
    bytes: Vec<u8>,
}

impl Expected {
    pub fn read(variant: &str) -> Self {
        let dir = fixtures_dir().join("models").join(variant);
        Self::open(&dir.join("expected.safetensors"))
    }

    /// The expected values in the file at `path`.
    pub fn open(path: &Path) -> Self {
        Self {
            bytes: fs_err::read(path).expect("expected values are committed"),
        }
    }

    /// A tensor's floats, row-major.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).map(f32::from_le_bytes).collect()
    }

    /// A tensor's token ids.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.words(name).map(u32::from_le_bytes).collect()
    }

    fn words(&self, name: &str) -> impl Iterator<Item = [u8; 4]> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let tensor: TensorView<'_> = file.tensor(name).expect("the tensor is in the fixture");
        let bytes = tensor.data().to_vec();
        let words = bytes
            .chunks_exact(4)
            .map(|word| [word[0], word[1], word[2], word[3]]);
        words.collect::<Vec<_>>().into_iter()
    }
}

/// Fails at the index of the largest difference if two slices differ by more than `tolerance`.
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}: length");
    let worst = (0..actual.len())
        .map(|i| ((actual[i] - expected[i]).abs(), i))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((difference, i)) = worst else { return };
    assert!(
        difference <= tolerance,
        "{what}: differs by {difference} > {tolerance} at {i}: {} instead of {}",
        actual[i],
        expected[i]
    );
}

/// A prompt with its chunks' KV, computed after `conditioning`.
pub struct Prompt {
    pub segments: PromptSegments,
    pub kv: Vec<Arc<ChunkKv>>,
    pub conditioning: Vec<u32>,
}

impl Prompt {
    /// Computes each chunk's KV alone after the prompt's own prefix.
    pub fn new<B: FusionBackend>(engine: &mut Engine<B>, segments: PromptSegments) -> Self {
        let conditioning = segments.prefix.clone();
        Self::behind(engine, segments, conditioning)
    }

    /// Computes each chunk's KV alone after another prefix.
    pub fn behind<B: FusionBackend>(
        engine: &mut Engine<B>,
        segments: PromptSegments,
        conditioning: Vec<u32>,
    ) -> Self {
        let kv = segments.chunks.iter().map(|ids| {
            Arc::new(
                engine
                    .chunk_kv(&conditioning, ids)
                    .expect("chunk KV is computed"),
            )
        });
        Self {
            kv: kv.collect(),
            segments,
            conditioning,
        }
    }

    /// States of all chunks, with the given ones missed.
    pub fn states(&self, misses: &[usize], exact_dtype: bool) -> Vec<ChunkState> {
        let exact_first = exact_dtype && self.conditioning == self.segments.prefix;
        let state = |i| match misses.contains(&i) {
            true => ChunkState::Miss,
            false => ChunkState::Hit {
                exact: i == 0 && exact_first,
            },
        };
        (0..self.kv.len()).map(state).collect()
    }

    /// Logits of the last position under `mode`.
    pub fn run<B: FusionBackend>(
        &self,
        engine: &mut Engine<B>,
        mode: Mode,
        misses: &[usize],
    ) -> (Vec<f32>, FuseReport) {
        let states = self.states(misses, engine.info().identity.is_exact_dtype());
        let plan = FusionPlan::new(self.segments.clone(), states, mode, engine.info());
        let plan = plan.expect("the plan is valid");
        engine
            .plan_logits(plan, self.sources())
            .expect("the prefill succeeds")
    }

    /// One source per chunk.
    pub fn sources(&self) -> Vec<Option<Box<dyn LayerSource>>> {
        let source =
            |kv: &Arc<ChunkKv>| Some(Box::new(MemorySource(kv.clone())) as Box<dyn LayerSource>);
        self.kv.iter().map(source).collect()
    }
}

/// A small prompt of fixed ids: prefix 4, chunks of 9, 14 and 11, question 5.
pub fn small_prompt() -> PromptSegments {
    let ids = |seed: u32, n: u32| (0..n).map(|i| (seed + 37 * i + i * i) % 120).collect();
    PromptSegments {
        prefix: ids(3, 4),
        chunks: vec![ids(11, 9), ids(29, 14), ids(57, 11)],
        question: ids(91, 5),
    }
}
