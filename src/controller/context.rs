//! State that all reconciliations share.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Client, Resource,
    core::error_boundary::DeserializeGuard,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    backoff::Backoff, files::Files, host_images::HostImages, host_limits::Limits,
    interruptions::Interruptions, known::Known, logs::Logs, measures::Measures, pace::Pace, place::Hosting,
    policies::Policies, preload::Preloads, probe::Probe, progress::Progress, pulls::Pulls, quorum::Quorum,
    resolvers::Resolvers, times, triggers::Triggers, turns::Turns, workers::Workers,
};
use crate::{
    api::{LocalCluster, Registry, uses::uses},
    child::api::{Connect, Connection},
    docker::{engine::Engine, tunnels::Tunnels},
    metrics::Metrics,
    plan::{desired::Binding, refused::Refused, settings::Settings},
    server::Health,
};

/// A LocalCluster in the watch: one that cannot be decoded must not stop the watch of all others (kube-rs/kube#774).
pub type ClusterGuard = DeserializeGuard<LocalCluster>;
/// A Registry in the watch.
pub type RegistryGuard = DeserializeGuard<Registry>;

/// State that all reconciliations share.
pub struct Context {
    /// Client of the management cluster.
    pub client: Client,
    /// Docker Engine.
    pub engine: Arc<dyn Engine>,
    /// Tunnels into containers.
    pub tunnels: Arc<Tunnels>,
    /// Connector to created clusters.
    pub connector: Arc<dyn Connect>,
    /// Client for registry health checks.
    pub probe: Arc<dyn Probe>,
    /// The host that this process is the agent of; `None` for the one host of the role `all`.
    pub hosting: Option<Hosting>,
    /// Settings of the operator.
    pub settings: Settings,
    /// ID of the management cluster.
    pub manager: String,
    /// Image pulls.
    pub pulls: Pulls,
    /// Queue of starting clusters.
    pub turns: Turns,
    /// Workers of the controllers.
    pub workers: Workers,
    /// Imports of images into nodes.
    pub preloads: Preloads,
    /// Images of the Docker host for nodes that ask for them.
    pub host_images: HostImages,
    /// Cache of container files.
    pub files: Files,
    /// Logs of failing nodes.
    pub logs: Logs,
    /// Limits of the Docker host.
    pub limits: Limits,
    /// Sizes of the storage of registries.
    pub measures: Measures,
    /// Quorum of clusters with several servers.
    pub quorum: Quorum,
    /// Resolvers of the Docker host.
    pub resolvers: Resolvers,
    /// Triggers of reconciliations.
    pub triggers: Triggers,
    /// Interruptions of passes.
    pub interruptions: Interruptions,
    /// All LocalClusters.
    pub clusters: Store<ClusterGuard>,
    /// All Registries.
    pub registries: Store<RegistryGuard>,
    /// HostPolicies.
    pub policies: Policies,
    /// Completeness of all stores.
    pub known: Known,
    /// State of objects by UID. Losing it in a restart is harmless.
    pub memory: Memory,
    /// Recorder of Events.
    pub recorder: Recorder,
    /// Metrics.
    pub metrics: Metrics,
    /// Used and existing subnets of the network pool at the last observation; `None` without a pool.
    pub subnets: Mutex<Option<(u64, u64)>>,
    /// Inputs of the health endpoints.
    pub health: Arc<Health>,
    /// Reconciliation interval of settled objects.
    pub resync: Duration,
    /// Clock. A field, so that tests can replace it.
    pub now: fn() -> Timestamp,
}

/// State of objects in memory.
#[derive(Default)]
pub struct Memory {
    objects: Mutex<HashMap<String, Object>>,
    /// Delays after Docker failures.
    pub backoff: Backoff<String>,
    /// Delays after failures of the management cluster's API.
    pub api: Backoff<String>,
    /// Delays after passes that took too long.
    pub overdue: super::backoff::Overdue,
    /// State for metrics.
    pub progress: Progress,
}

#[derive(Default)]
struct Object {
    /// Choices for the object that Docker refused.
    refused: Refused,
    /// Time since which it is not settled.
    unsettled: Option<Instant>,
    /// Connection to its created cluster.
    link: Option<Link>,
    /// Path of the last connection.
    path: Option<&'static str>,
    /// Time of the last connection through a tunnel, unless a later one failed.
    tunnelled: Option<Instant>,
    /// Time since which its created cluster does not respond.
    silent: Option<Timestamp>,
    /// Key of the running watch of its created cluster, which ends when the guard is dropped.
    watched: Option<(String, DropGuard)>,
    /// Notes of the last reconciliation, which are not reported again.
    noted: BTreeSet<String>,
    /// Host ports that Docker could not bind because they are in use; `None` before the first reconciliation.
    taken: Option<BTreeSet<Binding>>,
    /// Time of the last attempt to bind them.
    tried: Option<Instant>,
    /// Time of the expiry reconciliation, with the task that triggers it.
    alarm: Option<(Timestamp, AbortHandle)>,
    /// Notes that are reported only once.
    reported: BTreeSet<String>,
    /// Time and generation of the last panic.
    broken: Option<(Instant, i64)>,
    /// Executed steps that have had no effect.
    pace: Pace,
    /// Random join token until its Secret is created.
    token: Option<Vec<u8>>,
}

/// Connection to a created cluster.
#[derive(Clone)]
pub struct Link {
    /// Addresses and credentials that it was made with.
    pub key: String,
    /// Client and path.
    pub connection: Connection,
    /// Time of the last attempt to connect directly.
    pub tried: Instant,
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

    /// Returns the choices that Docker refused.
    pub fn refused(&self, uid: &str) -> Refused {
        self.with(uid, |o| o.refused.clone())
    }

    /// Records a refusal by Docker.
    pub fn refuse<T>(&self, uid: &str, note: impl FnOnce(&mut Refused) -> T) -> T {
        self.with(uid, |o| note(&mut o.refused))
    }

    /// Returns the host ports that are in use; initially those from `before`.
    pub fn taken(&self, uid: &str, before: impl FnOnce() -> BTreeSet<Binding>) -> BTreeSet<Binding> {
        self.with(uid, |o| o.taken.get_or_insert_with(before).clone())
    }

    /// Sets the host ports that are in use.
    pub fn set_taken(&self, uid: &str, taken: BTreeSet<Binding>) {
        self.with(uid, |o| o.taken = Some(taken));
    }

    /// Reports whether the ports are due to be tried again, and records the attempt.
    pub fn try_ports(&self, uid: &str) -> bool {
        self.with(uid, |o| {
            let due = o.tried.is_none_or(|at| at.elapsed() >= times::TRY_PORTS);
            if due {
                o.tried = Some(Instant::now());
            }
            due
        })
    }

    /// Returns the notes that the last reconciliation did not have.
    pub fn news(&self, uid: &str, notes: &[String]) -> Vec<String> {
        self.with(uid, |o| {
            let before = std::mem::replace(&mut o.noted, notes.iter().cloned().collect());
            o.noted.difference(&before).cloned().collect()
        })
    }

    /// Starts a task with `start` that triggers a reconciliation at this time, unless one is running for it.
    pub fn alarm(&self, uid: &str, at: Timestamp, start: impl FnOnce() -> AbortHandle) {
        self.with(uid, |o| {
            // A finished task triggered too early because of a clock change, or the due work failed.
            if o.alarm.as_ref().is_none_or(|(set, task)| *set != at || task.is_finished())
                && let Some((_, before)) = o.alarm.replace((at, start()))
            {
                before.abort();
            }
        });
    }

    /// Cancels the expiry reconciliation.
    pub fn no_alarm(&self, uid: &str) {
        if let Some((_, task)) = self.with(uid, |o| o.alarm.take()) {
            task.abort();
        }
    }

    /// Calls `f` with the executed steps that have had no effect.
    pub fn pace<T>(&self, uid: &str, f: impl FnOnce(&mut Pace) -> T) -> T {
        self.with(uid, |o| f(&mut o.pace))
    }

    /// Returns a random join token, the same one each time, so that the step that creates its Secret is recognized when
    /// it is planned again.
    pub fn token<E>(&self, uid: &str, generate: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        self.with(uid, |o| match &o.token {
            Some(token) => Ok(token.clone()),
            None => Ok(o.token.insert(generate()?).clone()),
        })
    }

    /// Records a panic of a reconciliation of this generation.
    pub fn breaks(&self, uid: &str, generation: i64) {
        self.with(uid, |o| o.broken = Some((Instant::now(), generation)));
    }

    /// Returns the remainder of `pause` since a reconciliation of this generation panicked.
    pub fn broken(&self, uid: &str, generation: i64, pause: Duration) -> Option<Duration> {
        let (at, over) = self.with(uid, |o| o.broken)?;
        let rest = pause.saturating_sub(at.elapsed());
        (over == generation && !rest.is_zero()).then_some(rest)
    }

    /// Reports whether a note has not been reported yet, and records it.
    pub fn record_once(&self, uid: &str, note: &str) -> bool {
        self.with(uid, |o| o.reported.insert(note.to_owned()))
    }

    /// Returns how long the object has not been settled, counted from the first call.
    pub fn unsettled_for(&self, uid: &str) -> Duration {
        self.with(uid, |o| o.unsettled.get_or_insert_with(Instant::now).elapsed())
    }

    /// Records that the object is settled.
    pub fn settled(&self, uid: &str) {
        self.with(uid, |o| o.unsettled = None);
        self.backoff.cleared(&uid.to_owned());
    }

    /// Removes the state of a deleted object.
    pub fn forget(&self, uid: &str) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.backoff.cleared(&uid.to_owned());
        self.api.cleared(&uid.to_owned());
        self.overdue.0.cleared(&uid.to_owned());
        self.progress.forget(uid);
    }

    /// Returns the time since which the created cluster does not respond; `now` if it responded before.
    pub fn silent_since(&self, uid: &str, now: Timestamp) -> Timestamp {
        self.with(uid, |o| *o.silent.get_or_insert(now))
    }

    /// Records that the created cluster responds, or that there is none.
    pub fn answered(&self, uid: &str) {
        self.with(uid, |o| o.silent = None);
    }

    /// Returns the connection to the created cluster.
    pub fn link(&self, uid: &str) -> Option<Link> {
        self.with(uid, |o| o.link.clone())
    }

    /// Sets the connection to the created cluster; `None` if it does not respond.
    pub fn set_link(&self, uid: &str, link: Option<Link>) {
        self.with(uid, |o| o.link = link);
    }

    /// Reports whether the last connection was made through a tunnel a short time ago, so that direct ones need not be
    /// tried.
    pub fn is_tunnelled(&self, uid: &str) -> bool {
        self.with(uid, |o| o.tunnelled.is_some_and(|at| at.elapsed() < times::TRY_DIRECT))
    }

    /// Records that the next connection tries direct paths first.
    pub fn try_direct(&self, uid: &str) {
        self.with(uid, |o| o.tunnelled = None);
    }

    /// Records the path of a new connection, and since when direct ones fail if it is a tunnel. Reports whether the last
    /// one had another path.
    pub fn connected(&self, uid: &str, path: &'static str, is_tunnel: bool) -> bool {
        self.with(uid, |o| {
            let since = o.tunnelled.filter(|at| at.elapsed() < times::TRY_DIRECT);
            o.tunnelled = is_tunnel.then(|| since.unwrap_or_else(Instant::now));
            o.path.replace(path) != Some(path)
        })
    }

    /// Returns the end of a new watch of the created cluster's Nodes; `None` if one with this key is running. One with
    /// another key ends.
    pub fn begin_watch(&self, uid: &str, key: &str) -> Option<CancellationToken> {
        self.with(uid, |o| {
            if o.watched.as_ref().is_some_and(|(running, _)| running == key) {
                return None;
            }
            let end = CancellationToken::new();
            o.watched = Some((key.to_owned(), end.clone().drop_guard()));
            Some(end)
        })
    }

    /// Records that the watch with this key ended.
    pub fn end_watch(&self, uid: &str, key: &str) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        // The object may be gone and forgotten by now.
        if let Some(object) = objects.get_mut(uid)
            && object.watched.as_ref().is_some_and(|(running, _)| running == key)
        {
            object.watched = None;
        }
    }
}

impl Context {
    /// Returns the Registry with this name.
    pub fn registry(&self, namespace: &str, name: &str) -> Option<Registry> {
        let guard = self.registries.get(&ObjectRef::new(name).within(namespace))?;
        guard.0.as_ref().ok().cloned()
    }

    /// Returns the UIDs of all Registries, including those that cannot be decoded.
    pub fn living_registries(&self) -> BTreeSet<String> {
        self.registries.state().iter().filter_map(|guard| guard.meta().uid.clone()).collect()
    }

    /// Returns the LocalClusters that use a Registry, as `namespace/name`.
    pub fn users(&self, namespace: &str, name: &str) -> Vec<String> {
        self.clusters_of(namespace, name, |c, r| uses(c, r) || self.uses_by_default(c, r))
    }

    /// Returns the LocalClusters that name a Registry, even if it does not allow them.
    pub fn referrers(&self, namespace: &str, name: &str) -> Vec<String> {
        self.clusters_of(namespace, name, |c, r| self.refers(c, r))
    }

    fn clusters_of(
        &self,
        namespace: &str,
        name: &str,
        relation: impl Fn(&LocalCluster, &Registry) -> bool,
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
