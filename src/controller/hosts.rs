//! The role `controller`: it places LocalClusters and Registries on one of several Docker hosts by a placeholder Pod each,
//! and says in their status where they are. It reaches no Docker Engine.
//!
//! After every change, all objects are looked at: `plan/placement` decides about each from what the watches know.

mod act;
mod store;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Client, ResourceExt,
    core::error_boundary::DeserializeGuard,
    runtime::{
        events::{Recorder, Reporter},
        reflector::{ObjectRef, Store, store::Writer},
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    context::{ClusterGuard, RegistryGuard},
    kube_io::Error,
    pass::Managed,
    place_io, placed,
    pools::{self, Pools},
    times,
};
use crate::{
    metrics::Metrics,
    plan::{
        kind::Kind,
        placement::{
            Object,
            heartbeat::{self, Heartbeats},
            hosts::{Host, Hosts},
            judge::{Refusal, Seen, is_unattended, judge},
            pod,
        },
    },
    server::Health,
};

/// Settings of the role.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Image of placeholders.
    pub image: String,
    /// Namespaces whose objects are placed; all if empty.
    pub namespaces: Vec<String>,
    /// Number of pools that have metrics of their own.
    pub metrics_objects: usize,
}

/// Writers of the stores.
#[derive(Default)]
pub struct Writers {
    /// LocalClusters.
    pub clusters: Writer<ClusterGuard>,
    /// Registries.
    pub registries: Writer<RegistryGuard>,
    /// Placeholders.
    pub pods: Writer<Pod>,
    /// Nodes.
    pub nodes: Writer<Node>,
    /// Budgets of placeholders.
    pub budgets: Writer<PodDisruptionBudget>,
}

/// State of the role.
pub struct Placer {
    client: Client,
    image: String,
    clusters: Store<ClusterGuard>,
    registries: Store<RegistryGuard>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    budgets: Store<PodDisruptionBudget>,
    recorder: Recorder,
    beats: Mutex<Heartbeats>,
    refused: Mutex<BTreeMap<String, (Refusal, Instant)>>,
    began: Instant,
    now: fn() -> Timestamp,
}

/// Runs the role until `stop` is cancelled.
pub(super) async fn run(
    client: Client,
    settings: Settings,
    health: Arc<Health>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let writers = Writers::default();
    let placer = Placer::new(client, settings.image, &writers, Timestamp::now);
    let watches = store::Watches::default();
    let claimed = pools::Writers::default();
    let (client, clusters) = (placer.client.clone(), placer.clusters.clone());
    let pools = Pools::new(client, clusters, &claimed, metrics, Timestamp::now);
    pools.serve_series(settings.metrics_objects);
    let wake = pools.wake();
    let follow = watches.follow(&placer.client, &settings.namespaces, writers, &wake);
    let pools = pools::run(pools, claimed, &settings.namespaces, watches.known(), &stop);
    let place = async {
        watches.known().await;
        health.set_watches(true);
        loop {
            placer.round().await;
            // A change wakes it at once; without one, a heartbeat may have stopped, or a call may have failed.
            tokio::time::timeout(times::PLACE_AGAIN, watches.changed.notified()).await.ok();
            tokio::time::sleep(times::PLACE).await;
        }
    };
    stop.run_until_cancelled(async { tokio::join!(follow, place, pools) }).await;
}

impl Placer {
    /// Creates the state of the role over these stores.
    pub fn new(client: Client, image: String, writers: &Writers, now: fn() -> Timestamp) -> Self {
        let reporter = Reporter {
            controller: "localcluster-controller".into(),
            instance: std::env::var("HOSTNAME").ok(),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            image,
            clusters: writers.clusters.as_reader(),
            registries: writers.registries.as_reader(),
            pods: writers.pods.as_reader(),
            nodes: writers.nodes.as_reader(),
            budgets: writers.budgets.as_reader(),
            beats: Mutex::default(),
            refused: Mutex::default(),
            began: Instant::now(),
            now,
        }
    }

    /// Looks once at all objects.
    pub async fn round(&self) {
        self.silence().await;
        let hosts = self.hosts();
        let (hosts, clusters, registries) = (&hosts, self.clusters.state(), self.registries.state());
        stream::iter(clusters).for_each_concurrent(8, |guard| self.tend(guard, hosts)).await;
        stream::iter(registries).for_each_concurrent(8, |guard| self.tend(guard, hosts)).await;
        self.release(hosts).await;
    }

    /// Lets placeholders go that no agent lets go, and whose objects are gone.
    async fn release(&self, hosts: &Hosts) {
        let found = self.pods.state();
        for found in found.iter().filter(|found| is_unattended(found, hosts)) {
            let Some((kind, namespace, name, uid)) = pod::owner(found) else { continue };
            let living = match kind {
                Kind::LocalCluster => {
                    self.clusters.get(&ObjectRef::new(&name).within(&namespace)).and_then(|o| o.uid())
                }
                Kind::Registry => {
                    self.registries.get(&ObjectRef::new(&name).within(&namespace)).and_then(|o| o.uid())
                }
            };
            if living != Some(uid)
                && let Err(error) = place_io::release_placeholder(&self.client, found).await
            {
                tracing::warn!(pod = found.name_any(), namespace, %error, "cannot let a placeholder go");
            }
        }
    }

    /// Takes the mark away from Nodes whose agents are silent.
    async fn silence(&self) {
        let nodes = self.nodes.state();
        let silent = self
            .beats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .silent(nodes.iter().map(AsRef::as_ref), self.began.elapsed());
        for name in silent {
            tracing::warn!(node = name, "the agent has not reported for 60s: nothing is placed on this host");
            if let Err(error) = place_io::patch_node(&self.client, &name, &heartbeat::silent()).await {
                tracing::warn!(node = name, %error, "cannot take the mark of a silent agent away");
            }
        }
    }

    fn hosts(&self) -> Hosts {
        Hosts(self.nodes.state().iter().map(|node| (node.name_any(), Host::of(node))).collect())
    }

    async fn tend<K: Managed>(&self, guard: Arc<DeserializeGuard<K>>, hosts: &Hosts) {
        // A newer version of the operator may use fields that this one cannot decode. The object is not changed.
        let Ok(object) = &guard.0 else { return };
        match self.place(object, hosts).await {
            Ok(()) => {}
            Err(error) if error.is_stale() => tracing::debug!(kind = K::KIND.as_str(), %error, "out of date"),
            Err(error) => {
                let (namespace, name) = (object.namespace(), object.name_any());
                tracing::warn!(kind = K::KIND.as_str(), namespace, name, %error, "will try again");
            }
        }
    }

    /// Decides about an object, records it, and acts.
    async fn place<K: Managed>(&self, object: &K, hosts: &Hosts) -> Result<(), Error> {
        let placed = placed::object(object);
        let found = self.pods.get(&ObjectRef::new(&placed.placeholder()).within(&placed.namespace));
        if found.as_ref().is_some_and(|found| pod::is_of(found, &placed.uid)) {
            self.refusals().remove(&placed.uid);
        }
        let refused = self.refusals().get(&placed.uid).cloned();
        let refusal = refused.as_ref().map(|(refusal, _)| refusal);
        let decision = judge(Seen { object: &placed, pod: found.as_deref(), hosts, refused: refusal });
        if decision.scheduled.is_some() {
            self.record(object, &decision, hosts).await?;
        }
        // What follows from another host follows when that is known everywhere.
        if decision.host != placed.host {
            return Ok(());
        }
        self.budget(&placed).await?;
        match decision.act {
            Some(act) => self.act(object, (&placed, found.as_deref()), act, hosts).await,
            None => Ok(()),
        }
    }

    /// Returns how long ago a placeholder was refused.
    fn refused_for(&self, object: &Object) -> Option<Duration> {
        self.refusals().get(&object.uid).map(|(_, since)| since.elapsed())
    }

    fn refusals(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Refusal, Instant)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
