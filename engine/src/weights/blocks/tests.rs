//! Every type against gguf-py, bit by bit, and any bytes at all.

use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

const TYPES: [(BlockType, &str); 8] = [
    (BlockType::Q4_0, "Q4_0"),
    (BlockType::Q4_1, "Q4_1"),
    (BlockType::Q5_0, "Q5_0"),
    (BlockType::Q5_1, "Q5_1"),
    (BlockType::Q8_0, "Q8_0"),
    (BlockType::Q4K, "Q4_K"),
    (BlockType::Q5K, "Q5_K"),
    (BlockType::Q6K, "Q6_K"),
];

fn decode_all(kind: BlockType, data: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; data.len() / kind.bytes() * kind.elements()];
    let blocks = data.chunks_exact(kind.bytes());
    for (block, out) in blocks.zip(values.chunks_exact_mut(kind.elements())) {
        decode(kind, block, out);
    }
    values
}

#[test]
fn values_equal_those_of_gguf_py() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/blocks.safetensors");
    let bytes = fs_err::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (kind, name) in TYPES {
        let tensor = |part: &str| file.tensor(&format!("{name}.{part}")).unwrap();
        let values = decode_all(kind, tensor("bytes").data());
        let bits = |value: &f32| value.to_bits();
        let expected = tensor("values").data().as_chunks().0;
        let expected: Vec<u32> = expected.iter().map(|b| u32::from_le_bytes(*b)).collect();
        assert_eq!(
            values.iter().map(bits).collect::<Vec<_>>(),
            expected,
            "{name}"
        );
    }
}

proptest! {
    /// Finite exactly if the check of the scales says so, and every element is written.
    #[test]
    fn any_bytes_decode(seed in prop::collection::vec(any::<u8>(), 210), pick in 0..TYPES.len()) {
        let (kind, name) = TYPES[pick];
        let block = &seed[..kind.bytes()];
        let values = decode_all(kind, block);
        prop_assert_eq!(values.len(), kind.elements());
        if is_finite(kind, block) {
            prop_assert!(values.iter().all(|value| value.is_finite()), "{}", name);
        } else {
            prop_assert!(values.iter().any(|value| !value.is_finite()), "{}", name);
        }
    }
}
