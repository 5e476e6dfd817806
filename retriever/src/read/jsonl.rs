//! JSON Lines: one `{"id", "text", "metadata"}` object a line, read line by line.
//!
//! Fields with other names are ignored; ids may be strings or integers; metadata values may be
//! strings, numbers or booleans and become strings. Blank lines are skipped.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{ReadError, ReadProblem};
use crate::read::text::BOM;
use crate::read::{DocumentFormat, Place, SourceDocument, utf8};

/// A line may be this much longer than the longest text: escapes, id and metadata take room.
const LINE_BYTES_PER_TEXT_BYTE: u64 = 2;

/// An open JSONL file.
#[derive(Debug)]
pub(super) struct RecordReader {
    path: Arc<Path>,
    input: BufReader<fs_err::File>,
    /// Lines read so far.
    line: usize,
    text_limit_bytes: u64,
    /// Set after an I/O error: what follows cannot be trusted to start at a line.
    failed: bool,
}

#[derive(Deserialize)]
struct Record {
    id: Value,
    text: String,
    metadata: Option<BTreeMap<String, Value>>,
}

impl RecordReader {
    pub(super) fn open(path: PathBuf, text_limit_bytes: u64) -> Result<Self, ReadError> {
        let path: Arc<Path> = Arc::from(path);
        let place = Place {
            path: Arc::clone(&path),
            line: None,
        };
        let file =
            fs_err::File::open(&*path).map_err(|error| place.error(ReadProblem::Io { error }))?;
        Ok(Self {
            path,
            input: BufReader::new(file),
            line: 0,
            text_limit_bytes,
            failed: false,
        })
    }

    /// The next record and its place; `None` at the end of the file.
    pub(super) fn next_record(&mut self) -> Option<(Place, Result<SourceDocument, ReadProblem>)> {
        while !self.failed {
            let line = self.next_line();
            self.line += 1;
            let place = Place {
                path: Arc::clone(&self.path),
                line: Some(self.line),
            };
            match line {
                Ok(None) => return None,
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => return Some((place, parse(&line))),
                Err(problem) => {
                    self.failed = matches!(problem, ReadProblem::Io { .. });
                    return Some((place, Err(problem)));
                }
            }
        }
        None
    }

    /// One line, without the byte order mark of the first. An oversized line is passed over unread.
    fn next_line(&mut self) -> Result<Option<String>, ReadProblem> {
        let limit = self
            .text_limit_bytes
            .saturating_mul(LINE_BYTES_PER_TEXT_BYTE);
        let mut bytes = Vec::new();
        let read = (&mut self.input)
            .take(limit.saturating_add(1))
            .read_until(b'\n', &mut bytes)
            .map_err(|error| ReadProblem::Io { error })?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 > limit {
            if bytes.last() != Some(&b'\n') {
                skip_line(&mut self.input).map_err(|error| ReadProblem::Io { error })?;
            }
            return Err(ReadProblem::TooLarge {
                limit_bytes: self.text_limit_bytes,
            });
        }
        let mut line = utf8(bytes)?;
        if self.line == 0 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        Ok(Some(line))
    }
}

/// Moves behind the next line feed without keeping what lies before it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn parse(line: &str) -> Result<SourceDocument, ReadProblem> {
    let record: Record = serde_json::from_str(line).map_err(|e| bad(&message(&e)))?;
    let id = match record.id {
        Value::String(id) => id,
        Value::Number(id) if id.is_i64() || id.is_u64() => id.to_string(),
        _ => return Err(bad("`id` must be a string or an integer")),
    };
    let metadata = record.metadata.unwrap_or_default().into_iter();
    let metadata = metadata.map(scalar).collect::<Result<_, _>>()?;
    Ok(SourceDocument {
        id,
        text: record.text,
        metadata,
        format: DocumentFormat::Text,
    })
}

fn scalar((key, value): (String, Value)) -> Result<(String, String), ReadProblem> {
    match value {
        Value::String(text) => Ok((key, text)),
        Value::Bool(_) | Value::Number(_) => Ok((key, value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(bad(&format!(
            "metadata `{key}` must be a string, a number or a boolean"
        ))),
    }
}

/// serde_json counts lines inside the line it was given; only its column means something here.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

fn bad(message: &str) -> ReadProblem {
    ReadProblem::BadRecord {
        message: message.to_owned(),
    }
}
