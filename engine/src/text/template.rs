//! The model's chat template, rendered as transformers does: Jinja with Python's string methods.
//! A template comes with the model and is not trusted: its work and output are limited,
//! and it has no loader, no clock and no data but the messages.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value as JinjaValue;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, context};
use serde_json::Value;

use super::codec::TextCodec;
use crate::error::EngineError;
use crate::model_files::source::ModelSource;

mod arguments;
mod checks;
mod date;
mod filters;
mod json;
mod methods;
mod size;
mod source;
mod text;

use arguments::{Arguments, named, refuse, required};
use size::MAX_OUTPUT_BYTES;

/// Work one rendering may take: about one unit per instruction and per 64 bytes of data.
const MAX_FUEL: u64 = 2_000_000;
/// The longest template that is read, bytes. Known ones have up to 20 kB.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// Stack of the rendering thread; only what is used takes memory.
const RENDER_STACK_BYTES: usize = 256 << 20;

const TEMPLATE_NAME: &str = "chat_template";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

impl ChatMessage {
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    fn to_value(&self) -> JinjaValue {
        context! { role => self.role.as_str(), content => self.content.as_str() }
    }
}

/// A compiled chat template. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    path: PathBuf,
    codec: TextCodec,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, or else the template in `tokenizer_config.json` (a string, or
    /// the one named `default` of a list). In a GGUF file, what the metadata has. `None` when the
    /// model has none.
    ///
    /// # Errors
    /// [`EngineError::Template`] for a template that does not compile or is too long,
    /// [`EngineError::ModelFile`] for a file that cannot be read.
    pub fn from_dir(dir: &Path, codec: &TextCodec) -> Result<Option<Self>, EngineError> {
        Self::from_source(&ModelSource::open(dir)?, codec)
    }

    /// [`ChatTemplate::from_dir`], from an opened model.
    pub(crate) fn from_source(
        source: &ModelSource,
        codec: &TextCodec,
    ) -> Result<Option<Self>, EngineError> {
        let Some((path, text)) = find_text(source)? else {
            return Ok(None);
        };
        Self::compile(&path, &text, codec).map(Some)
    }

    /// Compiles a template; `path` is only named in errors.
    fn compile(path: &Path, source: &str, codec: &TextCodec) -> Result<Self, EngineError> {
        let refuse = |message: String| EngineError::template(path, message);
        if source.len() > MAX_TEMPLATE_BYTES {
            let message = format!("{} bytes, the limit is {MAX_TEMPLATE_BYTES}", source.len());
            return Err(refuse(message));
        }
        let mut environment = new_environment();
        environment
            .add_template_owned(TEMPLATE_NAME, source::prepare(source))
            .map_err(|error| refuse(describe(&error)))?;
        Ok(Self {
            environment: Arc::new(environment),
            path: path.to_owned(),
            codec: codec.clone(),
        })
    }

    /// Renders `messages`. `date` (`2024-07-26` or `26 Jul 2024`) is what the template gets as
    /// today's date, in the format it asks for.
    ///
    /// The result contains the template's own special tokens as text, BOS included, so it must be
    /// encoded without adding any.
    ///
    /// # Errors
    /// [`EngineError::Template`] when the template refuses the messages, fails, runs too long or
    /// writes too much, or when the date has another form.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        date: &str,
    ) -> Result<String, EngineError> {
        let date = date::parse(date).ok_or_else(|| {
            let message = format!("date {date:?} is not of the form 2024-07-26 or 26 Jul 2024");
            EngineError::template(&self.path, message)
        })?;
        let now = move |state: &State, args: Arguments| strftime_now(state, date, args);
        let messages: Vec<JinjaValue> = messages.iter().map(ChatMessage::to_value).collect();
        let tokens = JinjaValue::from(self.codec.named_tokens().clone());
        let values = context! {
            messages,
            add_generation_prompt,
            // Defined but empty, as transformers passes them.
            tools => JinjaValue::from(()),
            documents => JinjaValue::from(()),
            strftime_now => JinjaValue::from_function(now),
            ..tokens
        };
        self.render_values(values)
    }

    /// Renders on a thread with a deep stack. Fuel bounds how deep a template can nest a value,
    /// but dropping or printing such a value recurses once per level.
    fn render_values(&self, values: JinjaValue) -> Result<String, EngineError> {
        let refuse = |message: String| EngineError::template(&self.path, message);
        let render = || {
            let mut output = CappedOutput::default();
            let template = self.environment.get_template(TEMPLATE_NAME)?;
            template.render_captured_to(values, &mut output)?;
            Ok::<Vec<u8>, Error>(output.bytes)
        };
        let rendered = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(RENDER_STACK_BYTES);
            let thread = thread
                .spawn_scoped(scope, || render().map_err(|error| describe(&error)))
                .map_err(|error| format!("no thread to render on: {error}"))?;
            thread
                .join()
                .unwrap_or_else(|_| Err("the template engine panicked".to_owned()))
        });
        let bytes = rendered.map_err(refuse)?;
        String::from_utf8(bytes).map_err(|_| refuse("rendered text that is not UTF-8".to_owned()))
    }
}

/// The template's text and the file it is from. (`chat_template.json` belongs to the processors of
/// other modalities, and `additional_chat_templates` to tools: neither is used for this chat.)
fn find_text(source: &ModelSource) -> Result<Option<(PathBuf, String)>, EngineError> {
    if let Some(template) = source.chat_template()? {
        return Ok(Some(template));
    }
    let Some(config) = source.tokenizer_config()? else {
        return Ok(None);
    };
    let fields = config.fields()?;
    let several = |default: Option<&str>| {
        let message = "names several templates and none is \"default\"";
        let default = default.map(str::to_owned);
        default
            .ok_or_else(|| fields.refuse("chat_template", message))
            .map(Some)
    };
    let source = match fields.get("chat_template") {
        Some(Value::Array(named)) => several(default_template(named))?,
        Some(Value::Object(named)) => several(named.get("default").and_then(Value::as_str))?,
        _ => fields.str("chat_template")?.map(str::to_owned),
    };
    Ok(source.map(|source| (config.path, source)))
}

fn default_template(named: &[Value]) -> Option<&str> {
    let default = named.iter().find(|entry| entry["name"] == "default")?;
    default["template"].as_str()
}

fn new_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(
        syntax
            .build()
            .expect("only whitespace settings were changed"),
    );
    environment.set_fuel(Some(MAX_FUEL));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(text::format);
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", raise_exception);
    environment.remove_global("debug");
    checks::add(&mut environment);
    filters::add(&mut environment);
    environment
}

fn raise_exception(state: &State, args: Arguments) -> Result<JinjaValue, Error> {
    let [message] = named(&args.into_values(), ["message"])?;
    let message = text::str(state, &required(message, "message")?)?;
    Err(refuse(format!("the template refuses: {message}")))
}

fn strftime_now(state: &State, date: Date, args: Arguments) -> Result<String, Error> {
    let [format] = named(&args.into_values(), ["format"])?;
    let format = text::str(state, &required(format, "format")?)?;
    date::strftime(date, &format).map_err(|error| refuse(error.to_string()))
}

/// One line that says what went wrong and where, with the value of a limit that was exceeded.
fn describe(error: &Error) -> String {
    let limit = output_limit_of(error);
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            format!("takes more than {MAX_FUEL} steps; it may loop without end")
        }
        _ if limit => format!("writes more than {MAX_OUTPUT_BYTES} bytes"),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// Whether the error comes from [`CappedOutput`].
fn output_limit_of(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let io_error = source.and_then(|source| source.downcast_ref::<io::Error>());
    io_error.is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
}

/// Output that refuses to grow beyond [`MAX_OUTPUT_BYTES`].
#[derive(Default)]
struct CappedOutput {
    bytes: Vec<u8>,
}

impl Write for CappedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
