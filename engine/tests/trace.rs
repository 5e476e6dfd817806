//! What the engine reports for evaluation: logits along a given answer, attention outputs, deviations.

#[path = "suite/fixtures.rs"]
#[expect(dead_code, reason = "the suite's other users need the rest of it")]
mod fixtures;

use std::sync::Arc;

use burn_flex::{Flex, FlexDevice};
use fixtures::{assert_close, load, options, small_prompt};
use ragweave_engine::{
    ChunkKv, ChunkState, EngineError, EngineHandle, FusionPlan, LayerSource, MemorySource, Mode,
    PromptSegments, TraceRequest,
};

const VARIANT: &str = "llama3-gqa";

/// Rounding of f32 over a few layers.
const TOLERANCE: f32 = 1e-3;

fn spawn() -> EngineHandle {
    EngineHandle::spawn::<Flex>(options(VARIANT), FlexDevice).expect("the fixture loads")
}

async fn chunk_kvs(engine: &EngineHandle, segments: &PromptSegments) -> Vec<Arc<ChunkKv>> {
    let conditioning: Arc<[u32]> = segments.prefix.clone().into();
    let mut kvs = Vec::new();
    for ids in &segments.chunks {
        let kv = engine.chunk_kv(conditioning.clone(), ids.clone()).await;
        kvs.push(Arc::new(kv.expect("the chunk is valid")));
    }
    kvs
}

fn sources(kvs: &[Arc<ChunkKv>]) -> Vec<Option<Box<dyn LayerSource>>> {
    let source = |kv: &Arc<ChunkKv>| Box::new(MemorySource(kv.clone())) as Box<dyn LayerSource>;
    kvs.iter().map(|kv| Some(source(kv))).collect()
}

fn plan(engine: &EngineHandle, segments: &PromptSegments, mode: Mode) -> FusionPlan {
    let state = |i| ChunkState::Hit { exact: i == 0 };
    let states = (0..segments.chunks.len()).map(state).collect();
    FusionPlan::new(segments.clone(), states, mode, engine.model()).expect("the plan is valid")
}

#[tokio::test]
async fn a_full_trace_equals_one_forward_pass_over_prompt_and_answer() {
    let engine = spawn();
    let segments = small_prompt();
    // More than one tile of logits.
    let forced: Vec<u32> = (0..70).map(|i| (i * 5 + 7) % 60).collect();
    let request = TraceRequest {
        plan: plan(&engine, &segments, Mode::Full),
        sources: segments.chunks.iter().map(|_| None).collect(),
        forced: forced.clone(),
    };

    let trace = engine.trace(request).await.expect("the request is valid");

    let mut ids = segments.token_ids();
    let prompt_tokens = ids.len();
    ids.extend(forced);
    let mut reference = load::<Flex>(&options(VARIANT), &FlexDevice);
    let expected = reference.forward(&ids).expect("the ids are valid").logits;
    assert_eq!(trace.logits.len(), 71);
    for (step, logits) in trace.logits.iter().enumerate() {
        let expected = &expected[prompt_tokens - 1 + step];
        assert_close(&format!("step {step}"), logits, expected, TOLERANCE);
    }
    let config = &engine.model().config;
    // The last layer runs the last row only.
    let rows = (config.num_hidden_layers - 1) * prompt_tokens + 1;
    assert_eq!(trace.report.rows_forwarded, rows);
    let width = config.num_attention_heads * config.head_dim;
    assert_eq!(trace.attention_output.len(), config.num_hidden_layers);
    assert!(
        trace
            .attention_output
            .iter()
            .all(|layer| layer.len() == width)
    );
}

#[tokio::test]
async fn attention_outputs_agree_where_nothing_deviates_and_differ_where_something_does() {
    let engine = spawn();
    let segments = small_prompt();
    let kvs = chunk_kvs(&engine, &segments).await;
    let mut outputs = Vec::new();
    for mode in ["full", "all", "reuse"] {
        let mode: Mode = mode.parse().expect("a mode");
        let reads = mode.reads_kv();
        let request = TraceRequest {
            plan: plan(&engine, &segments, mode),
            sources: match reads {
                true => sources(&kvs),
                false => kvs.iter().map(|_| None).collect(),
            },
            forced: Vec::new(),
        };
        let trace = engine.trace(request).await.expect("the request is valid");
        outputs.push(trace.attention_output);
    }
    let [full, all, reuse] = outputs.as_slice() else {
        unreachable!("three modes were traced")
    };
    for (layer, full) in full.iter().enumerate() {
        assert_close(&format!("layer {layer}"), &all[layer], full, TOLERANCE);
    }
    // At layer 0 stored KV is right, and the last row sees nothing else.
    assert_close("layer 0 of reuse", &reuse[0], &full[0], TOLERANCE);
    let difference = reuse[1].iter().zip(&full[1]).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) > TOLERANCE);
}

#[tokio::test]
async fn deviation_is_nothing_at_layer_zero_and_something_behind_it() {
    let engine = spawn();
    let segments = small_prompt();
    let kvs = chunk_kvs(&engine, &segments).await;
    let plan = plan(&engine, &segments, Mode::Reuse);

    let map = engine
        .deviation(plan, sources(&kvs))
        .await
        .expect("the KV is there");

    let exact = segments.prefix.len() + segments.chunks[0].len();
    let end = segments.token_ids().len() - segments.question.len();
    assert_eq!(map.rows, (exact..end).collect::<Vec<_>>());
    assert_eq!(map.layers.len(), engine.model().config.num_hidden_layers);
    assert!(map.layers.iter().all(|layer| layer.len() == map.rows.len()));
    let largest = |layer: &[f32]| layer.iter().copied().fold(0.0, f32::max);
    assert!(largest(&map.layers[0]) < 1e-6, "{:?}", map.layers[0]);
    assert!(largest(&map.layers[1]) > 1e-4);
}

#[tokio::test]
async fn deviation_of_exact_chunks_alone_is_empty() {
    let engine = spawn();
    let mut segments = small_prompt();
    segments.chunks.truncate(1);
    let kvs = chunk_kvs(&engine, &segments).await;
    let plan = plan(&engine, &segments, Mode::Reuse);
    let map = engine
        .deviation(plan, sources(&kvs))
        .await
        .expect("the KV is there");
    assert!(map.rows.is_empty());
    assert!(map.layers.iter().all(Vec::is_empty));
}

#[tokio::test]
async fn a_chunk_has_one_anchor_in_eight_tokens() {
    let engine = spawn();
    let segments = small_prompt();
    for (kv, ids) in chunk_kvs(&engine, &segments)
        .await
        .iter()
        .zip(&segments.chunks)
    {
        assert_eq!(kv.anchors.len(), ids.len().div_ceil(8));
        assert!(kv.anchors.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            kv.anchors
                .iter()
                .all(|&offset| (offset as usize) < ids.len())
        );
    }
}

#[tokio::test]
async fn a_chunk_among_others_has_the_kv_it_has_behind_them_in_a_prompt() {
    let engine = spawn();
    let segments = small_prompt();
    let [first, second, ..] = segments.chunks.as_slice() else {
        unreachable!("the prompt has chunks")
    };
    let prefix: Arc<[u32]> = segments.prefix.clone().into();
    let among = engine.chunk_kv_among(prefix.clone(), first.clone(), second.clone());
    let among = among.await.expect("the chunk is valid");

    let mut reference = load::<Flex>(&options(VARIANT), &FlexDevice);
    let ids = [&segments.prefix[..], first, second].concat();
    let expected = reference.forward(&ids).expect("the ids are valid").layers;
    let behind = segments.prefix.len() + first.len();
    for (layer, (k, _)) in among.layers.iter().enumerate() {
        let width = expected[layer].0.len() / ids.len();
        let expected = &expected[layer].0[behind * width..];
        assert_close(
            &format!("K of layer {layer}"),
            &floats(k),
            expected,
            TOLERANCE,
        );
    }
    let alone = engine.chunk_kv(prefix, second.clone()).await;
    let alone = alone.expect("the chunk is valid").layers;
    // Layer 0 depends on the token alone, the others on what the chunk attends to.
    assert_close(
        "K of layer 0",
        &floats(&alone[0].0),
        &floats(&among.layers[0].0),
        TOLERANCE,
    );
    assert_ne!(floats(&alone[1].0), floats(&among.layers[1].0));
}

/// Little-endian f32s.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[tokio::test]
async fn a_forced_answer_must_fit_and_be_of_the_vocabulary() {
    let engine = spawn();
    let segments = small_prompt();
    let request = |forced| TraceRequest {
        plan: plan(&engine, &segments, Mode::Full),
        sources: segments.chunks.iter().map(|_| None).collect(),
        forced,
    };
    let error = engine.trace(request(vec![1_000_000])).await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::InvalidRequest {
                field: "forced",
                ..
            }
        ),
        "{error}"
    );
    let error = engine.trace(request(vec![1; 1_000_000])).await.unwrap_err();
    assert!(
        matches!(error, EngineError::PromptTooLong { .. }),
        "{error}"
    );
}
