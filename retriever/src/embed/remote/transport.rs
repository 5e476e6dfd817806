//! Requests over HTTP: bounded in time, attempts and size of the answer.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use ureq::{Agent, Error};

use super::url::RemoteUrl;
use crate::error::RetrieverError;

/// Largest answer that is read, bytes: 32 vectors of 8192 numbers have about 5 MB.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Most characters of a server's own words in an error.
const MAX_QUOTED: usize = 200;
/// The wait before the second attempt; each further one waits twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// How often and how long a request is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) attempts: u32,
    /// For all attempts together.
    pub(super) timeout: Duration,
}

/// The connection to one embedder.
pub(super) struct Transport {
    agent: Agent,
    url: RemoteUrl,
    authorization: Option<String>,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
}

/// Why an attempt failed.
enum Failure {
    /// It may succeed later: the server is down or overloaded.
    Passing(String),
    /// The time is over.
    TooSlow,
    /// The same request would fail again.
    Lasting(String),
}

impl Transport {
    pub(super) fn new(url: &RemoteUrl, api_key: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None); // the environment is not read here
        Self {
            agent: config.build().into(),
            url: url.clone(),
            authorization: api_key.map(|key| format!("Bearer {key}")),
        }
    }

    /// The body of the answer to a request for the embeddings of `inputs`. Blocks.
    ///
    /// # Errors
    /// `EmbedderUnavailable` if the server is down, too slow or overloaded; `BadEmbedderAnswer` if it
    /// refuses the request or its answer is too large.
    pub(super) fn post(
        &self,
        inputs: &[String],
        patience: Patience,
    ) -> Result<Vec<u8>, RetrieverError> {
        let request = Request {
            model: self.url.model(),
            input: inputs,
            encoding_format: "float",
        };
        let body = serde_json::to_vec(&request).map_err(|error| self.bad(&error.to_string()))?;
        let end = Instant::now() + patience.timeout;
        let mut backoff = FIRST_BACKOFF;
        for attempt in 1.. {
            let left = end.saturating_duration_since(Instant::now());
            let failure = match self.send(&body, left) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let left = end.saturating_duration_since(Instant::now());
            match failure {
                Failure::Lasting(what) => return Err(self.bad(&what)),
                Failure::Passing(_) if attempt < patience.attempts && backoff < left => {
                    sleep(backoff);
                    backoff *= 2;
                }
                Failure::Passing(what) => return Err(self.unavailable(&what, attempt)),
                Failure::TooSlow => return Err(self.too_slow(patience.timeout)),
            }
        }
        Err(self.too_slow(patience.timeout))
    }

    fn send(&self, body: &[u8], left: Duration) -> Result<Vec<u8>, Failure> {
        if left.is_zero() {
            return Err(Failure::TooSlow);
        }
        let mut request = self
            .agent
            .post(self.url.endpoint())
            .content_type("application/json")
            .config()
            .timeout_global(Some(left))
            .build();
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = request.send(body).map_err(of_transport)?;
        let status = response.status().as_u16();
        let answer = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        let answer = answer.read_to_vec().map_err(of_transport)?;
        match status {
            200..=299 => Ok(answer),
            429 | 500..=599 => Err(Failure::Passing(format!(
                "answers {status}{}",
                quoted(&answer)
            ))),
            401 | 403 => Err(Failure::Lasting(format!(
                "answers {status}{}: it refuses the API key; set RAGWEAVE_EMBEDDER_API_KEY",
                quoted(&answer)
            ))),
            _ => Err(Failure::Lasting(format!(
                "answers {status}{}; are the URL and the model's name after # right?",
                quoted(&answer)
            ))),
        }
    }

    fn unavailable(&self, what: &str, attempts: u32) -> RetrieverError {
        let url = &self.url;
        let times = if attempts == 1 {
            "once"
        } else {
            "several times"
        };
        RetrieverError::EmbedderUnavailable {
            message: format!(
                "the embedder {url} {what} (tried {times}); start it, or name another one with --embedder"
            ),
        }
    }

    fn too_slow(&self, timeout: Duration) -> RetrieverError {
        let url = &self.url;
        let seconds = timeout.as_secs_f64();
        RetrieverError::EmbedderUnavailable {
            message: format!(
                "the embedder {url} did not answer within {seconds} s; raise embedder.timeout_s, or use \
                 a faster one"
            ),
        }
    }

    fn bad(&self, what: &str) -> RetrieverError {
        let url = &self.url;
        RetrieverError::BadEmbedderAnswer {
            message: format!("the embedder {url} {what}"),
        }
    }
}

fn of_transport(error: Error) -> Failure {
    match error {
        Error::Timeout(_) => Failure::TooSlow,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Failure::TooSlow,
        Error::Io(error) => Failure::Passing(format!("does not answer: {error}")),
        Error::HostNotFound | Error::ConnectionFailed => {
            Failure::Passing(format!("does not answer: {error}"))
        }
        Error::BodyExceedsLimit(limit) => {
            Failure::Lasting(format!("gives an answer of more than {limit} bytes"))
        }
        other => Failure::Lasting(format!("cannot be asked: {other}")),
    }
}

/// The beginning of what a server said.
fn quoted(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = visible.take(MAX_QUOTED).collect();
    match text.trim() {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}
