//! Variables that Kubernetes and Docker put into a container's environment for every service whose name begins with
//! `ragweave`. They are recognised by their form, so that a misspelled setting is still reported as an unknown key.

/// Whether the platform set this variable; `name` is what follows `RAGWEAVE_`. For a service `ragweave-grpc` with a
/// port 50051 called `api`:
///
/// ```text
/// GRPC_SERVICE_HOST  GRPC_SERVICE_PORT  GRPC_SERVICE_PORT_API    Kubernetes
/// GRPC_PORT=tcp://10.0.0.1:50051                                 Kubernetes, Docker links
/// GRPC_PORT_50051_TCP  GRPC_PORT_50051_TCP_{ADDR,PORT,PROTO}     Kubernetes, Docker links
/// GRPC_NAME=/app/ragweave-grpc  GRPC_ENV_...                     Docker links: /container/alias
/// ```
/// A service called just `ragweave` has the same variables without `GRPC_`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    match words.as_slice() {
        [.., "SERVICE", "HOST" | "PORT"] => true,
        [.., "PORT", number, protocol]
        | [.., "PORT", number, protocol, "ADDR" | "PORT" | "PROTO"]
            if is_number(number) && is_protocol(protocol) =>
        {
            true
        }
        [.., "PORT"] if is_socket_url(value) => true,
        [.., "NAME"] if is_link(name, value) => true,
        _ => has_inside(&words, &["SERVICE", "PORT"]) || has_inside(&words, &["ENV"]),
    }
}

fn is_number(word: &str) -> bool {
    word.parse::<u16>().is_ok()
}

fn is_protocol(word: &str) -> bool {
    matches!(word, "TCP" | "UDP" | "SCTP")
}

fn is_socket_url(value: &str) -> bool {
    let schemes = ["tcp://", "udp://", "sctp://"];
    schemes.iter().any(|scheme| value.starts_with(scheme))
}

/// Whether the value names a container and the alias from which Docker made the variable's name.
fn is_link(name: &str, value: &str) -> bool {
    let path = value
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'));
    path.is_some_and(|(container, alias)| {
        let alias = alias.to_uppercase().replace('-', "_");
        !container.is_empty() && format!("{alias}_NAME") == format!("RAGWEAVE_{name}")
    })
}

/// Whether `part` is among the words and is not the last one.
fn has_inside(words: &[&str], part: &[&str]) -> bool {
    let but_last = &words[..words.len().saturating_sub(1)];
    but_last.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_and_docker_set_is_recognised_by_its_shape() {
        for service in ["", "GRPC_", "SERVER_", "DATA_", "FUSION_", "LIMITS_MAX_"] {
            for (suffix, value) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_PORT", "50051"),
                ("SERVICE_PORT_HTTP", "50051"),
                ("SERVICE_PORT_GRPC_WEB", "50051"),
                ("SERVICE_PORT_NAME", "50051"),
                ("PORT", "tcp://10.0.0.1:50051"),
                ("PORT", "udp://[fd00::1]:53"),
                ("PORT_50051_TCP", "tcp://10.0.0.1:50051"),
                ("PORT_50051_TCP_PROTO", "tcp"),
                ("PORT_50051_TCP_PORT", "50051"),
                ("PORT_50051_TCP_ADDR", "10.0.0.1"),
                ("PORT_53_UDP_ADDR", "10.0.0.1"),
                ("ENV_RUST_LOG", "info"),
            ] {
                let name = format!("{service}{suffix}");
                assert!(is_service_link(&name, value), "{name}={value}");
            }
        }
    }

    #[test]
    fn docker_names_a_link_after_its_alias() {
        for (name, value) in [
            ("NAME", "/web/ragweave"),
            ("GRPC_NAME", "/app/ragweave-grpc"),
            ("GRPC_NAME", "/my_app.1/RagWeave_grpc"),
            ("LIMITS_MAX_NAME", "/web/ragweave-limits-max"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_misspelled_setting_is_not_taken_for_one() {
        for (name, value) in [
            ("LIMITS_MAX_QUEUES", "8"),
            ("PORT", "50051"),
            ("LISTEN_PORT", "50051"),
            ("SERVICE", "x"),
            ("SERVICE_NAME", "x"),
            ("PORT_X_TCP", "1"),
            ("PORT_50051_HTTP", "1"),
            ("MODEL_NAME", "llama"),
            ("MODEL_NAME", "/models/x"),
            ("MODEL_NAME", "/models/ragweave/model"),
            ("MODEL_NAME", "/ragweave-model"),
            ("MODEL_NAME", "//ragweave-model"),
            ("DATA_NAME", "/data"),
            ("DATA_NAME", "/data/"),
            ("NAME", "/web/ragweave-grpc"),
            ("ENV", "production"),
            ("ENVIRONMENT_NAME", "production"),
            ("HOST", "10.0.0.1"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
