//! Watches of the role `controller`.

use futures::{StreamExt, future};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt, reflector::store::Writer, watcher},
};
use tokio::sync::{Notify, SetOnce};

use super::Writers;
use crate::{
    controller::{
        context::{ClusterGuard, RegistryGuard},
        merge::merged,
        watches::namespaced,
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

    /// Watches all kinds. Never returns.
    pub(super) async fn follow(&self, client: &Client, namespaces: &[String], writers: Writers) {
        let all = watcher::Config::default();
        let own = all.clone().labels(PLACEHOLDER);
        let [clusters, registries, pods, nodes, budgets] = &self.listed;
        tokio::join!(
            self.watch(
                namespaced::<ClusterGuard>(client, namespaces),
                all.clone(),
                writers.clusters,
                clusters
            ),
            self.watch(
                namespaced::<RegistryGuard>(client, namespaces),
                all.clone(),
                writers.registries,
                registries
            ),
            // One that is not a placeholder has the name of one: the API server says so when one is created.
            self.watch(namespaced::<Pod>(client, namespaces), own.clone(), writers.pods, pods),
            self.watch(vec![Api::<Node>::all(client.clone())], all, writers.nodes, nodes),
            self.watch(namespaced::<PodDisruptionBudget>(client, namespaces), own, writers.budgets, budgets),
        );
    }

    async fn watch<K>(
        &self,
        apis: Vec<Api<K>>,
        config: watcher::Config,
        writer: Writer<K>,
        listed: &SetOnce<()>,
    ) where
        K: Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let watches =
            apis.into_iter().map(|api| watcher(api, config.clone()).default_backoff().boxed()).collect();
        let mut events =
            merged(watches).modify(|object| object.meta_mut().managed_fields = None).reflect(writer).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::InitDone) => {
                    // A watch that starts again has set it before.
                    listed.set(()).ok();
                    self.changed.notify_one();
                }
                Ok(_) => self.changed.notify_one(),
                Err(error) => {
                    tracing::warn!(watch = %K::kind(&()), %error, "a watch failed and goes on");
                }
            }
        }
    }
}
