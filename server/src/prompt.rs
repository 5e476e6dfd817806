//! The only segmentation of a prompt: prefix | chunk 1 | ... | chunk n | question, in token ids.
//!
//! Ingest, serving and evaluation all call this module, and a full prefill runs the concatenation of these ids, never a
//! re-tokenised string, so a chunk's KV is used with the same ids that it was computed from. A format is three wrapped
//! texts. Their wording comes from the model's chat template, cut at the positions of the texts ([`chat`]), or from
//! three strings (`[prompt]` in the model directory's `ragweave.toml` or the configuration).
//!
//! How wrapper and text meet ([`wrapped`]): a side of the wrapper that holds a special token is encoded by itself, with
//! special tokens recognised; a side without any is joined with the text and both are encoded as one plain string, so
//! that the model sees the merges it saw in training. Text from documents, questions and system texts is encoded only
//! by the plain tokenizer, so data cannot produce a special token.

use std::sync::Arc;

use ragweave_engine::{ChatTemplate, ModelInfo, PromptSegments, TextCodec};

use crate::config::PromptStrings;

mod chat;
mod error;
mod wrapped;

pub use error::PromptError;
use wrapped::Wrapped;

/// System text for a chat template if neither configuration nor request gives one.
pub const DEFAULT_SYSTEM: &str =
    "Answer the question from the passages. If they do not hold the answer, say so.";
/// Date given to templates that print one, in the format they ask for. It is fixed, because a prefix that changed every
/// day would make all stored KV inexact.
const TEMPLATE_DATE: &str = "2024-07-26";

/// A model's prompt format. Immutable; share it in an `Arc`.
#[derive(Debug)]
pub struct PromptFormat {
    codec: TextCodec,
    prefix: Prefix,
    chunk: Wrapped,
    question: Wrapped,
    /// Prefix ids with the default system text: every chunk's KV is computed after them.
    conditioning: Arc<[u32]>,
}

#[derive(Debug)]
enum Prefix {
    /// No place for a system text.
    Fixed(Vec<u32>),
    /// `{system}` inside.
    WithSystem {
        wrapped: Wrapped,
        default_system: String,
    },
}

impl PromptFormat {
    /// The format of a loaded model: the three strings if given, else its chat template, else three plain strings.
    ///
    /// A template that does not parse is an error only if it is to be used.
    ///
    /// # Errors
    /// [`PromptError`], also if the model has no tokenizer.
    pub fn from_model(
        model: &ModelInfo,
        strings: Option<&PromptStrings>,
        system: Option<&str>,
    ) -> Result<Self, PromptError> {
        let codec = model
            .tokenizer
            .as_ref()
            .ok_or_else(|| PromptError::NoTokenizer {
                dir: model.dir.clone(),
            })?;
        let template = match (strings, &model.template) {
            (Some(_), _) => None,
            (None, template) => template.as_ref().map_err(Clone::clone)?.as_ref(),
        };
        let format = Self::new(codec.clone(), template, strings, system, &model.name)?;
        format.check_rows(model)?;
        Ok(format)
    }

    fn check_rows(&self, model: &ModelInfo) -> Result<(), PromptError> {
        let parts = [
            ("prefix", self.conditioning.to_vec()),
            ("chunk wrapper", self.chunk.ids(&self.codec, "")?),
            ("question wrapper", self.question.ids(&self.codec, "")?),
        ];
        let vocab_size = model.config.vocab_size;
        for (part, ids) in parts {
            if let Some(id) = ids.into_iter().find(|id| *id as usize >= vocab_size) {
                return Err(PromptError::NoRow {
                    part,
                    token: self.codec.decode(&[id], false)?,
                    id,
                    vocab_size,
                    dir: model.dir.clone(),
                });
            }
        }
        Ok(())
    }

    /// The same from its parts; `name` is printed in errors.
    ///
    /// # Errors
    /// [`PromptError`], also if `system` is given to a format without a place for it.
    pub fn new(
        codec: TextCodec,
        template: Option<&ChatTemplate>,
        strings: Option<&PromptStrings>,
        system: Option<&str>,
        name: &str,
    ) -> Result<Self, PromptError> {
        match (strings, template) {
            (Some(strings), _) => Self::from_strings(codec, strings, system),
            (None, Some(template)) => {
                let cut = chat::cut(template, TEMPLATE_DATE, name)?;
                let wrapped = Wrapped::new(&codec, &cut.before_system, &cut.after_system)?;
                let default_system = system.unwrap_or(DEFAULT_SYSTEM).to_owned();
                let prefix = Prefix::WithSystem {
                    wrapped,
                    default_system,
                };
                let chunk = Wrapped::new(&codec, chat::BEFORE_CHUNK, chat::AFTER_CHUNK)?;
                let question = Wrapped::new(&codec, &cut.before_question, &cut.after_question)?;
                Self::assemble(codec, prefix, chunk, question)
            }
            (None, None) => Self::from_strings(codec.clone(), &plain_strings(&codec), system),
        }
    }

    fn from_strings(
        codec: TextCodec,
        strings: &PromptStrings,
        system: Option<&str>,
    ) -> Result<Self, PromptError> {
        let prefix = match (strings.prefix.split_once("{system}"), system) {
            (Some((before, after)), _) => Prefix::WithSystem {
                wrapped: Wrapped::new(&codec, before, after)?,
                default_system: system.unwrap_or(DEFAULT_SYSTEM).to_owned(),
            },
            (None, None) => Prefix::Fixed(codec.encode_template(&strings.prefix)?),
            (None, Some(_)) => return Err(PromptError::NoSystemPlace),
        };
        let chunk = Wrapped::around(&codec, &strings.chunk, "{text}")?;
        let question = Wrapped::around(&codec, &strings.question, "{question}")?;
        Self::assemble(codec, prefix, chunk, question)
    }

    fn assemble(
        codec: TextCodec,
        prefix: Prefix,
        chunk: Wrapped,
        question: Wrapped,
    ) -> Result<Self, PromptError> {
        let conditioning = prefix.ids(&codec, None)?.into();
        Ok(Self {
            codec,
            prefix,
            chunk,
            question,
            conditioning,
        })
    }

    /// Ids of everything before the first chunk, with the default system text. Chunk KV is computed after them.
    pub fn conditioning_prefix(&self) -> Arc<[u32]> {
        Arc::clone(&self.conditioning)
    }

    /// Ids of one chunk: its text in its wrapper.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn chunk_ids(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        Ok(self.chunk.ids(&self.codec, text)?)
    }

    /// Tokens to reserve for a chunk's wrapper: its own, and room for merges that break at the border to the text.
    pub fn wrapper_tokens(&self) -> usize {
        self.chunk.reserved_tokens()
    }

    /// The segments of a prompt. `chunks` are ids made by [`Self::chunk_ids`]; a `system` of `None` stands for the
    /// default system text.
    ///
    /// # Errors
    /// [`PromptError::NoSystemPlace`], or an error if the tokenizer refuses a text.
    pub fn segments(
        &self,
        system: Option<&str>,
        chunks: &[&[u32]],
        question: &str,
    ) -> Result<PromptSegments, PromptError> {
        let prefix = match system {
            None => self.conditioning.to_vec(),
            Some(_) => self.prefix.ids(&self.codec, system)?,
        };
        Ok(PromptSegments {
            prefix,
            chunks: chunks.iter().map(|ids| ids.to_vec()).collect(),
            question: self.question.ids(&self.codec, question)?,
        })
    }

    /// Hash of what stored chunks depend on: the conditioning prefix and the chunk wrapper.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"ragweave prompt format 1");
        hasher.update(&(self.conditioning.len() as u64).to_le_bytes());
        for id in self.conditioning.iter() {
            hasher.update(&id.to_le_bytes());
        }
        self.chunk.hash(&mut hasher);
        *hasher.finalize().as_bytes()
    }
}

impl Prefix {
    fn ids(&self, codec: &TextCodec, system: Option<&str>) -> Result<Vec<u32>, PromptError> {
        match (self, system) {
            (Self::Fixed(ids), None) => Ok(ids.clone()),
            (Self::Fixed(_), Some(_)) => Err(PromptError::NoSystemPlace),
            (
                Self::WithSystem {
                    wrapped,
                    default_system,
                },
                system,
            ) => Ok(wrapped.ids(codec, system.unwrap_or(default_system))?),
        }
    }
}

/// For a model with neither a chat template nor strings of its own: a base model that continues text.
fn plain_strings(codec: &TextCodec) -> PromptStrings {
    PromptStrings {
        prefix: format!("{}{{system}}", codec.opening()),
        chunk: "\n\n{text}".to_owned(),
        question: "\n\nQuestion: {question}\nAnswer:".to_owned(),
    }
}
