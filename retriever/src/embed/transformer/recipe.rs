//! How a sentence-transformers directory makes a vector of a text: the modules of `modules.json`,
//! the maximum length and the prompts. Without `modules.json` it is mean pooling, as in
//! sentence-transformers.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::config::EncoderConfig;
use super::dense::DenseConfig;
use super::files::{JsonFile, MAX_JSON_BYTES, read_json};
use super::options::TransformerOptions;
use super::pooling::PoolingMode;
use crate::embed::open_error::OpenEmbedderError;

/// Names that the file with the maximum length has had; the first that exists counts.
const LENGTH_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Names of the prompt of a document; the first that exists counts.
const DOCUMENT_PROMPTS: [&str; 3] = ["document", "passage", "corpus"];
/// The most modules that are read.
const MAX_MODULES: usize = 16;

/// Everything in a directory except weights and tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recipe {
    /// Folder of the encoder's files, relative to the directory; mostly empty.
    pub(super) encoder_folder: PathBuf,
    pub(super) encoder: EncoderConfig,
    /// Longest input in tokens, special ones included.
    pub(super) max_seq_length: usize,
    pub(super) do_lower_case: bool,
    /// One or more, whose vectors are put one after the other.
    pub(super) pooling: Vec<PoolingMode>,
    /// What follows the pooling, in order.
    pub(super) steps: Vec<Step>,
    pub(super) query_prompt: String,
    pub(super) document_prompt: String,
}

/// A module after the pooling.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Normalize,
    Dense(DenseConfig),
}

/// One entry of `modules.json`.
struct Module {
    /// The class without its Python module.
    kind: String,
    folder: PathBuf,
}

impl Recipe {
    pub(super) fn read(options: &TransformerOptions) -> Result<Self, OpenEmbedderError> {
        let dir = &options.dir;
        if !dir.is_dir() {
            let message = "is not a directory; name a sentence-transformers directory, an http:// URL or `lexical`";
            return Err(OpenEmbedderError::file(dir, message));
        }
        let list = dir.join("modules.json");
        let modules = modules(&list)?;
        let encoder_folder = encoder_folder(&list, modules.first())?;
        let encoder_dir = dir.join(&encoder_folder);
        let encoder = EncoderConfig::read(&JsonFile::read(encoder_dir.join("config.json"))?)?;
        let (max_seq_length, do_lower_case) = lengths(&encoder_dir, &encoder)?;
        let sentence = JsonFile::read_if_present(dir.join("config_sentence_transformers.json"))?;
        let (query_prompt, document_prompt) = prompts(options, sentence.as_ref())?;
        let mut recipe = Self {
            encoder_folder,
            encoder,
            max_seq_length,
            do_lower_case,
            pooling: Vec::new(),
            steps: Vec::new(),
            query_prompt,
            document_prompt,
        };
        for module in modules.into_iter().skip(1) {
            recipe.add(dir, &list, module)?;
        }
        if recipe.pooling.is_empty() {
            recipe.pooling.push(PoolingMode::Mean);
        }
        recipe.check_similarity(sentence.as_ref())?;
        Ok(recipe)
    }

    /// Numbers in each vector.
    pub(super) fn width(&self) -> usize {
        let pooled = self.encoder.hidden_size * self.pooling.len();
        let dense = self.steps.iter().rev().find_map(|step| match step {
            Step::Dense(dense) => Some(dense.out_features),
            Step::Normalize => None,
        });
        dense.unwrap_or(pooled)
    }

    fn add(&mut self, dir: &Path, list: &Path, module: Module) -> Result<(), OpenEmbedderError> {
        let refuse = |message: String| Err(OpenEmbedderError::unsupported(list, message));
        let is_first = self.pooling.is_empty();
        match module.kind.as_str() {
            "Pooling" if is_first => {
                let file = JsonFile::read(dir.join(&module.folder).join("config.json"))?;
                let has_prompt = !(self.query_prompt.is_empty() && self.document_prompt.is_empty());
                self.pooling = PoolingMode::read(&file, self.encoder.hidden_size, has_prompt)?;
            }
            "Normalize" if !is_first => self.steps.push(Step::Normalize),
            "Dense" if !is_first => {
                let dense = DenseConfig::read(dir, &module.folder, self.width())?;
                self.steps.push(Step::Dense(dense));
            }
            kind @ ("Pooling" | "Normalize" | "Dense") => {
                return refuse(format!("the module {kind} stands in the wrong place"));
            }
            other => return refuse(unknown_module(other)),
        }
        Ok(())
    }

    /// The index compares by cosine. Vectors of length 1 have the same order by dot product and by
    /// distance.
    fn check_similarity(&self, sentence: Option<&JsonFile>) -> Result<(), OpenEmbedderError> {
        let Some(file) = sentence else {
            return Ok(());
        };
        match file.text("similarity_fn_name")? {
            None | Some("cosine") => Ok(()),
            Some("dot" | "euclidean") if self.steps.last() == Some(&Step::Normalize) => Ok(()),
            Some(other) => Err(file.unsupported(format!(
                "similarity_fn_name is {other:?} and the vectors are not normalised; the index \
                 compares by cosine, for which this model was not trained"
            ))),
        }
    }
}

fn unknown_module(kind: &str) -> String {
    format!(
        "the module {kind} is not supported; supported are Transformer, Pooling, Dense and Normalize"
    )
}

/// The entries of `modules.json`; none if there is no such file.
fn modules(list: &Path) -> Result<Vec<Module>, OpenEmbedderError> {
    if !list.exists() {
        return Ok(Vec::new());
    }
    let value = read_json(list, MAX_JSON_BYTES)?;
    let refuse = |message: &str| OpenEmbedderError::file(list, message);
    let entries = value.as_array().filter(|entries| !entries.is_empty());
    let entries = entries.ok_or_else(|| refuse("is not a list of modules"))?;
    if entries.len() > MAX_MODULES {
        return Err(refuse("has more than 16 modules"));
    }
    let module = |entry: &Value| {
        let field = |key| entry.get(key).and_then(Value::as_str);
        let (Some(path), Some(class)) = (field("path"), field("type")) else {
            return Err(refuse("has an entry without the texts `path` and `type`"));
        };
        let Some(kind) = class
            .strip_prefix("sentence_transformers.")
            .and_then(|class| class.rsplit('.').next())
        else {
            return Err(OpenEmbedderError::unsupported(list, unknown_module(class)));
        };
        Ok(Module {
            kind: kind.to_owned(),
            folder: inside(list, path)?,
        })
    };
    entries.iter().map(module).collect()
}

/// A folder of the directory. The list may not name places outside it.
fn inside(list: &Path, folder: &str) -> Result<PathBuf, OpenEmbedderError> {
    let path = PathBuf::from(folder);
    let is_inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    match path.components().all(is_inside) {
        true => Ok(path),
        false => {
            let message = format!("names the path {folder:?}, which is outside the directory");
            Err(OpenEmbedderError::file(list, message))
        }
    }
}

fn encoder_folder(list: &Path, first: Option<&Module>) -> Result<PathBuf, OpenEmbedderError> {
    match first {
        None => Ok(PathBuf::new()),
        Some(module) if module.kind == "Transformer" => Ok(module.folder.clone()),
        Some(module) => {
            let message = unknown_module(&module.kind);
            Err(OpenEmbedderError::unsupported(list, message))
        }
    }
}

/// The longest input in tokens, and whether text is lowercased first.
fn lengths(dir: &Path, encoder: &EncoderConfig) -> Result<(usize, bool), OpenEmbedderError> {
    let mut files = LENGTH_FILES.iter().map(|name| dir.join(name));
    let file = files.find(|path| path.exists()).map(JsonFile::read);
    let file = file.transpose()?;
    let (mut limit, mut do_lower_case) = (None, false);
    if let Some(file) = &file {
        limit = match file.get("max_seq_length") {
            Some(_) => Some(file.size("max_seq_length")?),
            None => None,
        };
        do_lower_case = file.flag("do_lower_case")?.unwrap_or(false);
    }
    let limit = match limit {
        Some(limit) => limit,
        None => tokenizer_limit(dir)?.unwrap_or(usize::MAX),
    };
    Ok((limit.min(encoder.max_tokens()), do_lower_case))
}

/// `model_max_length` of the tokenizer; a number beyond 64 bits stands for "none" there.
fn tokenizer_limit(dir: &Path) -> Result<Option<usize>, OpenEmbedderError> {
    let file = JsonFile::read_if_present(dir.join("tokenizer_config.json"))?;
    let limit = file.and_then(|file| file.get("model_max_length")?.as_u64());
    Ok(limit
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0))
}

/// The prompts of questions and of documents: those of the settings, else those of the directory.
fn prompts(
    options: &TransformerOptions,
    sentence: Option<&JsonFile>,
) -> Result<(String, String), OpenEmbedderError> {
    let prompts = sentence.and_then(|file| Some((file, file.get("prompts")?)));
    let named = |name: &str| {
        let Some((file, prompts)) = prompts else {
            return Ok(None);
        };
        match prompts.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(prompt)) => Ok(Some(prompt.clone())),
            Some(_) => Err(file.refuse(format!("the prompt {name:?} is not text"))),
        }
    };
    let default = match sentence {
        Some(file) => match file.text("default_prompt_name")? {
            Some(name) => {
                let missing =
                    || file.refuse(format!("default_prompt_name {name:?} is not a prompt"));
                Some(named(name)?.ok_or_else(missing)?)
            }
            None => None,
        },
        None => None,
    };
    let or_default = |prompt: Option<String>| prompt.or_else(|| default.clone());
    let query = match &options.query_prompt {
        Some(prompt) => Some(prompt.clone()),
        None => or_default(named("query")?),
    };
    let document = match &options.document_prompt {
        Some(prompt) => Some(prompt.clone()),
        None => {
            let prompts = DOCUMENT_PROMPTS.map(named);
            let found = prompts.into_iter().find_map(Result::transpose);
            or_default(found.transpose()?)
        }
    };
    Ok((query.unwrap_or_default(), document.unwrap_or_default()))
}
