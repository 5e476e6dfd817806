//! `[embedder]`: what makes vectors of texts, and where it runs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ragweave_retriever::{OpenEmbedderError, RemoteUrl};
use serde::Deserialize;

use super::parse;
use crate::device::Device;

/// The name of the built-in embedder.
const LEXICAL: &str = "lexical";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedderConfig {
    #[serde(deserialize_with = "parse::from_text")]
    pub model: EmbedderModel,
    /// Where the model of a directory runs.
    #[serde(deserialize_with = "parse::from_text")]
    pub device: Device,
    /// `None` leaves it to the directory.
    #[serde(default)]
    pub query_prompt: Option<String>,
    /// `None` leaves it to the directory.
    #[serde(default)]
    pub document_prompt: Option<String>,
    /// Longest time for one request to a remote embedder, its repetitions included.
    #[serde(rename = "timeout_s", deserialize_with = "parse::seconds")]
    pub timeout: Duration,
    #[serde(default)]
    pub api_key: Option<ApiKey>,
}

/// What makes the vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedderModel {
    /// The built-in one, which finds words.
    Lexical,
    /// A sentence-transformers directory.
    Directory(PathBuf),
    /// An embedder reached over HTTP.
    Remote(RemoteUrl),
}

/// A key that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key itself.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl FromStr for EmbedderModel {
    type Err = OpenEmbedderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            LEXICAL => Ok(Self::Lexical),
            "" => Err(OpenEmbedderError::Url {
                message: format!("it is empty; write {LEXICAL}, a directory or http://HOST:PORT"),
            }),
            _ if text.contains("://") => text.parse().map(Self::Remote),
            dir => Ok(Self::Directory(PathBuf::from(dir))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_directory_and_a_url_are_told_apart() {
        let parsed = |text: &str| text.parse::<EmbedderModel>();
        assert_eq!(parsed("lexical"), Ok(EmbedderModel::Lexical));
        assert_eq!(
            parsed("./lexical"),
            Ok(EmbedderModel::Directory("./lexical".into()))
        );
        assert!(matches!(
            parsed("http://h:1#m"),
            Ok(EmbedderModel::Remote(_))
        ));
        for text in ["", "ftp://h:1"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = ApiKey("s3cret".to_owned());
        assert!(!format!("{key:?}").contains("s3cret"));
        assert_eq!(key.secret(), "s3cret");
    }
}
