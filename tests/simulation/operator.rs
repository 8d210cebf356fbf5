//! A process of the operator: what its watches and Docker's events trigger, and its reconciles, when they are due.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use kube::{
    core::PartialObjectMeta,
    runtime::{
        controller::Action as Next,
        reflector::{ObjectRef, store::Writer},
        watcher::Event,
    },
};
use localcluster_operator::{
    api::local_cluster::ClusterState,
    controller::{
        context::{ClusterGuard, Context, RegistryGuard},
        policies::PolicyGuard,
        policy_status::Followed,
        pools::{ClaimGuard, PoolGuard, Pools, Writers},
        reconcile, referrers,
        triggers::{self, Triggered},
    },
    docker::remembered::Remembered,
};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    desk::{self, Desk},
    shot::Shot,
};
use crate::support::{
    fakes::{
        api::FakeApi,
        engine::Fake,
        faults::{Faults, let_go_on},
        process::{self, Stores},
    },
    model::lab::{self, Chance},
};

/// Kinds that are watched, by number.
pub const KINDS: [&str; 6] =
    ["localclusters", "registries", "hostpolicies", "secrets", "localclusterpools", "localclusterclaims"];
/// How many of them concern lives without pools.
const ALWAYS: usize = 4;

/// An object: its kind's number, namespace and name.
type Key = (usize, String, String);

/// Reconciles that go on.
type Running = Pin<Box<dyn Future<Output = (Vec<(Key, Option<Next>)>, Option<Duration>)>>>;

/// The controller of pools, in a life that has some.
struct Keeper {
    pools: Arc<Pools>,
    writers: Writers,
    due: Instant,
}

pub struct Operator {
    pub ctx: Arc<Context>,
    pub faults: Arc<Faults>,
    pub dead: Arc<AtomicBool>,
    /// Kinds whose watch is late.
    pub lagging: [bool; KINDS.len()],
    desk: Arc<Mutex<Desk>>,
    api: FakeApi,
    stores: Stores,
    triggered: Triggered,
    /// What the watches have seen last, by path.
    seen: [BTreeMap<String, Arc<Value>>; KINDS.len()],
    mark: (u64, usize),
    due: BTreeMap<Key, Instant>,
    keeper: Option<Keeper>,
    followed: Followed,
    /// What there was when [`Followed`] had nothing to do; it has nothing to do as long as that is all.
    idle: Option<(u64, usize)>,
    events: JoinHandle<()>,
    /// The containers and networks that Docker has told of.
    told: Arc<Shot>,
    /// Reconciles of which a call to Docker is on its way.
    pub late: Option<Running>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Operator {
    /// A new process, with an empty memory, that knows all objects.
    pub fn start(desk: &Arc<Mutex<Desk>>, chance: u64) -> Self {
        let (faults, dead) = (Arc::new(Faults::default()), Arc::new(AtomicBool::new(false)));
        faults.follow(Some(desk::script(desk, &dead)));
        faults.interleave(Chance(chance));
        let (world, api) = {
            let desk = desk.lock().unwrap();
            (desk.world.clone(), desk.api.with_faults(faults.clone()))
        };
        let told = desk.lock().unwrap().shot();
        let fake = Arc::new(Fake { world, faults: faults.clone() });
        let engine = Arc::new(Remembered::new((*fake).clone()));
        let (ctx, stores, triggered) = process::start(&fake, engine, &api, lab::settings());
        let ctx = Arc::new(ctx);
        let keeper = desk.lock().unwrap().ledger.is_some().then(|| {
            let (client, writers) = (api.client(), Writers::default());
            let pools = Pools::new(client, ctx.clusters.clone(), &writers, ctx.metrics.clone(), process::now);
            Keeper { pools: Arc::new(pools), writers, due: Instant::now() }
        });
        let mut operator = Self {
            keeper,
            followed: Followed::new(&ctx),
            idle: None,
            events: tokio::spawn(triggers::docker_events(ctx.clone())),
            ctx,
            faults,
            dead,
            lagging: [false; KINDS.len()],
            desk: desk.clone(),
            api,
            stores,
            triggered,
            seen: Default::default(),
            mark: (0, 0),
            due: BTreeMap::new(),
            told,
            late: None,
        };
        operator.list_namespaces();
        operator.watch();
        operator.followed = Followed::new(&operator.ctx);
        operator
    }

    fn list_namespaces(&mut self) {
        let writer = &mut self.stores.namespaces;
        writer.apply_watcher_event(&Event::Init);
        for object in self.api.all("namespaces") {
            if object["kind"] == "Namespace" {
                writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
            }
        }
        writer.apply_watcher_event(&Event::InitDone);
    }

    /// What the watches do.
    fn watch(&mut self) {
        let mark = (self.api.mark(), self.lagging);
        if mark.0 == self.mark {
            return;
        }
        // A watch that is late has something left to see.
        self.mark = if self.lagging.contains(&true) { (0, 0) } else { mark.0 };
        let kinds = if self.keeper.is_some() { KINDS.len() } else { ALWAYS };
        for kind in 0..kinds {
            if !self.lagging[kind] {
                self.watch_kind(kind);
            }
        }
    }

    fn watch_kind(&mut self, kind: usize) {
        let now = self.api.stored(KINDS[kind]);
        let before = std::mem::take(&mut self.seen[kind]);
        for (_, object) in before.iter().filter(|(path, _)| !now.contains_key(*path)) {
            self.changed(kind, object, None);
            self.due.remove(&key(kind, object));
        }
        for (path, object) in &now {
            let old = before.get(path);
            if old.is_none_or(|old| !Arc::ptr_eq(old, object) && old != object) {
                self.changed(kind, object, Some(old.map(|old| &**old)));
            }
        }
        self.seen[kind] = now;
    }

    /// An object was deleted, or is another one than it `was`.
    fn changed(&mut self, kind: usize, object: &Value, was: Option<Option<&Value>>) {
        let relevant = was.is_some_and(|was| was.is_none_or(|was| is_relevant(was, object)));
        if let Some(keeper) = self.keeper.as_mut().filter(|_| kind == 0 || kind >= ALWAYS) {
            keeper.due = Instant::now();
            match KINDS[kind] {
                "localclusterpools" => {
                    drop(apply::<PoolGuard>(&mut keeper.writers.pools, object, was.is_some()));
                    return;
                }
                "localclusterclaims" => {
                    drop(apply::<ClaimGuard>(&mut keeper.writers.claims, object, was.is_some()));
                    return;
                }
                _ => {}
            }
        }
        match KINDS[kind] {
            "localclusters" => {
                let guard: ClusterGuard = apply(&mut self.stores.clusters, object, was.is_some());
                let deleted = guard.0.as_ref().is_ok_and(|c| c.metadata.deletion_timestamp.is_some());
                if relevant || deleted || was.is_none() {
                    triggers::registries_of(&self.ctx, &guard);
                }
            }
            "registries" => {
                let guard: RegistryGuard = apply(&mut self.stores.registries, object, was.is_some());
                triggers::clusters_of(&self.ctx, &guard);
            }
            "hostpolicies" => drop(apply::<PolicyGuard>(&mut self.stores.policies, object, was.is_some())),
            _ => {
                let secret = PartialObjectMeta::deserialize(object).unwrap();
                let now = Instant::now();
                for user in referrers::users_of_secret(&self.ctx, &secret) {
                    self.due.insert((0, user.namespace.unwrap_or_default(), user.name), now);
                }
                for user in referrers::registries_of_secret(&self.ctx, &secret) {
                    self.due.insert((1, user.namespace.unwrap_or_default(), user.name), now);
                }
                return;
            }
        }
        if kind < 2 && relevant {
            self.due.insert(key(kind, object), Instant::now());
        }
    }

    /// Docker tells of what has changed; whether it does.
    pub fn tell(&mut self, silent: bool) {
        let now = self.desk.lock().unwrap().shot();
        let before = std::mem::replace(&mut self.told, now);
        if !silent && !Arc::ptr_eq(&before, &self.told) {
            super::events::between(&before, &self.told, |event| self.faults.tell(&event));
        }
    }

    /// What is due now, until nothing is, or it is dead.
    pub async fn work(&mut self, silent: bool) {
        for _ in 0..12 {
            self.watch();
            self.tell(silent);
            let_go_on(30).await;
            self.follow().await;
            self.take_triggered();
            let now = Instant::now();
            let due: Vec<Key> =
                self.due.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
            let tends = self.keeper.as_ref().is_some_and(|keeper| keeper.due <= now);
            if (due.is_empty() && !tends) || self.is_dead() {
                return;
            }
            for key in &due {
                self.due.remove(key);
            }
            self.reconcile(due).await;
            let_go_on(30).await;
        }
    }

    /// Follows the HostPolicies, which looks at all objects.
    async fn follow(&mut self) {
        if self.idle == Some(self.mark) && !self.lagging.contains(&true) {
            return;
        }
        let calls = |operator: &Self| operator.desk.lock().unwrap().calls;
        let before = calls(self);
        self.followed.follow(&self.ctx).await;
        self.idle = (calls(self) == before).then_some(self.mark);
    }

    /// The rules of the HostPolicy, as this process knows it.
    pub fn policy(&self) -> Option<Value> {
        self.seen[2].values().next().map(|policy| policy["spec"].clone())
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn take_triggered(&mut self) {
        let now = Instant::now();
        while let Ok(ObjectRef { name, namespace, .. }) = self.triggered.clusters.try_recv() {
            self.due.insert((0, namespace.unwrap_or_default(), name), now);
        }
        while let Ok(ObjectRef { name, namespace, .. }) = self.triggered.registries.try_recv() {
            self.due.insert((1, namespace.unwrap_or_default(), name), now);
        }
    }

    /// Reconciles these objects, as far as they are known, at the same time, and looks at the pools if that is due.
    async fn reconcile(&mut self, keys: Vec<Key>) {
        self.know();
        let all = keys.into_iter().map(|key| one(self.ctx.clone(), key));
        let (all, pools) = (join_all(all.collect::<Vec<_>>()), self.pools_due());
        let round = async move { Some(pools?.round().await) };
        let mut running: Running = Box::pin(async move { tokio::join!(all, round) });
        let (done, next_round) = tokio::select! {
            biased;
            done = &mut running => done,
            () = self.faults.late.notified() => {
                self.late = Some(running);
                return;
            }
        };
        let now = Instant::now();
        if let Some((keeper, next)) = self.keeper.as_mut().zip(next_round) {
            keeper.due = keeper.due.min(now + next);
        }
        for (key, next) in done {
            if let Some(wait) = next.as_ref().and_then(delay) {
                let due = self.due.entry(key).or_insert(now + wait);
                *due = (*due).min(now + wait);
            }
        }
    }

    /// Returns the controller of pools if it is to look at them now.
    fn pools_due(&mut self) -> Option<Arc<Pools>> {
        let now = Instant::now();
        let keeper = self.keeper.as_mut().filter(|keeper| keeper.due <= now)?;
        keeper.due = now + Duration::from_secs(3600);
        Some(keeper.pools.clone())
    }

    /// Has the desk know the clusters as this process does.
    fn know(&self) {
        let mut desk = self.desk.lock().unwrap();
        desk.disturbed = false;
        desk.ends = self
            .ctx
            .clusters
            .state()
            .iter()
            .filter_map(|guard| Some((guard, guard.0.as_ref().ok()?)))
            .map(|(_, c)| {
                let metadata = &c.metadata;
                let key = format!(
                    "{}/{}",
                    metadata.namespace.as_deref().unwrap_or_default(),
                    metadata.name.as_deref().unwrap_or_default()
                );
                (key, metadata.deletion_timestamp.is_some() || c.spec.state == ClusterState::Stopped)
            })
            .collect();
    }

    /// What was on its way lands.
    pub async fn land(&mut self) {
        if let Some(running) = self.late.take() {
            self.faults.lands.notify_one();
            running.await;
        }
    }
}

async fn one(ctx: Arc<Context>, key: Key) -> (Key, Option<Next>) {
    macro_rules! reconciled {
        ($store:expr) => {{
            let guard = $store.get(&ObjectRef::new(&key.2).within(&key.1));
            match guard.as_ref().map(|guard| (guard, guard.0.as_ref())) {
                None => None,
                Some((_, Err(error))) => panic!("cannot be decoded: {}", error.error),
                Some((guard, Ok(object))) => Some(match reconcile::of(object, &ctx).await {
                    Ok(next) => next,
                    Err(error) => reconcile::failed(&**guard, &error, &ctx),
                }),
            }
        }};
    }
    let next = if key.0 == 0 { reconciled!(ctx.clusters) } else { reconciled!(ctx.registries) };
    (key, next)
}

fn key(kind: usize, object: &Value) -> Key {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    (kind, text("namespace"), text("name"))
}

fn apply<K>(writer: &mut Writer<K>, object: &Value, exists: bool) -> K
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
{
    let parsed = K::deserialize(object).unwrap();
    let event = if exists { Event::Apply(parsed.clone()) } else { Event::Delete(parsed.clone()) };
    writer.apply_watcher_event(&event);
    parsed
}

/// Reports whether the controllers follow a change: not that of a status.
fn is_relevant(old: &Value, new: &Value) -> bool {
    let keys = ["generation", "finalizers", "annotations", "deletionTimestamp"];
    keys.iter().any(|key| old["metadata"][*key] != new["metadata"][*key])
}

/// Returns the delay of an action, which kube shows only so.
fn delay(next: &Next) -> Option<Duration> {
    let text = format!("{next:?}");
    let text = text.split_once("Some(")?.1.split(')').next()?.to_owned();
    let unit = text.find(|c: char| c.is_alphabetic() || c == 'µ')?;
    let number: f64 = text[..unit].parse().ok()?;
    let scale = match &text[unit..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        _ => 1e-9,
    };
    let seconds = number * scale;
    // What is shortened at random is not, so that a life can be repeated.
    Some(Duration::from_secs_f64(if seconds > 240.0 { 300.0 } else { seconds }))
}
