//! The metrics that are computed at each scrape: those of the objects in the stores, and of the queues.

use std::sync::Arc;

use kube::{ResourceExt, core::error_boundary::DeserializeGuard};

use super::context::{ClusterGuard, Context};
use crate::{
    api::condition::{self, ConditionType},
    metrics::family::GaugeFamily,
    status::series::{self, Inventory, Queues},
};

impl Context {
    /// Serves the metrics of the objects that exist, of at most `most` objects of each kind.
    pub fn serve_series(self: &Arc<Self>, most: usize) {
        let ctx = Arc::downgrade(self);
        let source = move || ctx.upgrade().map(|ctx| ctx.series(most)).unwrap_or_default();
        self.metrics.add_source(Box::new(source));
    }

    /// Returns the metrics of the objects that exist.
    fn series(&self, most: usize) -> Vec<GaugeFamily> {
        let (clusters, registries) = (self.clusters.state(), self.registries.state());
        let certificate = |uid: &str| self.memory.progress.certificate(uid);
        let (starting, queued) = self.turns.counts();
        let (pulling, pulls_queued) = self.pulls.counts();
        series::of(&Inventory {
            clusters: decoded(&clusters).filter(|c| self.manages(*c)).collect(),
            registries: decoded(&registries).filter(|r| self.manages(*r)).collect(),
            most,
            certificate: &certificate,
            ports: self.settings.port_range.clone(),
            subnets: *self.subnets.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            queues: Queues { starting, queued, pulling, pulls_queued },
        })
    }

    fn manages(&self, object: &impl ResourceExt) -> bool {
        self.settings.manages(&object.namespace().unwrap_or_default())
    }

    /// Sets the metrics of ready and unready clusters.
    pub fn count_clusters(&self) {
        let clusters = self.clusters.state();
        let is_ready = |guard: &ClusterGuard| {
            let status = guard.0.as_ref().ok().and_then(|c| c.status.as_ref());
            status.is_some_and(|s| condition::is_true(&s.conditions, ConditionType::Ready))
        };
        let ready = clusters.iter().filter(|guard| is_ready(guard)).count();
        self.metrics.set_clusters(ready, clusters.len() - ready);
    }
}

/// Returns the objects of a store that can be decoded.
pub fn decoded<K>(state: &[Arc<DeserializeGuard<K>>]) -> impl Iterator<Item = &K> {
    state.iter().filter_map(|guard| guard.0.as_ref().ok())
}
