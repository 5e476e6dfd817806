//! The engine thread: decoding, admission, cancellation, deadlines, recovery after a panic.

#[path = "suite/fixtures.rs"]
#[expect(dead_code, reason = "the suite's other users need the rest of it")]
mod fixtures;

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn_flex::{Flex, FlexDevice};
use ragweave_engine::{
    Engine, EngineError, EngineHandle, EngineHealth, EngineOptions, FinishReason, FuseRequest,
    FusionPlan, Generation, Mode, ModelInfo, PromptSegments, SamplingParams, TokenEvent,
};

const VARIANT: &str = "qwen3";

fn spawn(max_queue: usize) -> EngineHandle {
    let options = EngineOptions {
        max_queue,
        ..fixtures::options(VARIANT)
    };
    EngineHandle::spawn::<Flex>(options, FlexDevice).expect("the fixture loads")
}

/// A request without chunks that ignores end tokens.
fn request(engine: &EngineHandle, question: &[u32], max_tokens: usize) -> FuseRequest {
    let segments = PromptSegments {
        prefix: vec![1],
        chunks: Vec::new(),
        question: question.to_vec(),
    };
    let plan = FusionPlan::new(segments, Vec::new(), Mode::Full, engine.model())
        .expect("the plan is valid");
    let sampling = SamplingParams {
        ignore_eos: true,
        ..SamplingParams::greedy(max_tokens)
    };
    FuseRequest {
        plan,
        sources: Vec::new(),
        sampling,
        deadline: None,
    }
}

/// All tokens of an answer and why it ended.
async fn collect(mut generation: Generation) -> (Vec<u32>, FinishReason) {
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        match event.expect("no error while decoding") {
            TokenEvent::Delta { token_ids, .. } => tokens.extend(token_ids),
            TokenEvent::Finished(report) => {
                assert_eq!(report.completion_tokens, tokens.len());
                return (tokens, report.reason);
            }
        }
    }
    panic!("the answer ended without `Finished`");
}

/// An answer nobody reads: the engine thread pauses in it until it is dropped.
async fn unread(engine: &EngineHandle) -> Generation {
    engine
        .fuse(request(engine, &[5, 6, 7], 400))
        .await
        .expect("the first request runs")
}

#[tokio::test]
async fn cached_decode_equals_repeated_prefill() {
    let engine = spawn(4);
    let generation = engine
        .fuse(request(&engine, &[9, 23, 77, 4], 12))
        .await
        .unwrap();
    let (tokens, reason) = collect(generation).await;
    assert_eq!((tokens.len(), reason), (12, FinishReason::Length));

    let options = fixtures::options(VARIANT);
    let info = Arc::new(ModelInfo::read(&options).unwrap());
    let mut oracle = Engine::<Flex>::load(&options, info, &FlexDevice).unwrap();
    let mut ids = vec![1, 9, 23, 77, 4];
    for token in tokens {
        let trace = oracle.forward(&ids).unwrap();
        let last = trace.logits.last().unwrap();
        let best = (0..last.len())
            .max_by(|&a, &b| last[a].total_cmp(&last[b]))
            .unwrap();
        assert_eq!(token as usize, best, "after {} tokens", ids.len());
        ids.push(token);
    }
}

#[tokio::test]
async fn beyond_the_queue_a_request_is_refused_at_once() {
    let engine = spawn(1);
    let running = unread(&engine).await;
    let waiting = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.fuse(request(&engine, &[5], 1)).await })
    };
    while engine.queue_depth() == 0 {
        tokio::task::yield_now().await;
    }

    let refused = engine.fuse(request(&engine, &[5], 1)).await;
    assert!(matches!(refused, Err(EngineError::QueueFull { limit: 1 })));

    drop(running);
    let waited = waiting
        .await
        .unwrap()
        .expect("the queue moves on after a cancelled answer");
    assert_eq!(collect(waited).await.1, FinishReason::Length);
}

#[tokio::test]
async fn an_expired_request_never_reaches_the_device() {
    let engine = spawn(4);
    let mut late = request(&engine, &[5, 6], 3);
    late.deadline = Some(Instant::now());
    let refused = engine.fuse(late).await;
    assert!(matches!(refused, Err(EngineError::DeadlineExceeded { .. })));
}

#[tokio::test]
async fn a_deadline_ends_the_decode() {
    let engine = spawn(4);
    let mut request = request(&engine, &[5, 6], 500);
    request.deadline = Some(Instant::now() + Duration::from_millis(300));
    // Unread events pause the decode, so the deadline passes whatever the machine's speed.
    let mut generation = engine.fuse(request).await.expect("the prefill is in time");
    let (mut last, mut n_tokens) = (None, 0);
    tokio::time::sleep(Duration::from_millis(400)).await;
    while let Some(event) = generation.next().await {
        match event.unwrap() {
            TokenEvent::Delta { .. } => n_tokens += 1,
            TokenEvent::Finished(report) => last = Some(report.reason),
        }
    }
    assert_eq!(last, Some(FinishReason::Deadline));
    assert!(n_tokens < 500);
}

#[tokio::test]
async fn after_one_panic_the_model_is_reloaded_and_after_two_the_engine_is_dead() {
    let engine = spawn(4);
    let mut health = engine.health();
    let before = collect(engine.fuse(request(&engine, &[5, 6], 4)).await.unwrap()).await;

    engine.panic_for_test().unwrap();
    health
        .wait_for(|health| *health == EngineHealth::Reloading)
        .await
        .unwrap();
    health
        .wait_for(|health| *health == EngineHealth::Serving)
        .await
        .unwrap();
    let after = collect(engine.fuse(request(&engine, &[5, 6], 4)).await.unwrap()).await;
    assert_eq!(after, before);

    engine.panic_for_test().unwrap();
    health
        .wait_for(|health| *health == EngineHealth::Dead)
        .await
        .unwrap();
    let refused = engine.fuse(request(&engine, &[5], 1)).await;
    assert!(matches!(refused, Err(EngineError::Unavailable { .. })));
}

#[tokio::test]
async fn chunk_kv_is_the_same_each_time() {
    let engine = spawn(4);
    let conditioning: Arc<[u32]> = Arc::from([1u32, 2, 3]);
    let first = engine
        .chunk_kv(conditioning.clone(), vec![10, 11, 12])
        .await
        .unwrap();
    let again = engine
        .chunk_kv(conditioning, vec![10, 11, 12])
        .await
        .unwrap();
    assert!(first == again, "the same chunk must give the same bytes");
    let bytes = engine.model().identity.block_bytes(3);
    assert!(
        first
            .layers
            .iter()
            .all(|(k, v)| (k.len(), v.len()) == (bytes, bytes))
    );
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let engine = spawn(4);
    let model = engine.model();
    let segments = |question: Vec<u32>| PromptSegments {
        prefix: vec![1],
        chunks: Vec::new(),
        question,
    };
    let field = |segments, mode| match FusionPlan::new(segments, Vec::new(), mode, model) {
        Err(EngineError::InvalidRequest { field, .. }) => field,
        other => panic!("expected an invalid request, got {other:?}"),
    };
    let blend = |ratio| Mode::Blend {
        policy: ragweave_engine::Policy::FirstK,
        ratio,
    };
    assert_eq!(field(segments(vec![]), Mode::Full), "question");
    assert_eq!(field(segments(vec![5000]), Mode::Full), "tokens");
    assert_eq!(field(segments(vec![5]), blend(f64::NAN)), "ratio");
    assert_eq!(field(segments(vec![5]), blend(1.5)), "ratio");
    let long = FusionPlan::new(segments(vec![5; 512]), Vec::new(), Mode::Full, model);
    assert!(matches!(
        long,
        Err(EngineError::PromptTooLong {
            tokens: 513,
            limit: 512
        })
    ));
}
