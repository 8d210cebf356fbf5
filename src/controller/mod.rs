//! The shell round the pure core: watches, executes and reports.

pub mod backoff;

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// The operator could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This build has nothing to run.
    #[error("this build has no controllers")]
    NoControllers,
}

/// Runs the operator until `stop` is cancelled.
pub async fn run(_config: Config, _stop: CancellationToken) -> Result<(), Error> {
    Err(Error::NoControllers)
}
