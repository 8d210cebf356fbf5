//! Errors of a Docker Engine.

/// Error of a failed call.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The engine cannot be reached: no socket, connection refused or closed.
    #[error("cannot connect to Docker: {0}")]
    Unavailable(String),
    /// This process may not open the socket of the engine. Who has to grant what depends on the program.
    #[error("cannot connect to Docker: {0}")]
    Denied(String),
    /// The call timed out. It may still take effect.
    #[error("timed out waiting for Docker: {0}")]
    Timeout(String),
    /// The container, network, volume or image does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// The name is in use (409).
    #[error("{0}")]
    Conflict(String),
    /// A host port is in use.
    #[error("{0}")]
    PortTaken(String),
    /// A subnet or an address is in use or out of range.
    #[error("{0}")]
    Address(String),
    /// Still in use, or already being removed; retrying later succeeds.
    #[error("{0}")]
    Busy(String),
    /// The request is invalid (400); retrying fails again.
    #[error("{0}")]
    Invalid(String),
    /// An image cannot be pulled: unknown tag, access denied, registry unreachable.
    #[error("{0}")]
    Pull(String),
    /// Any other error of the engine.
    #[error("{0}")]
    Engine(String),
}

/// Messages of registries and engines for an image that does not exist, or is not accessible with these credentials.
/// All other failures of a pull are transient: a network, name server or registry that is down, or a rate limit.
const REFUSALS: [&str; 12] = [
    "access denied",
    "denied:",
    "does not exist",
    "insufficient_scope",
    "invalid reference",
    "manifest unknown",
    "name unknown",
    "no basic auth credentials",
    "no matching manifest",
    "not found",
    "repository name not known",
    "unauthorized",
];

impl Error {
    /// Reports whether the engine was not reached, so that nothing is known about what the call was for.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Denied(_) | Self::Timeout(_))
    }

    /// Reports whether retrying fails until a user intervenes.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid(_) => true,
            Self::Pull(words) => {
                let words = words.to_ascii_lowercase();
                // A registry that cannot be resolved does not mean that the image does not exist.
                let away = words.contains("no such host") || words.contains("server misbehaving");
                !away && REFUSALS.iter().any(|refusal| words.contains(refusal))
            }
            _ => false,
        }
    }

    /// Returns the name of the error for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Denied(_) => "denied",
            Self::Timeout(_) => "timeout",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::PortTaken(_) => "port_taken",
            Self::Address(_) => "address",
            Self::Busy(_) => "busy",
            Self::Invalid(_) => "invalid",
            Self::Pull(_) => "pull",
            Self::Engine(_) => "engine",
        }
    }
}

/// Returns an error with those causes that its message does not contain: the message of hyper is only "client error
/// (Connect)".
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !message.contains(&words) {
            message = format!("{message}: {words}");
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_refused_or_can_still_succeed() {
        let refused = |words: &str| Error::Pull(words.into()).is_refusal();
        for words in [
            "manifest for rancher/k3s:v9 not found: manifest unknown: manifest unknown",
            "pull access denied for x, repository does not exist or may require 'docker login': denied: requested \
             access to \
             the resource is denied",
            "unauthorized: authentication required",
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "Head \"https://reg.example/v2/x/manifests/1\": no basic auth credentials",
        ] {
            assert!(refused(words), "{words}");
        }
        for words in [
            "Get \"https://reg.example/v2/\": dial tcp: lookup reg.example: no such host",
            "Get \"http://localhost:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            "Get \"https://registry-1.docker.io/v2/\": net/http: TLS handshake timeout",
            "toomanyrequests: You have reached your pull rate limit.",
            "received unexpected HTTP status: 503 Service Unavailable",
            "write /var/lib/docker/tmp/x: no space left on device",
        ] {
            assert!(!refused(words), "{words}");
        }
        assert!(!Error::Timeout("not found".into()).is_refusal());
    }
}
