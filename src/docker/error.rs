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

impl Error {
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
