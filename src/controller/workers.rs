//! Workers of the controllers: objects that are reconciled at the same time. kube's own limit knows no namespaces, so the
//! objects of one, each of which takes as long as it may, would keep those of all others waiting.

use tokio_util::sync::CancellationToken;

use crate::docker::share::{Limits, Permit, Shares};

/// Numbers of objects of a kind that are reconciled at the same time.
const WORKERS: Limits = Limits { object: 1, namespace: 8, all: 24 };

/// Workers of both kinds.
pub struct Workers {
    /// Workers for LocalClusters.
    pub clusters: Shares,
    /// Workers for Registries.
    pub registries: Shares,
    stop: CancellationToken,
}

impl Workers {
    /// Creates workers until `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { clusters: Shares::new(WORKERS), registries: Shares::new(WORKERS), stop }
    }

    /// Waits for a worker for the object that this task works for; `None` if the operator stops before.
    pub async fn take(&self, of: &Shares) -> Option<Permit> {
        self.stop.run_until_cancelled(of.acquire()).await
    }
}
