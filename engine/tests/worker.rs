//! The engine thread: decoding, admission, cancellation, deadlines, recovery after a panic.

#[path = "suite/fixtures.rs"]
#[expect(dead_code, reason = "the suite's other users need the rest of it")]
mod fixtures;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn_flex::{Flex, FlexDevice};
use ragweave_engine::{
    ChunkState, Engine, EngineError, EngineHandle, EngineHealth, EngineOptions, FinishReason,
    FuseRequest, FusionPlan, Generation, HostBuffer, LayerSource, Mode, ModelInfo, Policy,
    PromptSegments, Ratio, SamplingParams, SourceError, Tier, TokenEvent,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const VARIANT: &str = "qwen3";

fn spawn(max_queue: usize) -> EngineHandle {
    spawn_with(EngineOptions {
        max_queue,
        ..fixtures::options(VARIANT)
    })
}

fn spawn_with(options: EngineOptions) -> EngineHandle {
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

/// A chunk whose layers arrive when the test releases them; until then the engine is busy.
struct Gate {
    reached: Mutex<Option<oneshot::Sender<()>>>,
    open: Mutex<Receiver<()>>,
}

impl LayerSource for Gate {
    fn read_layer(&self, _: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        if let Some(reached) = self.reached.lock().expect("sound").take() {
            reached.send(()).expect("the test waits for it");
        }
        let _ = self.open.lock().expect("sound").recv(); // an error: the gate is open for good
        into.bytes_mut().fill(0);
        Ok(())
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}

/// Starts a request that occupies the engine until the sender is dropped.
async fn occupy(
    engine: &EngineHandle,
) -> (Sender<()>, JoinHandle<Result<Generation, EngineError>>) {
    occupy_until(engine, None).await
}

async fn occupy_until(
    engine: &EngineHandle,
    deadline: Option<Instant>,
) -> (Sender<()>, JoinHandle<Result<Generation, EngineError>>) {
    let (sender, open) = channel();
    let (reached, is_reached) = oneshot::channel();
    let segments = PromptSegments {
        prefix: vec![1],
        chunks: vec![vec![2, 3]],
        question: vec![4],
    };
    let states = vec![ChunkState::Hit { exact: false }];
    let plan = FusionPlan::new(segments, states, Mode::Reuse, engine.model()).expect("valid");
    let gate = Gate {
        reached: Mutex::new(Some(reached)),
        open: Mutex::new(open),
    };
    let request = FuseRequest {
        plan,
        sources: vec![Some(Box::new(gate))],
        sampling: SamplingParams::greedy(1),
        deadline,
    };
    let running = spawn_fuse(engine, request);
    is_reached.await.expect("its KV is read");
    queued(engine, 0).await; // reading begins in the queue
    (sender, running)
}

fn spawn_fuse(
    engine: &EngineHandle,
    request: FuseRequest,
) -> JoinHandle<Result<Generation, EngineError>> {
    let engine = engine.clone();
    tokio::spawn(async move { engine.fuse(request).await })
}

/// Waits until `n` requests are in the queue.
async fn queued(engine: &EngineHandle, n: usize) {
    while engine.queue_depth() != n {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_while_its_kv_is_read_frees_the_engine() {
    let engine = spawn_with(EngineOptions {
        read_timeout: Duration::from_secs(3600),
        ..fixtures::options(VARIANT)
    });
    let (_gate, running) = occupy(&engine).await;
    running.abort();
    let next = engine.fuse(request(&engine, &[9, 23], 2)).await.unwrap();
    assert_eq!(collect(next).await.0.len(), 2);
}

#[tokio::test]
async fn a_deadline_holds_while_stored_kv_is_waited_for() {
    let engine = spawn_with(EngineOptions {
        read_timeout: Duration::from_secs(3600),
        ..fixtures::options(VARIANT)
    });
    let soon = Instant::now() + Duration::from_millis(300);
    let (_gate, running) = occupy_until(&engine, Some(soon)).await;
    let late = running.await.unwrap().err().unwrap();
    assert!(matches!(late, EngineError::DeadlineExceeded { .. }));
    // The engine has given it up too, although its KV never arrives.
    let next = engine.fuse(request(&engine, &[9, 23], 2)).await.unwrap();
    assert_eq!(collect(next).await.0.len(), 2);
}

#[tokio::test]
async fn a_read_that_hangs_costs_its_chunk_a_computation_and_nobody_the_engine() {
    let engine = spawn_with(EngineOptions {
        read_timeout: Duration::from_millis(400),
        ..fixtures::options(VARIANT)
    });
    let (_gate, running) = occupy(&engine).await;
    let answered = running.await.unwrap().unwrap();
    assert_eq!(answered.report.failed_chunks, [0]);
    assert_eq!(answered.report.chunks_missed, 1);
    let next = engine.fuse(request(&engine, &[9, 23], 2)).await.unwrap();
    assert_eq!(collect(next).await.0.len(), 2);
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
    let (gate, running) = occupy(&engine).await;
    let waiting = spawn_fuse(&engine, request(&engine, &[5], 1));
    queued(&engine, 1).await;

    let refused = engine.fuse(request(&engine, &[5], 1)).await;
    assert!(matches!(refused, Err(EngineError::QueueFull { limit: 1 })));

    drop(gate);
    running.await.unwrap().expect("the first request ends");
    let waited = waiting.await.unwrap().expect("the queue moves on");
    assert_eq!(collect(waited).await.1, FinishReason::Length);
}

#[tokio::test]
async fn a_cancelled_request_gives_its_place_up() {
    let engine = spawn(1);
    let (gate, running) = occupy(&engine).await;
    let cancelled = spawn_fuse(&engine, request(&engine, &[5], 1));
    queued(&engine, 1).await;
    cancelled.abort();
    assert!(cancelled.await.is_err());

    let waiting = spawn_fuse(&engine, request(&engine, &[5], 1));
    tokio::task::yield_now().await;
    drop(gate);
    running.await.unwrap().expect("the first request ends");
    waiting
        .await
        .unwrap()
        .expect("the cancelled request does not block it");
}

#[tokio::test]
async fn a_deadline_holds_in_the_queue() {
    let engine = spawn(2);
    let (_gate, _running) = occupy(&engine).await;
    let mut late = request(&engine, &[5], 1);
    late.deadline = Some(Instant::now() + Duration::from_millis(20));
    let refused = engine.fuse(late).await;
    assert!(matches!(refused, Err(EngineError::DeadlineExceeded { .. })));
}

#[tokio::test]
async fn an_expired_request_never_reaches_the_device() {
    let engine = spawn(4);
    let mut late = request(&engine, &[5, 6], 3);
    late.deadline = Some(Instant::now());
    let refused = engine.fuse(late).await;
    assert!(matches!(refused, Err(EngineError::DeadlineExceeded { .. })));
}

/// A model large enough that thousands of tokens take far longer than a test's deadline.
fn spawn_slow() -> (EngineHandle, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    fs_err::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    let options = EngineOptions {
        random_weights: Some(1),
        ..EngineOptions::new(dir.path())
    };
    (
        EngineHandle::spawn::<Flex>(options, FlexDevice).expect("loads"),
        dir,
    )
}

#[tokio::test]
async fn a_deadline_ends_the_decode() {
    let (engine, _dir) = spawn_slow();
    // Seconds, so that a busy machine prefills in time; thousands of tokens, so that none decodes all.
    let mut request = request(&engine, &[5, 6], 6000);
    request.deadline = Some(Instant::now() + Duration::from_secs(3));
    let generation = engine.fuse(request).await.expect("the prefill is in time");
    let (tokens, reason) = collect(generation).await;
    assert_eq!(reason, FinishReason::Deadline);
    assert!(tokens.len() < 6000);
}

#[tokio::test]
async fn dropping_an_answer_frees_the_engine() {
    let (engine, _dir) = spawn_slow();
    let generation = engine.fuse(request(&engine, &[5, 6], 1000)).await.unwrap();
    drop(generation);
    // The rest of that answer would take many times longer than this deadline.
    let mut next = request(&engine, &[5], 1);
    next.deadline = Some(Instant::now() + Duration::from_secs(5));
    engine.fuse(next).await.expect("the engine is free");
}

/// Without waiting for it, so that no change of the engine's health is missed.
fn make_panic(engine: &EngineHandle) {
    let engine = engine.clone();
    tokio::spawn(async move { engine.panic_for_test("a test").await });
}

#[tokio::test]
async fn an_engine_that_cannot_reload_is_dead() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for entry in fs_err::read_dir(fixtures::options(VARIANT).model_dir).expect("committed") {
        let path = entry.expect("readable").path();
        fs_err::copy(&path, dir.path().join(path.file_name().expect("a file"))).expect("copied");
    }
    let options = EngineOptions::new(dir.path());
    let engine = EngineHandle::spawn::<Flex>(options, FlexDevice).expect("the copy loads");
    let mut health = engine.health();
    drop(dir); // with the weights
    make_panic(&engine);
    health
        .wait_for(|health| *health == EngineHealth::Dead)
        .await
        .unwrap();
    let refused = engine.fuse(request(&engine, &[5], 1)).await;
    assert!(matches!(refused, Err(EngineError::Unavailable { .. })));
}

#[tokio::test]
async fn after_one_panic_the_model_is_reloaded_and_after_two_the_engine_is_dead() {
    let engine = spawn(4);
    let mut health = engine.health();
    let before = collect(engine.fuse(request(&engine, &[5, 6], 4)).await.unwrap()).await;

    make_panic(&engine);
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

    make_panic(&engine);
    health
        .wait_for(|health| *health == EngineHealth::Dead)
        .await
        .unwrap();
    let refused = engine.fuse(request(&engine, &[5], 1)).await;
    assert!(matches!(refused, Err(EngineError::Unavailable { .. })));
}

#[tokio::test]
async fn out_of_device_memory_fails_the_request_and_nothing_else() {
    let engine = spawn(4);
    let mut health = engine.health();
    let before = collect(engine.fuse(request(&engine, &[5, 6], 4)).await.unwrap()).await;
    for _ in 0..3 {
        let failed = engine.panic_for_test("CUDA_ERROR_OUT_OF_MEMORY: out of memory");
        assert_eq!(failed.await, Err(EngineError::DeviceMemory));
    }
    assert!(!health.has_changed().unwrap(), "the model stays loaded");
    assert_eq!(*health.borrow_and_update(), EngineHealth::Serving);
    let after = collect(engine.fuse(request(&engine, &[5, 6], 4)).await.unwrap()).await;
    assert_eq!(after, before);
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
    let bytes = engine.model().identity.k_block_bytes(3);
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
    assert_eq!(field(segments(vec![]), Mode::Full), "question");
    assert_eq!(field(segments(vec![5000]), Mode::Full), "tokens");
    let deep = Mode::blend(Policy::hkvd(99), Ratio::ONE);
    assert_eq!(field(segments(vec![5]), deep), "selection");
    let long = FusionPlan::new(segments(vec![5; 512]), Vec::new(), Mode::Full, model);
    assert!(matches!(
        long,
        Err(EngineError::PromptTooLong {
            tokens: 513,
            limit: 512
        })
    ));
}
