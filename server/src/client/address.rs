//! Parses the address of a server; the only parser of addresses. An address that cannot be used as written is refused,
//! above all `https://`: without TLS, questions and documents would be sent unencrypted.

use tonic::transport::Uri;

use super::error::ClientError;

const WRITE: &str = "write http://HOST:PORT";

/// An address as the client uses it, `http://HOST:PORT`; the scheme may be left out.
///
/// # Errors
/// `BadAddress` says what is wrong and what to write instead.
pub fn server_url(addr: &str) -> Result<String, ClientError> {
    let bad = |problem: String| ClientError::BadAddress {
        addr: shown(addr).to_owned(),
        problem,
    };
    let authority = without_scheme(addr.trim()).map_err(bad)?;
    let (host, port) = host_and_port(authority).map_err(bad)?;
    Ok(format!("http://{host}:{port}"))
}

/// The address without a part that may be a password.
fn shown(addr: &str) -> &str {
    addr.rsplit_once('@').map_or(addr, |(_, place)| place)
}

fn without_scheme(addr: &str) -> Result<&str, String> {
    let Some((scheme, rest)) = addr.split_once("://") else {
        return Ok(addr);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok(rest),
        "https" => Err(format!(
            "asks for TLS, which this client does not support, and nothing is sent unencrypted instead; reach the \
             server through a tunnel or a proxy on this machine that supports TLS, and {WRITE}"
        )),
        _ => Err(format!("has the scheme {scheme}://; {WRITE}")),
    }
}

/// Splits `HOST:PORT`, which may end in a slash.
fn host_and_port(authority: &str) -> Result<(String, u16), String> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains('@') {
        return Err(format!(
            "holds a user name, and there is no authentication; {WRITE}"
        ));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(format!("has something after the port; {WRITE}"));
    }
    let not_one = || format!("is not an address; {WRITE}");
    let uri: Uri = authority.parse().map_err(|_| not_one())?;
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(not_one)?;
    let after_host = authority.strip_prefix(host).ok_or_else(not_one)?;
    let Some(port) = after_host.strip_prefix(':') else {
        return Err(format!("names no port; write http://{host}:50051"));
    };
    match port.parse() {
        Ok(0) => Err(format!("has port 0, which no server listens on; {WRITE}")),
        Ok(port) => Ok((host.to_owned(), port)),
        Err(_) => Err(format!(
            "has the port {port:?}, which is not a number up to 65535; {WRITE}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_with_or_without_http() {
        for (addr, url) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051"),
            ("localhost:1", "http://localhost:1"),
            ("http://localhost:1", "http://localhost:1"),
            ("HTTP://rag.example:50051/", "http://rag.example:50051"),
            (" [::1]:50051 ", "http://[::1]:50051"),
            ("http://ragweave-grpc:50051", "http://ragweave-grpc:50051"),
        ] {
            assert_eq!(server_url(addr).unwrap(), url, "{addr}");
            assert_eq!(server_url(url).unwrap(), url, "twice is as once");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_what_to_write() {
        for (addr, reason) in [
            ("https://rag.example:50051", "TLS"),
            ("HTTPS://rag.example", "TLS"),
            ("grpc://rag.example:50051", "scheme grpc://"),
            ("grpcs://rag.example:50051", "scheme grpcs://"),
            ("unix:///run/ragweave.sock", "scheme unix://"),
            ("unix:/run/ragweave.sock", "after the port"),
            ("http://rag.example:50051/v1", "after the port"),
            ("http://rag.example:50051?x=1", "after the port"),
            ("http://rag.example:50051#x", "after the port"),
            ("http://rag.example", "http://rag.example:50051"),
            ("rag.example", "http://rag.example:50051"),
            ("rag.example:0", "port 0"),
            ("rag.example:port", "not a number"),
            ("rag.example:99999", "not a number"),
            ("rag.example:", "not a number"),
            ("rag example:50051", "not an address"),
            ("http://:50051", "not an address"),
            ("://rag.example:50051", "scheme"),
            ("", "not an address"),
            ("http://", "not an address"),
        ] {
            let error = server_url(addr).unwrap_err().to_string();
            assert!(error.contains(reason), "{addr:?}: {error}");
            assert!(error.contains("write http://"), "{addr:?}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let error = server_url("http://me:secret@rag.example:50051").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(error.to_string().contains("user name"), "{error}");
    }
}
