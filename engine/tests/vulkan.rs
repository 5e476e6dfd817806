//! The engine suite on Vulkan: a GPU, or Mesa's lavapipe if there is none.
#![cfg(feature = "vulkan")]

mod suite;

use std::sync::Arc;

use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn_wgpu::{Vulkan, WgpuDevice};
use ragweave_engine::{ComputeDtype, Engine, EngineError, EngineOptions, KvDtype, ModelInfo};

backend_suite!(Vulkan, WgpuDevice::default());

/// Lavapipe has no bf16, and would panic at the first tensor of it.
#[test]
fn a_dtype_the_device_lacks_is_refused_by_the_field_that_asks_for_it() {
    let device = WgpuDevice::default();
    let has_bf16 = <Vulkan>::supports_dtype(&device, DType::BF16);
    let options = suite::fixtures::options("qwen3");
    for (field, options) in [
        (
            "dtype",
            EngineOptions {
                dtype: ComputeDtype::Bf16,
                ..options.clone()
            },
        ),
        (
            "kv_dtype",
            EngineOptions {
                kv_dtype: KvDtype::Bf16,
                ..options.clone()
            },
        ),
    ] {
        let info = Arc::new(ModelInfo::read(&options).expect("the fixture is readable"));
        match Engine::<Vulkan>::load(&options, info, &device) {
            Ok(_) => assert!(has_bf16, "{field}"),
            Err(EngineError::InvalidRequest {
                field: refused,
                message,
            }) => {
                assert!(!has_bf16 && refused == field, "{refused}");
                assert!(
                    message.contains("bf16") && message.contains("f32"),
                    "{message}"
                );
            }
            Err(other) => panic!("{other}"),
        }
    }
}
