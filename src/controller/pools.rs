//! Pools of LocalClusters and the claims that take them, for the roles `all` and `controller`.
//!
//! After every change, all pools are looked at: `plan/pool` decides about each from what the watches know. A pool makes
//! ordinary LocalClusters by ordinary writes, and everything else is theirs.

mod act;
mod io;
mod measure;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use jiff::Timestamp;
use kube::{
    Client, ResourceExt,
    core::error_boundary::DeserializeGuard,
    runtime::{
        events::{Recorder, Reporter},
        reflector::{ObjectRef, Store, store::Writer},
    },
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{context::ClusterGuard, series::decoded, times};
use measure::Waits;

use crate::{
    api::{LocalClusterClaim, LocalClusterPool},
    metrics::Metrics,
    plan::pool::{
        decide::{View, decide},
        member::Member,
        template,
    },
    status::series,
};

/// A LocalClusterPool in the watch.
pub type PoolGuard = DeserializeGuard<LocalClusterPool>;
/// A LocalClusterClaim in the watch.
pub type ClaimGuard = DeserializeGuard<LocalClusterClaim>;

/// Writers of the stores.
#[derive(Default)]
pub struct Writers {
    /// LocalClusterPools.
    pub pools: Writer<PoolGuard>,
    /// LocalClusterClaims.
    pub claims: Writer<ClaimGuard>,
}

/// State of the controller.
pub struct Pools {
    client: Client,
    clusters: Store<ClusterGuard>,
    pools: Store<PoolGuard>,
    claims: Store<ClaimGuard>,
    /// Wakes the controller.
    changed: Arc<Notify>,
    recorder: Recorder,
    refused: Mutex<BTreeMap<String, Refusal>>,
    metrics: Metrics,
    waits: Waits,
    now: fn() -> Timestamp,
}

/// What the API server refused of a pool or a claim.
#[derive(Clone)]
struct Refusal {
    /// Generation of the object.
    generation: i64,
    since: Instant,
    message: String,
}

/// A pool, by its namespace and name.
type Key = (String, String);

/// All LocalClusters of a namespace.
#[derive(Default)]
struct Namespace {
    clusters: BTreeMap<String, Arc<ClusterGuard>>,
    members: Vec<Member>,
    names: BTreeSet<String>,
}

/// Runs the controller until `stop` is cancelled. `clusters` are told by another watch, which wakes `changed`, and are all
/// listed after `known`.
pub(super) async fn run(
    pools: Pools,
    writers: Writers,
    namespaces: &[String],
    known: impl Future<Output = ()>,
    stop: &CancellationToken,
) {
    let listed = store::Listed::default();
    let work = async {
        tokio::join!(known, listed.all());
        loop {
            let next = pools.round().await;
            // A change wakes it at once.
            timeout(next, pools.changed.notified()).await.ok();
        }
    };
    let follow = listed.follow(&pools.client, namespaces, writers, &pools.changed);
    stop.run_until_cancelled(async { tokio::join!(follow, work) }).await;
}

impl Pools {
    /// Creates the state of the controller over these stores.
    pub fn new(
        client: Client,
        clusters: Store<ClusterGuard>,
        writers: &Writers,
        metrics: Metrics,
        now: fn() -> Timestamp,
    ) -> Self {
        let reporter =
            Reporter { controller: "localcluster-operator".into(), instance: std::env::var("HOSTNAME").ok() };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            clusters,
            pools: writers.pools.as_reader(),
            claims: writers.claims.as_reader(),
            changed: Arc::default(),
            refused: Mutex::default(),
            metrics,
            waits: Waits::default(),
            now,
        }
    }

    /// Returns what wakes the controller.
    pub(super) fn wake(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Serves the metrics of the pools that exist, of at most `most` of them.
    pub fn serve_series(&self, most: usize) {
        let pools = self.pools.clone();
        let source = move || series::of_pools(&decoded(&pools.state()).collect::<Vec<_>>(), most);
        self.metrics.add_source(Box::new(source));
    }

    /// Looks once at all pools and claims. Returns the time until something is due that no watch tells.
    pub async fn round(&self) -> Duration {
        self.waits.see(decoded(&self.claims.state()), (self.now)());
        let claims = self.claims();
        let mut keys: BTreeSet<Key> = claims.keys().cloned().collect();
        keys.extend(
            self.pools.state().iter().map(|pool| (pool.namespace().unwrap_or_default(), pool.name_any())),
        );
        if keys.is_empty() {
            return times::POOLS_AGAIN;
        }
        let namespaces: BTreeSet<&String> = keys.iter().map(|(namespace, _)| namespace).collect();
        let namespaces = self.namespaces(&namespaces);
        let none = Vec::new();
        let due = stream::iter(&keys).map(|key| {
            let claims = claims.get(key).unwrap_or(&none);
            self.tend(key, claims, &namespaces)
        });
        let due: Vec<Duration> = due.buffer_unordered(times::POOLS_AT_ONCE).collect().await;
        due.into_iter().min().unwrap_or(times::POOLS_AGAIN)
    }

    /// Returns the claims of each pool.
    fn claims(&self) -> BTreeMap<Key, Vec<Arc<ClaimGuard>>> {
        let mut all: BTreeMap<Key, Vec<Arc<ClaimGuard>>> = BTreeMap::new();
        for guard in self.claims.state() {
            let Ok(claim) = &guard.0 else { continue };
            if claim.metadata.deletion_timestamp.is_none() {
                let key = (claim.namespace().unwrap_or_default(), claim.spec.pool_name.clone());
                all.entry(key).or_default().push(guard);
            }
        }
        all
    }

    /// Returns the LocalClusters of these namespaces.
    fn namespaces(&self, wanted: &BTreeSet<&String>) -> BTreeMap<String, Namespace> {
        let mut all: BTreeMap<String, Namespace> = BTreeMap::new();
        for guard in self.clusters.state() {
            let namespace = guard.namespace().unwrap_or_default();
            if !wanted.contains(&namespace) {
                continue;
            }
            let known = all.entry(namespace).or_default();
            known.names.insert(guard.name_any());
            let meta = kube::Resource::meta(&*guard);
            if let Some(member) = Member::of(meta, guard.0.as_ref().ok()) {
                known.members.push(member);
                known.clusters.insert(guard.name_any(), guard);
            }
        }
        // The store has no order.
        all.values_mut().for_each(|known| known.members.sort_by(|a, b| a.name.cmp(&b.name)));
        all
    }

    /// Looks at a pool with its claims. Returns the time until something is due.
    async fn tend(
        &self,
        (namespace, name): &Key,
        claims: &[Arc<ClaimGuard>],
        namespaces: &BTreeMap<String, Namespace>,
    ) -> Duration {
        let guard = self.pools.get(&ObjectRef::new(name).within(namespace));
        // A newer version of the operator may use fields that this one cannot decode. Nothing is changed.
        if guard.as_ref().is_some_and(|guard| guard.0.is_err()) {
            return times::POOLS_AGAIN;
        }
        let living = |pool: &&LocalClusterPool| pool.metadata.deletion_timestamp.is_none();
        let pool = guard.as_ref().and_then(|guard| guard.0.as_ref().ok()).filter(living);
        let claims: Vec<&LocalClusterClaim> =
            claims.iter().filter_map(|guard| guard.0.as_ref().ok()).collect();
        let (none, now) = (Namespace::default(), (self.now)());
        let known = namespaces.get(namespace).unwrap_or(&none);
        let refused = claims.iter().filter(|claim| self.refused(**claim).is_some());
        let view = View {
            pool,
            template: &pool.map(|pool| template::hash(&pool.spec.template)).unwrap_or_default(),
            claims: &claims,
            members: &known.members,
            names: &known.names,
            refused: &refused.filter_map(|claim| claim.uid()).collect(),
            now,
        };
        let decision = decide(&view);
        let courses = claims.iter().zip(&decision.courses);
        let done = join_all(
            courses.map(|(claim, course)| self.claim(claim, course, (&view, &decision.counts), known)),
        );
        let (done, stepped) =
            tokio::join!(done, join_all(decision.steps.iter().map(|step| self.step(pool, step, known))));
        let written = match pool {
            Some(pool) => self.write_pool(pool, &decision.counts).await,
            None => Ok(()),
        };
        let mut due = decision.wake.map_or(times::POOLS_AGAIN, |wake| {
            Duration::try_from(wake.duration_since(now)).unwrap_or_default().min(times::POOLS_AGAIN)
        });
        for error in done.into_iter().chain(stepped).chain([written]).filter_map(Result::err) {
            if error.is_stale() {
                tracing::debug!(namespace, pool = name, %error, "out of date");
            } else {
                tracing::warn!(namespace, pool = name, %error, "a pool will be looked at again");
                due = due.min(times::POOLS_RETRY);
            }
        }
        due
    }

    /// Returns what was refused of an object a moment ago.
    fn refused<K: kube::Resource>(&self, object: &K) -> Option<Refusal> {
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        let generation = object.meta().generation.unwrap_or_default();
        let refusal = self.refusals().get(uid).cloned()?;
        (refusal.generation == generation && refusal.since.elapsed() < times::POOLS_REFUSED)
            .then_some(refusal)
    }

    /// Remembers what was refused of an object, or that it was admitted. Reports whether that is new.
    fn remember<K: kube::Resource>(&self, object: &K, refused: Option<String>) -> bool {
        let (uid, generation) = (object.meta().uid.clone(), object.meta().generation.unwrap_or_default());
        let mut all = self.refusals();
        all.retain(|_, refusal| refusal.since.elapsed() < 2 * times::POOLS_REFUSED);
        let uid = uid.unwrap_or_default();
        let Some(message) = refused else { return all.remove(&uid).is_some() };
        let same = all.get(&uid).is_some_and(|before| before.message == message);
        all.insert(uid, Refusal { generation, since: Instant::now(), message });
        !same
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<String, Refusal>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
