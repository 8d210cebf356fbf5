//! What every reconcile has at hand.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use jiff::Timestamp;
use kube::{
    Client,
    core::error_boundary::DeserializeGuard,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};

use super::{backoff::Backoff, files::Files, probe::Probe, pulls::Pulls, triggers::Triggers};
use crate::{
    api::{LocalCluster, Registry, condition},
    child::api::{Access, ChildApi, Connect},
    docker::engine::Engine,
    metrics::Metrics,
    plan::cluster::Settings,
    server::Health,
};

/// A LocalCluster as it is watched: one that can't be decoded must not stop the watch of all others (kube-rs/kube#774).
pub type ClusterGuard = DeserializeGuard<LocalCluster>;
/// A Registry as it is watched.
pub type RegistryGuard = DeserializeGuard<Registry>;

/// What every reconcile has at hand.
pub struct Context {
    /// The management cluster.
    pub client: Client,
    /// The Docker Engine.
    pub engine: Arc<dyn Engine>,
    /// The way to created clusters.
    pub connector: Arc<dyn Connect>,
    /// How registries are asked whether they answer.
    pub probe: Arc<dyn Probe>,
    /// What the operator was set up with.
    pub settings: Settings,
    /// The id of the management cluster.
    pub manager: String,
    /// Image pulls.
    pub pulls: Pulls,
    /// Files of containers.
    pub files: Files,
    /// How to have objects looked at again.
    pub triggers: Triggers,
    /// All LocalClusters.
    pub clusters: Store<ClusterGuard>,
    /// All Registries.
    pub registries: Store<RegistryGuard>,
    /// What is remembered of objects, by UID. Nothing that matters over a restart.
    pub memory: Memory,
    /// Writes Events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Metrics,
    /// What the probes answer.
    pub health: Arc<Health>,
    /// How often a settled object is looked at all the same.
    pub resync: Duration,
    /// The time. A value, so that tests have their own.
    pub now: fn() -> Timestamp,
}

/// What is remembered of objects.
#[derive(Default)]
pub struct Memory {
    objects: Mutex<HashMap<String, Object>>,
    /// Delays after failures of Docker.
    pub backoff: Backoff<String>,
    /// Delays after failures of the management cluster's API.
    pub api: Backoff<String>,
}

#[derive(Default)]
struct Object {
    /// Host ports that were chosen for it and that Docker refused.
    refused: BTreeSet<u16>,
    /// Since when it is not settled.
    unsettled: Option<Instant>,
    /// The client of its created cluster, with what it was made of.
    child: Option<(String, Arc<dyn ChildApi>)>,
    /// What the running watch of its Nodes was started with.
    watched: Option<String>,
}

impl Memory {
    fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Object) -> T) -> T {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        f(objects.entry(uid.to_owned()).or_default())
    }

    /// Host ports that Docker refused.
    pub fn refused(&self, uid: &str) -> BTreeSet<u16> {
        self.with(uid, |o| o.refused.clone())
    }

    /// Notes host ports that Docker refused.
    pub fn refuse(&self, uid: &str, ports: &[u16]) {
        self.with(uid, |o| o.refused.extend(ports));
    }

    /// How long the object has not been settled; begins to count with the first call.
    pub fn unsettled_for(&self, uid: &str) -> Duration {
        self.with(uid, |o| o.unsettled.get_or_insert_with(Instant::now).elapsed())
    }

    /// The object is settled.
    pub fn settled(&self, uid: &str) {
        self.with(uid, |o| o.unsettled = None);
        self.backoff.cleared(&uid.to_owned());
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.backoff.cleared(&uid.to_owned());
        self.api.cleared(&uid.to_owned());
    }

    /// Forgets the client of a created cluster, which did not answer.
    pub fn drop_child(&self, uid: &str) {
        self.with(uid, |o| o.child = None);
    }

    /// Whether a watch of the created cluster's Nodes has to be started; it is noted as running.
    pub fn begin_watch(&self, uid: &str, key: &str) -> bool {
        self.with(uid, |o| {
            let begin = o.watched.as_deref() != Some(key);
            o.watched = Some(key.to_owned());
            begin
        })
    }

    /// The watch with this key ended.
    pub fn end_watch(&self, uid: &str, key: &str) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        // The object may be gone and forgotten by now.
        if let Some(object) = objects.get_mut(uid)
            && object.watched.as_deref() == Some(key)
        {
            object.watched = None;
        }
    }
}

impl Context {
    /// The client of a created cluster: the one at hand, if it was made of the same, else a new one.
    pub async fn child(
        &self,
        uid: &str,
        access: &Access,
        key: &str,
    ) -> Result<Arc<dyn ChildApi>, crate::child::api::Error> {
        let known =
            self.memory.with(uid, |o| o.child.as_ref().filter(|(k, _)| k == key).map(|(_, c)| c.clone()));
        if let Some(child) = known {
            return Ok(child);
        }
        let child = self.connector.connect(access, Duration::from_secs(3)).await?;
        self.memory.with(uid, |o| o.child = Some((key.to_owned(), child.clone())));
        Ok(child)
    }

    /// Counts the clusters that are ready and those that are not.
    pub fn count_clusters(&self) {
        let clusters = self.clusters.state();
        let is_ready = |guard: &ClusterGuard| {
            let status = guard.0.as_ref().ok().and_then(|c| c.status.as_ref());
            status.is_some_and(|s| condition::is_true(&s.conditions, condition::types::READY))
        };
        let ready = clusters.iter().filter(|guard| is_ready(guard)).count();
        self.metrics.set_clusters(ready, clusters.len() - ready);
    }

    /// The Registry of this name.
    pub fn registry(&self, namespace: &str, name: &str) -> Option<Registry> {
        let guard = self.registries.get(&ObjectRef::new(name).within(namespace))?;
        guard.0.as_ref().ok().cloned()
    }

    /// The LocalClusters that use a Registry, as `namespace/name`.
    pub fn users(&self, namespace: &str, registry: &str) -> Vec<String> {
        let mut users: Vec<String> = self
            .clusters
            .state()
            .iter()
            .filter_map(|guard| guard.0.as_ref().ok().cloned())
            .filter(|c| c.metadata.namespace.as_deref() == Some(namespace))
            .filter(|c| c.spec.registries.used.iter().any(|r| r.name == registry))
            .filter_map(|c| Some(format!("{namespace}/{}", c.metadata.name?)))
            .collect();
        users.sort();
        users
    }
}
