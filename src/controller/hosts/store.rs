//! Watches of the role `controller`.

use futures::future;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Client, runtime::watcher};
use tokio::sync::{Notify, SetOnce};

use super::Writers;
use crate::{
    controller::{
        context::{ClusterGuard, RegistryGuard},
        watches::{follow, namespaced},
    },
    plan::placement::pod::PLACEHOLDER,
};

/// What is known by the watches.
#[derive(Default)]
pub(super) struct Watches {
    /// Wakes whoever places the objects.
    pub(super) changed: Notify,
    listed: [SetOnce<()>; 5],
}

impl Watches {
    /// Waits until all kinds are listed.
    pub(super) async fn known(&self) {
        future::join_all(self.listed.iter().map(SetOnce::wait)).await;
    }

    /// Watches all kinds, and wakes `clusters` after each change of a LocalCluster. Never returns.
    pub(super) async fn follow(
        &self,
        client: &Client,
        namespaces: &[String],
        writers: Writers,
        clusters: &Notify,
    ) {
        let all = watcher::Config::default();
        let own = all.clone().labels(PLACEHOLDER);
        let (changed, both) = (
            || self.changed.notify_one(),
            || {
                self.changed.notify_one();
                clusters.notify_one();
            },
        );
        let [known, registries, pods, nodes, budgets] = &self.listed;
        let nodes_api = vec![Api::<Node>::all(client.clone())];
        tokio::join!(
            follow(
                (namespaced::<ClusterGuard>(client, namespaces), all.clone()),
                writers.clusters,
                known,
                &both
            ),
            follow(
                (namespaced::<RegistryGuard>(client, namespaces), all.clone()),
                writers.registries,
                registries,
                &changed
            ),
            // One that is not a placeholder has the name of one: the API server says so when one is created.
            follow((namespaced::<Pod>(client, namespaces), own.clone()), writers.pods, pods, &changed),
            follow((nodes_api, all), writers.nodes, nodes, &changed),
            follow(
                (namespaced::<PodDisruptionBudget>(client, namespaces), own),
                writers.budgets,
                budgets,
                &changed
            ),
        );
    }
}
