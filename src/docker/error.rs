//! What a Docker Engine answers when it does not do what it was asked to.

/// A failed call.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The engine can't be reached: no socket, connection refused or cut.
    #[error("Docker can't be reached: {0}")]
    Unavailable(String),
    /// The call did not end in time. What it asked for may still happen.
    #[error("Docker did not answer in time: {0}")]
    Timeout(String),
    /// There is no such container, network, volume or image.
    #[error("not found: {0}")]
    NotFound(String),
    /// The name is taken (409).
    #[error("{0}")]
    Conflict(String),
    /// A host port is taken.
    #[error("{0}")]
    PortTaken(String),
    /// A subnet or an address is taken or out of range.
    #[error("{0}")]
    Address(String),
    /// Still in use, or already being removed: it goes by waiting.
    #[error("{0}")]
    Busy(String),
    /// The request itself is refused (400): asking again changes nothing.
    #[error("{0}")]
    Invalid(String),
    /// An image can't be had: unknown tag, no access, registry out of reach.
    #[error("{0}")]
    Pull(String),
    /// Anything else that the engine answers.
    #[error("{0}")]
    Engine(String),
}

/// What registries and engines say of an image that they do not have, or do not give to these credentials. Anything else
/// that a pull fails by can pass: a network, a name server or a registry that is down, or a limit of pulls.
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
    /// Whether asking again changes nothing until a person changes something.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid(_) => true,
            Self::Pull(words) => {
                let words = words.to_ascii_lowercase();
                // A registry that can't be found is no image that can't be.
                let away = words.contains("no such host") || words.contains("server misbehaving");
                !away && REFUSALS.iter().any(|refusal| words.contains(refusal))
            }
            _ => false,
        }
    }

    /// Its name, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_refused_or_can_still_succeed() {
        let refused = |words: &str| Error::Pull(words.into()).is_refusal();
        for words in [
            "manifest for rancher/k3s:v9 not found: manifest unknown: manifest unknown",
            "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to \
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
