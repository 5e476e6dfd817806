//! Why a call to a server gave no answer, in the server's own words if it gave any.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("server address {addr:?} {problem}")]
    BadAddress { addr: String, problem: String },
    #[error(
        "no ragweave server answers at {addr}: {cause}; start one with `ragweave serve`, or name \
         another with --addr"
    )]
    Unreachable { addr: String, cause: String },
    /// The server's own words and its stable reason.
    #[error("{message} [{reason}]")]
    Refused { reason: String, message: String },
    #[error("the server's answer broke off: {message}")]
    BrokenOff { message: &'static str },
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone());
        let message = match (status.code(), status.message()) {
            (Code::DeadlineExceeded, "") => "the deadline passed".to_owned(),
            (_, message) => message.to_owned(),
        };
        Self::Refused {
            reason: reason.unwrap_or_else(|| format!("{:?}", status.code())),
            message,
        }
    }
}
