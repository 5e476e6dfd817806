//! `generation_config.json`: the sampling defaults the model's makers recommend, and all tokens
//! that end an answer. The file is optional.

use std::path::Path;

use crate::config::ModelConfig;
use crate::config::fields::{Fields, read_json_if_present};
use crate::error::EngineError;
use crate::sampling::SamplingParams;

/// Defaults for generation from a model directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Ends of sequence from `config.json` and `generation_config.json`, without repetitions.
    pub eos_token_ids: Vec<u32>,
    /// Whether the model's makers recommend sampling; without it, decoding is greedy.
    pub do_sample: bool,
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
}

impl GenerationDefaults {
    /// Reads `generation_config.json` in `dir`, if there is one.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when the file is not JSON, [`EngineError::UnsupportedModel`]
    /// naming a field whose value cannot be used.
    pub fn from_dir(dir: &Path, config: &ModelConfig) -> Result<Self, EngineError> {
        let path = dir.join("generation_config.json");
        let mut defaults = Self {
            eos_token_ids: config.eos_token_ids.clone(),
            ..Self::default()
        };
        let Some(value) = read_json_if_present(&path)? else {
            return Ok(defaults);
        };
        let fields = Fields::root(&value, &path)?;
        for id in fields.token_ids("eos_token_id")?.unwrap_or_default() {
            if !defaults.eos_token_ids.contains(&id) {
                defaults.eos_token_ids.push(id);
            }
        }
        let float = |name| Ok::<_, EngineError>(fields.f64(name)?.map(|value| value as f32));
        defaults.do_sample = fields.bool("do_sample")?.unwrap_or(false);
        defaults.temperature = float("temperature")?;
        defaults.top_k = fields.token_id("top_k")?;
        defaults.top_p = float("top_p")?;
        defaults.min_p = float("min_p")?;
        defaults.repetition_penalty = float("repetition_penalty")?;
        defaults.check(fields)?;
        Ok(defaults)
    }

    /// Parameters for an answer whose request says nothing about sampling.
    #[must_use]
    pub fn sampling(&self, max_tokens: usize) -> SamplingParams {
        let mut params = SamplingParams::greedy(max_tokens);
        params.repetition_penalty = self.repetition_penalty.unwrap_or(1.0);
        if self.do_sample {
            params.temperature = self.temperature.unwrap_or(1.0);
            params.top_k = self.top_k.unwrap_or(0);
            params.top_p = self.top_p.unwrap_or(1.0);
            params.min_p = self.min_p.unwrap_or(0.0);
        }
        params
    }

    /// The values must be ones a request could give too.
    fn check(&self, fields: Fields<'_>) -> Result<(), EngineError> {
        let params = Self {
            do_sample: true,
            ..self.clone()
        }
        .sampling(1);
        match params.validate() {
            Err(EngineError::InvalidSampling { field, message }) => {
                Err(fields.refuse(field, message))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
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
        GenerationDefaults::from_dir(dir.path(), &config())
    }

    #[test]
    fn without_the_file_decoding_is_greedy_with_the_configs_eos() {
        let defaults = read(None).unwrap();
        assert_eq!(defaults.eos_token_ids, [2, 5]);
        assert_eq!(defaults.sampling(7), SamplingParams::greedy(7));
    }

    #[test]
    fn eos_ids_of_both_files_are_joined() {
        let one = read(Some(r#"{"eos_token_id": 7}"#)).unwrap();
        assert_eq!(one.eos_token_ids, [2, 5, 7]);
        let list = read(Some(r#"{"eos_token_id": [5, 7, 7]}"#)).unwrap();
        assert_eq!(list.eos_token_ids, [2, 5, 7]);
    }

    #[test]
    fn recommended_sampling_is_used_only_with_do_sample() {
        let values = r#""temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.1"#;
        let params = read(Some(&format!("{{\"do_sample\": true, {values}}}")))
            .unwrap()
            .sampling(1);
        assert_eq!(
            (params.temperature, params.top_k, params.top_p),
            (0.6, 20, 0.95)
        );
        assert_eq!(params.repetition_penalty, 1.1);
        let params = read(Some(&format!("{{{values}}}"))).unwrap().sampling(1);
        assert_eq!(
            (params.temperature, params.top_k, params.top_p),
            (0.0, 0, 1.0)
        );
    }

    #[test]
    fn bad_values_name_the_file_and_the_field() {
        for (field, text) in [
            ("temperature", r#"{"temperature": -1}"#),
            ("top_p", r#"{"top_p": 0}"#),
            ("top_k", r#"{"top_k": -1}"#),
            ("eos_token_id", r#"{"eos_token_id": "</s>"}"#),
            ("generation_config.json", "[]"),
        ] {
            let error = read(Some(text)).unwrap_err().to_string();
            assert!(
                error.contains(field) && error.contains("generation_config.json"),
                "{error}"
            );
        }
    }
}
