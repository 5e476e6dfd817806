//! Time to first token and decode rate of one model shape, mode by mode, with stored KV in memory.
//!
//!     cargo bench -p ragweave-engine --bench prefill -- --config eval/configs/smollm2-135m.json
//!
//! Weights are random: time depends on shapes. The modes take turns; medians are printed. Each
//! time is printed with its bound: the multiply-adds of the mode at the rate that one large matrix
//! product reaches in the same run.

mod bound;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn_flex::{Flex, FlexDevice};
use clap::Parser;
use ragweave_engine::{
    ChunkKv, ChunkState, ComputeDtype, EngineHandle, EngineOptions, FuseReport, FuseRequest,
    FusionPlan, KvDtype, LayerSource, MemorySource, Mode, PromptSegments, SamplingParams, StepWork,
    TokenEvent,
};

#[derive(Parser)]
struct Args {
    /// A model's config.json
    #[arg(long, default_value = "eval/configs/smollm2-135m.json")]
    config: PathBuf,
    #[arg(long, default_value_t = 6)]
    chunks: usize,
    #[arg(long, default_value_t = 512)]
    chunk_tokens: usize,
    #[arg(long, default_value_t = 64)]
    question_tokens: usize,
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "full,reuse,hkvd@1:0.15,first-k:0.03"
    )]
    modes: Vec<Mode>,
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    #[arg(long, default_value_t = 32)]
    decode_tokens: usize,
    #[arg(long, default_value = "f32")]
    dtype: ComputeDtype,
    #[arg(long)]
    kv_dtype: Option<KvDtype>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

struct Sample {
    ttft: Duration,
    decode: Duration,
    report: FuseReport,
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::copy(root(&args.config), dir.path().join("config.json")).expect("the config");
    let kv_dtype = args.kv_dtype.unwrap_or(KvDtype::exact(args.dtype));
    let options = EngineOptions {
        random_weights: Some(1),
        dtype: args.dtype,
        kv_dtype,
        ..EngineOptions::new(dir.path())
    };
    let engine = EngineHandle::spawn::<Flex>(options, FlexDevice).expect("the model");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run(&args, &engine));
}

/// Benches run in the crate's directory; paths are given from the workspace's.
fn root(path: &Path) -> PathBuf {
    match path.exists() {
        true => path.to_owned(),
        false => PathBuf::from("..").join(path),
    }
}

async fn run(args: &Args, engine: &EngineHandle) {
    let segments = segments(args, engine.model().config.vocab_size);
    let prefix: Arc<[u32]> = segments.prefix.as_slice().into();
    let mut stock = Vec::new();
    for ids in &segments.chunks {
        let kv = engine
            .chunk_kv(prefix.clone(), ids.clone())
            .await
            .expect("chunk KV");
        stock.push(Arc::new(kv));
    }
    let mut samples: Vec<Vec<Sample>> = args.modes.iter().map(|_| Vec::new()).collect();
    for round in 0..=args.repeats {
        for (mode, samples) in args.modes.iter().zip(&mut samples) {
            let sample = once(args, engine, &segments, &stock, mode).await;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    let (gemm, read) = (bound::gemm_rate(), bound::read_rate());
    println!(
        "{} tokens; bounds: product {:.0} GFLOP/s, read {:.1} GB/s",
        segments.n_tokens(),
        gemm / 1e9,
        read / 1e9
    );
    println!(
        "{:<18} {:>9} {:>8} {:>9} {:>9} {:>9} {:>7} {:>12}",
        "mode", "TTFT, ms", "speedup", "tok/s", "wait, ms", "bound, ms", "reached", "decode tok/s"
    );
    let full = args.modes.iter().position(|mode| *mode == Mode::Full);
    let medians: Vec<&Sample> = samples.iter_mut().map(|samples| median(samples)).collect();
    for (mode, sample) in args.modes.iter().zip(&medians) {
        let seconds = sample.ttft.as_secs_f64();
        let bound = flops(engine, &segments, mode) / gemm;
        let speedup = full.map(|full| medians[full].ttft.as_secs_f64() / seconds);
        println!(
            "{:<18} {:>9.1} {:>7.2}x {:>9.0} {:>9.1} {:>9.1} {:>5.0} % {:>12.1}",
            mode.to_string(),
            seconds * 1e3,
            speedup.unwrap_or(f64::NAN),
            segments.n_tokens() as f64 / seconds,
            sample.report.timings.load_wait.as_secs_f64() * 1e3,
            bound * 1e3,
            100.0 * bound / seconds,
            (args.decode_tokens - 1) as f64 / sample.decode.as_secs_f64(),
        );
    }
}

fn median(samples: &mut [Sample]) -> &Sample {
    samples.sort_by_key(|sample| sample.ttft);
    &samples[samples.len() / 2]
}

/// Floating point operations of a mode: the projections of the rows computed, and their attention.
fn flops(engine: &EngineHandle, segments: &PromptSegments, mode: &Mode) -> f64 {
    let config = &engine.model().config;
    let work = plan(engine, segments, mode).work(engine.model(), true);
    let of_step = |step: &StepWork| step.matmul_flop(config) + step.attention_flop(config);
    work.steps.iter().map(of_step).sum()
}

fn segments(args: &Args, vocab: usize) -> PromptSegments {
    let ids = |n: usize, seed: usize| {
        (0..n)
            .map(|i| ((i * 7919 + seed * 104_729) % vocab) as u32)
            .collect()
    };
    PromptSegments {
        // With a prefix, it would come from the device's cache and full prefill would not compute the whole prompt.
        prefix: Vec::new(),
        chunks: (0..args.chunks)
            .map(|i| ids(args.chunk_tokens, i + 1))
            .collect(),
        question: ids(args.question_tokens, 999),
    }
}

async fn once(
    args: &Args,
    engine: &EngineHandle,
    segments: &PromptSegments,
    stock: &[Arc<ChunkKv>],
    mode: &Mode,
) -> Sample {
    let start = Instant::now();
    let plan = plan(engine, segments, mode);
    let sources = stock
        .iter()
        .map(|kv| Some(Box::new(MemorySource(kv.clone())) as Box<dyn LayerSource>))
        .collect();
    let sampling = SamplingParams {
        ignore_eos: true,
        ..SamplingParams::greedy(args.decode_tokens)
    };
    let request = FuseRequest {
        plan,
        sources,
        sampling,
        deadline: None,
    };
    let mut generation = engine.fuse(request).await.expect("a prefill");
    let ttft = start.elapsed();
    let decode = Instant::now();
    while let Some(event) = generation.next().await {
        if let TokenEvent::Finished(_) = event.expect("a token") {
            break;
        }
    }
    Sample {
        ttft,
        decode: decode.elapsed(),
        report: generation.report,
    }
}

fn plan(engine: &EngineHandle, segments: &PromptSegments, mode: &Mode) -> FusionPlan {
    let exact = engine.model().identity.is_exact_dtype();
    let state = |chunk| ChunkState::Hit {
        exact: exact && chunk == 0,
    };
    let states = (0..segments.chunks.len()).map(state).collect();
    FusionPlan::new(segments.clone(), states, mode.clone(), engine.model()).expect("a plan")
}
