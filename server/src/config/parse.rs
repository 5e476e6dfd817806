//! Deserialisers for values that are written as text or as whole seconds.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A value that is parsed with `FromStr`.
pub(super) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

/// The same for a key that may be absent (`#[serde(default)]` covers that case).
pub(super) fn optional_from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    from_text(deserializer).map(Some)
}

/// Whole seconds.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// The address to serve on.
pub(super) fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    listen_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads `IP:PORT`.
///
/// # Errors
/// The message says what to write instead.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let hint = match text.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                ", without https://: the server has no TLS; put a proxy that has in front of it"
            }
            Some(_) => ", without a scheme",
            None => "",
        };
        format!(
            "`{text}` is not an address to listen on; write IP:PORT, such as 127.0.0.1:50051{hint}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_has_no_scheme() {
        assert!(listen_address("127.0.0.1:0").is_ok() && listen_address("[::1]:1").is_ok());
        for (text, hint) in [
            ("https://0.0.0.0:50051", "no TLS"),
            ("http://0.0.0.0:50051", "without a scheme"),
            ("localhost:50051", "such as 127.0.0.1:50051"),
            ("127.0.0.1", "IP:PORT"),
        ] {
            let refused = listen_address(text).unwrap_err();
            assert!(refused.contains(hint), "{refused}");
        }
    }
}
