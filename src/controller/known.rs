//! Completeness of the stores of all kinds.
//!
//! Many tasks wait for it at the start, but kube-runtime's `Store::wait_until_ready` wakes only the last of them: all
//! poll the one receiver of a oneshot channel, which keeps one waker. So only the controller uses it, to delay its
//! first reconciliations.

use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

/// Completeness of the stores of all kinds.
#[derive(Default)]
pub struct Known {
    /// Set when all LocalClusters are listed.
    pub clusters: SetOnce<()>,
    /// Set when all Registries are listed.
    pub registries: SetOnce<()>,
    /// Set when all HostPolicies are listed.
    pub policies: SetOnce<()>,
    /// Set when all Namespaces are listed.
    pub namespaces: SetOnce<()>,
    /// Set when all placeholders on the host are listed.
    pub pods: SetOnce<()>,
    /// True if there are placeholders: for the agent of a host.
    has_pods: bool,
    stop: CancellationToken,
}

impl Known {
    /// Creates incomplete stores. Waiting ends when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Returns the same, which is complete only with the placeholders on the host if there are any.
    pub fn with_pods(self, has_pods: bool) -> Self {
        Self { has_pods, ..self }
    }

    /// Waits until all kinds are listed; returns false if the operator stops before.
    pub async fn all(&self) -> bool {
        let all = async {
            let (clusters, registries) = (self.clusters.wait(), self.registries.wait());
            tokio::join!(clusters, registries, self.policies.wait(), self.namespaces.wait());
            if self.has_pods {
                self.pods.wait().await;
            }
        };
        self.stop.run_until_cancelled(all).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    fn waiting(known: &Arc<Known>) -> JoinSet<bool> {
        (0..8).map(|_| known.clone()).map(|known| async move { known.all().await }).collect()
    }

    #[tokio::test]
    async fn all_who_wait_go_on() {
        let known = Arc::new(Known::default());
        let mut waiting = waiting(&known);
        tokio::task::yield_now().await;
        known.registries.set(()).unwrap();
        known.policies.set(()).unwrap();
        known.namespaces.set(()).unwrap();
        tokio::task::yield_now().await;
        assert!(waiting.try_join_next().is_none());
        known.clusters.set(()).unwrap();
        assert_eq!(waiting.join_all().await, [true; 8]);
    }

    #[tokio::test]
    async fn nobody_waits_for_what_does_not_come_any_more() {
        let stop = CancellationToken::new();
        let known = Arc::new(Known::new(stop.clone()));
        let waiting = waiting(&known);
        stop.cancel();
        assert_eq!(waiting.join_all().await, [false; 8]);
    }
}
