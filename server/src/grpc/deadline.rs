//! The deadline of a call: the client's `grpc-timeout`, at most the server's maximum. The engine checks it in its
//! queue, between layers and between decode steps; tonic's own timeout covers only the start of a stream.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

use crate::problem::Problem;

/// The deadline of a call that arrives now.
///
/// # Errors
/// A header that is not a gRPC timeout.
pub(super) fn of(metadata: &MetadataMap, most: Duration) -> Result<Instant, Problem> {
    let asked = match metadata.get("grpc-timeout") {
        None => most,
        Some(value) => value.to_str().ok().and_then(parse).ok_or_else(malformed)?,
    };
    Ok(Instant::now() + asked.min(most))
}

fn malformed() -> Problem {
    Problem::invalid(
        "grpc-timeout",
        "must be 1 to 8 digits and one of H, M, S, m, u, n",
    )
}

/// `TimeoutValue TimeoutUnit` of the gRPC specification: at most 8 digits, one letter.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read_and_nothing_else() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        for text in ["", "m", "1", "1x", "-1m", "+1m", "123456789m", "1.5S", "1é"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_server_maximum_holds() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "9H".parse().unwrap());
        let deadline = of(&metadata, Duration::from_secs(5)).unwrap();
        assert!(deadline <= Instant::now() + Duration::from_secs(5));
        metadata.insert("grpc-timeout", "soon".parse().unwrap());
        assert_eq!(
            of(&metadata, Duration::from_secs(5)).unwrap_err().reason,
            "INVALID_FIELD"
        );
    }
}
