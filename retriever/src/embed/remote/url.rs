//! The address of a remote embedder: `http://HOST:PORT[/v1][#MODEL]`.

use std::fmt;
use std::str::FromStr;

use crate::embed::open_error::OpenEmbedderError;

/// What is sent as the model's name where the URL names none. Servers of one model ignore it.
const ANY_MODEL: &str = "default";
const ENDPOINT: &str = "/embeddings";

/// A checked address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    endpoint: String,
    model: String,
}

impl RemoteUrl {
    /// Where requests go: the URL, with `/v1/embeddings` or what is missing of it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The model's name, as requests give it.
    pub fn model(&self) -> &str {
        &self.model
    }
}

impl FromStr for RemoteUrl {
    type Err = OpenEmbedderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |what: &str| {
            let form = "write http://HOST:PORT[/v1][#MODEL]";
            Err(OpenEmbedderError::url(format!("{text:?} {what}; {form}")))
        };
        let (address, model) = text.split_once('#').unwrap_or((text, ANY_MODEL));
        let Some((scheme, place)) = address.split_once("://") else {
            return refuse("has no scheme");
        };
        match scheme {
            "http" => {}
            "https" if cfg!(feature = "tls") => {}
            "https" => {
                return refuse("needs a build with HTTPS (cargo build --features tls)");
            }
            _ => return refuse("has an unknown scheme"),
        }
        if place.contains('@') {
            return Err(OpenEmbedderError::url(
                "it contains a user or password; give the key as RAGWEAVE_EMBEDDER_API_KEY instead",
            ));
        }
        let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '?';
        if host.is_empty() || host.starts_with(':') || address.contains(is_bad) {
            return refuse("is not an address");
        }
        if model.trim().is_empty() {
            return refuse("has no model after #");
        }
        let path = match path.trim_end_matches('/') {
            "" => "/v1",
            path => path.strip_suffix(ENDPOINT).unwrap_or(path),
        };
        Ok(Self {
            endpoint: format!("{scheme}://{host}{path}{ENDPOINT}"),
            model: model.to_owned(),
        })
    }
}

/// The address and the model; what two addresses must share to be the same embedder.
impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.endpoint.strip_suffix(ENDPOINT);
        write!(f, "{}#{}", base.unwrap_or(&self.endpoint), self.model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_completed_and_the_model_named() {
        for (text, endpoint, model) in [
            ("http://h:1", "http://h:1/v1/embeddings", "default"),
            ("http://h:1/", "http://h:1/v1/embeddings", "default"),
            ("http://h:1/v1#bge-m3", "http://h:1/v1/embeddings", "bge-m3"),
            (
                "http://[::1]:1/v1/embeddings#a/b:c",
                "http://[::1]:1/v1/embeddings",
                "a/b:c",
            ),
            ("http://h/tei/v1/", "http://h/tei/v1/embeddings", "default"),
        ] {
            let url: RemoteUrl = text.parse().unwrap();
            assert_eq!((url.endpoint(), url.model()), (endpoint, model), "{text}");
            assert_eq!(url.to_string().parse::<RemoteUrl>().unwrap(), url);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_form_to_write() {
        for text in [
            "h:1",
            "ftp://h:1",
            "http://",
            "http://:80",
            "http://h:1#",
            "http://h 1",
            "http://h/?a=1",
        ] {
            let error = text.parse::<RemoteUrl>().unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT[/v1][#MODEL]"), "{error}");
        }
        let secret = "http://me:s3cret@h:1".parse::<RemoteUrl>().unwrap_err();
        assert!(secret.to_string().contains("RAGWEAVE_EMBEDDER_API_KEY"));
        assert!(!secret.to_string().contains("s3cret"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_https_says_so() {
        let error = "https://h".parse::<RemoteUrl>().unwrap_err().to_string();
        assert!(error.contains("--features tls"), "{error}");
    }
}
