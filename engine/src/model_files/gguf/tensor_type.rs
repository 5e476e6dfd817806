//! The types in which GGUF files store the elements of tensors: those that are read, with the sizes
//! of their blocks, and the names of the others for errors.

/// A stored type that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    F16,
    Bf16,
    Block(BlockType),
}

/// A type that quantises runs of elements (blocks) with scales of their own. The layouts are those of
/// llama.cpp's `ggml-common.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// The supported types, for errors.
const SUPPORTED: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K";

/// Names of the types that are not read, with their numbers in the file.
const OTHERS: [(u32, &str); 24] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl TensorType {
    /// The type with this number in the file.
    ///
    /// # Errors
    /// A message that names the type and the supported ones.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        let block = |block| Ok(Self::Block(block));
        match number {
            0 => Ok(Self::F32),
            1 => Ok(Self::F16),
            2 => block(BlockType::Q4_0),
            3 => block(BlockType::Q4_1),
            6 => block(BlockType::Q5_0),
            7 => block(BlockType::Q5_1),
            8 => block(BlockType::Q8_0),
            12 => block(BlockType::Q4K),
            13 => block(BlockType::Q5K),
            14 => block(BlockType::Q6K),
            30 => Ok(Self::Bf16),
            _ => Err(format!(
                "is stored as {}; supported: {SUPPORTED}",
                name_of_other(number)
            )),
        }
    }

    /// Elements of one block. A row of a tensor is a whole number of blocks.
    pub(crate) fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Block(block) => block.elements(),
        }
    }

    /// Bytes of one block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Block(block) => block.bytes(),
        }
    }
}

impl BlockType {
    /// Elements of one block.
    pub(crate) const fn elements(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

fn name_of_other(number: u32) -> String {
    match OTHERS.iter().find(|(other, _)| *other == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("type {number}, which is not known"),
    }
}
