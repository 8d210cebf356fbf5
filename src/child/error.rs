//! Errors of calls to the API of a created cluster: plain values.

/// Error of a failed call.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No candidate responded as the API of this cluster. It may be starting.
    #[error("{0}")]
    Unreachable(String),
    /// The API rejected the request.
    #[error("{0}")]
    Api(String),
    /// The API responded that it cannot process the request: a dependency of it, such as an admission webhook, fails.
    #[error("{0}")]
    Failed(String),
    /// The API responds, but the request takes longer.
    #[error("{0}")]
    Waits(String),
}
