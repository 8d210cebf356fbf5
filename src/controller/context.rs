//! What every reconcile has at hand.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use jiff::Timestamp;
use kube::{
    Client, Resource,
    core::error_boundary::DeserializeGuard,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};

use super::{
    backoff::Backoff, files::Files, known::Known, pace::Pace, preload::Preloads, probe::Probe, pulls::Pulls,
    times, triggers::Triggers, turns::Turns,
};
use crate::{
    api::{
        LocalCluster, Registry,
        condition::{self, ConditionType},
        uses::{refers, uses},
    },
    child::api::{Access, ChildApi, Connect},
    docker::engine::Engine,
    metrics::Metrics,
    plan::{desired::Binding, refused::Refused, settings::Settings},
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
    /// Which clusters start.
    pub turns: Turns,
    /// Images on their way into nodes.
    pub preloads: Preloads,
    /// Files of containers.
    pub files: Files,
    /// How to have objects looked at again.
    pub triggers: Triggers,
    /// All LocalClusters.
    pub clusters: Store<ClusterGuard>,
    /// All Registries.
    pub registries: Store<RegistryGuard>,
    /// Whether these are all.
    pub known: Known,
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
    /// What was chosen for it and what Docker refused.
    refused: Refused,
    /// Since when it is not settled.
    unsettled: Option<Instant>,
    /// The client of its created cluster, with what it was made of.
    child: Option<(String, Arc<dyn ChildApi>)>,
    /// Since when its created cluster has not answered.
    silent: Option<Timestamp>,
    /// What the running watch of its created cluster was started with.
    watched: Option<String>,
    /// What people were told of it last, and need not be told again.
    noted: BTreeSet<String>,
    /// Host ports that Docker would not bind, since something else has them; `None` before the first look.
    taken: Option<BTreeSet<Binding>>,
    /// When those were last tried.
    tried: Option<Instant>,
    /// When it is looked at for its end, and the task that sees to it.
    alarm: Option<(Timestamp, AbortHandle)>,
    /// What people were told of it once and for all.
    said: BTreeSet<String>,
    /// When a reconcile of it panicked, and over which generation.
    broken: Option<(Instant, i64)>,
    /// Its steps that were carried out and have shown no effect.
    pace: Pace,
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some((_, task)) = self.alarm.take() {
            task.abort();
        }
    }
}

impl Memory {
    fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Object) -> T) -> T {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        f(objects.entry(uid.to_owned()).or_default())
    }

    /// What Docker refused.
    pub fn refused(&self, uid: &str) -> Refused {
        self.with(uid, |o| o.refused.clone())
    }

    /// Notes what Docker refuses.
    pub fn refuse<T>(&self, uid: &str, note: impl FnOnce(&mut Refused) -> T) -> T {
        self.with(uid, |o| note(&mut o.refused))
    }

    /// Host ports that something else has; at the first look those that `before` tells of.
    pub fn taken(&self, uid: &str, before: impl FnOnce() -> BTreeSet<Binding>) -> BTreeSet<Binding> {
        self.with(uid, |o| o.taken.get_or_insert_with(before).clone())
    }

    /// Notes the host ports that something else has.
    pub fn set_taken(&self, uid: &str, taken: BTreeSet<Binding>) {
        self.with(uid, |o| o.taken = Some(taken));
    }

    /// Whether it is time to try them again; it is noted that they are.
    pub fn try_ports(&self, uid: &str) -> bool {
        self.with(uid, |o| {
            let due = o.tried.is_none_or(|at| at.elapsed() >= times::TRY_PORTS);
            if due {
                o.tried = Some(Instant::now());
            }
            due
        })
    }

    /// Those of the notes that were not there at the last look.
    pub fn news(&self, uid: &str, notes: &[String]) -> Vec<String> {
        self.with(uid, |o| {
            let before = std::mem::replace(&mut o.noted, notes.iter().cloned().collect());
            o.noted.difference(&before).cloned().collect()
        })
    }

    /// Has the task that `start` starts see to it that the object is looked at at this time, unless one does already.
    pub fn alarm(&self, uid: &str, at: Timestamp, start: impl FnOnce() -> AbortHandle) {
        self.with(uid, |o| {
            // One that has rung rang too early, as clocks go, or what was due could not be done.
            if o.alarm.as_ref().is_none_or(|(set, task)| *set != at || task.is_finished())
                && let Some((_, before)) = o.alarm.replace((at, start()))
            {
                before.abort();
            }
        });
    }

    /// The object has no end to be looked at for.
    pub fn no_alarm(&self, uid: &str) {
        if let Some((_, task)) = self.with(uid, |o| o.alarm.take()) {
            task.abort();
        }
    }

    /// The steps of it that were carried out and have shown no effect.
    pub fn pace<T>(&self, uid: &str, f: impl FnOnce(&mut Pace) -> T) -> T {
        self.with(uid, |o| f(&mut o.pace))
    }

    /// A reconcile of the object panicked over this generation.
    pub fn breaks(&self, uid: &str, generation: i64) {
        self.with(uid, |o| o.broken = Some((Instant::now(), generation)));
    }

    /// How much of `pause` is left since a reconcile panicked over this generation.
    pub fn broken(&self, uid: &str, generation: i64, pause: Duration) -> Option<Duration> {
        let (at, over) = self.with(uid, |o| o.broken)?;
        let rest = pause.saturating_sub(at.elapsed());
        (over == generation && !rest.is_zero()).then_some(rest)
    }

    /// Whether people have to be told this still; it is noted that they were.
    pub fn say_once(&self, uid: &str, note: &str) -> bool {
        self.with(uid, |o| o.said.insert(note.to_owned()))
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

    /// Since when the created cluster has not answered, which it does not now either.
    pub fn silent_since(&self, uid: &str, now: Timestamp) -> Timestamp {
        self.with(uid, |o| *o.silent.get_or_insert(now))
    }

    /// The created cluster answers, or there is none to ask.
    pub fn answered(&self, uid: &str) {
        self.with(uid, |o| o.silent = None);
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
        let child = self.connector.connect(access, times::CONNECT).await?;
        self.memory.with(uid, |o| o.child = Some((key.to_owned(), child.clone())));
        Ok(child)
    }

    /// Counts the clusters that are ready and those that are not.
    pub fn count_clusters(&self) {
        let clusters = self.clusters.state();
        let is_ready = |guard: &ClusterGuard| {
            let status = guard.0.as_ref().ok().and_then(|c| c.status.as_ref());
            status.is_some_and(|s| condition::is_true(&s.conditions, ConditionType::Ready))
        };
        let ready = clusters.iter().filter(|guard| is_ready(guard)).count();
        self.metrics.set_clusters(ready, clusters.len() - ready);
    }

    /// The Registry of this name.
    pub fn registry(&self, namespace: &str, name: &str) -> Option<Registry> {
        let guard = self.registries.get(&ObjectRef::new(name).within(namespace))?;
        guard.0.as_ref().ok().cloned()
    }

    /// The UIDs of all Registries, those that can't be read too.
    pub fn living_registries(&self) -> BTreeSet<String> {
        self.registries.state().iter().filter_map(|guard| guard.meta().uid.clone()).collect()
    }

    /// The LocalClusters that use a Registry, as `namespace/name`.
    pub fn users(&self, namespace: &str, name: &str) -> Vec<String> {
        self.clusters_of(namespace, name, uses)
    }

    /// The LocalClusters that name a Registry, with its consent or without.
    pub fn referrers(&self, namespace: &str, name: &str) -> Vec<String> {
        self.clusters_of(namespace, name, refers)
    }

    fn clusters_of(
        &self,
        namespace: &str,
        name: &str,
        relation: fn(&LocalCluster, &Registry) -> bool,
    ) -> Vec<String> {
        let Some(registry) = self.registry(namespace, name) else { return Vec::new() };
        let mut found: Vec<String> = self
            .clusters
            .state()
            .iter()
            .filter_map(|guard| guard.0.as_ref().ok().cloned())
            .filter(|c| relation(c, &registry))
            .filter_map(|c| Some(format!("{}/{}", c.metadata.namespace?, c.metadata.name?)))
            .collect();
        found.sort();
        found
    }
}
