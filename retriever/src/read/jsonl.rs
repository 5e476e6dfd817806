//! JSON Lines: one `{"id", "text", "metadata"}` object a line, read line by line.
//!
//! Fields with other names are ignored. Ids may be strings or integers. Metadata values may be
//! strings, numbers or booleans, and become strings; numbers keep the text they are written with, so
//! that a filter compares what is in the file. Blank lines are skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{ReadError, ReadProblem};
use crate::printable::Printable;
use crate::read::document::{DocumentFormat, Place, SourceDocument};
use crate::read::text::{BOM, utf8};

/// A line may be this much longer than the longest text: escapes, id and metadata take room.
const LINE_BYTES_PER_TEXT_BYTE: u64 = 2;
/// Longest quotation of a line in a message, in bytes.
const MAX_QUOTED_BYTES: usize = 200;

/// An open JSONL file.
#[derive(Debug)]
pub(super) struct RecordReader<R> {
    path: Arc<Path>,
    input: BufReader<Take<R>>,
    /// Lines read so far.
    line: usize,
    text_limit_bytes: u64,
    /// Set after an I/O error: the bytes after it may not begin at a line.
    failed: bool,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Record<'l> {
    #[serde(borrow)]
    id: &'l RawValue,
    text: String,
    #[serde(borrow)]
    metadata: Option<Pairs<'l>>,
}

/// The members of an object, each name once.
struct Pairs<'l>(BTreeMap<String, &'l RawValue>);

impl RecordReader<File> {
    /// Opens the file, to be read up to its present length.
    pub(super) fn open(path: PathBuf, text_limit_bytes: u64) -> Result<Self, ReadError> {
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((len, file)) => Ok(Self::new(&path, file.take(len), text_limit_bytes)),
            Err(error) => Err(ReadError {
                path,
                line: None,
                problem: ReadProblem::Io { error },
            }),
        }
    }
}

impl<R: Read> RecordReader<R> {
    fn new(path: &Path, input: Take<R>, text_limit_bytes: u64) -> Self {
        Self {
            path: Arc::from(path),
            input: BufReader::new(input),
            line: 0,
            text_limit_bytes,
            failed: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
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

    /// One line; the first one without its byte order mark. A line that is too long is skipped.
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

/// Skips everything up to and including the next line feed.
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
    // serde takes an array of the fields' values, in order, for the struct.
    if line.trim_start().starts_with('[') {
        return Err(bad("it is an array"));
    }
    let record: Record = serde_json::from_str(line).map_err(|e| bad(&message(&e)))?;
    let pairs = record.metadata.map_or_else(BTreeMap::new, |pairs| pairs.0);
    let metadata = pairs.into_iter().map(|(key, value)| {
        let value = scalar(&key, value.get())?;
        Ok((key, value))
    });
    Ok(SourceDocument {
        id: id(record.id.get())?,
        text: record.text,
        metadata: metadata.collect::<Result<_, _>>()?,
        format: DocumentFormat::Text,
    })
}

/// The id in `json`: a string, or the digits of an integer of any length.
fn id(json: &str) -> Result<String, ReadProblem> {
    let digits = json.strip_prefix('-').unwrap_or(json);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(json.to_owned());
    }
    text(json).unwrap_or_else(|| Err(bad("`id` must be a string or an integer")))
}

/// The value in `json` as a filter compares it: the content of a string, or a number or boolean as
/// it is written in the file.
fn scalar(key: &str, json: &str) -> Result<String, ReadProblem> {
    match json.as_bytes().first() {
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Ok(json.to_owned()),
        _ => text(json).unwrap_or_else(|| {
            let key = shortened(&Printable::text(key).to_string());
            let message = format!("metadata `{key}` must be a string, a number or a boolean");
            Err(bad(&message))
        }),
    }
}

/// The string in `json`, or an error if its escapes are bad; `None` if it is not a string.
fn text(json: &str) -> Option<Result<String, ReadProblem>> {
    let is_string = json.starts_with('"');
    is_string.then(|| serde_json::from_str(json).map_err(|e| bad(&message(&e))))
}

impl<'de: 'l, 'l> Deserialize<'de> for Pairs<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((key, value)) = members.next_entry::<String, &RawValue>()? {
            if pairs.contains_key(&key) {
                let key = Printable::text(&key);
                return Err(A::Error::custom(format!("metadata `{key}` is given twice")));
            }
            pairs.insert(key, value);
        }
        Ok(Pairs(pairs))
    }
}

/// serde_json counts lines inside the line it was given; only its column means something here.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{} at column {}", shortened(what), error.column()),
        None => shortened(&text),
    }
}

/// A message can quote what it found, and a line can be long.
fn shortened(text: &str) -> String {
    match text.len() <= MAX_QUOTED_BYTES {
        true => text.to_owned(),
        false => format!("{}...", &text[..text.floor_char_boundary(MAX_QUOTED_BYTES)]),
    }
}

fn bad(message: &str) -> ReadProblem {
    ReadProblem::BadRecord {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one record, then fails.
    struct Failing(&'static [u8]);

    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::ErrorKind::TimedOut.into()),
                n => Ok(n),
            }
        }
    }

    #[test]
    fn a_read_error_is_told_once_and_ends_the_file() {
        let input = Failing(b"{\"id\": \"a\", \"text\": \"one\"}\n{\"id\":").take(1000);
        let mut reader = RecordReader::new(Path::new("r.jsonl"), input, 1000);
        assert!(reader.next_record().unwrap().1.is_ok());
        let (place, problem) = reader.next_record().unwrap();
        assert_eq!(place.line, Some(2));
        assert!(matches!(problem, Err(ReadProblem::Io { .. })));
        assert!(reader.next_record().is_none());
    }
}
