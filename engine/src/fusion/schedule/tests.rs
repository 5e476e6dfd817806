//! What each mode runs, layer by layer.

use std::path::Path;

use super::*;
use crate::fusion::PromptSegments;
use crate::model_info::ModelInfo;
use crate::options::EngineOptions;

const N_LAYERS: usize = 4;

/// A prefix of 2, an exact chunk of 3, chunks of 4 and 5 that are not exact, a missed chunk of 2, a question of 3:
/// rows 0..2, 2..5, 5..9, 9..14, 14..16 and 16..19.
fn plan(mode: &str) -> FusionPlan {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/qwen3");
    let model = ModelInfo::read(&EngineOptions::new(dir)).unwrap();
    assert_eq!(model.config.num_hidden_layers, N_LAYERS);
    let segments = PromptSegments {
        prefix: vec![1; 2],
        chunks: [3, 4, 5, 2].map(|n| vec![2; n]).to_vec(),
        question: vec![3; 3],
    };
    let states = vec![
        ChunkState::Hit { exact: true },
        ChunkState::Hit { exact: false },
        ChunkState::Hit { exact: false },
        ChunkState::Miss,
    ];
    FusionPlan::new(segments, states, mode.parse().unwrap(), &model).unwrap()
}

fn schedule(mode: &str) -> LayerSchedule {
    LayerSchedule::prefill(&plan(mode), N_LAYERS, true, Forward::Last)
}

/// For each step: rows placed, candidates computed, candidates that go on.
fn steps(pass: &Pass) -> Vec<(usize, usize, Option<usize>)> {
    let of = |step: &LayerStep| (step.rows_placed, step.n_candidates, step.n_kept);
    pass.steps.iter().map(of).collect()
}

#[test]
fn a_full_prefill_computes_every_row_and_places_none() {
    let full = LayerSchedule::prefill(&plan("full"), N_LAYERS, false, Forward::Last);
    assert_eq!(full.passes.len(), 1);
    assert_eq!(*full.passes[0].fixed, (0..19).collect::<Vec<_>>());
    assert_eq!(steps(&full.passes[0]), [(0, 0, None); N_LAYERS]);
    let cached = schedule("full");
    assert_eq!(*cached.passes[0].fixed, (2..19).collect::<Vec<_>>());
}

#[test]
fn only_the_rows_asked_for_go_through_the_last_layer() {
    for at_end in [Forward::Last, Forward::Alive, Forward::None] {
        let schedule = LayerSchedule::prefill(&plan("reuse"), N_LAYERS, true, at_end);
        let forward: Vec<Forward> = schedule.passes[0]
            .steps
            .iter()
            .map(|it| it.forward)
            .collect();
        assert_eq!(
            forward,
            [Forward::Alive, Forward::Alive, Forward::Alive, at_end]
        );
    }
}

#[test]
fn reuse_computes_question_and_missed_chunks_over_what_it_places() {
    let reuse = schedule("reuse");
    assert_eq!(*reuse.passes[0].fixed, (14..19).collect::<Vec<_>>());
    assert_eq!(steps(&reuse.passes[0]), [(12, 0, None); N_LAYERS]);
    assert_eq!(reuse.kept_layers(), [false; N_LAYERS]);
}

#[test]
fn hkvd_computes_all_candidates_up_to_its_comparison() {
    let hkvd = schedule("hkvd@2:0.3"); // ceil(0.3 x 9) = 3 rows
    let expected = [(3, 9, None), (3, 9, None), (12, 9, Some(3)), (12, 3, None)];
    assert_eq!(steps(&hkvd.passes[0]), expected);
    assert_eq!(hkvd.first_reads, [Some(0), Some(2), Some(2), None]);
    assert_eq!(hkvd.kept_layers(), [false, false, true, false]);
}

#[test]
fn a_gradual_schedule_narrows_at_every_layer_from_its_comparison_on() {
    let gradual = schedule("hkvd@1/gradual:0.4"); // 4 rows: 6 at layer 1, 4 at layer 2, 2 at layer 3
    let kept: Vec<Option<usize>> = gradual.passes[0].steps.iter().map(|it| it.n_kept).collect();
    assert_eq!(kept, [None, Some(6), Some(4), Some(2)]);
    assert_eq!(gradual.kept_layers(), [false, true, true, true]);
}

#[test]
fn a_probe_is_a_pass_of_its_own_and_places_what_the_prefill_then_need_not() {
    let query = schedule("query:0.3");
    let [probe, compute] = &query.passes[..] else {
        panic!("{} passes", query.passes.len());
    };
    let asking = Purpose::Question {
        pooling: Pooling::Mean,
        n_asking: 3,
    };
    assert_eq!(probe.purpose, asking);
    assert_eq!(steps(probe), [(12, 0, None); N_LAYERS]);
    let reads: Vec<bool> = probe.steps.iter().map(|step| step.reads).collect();
    assert_eq!(reads, [false, false, false, true]);
    assert_eq!(probe.steps[3].forward, Forward::None);
    assert_eq!(steps(compute), [(0, 3, None); N_LAYERS]);
}

#[test]
fn a_probe_over_anchors_ends_at_its_layer_and_sees_one_row_in_eight_of_stored_chunks() {
    let anchors = schedule("anchors@1/final:0.3");
    assert_eq!(anchors.passes[0].steps.len(), 2);
    // The prefix, one anchor of each of three chunks, the missed chunk and the question.
    let expected = [0, 1, 2, 5, 9, 14, 15, 16, 17, 18];
    assert_eq!(anchors.passes[0].sees.as_deref(), Some(&expected[..]));
    assert_eq!(
        steps(&anchors.passes[1])[1..],
        [(0, 3, None), (12, 3, None), (12, 3, None)]
    );
}

#[test]
fn an_oracle_prefills_in_full_beside_the_stored_kv() {
    let oracle = schedule("oracle/v:0.3");
    assert_eq!(oracle.passes[0].purpose, Purpose::Truth(Deviation::V));
    assert_eq!(oracle.passes[0].fixed.len(), 19);
    assert_eq!(oracle.kept_layers(), [true; N_LAYERS]);
}

#[test]
fn all_computes_every_row_through_the_fused_path() {
    let all = schedule("all");
    assert_eq!(all.passes.len(), 1);
    assert_eq!(all.passes[0].fixed.len(), 19);
    assert_eq!(steps(&all.passes[0]), [(12, 0, None); N_LAYERS]);
    assert!(!all.chooses);
}

#[test]
fn the_mean_correction_needs_the_stored_rows_at_every_layer() {
    let corrected = schedule("first-k~mean:0.3");
    assert!(corrected.passes[0].steps.iter().all(|step| step.corrects));
    assert_eq!(corrected.kept_layers(), [true; N_LAYERS]);
}
