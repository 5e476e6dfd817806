//! The engine's properties, generic over the backend. `tests/{flex,vulkan,cuda}.rs` run them.
//!
//! Fixtures are made by `scripts/fixtures/make_models.py` and `scripts/fixtures/fusion_reference.py`
//! (see `scripts/fixtures/README.md` for the commands).

pub mod fixtures;
pub mod fusion_limits;
pub mod fusion_oracle;
pub mod kernels;
pub mod parity;

/// Instantiates the suite for one backend: a module per model variant, a test per property.
#[macro_export]
macro_rules! backend_suite {
    ($backend:ty, $device:expr) => {
        backend_suite!(@variants $backend, $device,
            llama2_mha "llama2-mha", llama3_gqa "llama3-gqa", llama3_gqa_v5 "llama3-gqa-v5",
            llama_linear "llama-linear", llama_yarn "llama-yarn", llama_bias "llama-bias",
            qwen3 "qwen3", qwen3_sliding "qwen3-sliding", llama_bf16 "llama-bf16",
            llama_f16 "llama-f16", qwen2 "qwen2", mistral_sliding "mistral-sliding",
            gemma3 "gemma3", gemma3_256 "gemma3-256");

        backend_suite!(@gguf $backend, $device,
            gguf_llama_mixed "llama-mixed", gguf_llama_spm "llama-spm", gguf_qwen2 "qwen2",
            gguf_qwen3 "qwen3");

        backend_suite!(@kernels $backend, $device,
            overwrite_rows_equals_its_reference,
            overwrite_rows_leaves_a_shared_buffer_alone,
            masked_softmax_equals_its_reference,
            attend_rows_equals_its_reference,
            a_row_that_is_not_finite_shows_and_spoils_no_other,
            place_block_equals_its_reference,
            place_block_leaves_shared_buffers_alone,
            rotate_equals_its_reference,
            row_distance_equals_its_reference,
            rms_norm_equals_its_reference,
            add_equals_its_reference,
            glu_equals_its_reference,
            project_gated_equals_its_reference,
            project_pair_and_project_add_equal_single_products,
            write_rows_equals_its_parts,
            write_rows_leaves_shared_buffers_alone,
            what_project_pair_gives_is_written_as_it_is,
            project_and_embed_read_the_same_matrix);
    };
    (@gguf $backend:ty, $device:expr, $($property:ident $file:literal),+) => {
        $(#[test]
        fn $property() {
            suite::parity::gguf_equals_transformers::<$backend>($file, &$device);
        })+
    };
    (@kernels $backend:ty, $device:expr, $($property:ident),+) => {
        mod kernels {
            use super::*;

            $(#[test]
            fn $property() {
                suite::kernels::$property::<$backend>(&$device);
            })+
        }
    };
    (@variants $backend:ty, $device:expr, $($module:ident $variant:literal),+) => {
        $(mod $module {
            use super::*;

            #[test]
            fn equals_transformers() {
                suite::parity::equals_transformers::<$backend>($variant, &$device);
            }

            #[test]
            fn fused_prefill_equals_the_reference() {
                suite::fusion_oracle::equals_the_reference::<$backend>($variant, &$device);
            }

            #[test]
            fn ratio_zero_is_reuse_and_one_is_full() {
                suite::fusion_limits::ratio_zero_is_reuse_and_one_is_full::<$backend>($variant, &$device);
            }

            #[test]
            fn every_row_selected_equals_full_prefill() {
                suite::fusion_limits::every_row_selected_equals_full_prefill::<$backend>($variant, &$device);
            }

            #[test]
            fn every_policy_with_every_candidate_equals_full_prefill() {
                suite::fusion_limits::every_policy_with_every_candidate_equals_full_prefill::<$backend>($variant, &$device);
            }

            #[test]
            fn without_candidates_no_policy_recomputes() {
                suite::fusion_limits::without_candidates_no_policy_recomputes::<$backend>($variant, &$device);
            }

            #[test]
            fn the_mean_correction_moves_the_other_rows() {
                suite::fusion_limits::the_mean_correction_moves_the_other_rows::<$backend>($variant, &$device);
            }

            #[test]
            fn one_exact_chunk_reused_equals_full_prefill() {
                suite::fusion_limits::one_exact_chunk_reused_equals_full_prefill::<$backend>($variant, &$device);
            }

            #[test]
            fn all_chunks_missed_equals_full_prefill() {
                suite::fusion_limits::all_chunks_missed_equals_full_prefill::<$backend>($variant, &$device);
            }

            #[test]
            fn layer_zero_of_a_chunk_does_not_depend_on_its_place() {
                suite::fusion_limits::layer_zero_of_a_chunk_does_not_depend_on_its_place::<$backend>($variant, &$device);
            }

            #[test]
            fn a_bad_block_costs_time_and_not_the_answer() {
                suite::fusion_limits::a_bad_block_costs_time_and_not_the_answer::<$backend>($variant, &$device);
            }

            #[test]
            fn a_cached_prefix_changes_nothing() {
                suite::fusion_limits::a_cached_prefix_changes_nothing::<$backend>($variant, &$device);
            }

            #[test]
            fn small_prefill_tiles_change_nothing() {
                suite::fusion_limits::small_prefill_tiles_change_nothing::<$backend>($variant, &$device);
            }
        })+
    };
}
