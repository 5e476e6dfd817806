//! The tokens that end an answer, from the three files that may name them. Nothing else is read from
//! `generation_config.json`: the request sets the sampling and the default is greedy decoding, so
//! the settings that a model's authors recommend cannot make the model unusable.

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::model_files::source::ModelSource;
use crate::text::TextCodec;

/// Defaults for generation from a model directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Ends of sequence from `config.json`, `generation_config.json` and the tokenizer's files,
    /// without repetitions.
    pub eos_token_ids: Vec<u32>,
}

impl GenerationDefaults {
    /// Reads `generation_config.json`, if there is one.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when the file is not JSON, [`EngineError::UnsupportedModel`] when
    /// `eos_token_id` is not a token id, a list of them or null, or is beyond the vocabulary.
    pub(crate) fn from_source(
        source: &ModelSource,
        config: &ModelConfig,
        tokenizer: Option<&TextCodec>,
    ) -> Result<Self, EngineError> {
        let mut defaults = Self::default();
        defaults.add(&config.eos_token_ids);
        if let Some(file) = source.generation_config()? {
            let fields = file.fields()?;
            let ids = fields.token_ids("eos_token_id")?.unwrap_or_default();
            fields.check_rows("eos_token_id", &ids, config.vocab_size)?;
            defaults.add(&ids);
        }
        defaults.add(tokenizer.and_then(TextCodec::eos_id).as_slice());
        Ok(defaults)
    }

    fn add(&mut self, ids: &[u32]) {
        for id in ids {
            if !self.eos_token_ids.contains(id) {
                self.eos_token_ids.push(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn config() -> ModelConfig {
        let value = json!({"model_type": "llama", "vocab_size": 9, "hidden_size": 8,
            "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "eos_token_id": [2, 5]});
        ModelConfig::from_json(&value, Path::new("config.json")).unwrap()
    }

    fn read(text: Option<&str>) -> Result<GenerationDefaults, EngineError> {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            fs_err::write(dir.path().join("generation_config.json"), text).unwrap();
        }
        GenerationDefaults::from_source(&ModelSource::open(dir.path()).unwrap(), &config(), None)
    }

    #[test]
    fn without_the_file_the_configs_eos_counts() {
        assert_eq!(read(None).unwrap().eos_token_ids, [2, 5]);
    }

    #[test]
    fn eos_ids_of_all_files_are_joined() {
        let one = read(Some(r#"{"eos_token_id": 7}"#)).unwrap();
        assert_eq!(one.eos_token_ids, [2, 5, 7]);
        let list = read(Some(r#"{"eos_token_id": [5, 7, 7]}"#)).unwrap();
        assert_eq!(list.eos_token_ids, [2, 5, 7]);
        let null = read(Some(r#"{"eos_token_id": null}"#)).unwrap();
        assert_eq!(null.eos_token_ids, [2, 5]);

        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
        let dir = tempfile::tempdir().unwrap();
        fs_err::copy(
            fixture.join("tokenizer.json"),
            dir.path().join("tokenizer.json"),
        )
        .unwrap();
        let named = |eos: serde_json::Value| {
            let text = json!({"eos_token": eos}).to_string();
            fs_err::write(dir.path().join("tokenizer_config.json"), text).unwrap();
            let codec = TextCodec::from_dir(dir.path()).unwrap();
            GenerationDefaults::from_source(
                &ModelSource::open(dir.path()).unwrap(),
                &config(),
                Some(&codec),
            )
            .unwrap()
        };
        assert_eq!(named(json!("<s>")).eos_token_ids, [2, 5, 1]);
        assert_eq!(named(json!({"content": "<s>"})).eos_token_ids, [2, 5, 1]);
        assert_eq!(named(json!("</s>")).eos_token_ids, [2, 5]);
        assert_eq!(named(json!("<none such>")).eos_token_ids, [2, 5]);
        assert_eq!(named(json!(null)).eos_token_ids, [2, 5]);
    }

    #[test]
    fn recommended_sampling_refuses_no_model() {
        for text in [
            r#"{"top_k": -1}"#,
            r#"{"top_k": 0, "top_p": 0, "do_sample": true}"#,
            r#"{"top_p": 1.5, "temperature": 0.0, "do_sample": true}"#,
            r#"{"temperature": -1, "repetition_penalty": 0, "min_p": "x"}"#,
            r#"{"do_sample": null, "temperature": null, "top_k": null, "pad_token_id": -1}"#,
            r#"{"bos_token_id": [1], "max_length": "x", "suppress_tokens": {}}"#,
        ] {
            let ids = read(Some(text)).unwrap().eos_token_ids;
            assert_eq!(ids, [2, 5], "{text}");
        }
    }

    #[test]
    fn bad_values_name_the_file_and_the_field() {
        for (part, text) in [
            ("eos_token_id", r#"{"eos_token_id": "</s>"}"#),
            ("eos_token_id", r#"{"eos_token_id": [1, 9]}"#),
            ("vocab_size is 9", r#"{"eos_token_id": 9}"#),
            ("top level", "[]"),
            (
                "git lfs pull",
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            ),
        ] {
            let error = read(Some(text)).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("generation_config.json"),
                "{error}"
            );
        }
    }
}
