//! The operator's reconciles over the fakes, driven round by round.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::PartialObjectMeta,
    runtime::{reflector::store::Writer, watcher::Event},
};
use localcluster_operator::{
    api::{LocalCluster, Registry},
    controller::{
        context::{ClusterGuard, Context, RegistryGuard},
        policies::PolicyGuard,
        reconcile,
        triggers::Triggered,
    },
    plan::settings::Settings,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    api::{FakeApi, path},
    engine::Fake,
    faults::Faults,
    process::{self, Stores},
};
use crate::support::model::world::{BEGIN, TICK, World};

pub struct Rig {
    pub world: Arc<Mutex<World>>,
    pub faults: Arc<Faults>,
    pub api: FakeApi,
    pub ctx: Arc<Context>,
    clusters: Writer<ClusterGuard>,
    registries: Writer<RegistryGuard>,
    policies: Writer<PolicyGuard>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    triggered: Triggered,
}

impl Rig {
    pub fn new(settings: Settings) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let faults = Arc::new(Faults::default());
        let api = FakeApi::new(world.clone(), faults.clone());
        process::set_clock(BEGIN);
        Self::over(world, faults, api, settings)
    }

    /// A new process of the operator over copies of everything.
    pub fn copy(&self) -> Self {
        let copy = Self::new(self.ctx.settings.clone());
        copy.world(|w| w.clone_from(&self.world.lock().unwrap()));
        copy.api.restore(self.api.snapshot());
        process::set_clock(copy.world(|w| w.clock));
        copy
    }

    /// A new process of the operator, with an empty memory.
    pub fn restart(self) -> Self {
        Self::over(self.world, self.faults, self.api, self.ctx.settings.clone())
    }

    fn over(world: Arc<Mutex<World>>, faults: Arc<Faults>, api: FakeApi, settings: Settings) -> Self {
        let fake = Arc::new(Fake { world: world.clone(), faults: faults.clone() });
        let (ctx, stores, triggered) = process::start(&fake, fake.clone(), &api, settings);
        let Stores { clusters, registries, policies, namespaces } = stores;
        Self { world, faults, api, ctx: Arc::new(ctx), clusters, registries, policies, namespaces, triggered }
    }

    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.world.lock().unwrap())
    }

    /// What the watches do.
    fn sync(&mut self) {
        let parsed: Vec<ClusterGuard> =
            self.api.all("localclusters").into_iter().map(|o| serde_json::from_value(o).unwrap()).collect();
        self.clusters.apply_watcher_event(&Event::Init);
        parsed.into_iter().for_each(|o| self.clusters.apply_watcher_event(&Event::InitApply(o)));
        self.clusters.apply_watcher_event(&Event::InitDone);
        let parsed: Vec<RegistryGuard> =
            self.api.all("registries").into_iter().map(|o| serde_json::from_value(o).unwrap()).collect();
        self.registries.apply_watcher_event(&Event::Init);
        parsed.into_iter().for_each(|o| self.registries.apply_watcher_event(&Event::InitApply(o)));
        self.registries.apply_watcher_event(&Event::InitDone);
        self.policies.apply_watcher_event(&Event::Init);
        for object in self.api.all("hostpolicies") {
            self.policies.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
        }
        self.policies.apply_watcher_event(&Event::InitDone);
        self.namespaces.apply_watcher_event(&Event::Init);
        // Every object of these tests is in one of these.
        for name in ["default", "shared"] {
            let stored = self.api.get(&format!("/api/v1/namespaces/{name}"));
            let namespace = stored.unwrap_or_else(|| json!({"metadata": {"name": name}}));
            self.namespaces
                .apply_watcher_event(&Event::InitApply(serde_json::from_value(namespace).unwrap()));
        }
        self.namespaces.apply_watcher_event(&Event::InitDone);
    }

    /// One reconcile of every object. Failures are tried again in the next round.
    pub async fn reconcile(&mut self) {
        for object in self.api.all("registries") {
            self.sync();
            // One that cannot be decoded is not reconciled.
            let Ok(object) = serde_json::from_value::<Registry>(object) else { continue };
            drop(reconcile::of(&object, &self.ctx).await);
        }
        for object in self.api.all("localclusters") {
            self.sync();
            let object: LocalCluster = serde_json::from_value(object).unwrap();
            drop(reconcile::of(&object, &self.ctx).await);
        }
        // Pulls and Events are tasks of their own.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Begins a reconcile of every cluster as the controller does, each in a task of its own.
    pub fn begin_all(&mut self) -> JoinSet<()> {
        self.sync();
        let known = &self.ctx.known;
        for kind in [&known.clusters, &known.registries, &known.policies, &known.namespaces] {
            kind.set(()).ok();
        }
        let begin = |guard| {
            let ctx = self.ctx.clone();
            async move { drop(reconcile::reconcile::<LocalCluster>(guard, ctx).await) }
        };
        self.ctx.clusters.state().into_iter().map(begin).collect()
    }

    /// One reconcile of every cluster, all at the same time.
    pub async fn reconcile_together(&mut self) {
        self.sync();
        let clusters: Vec<LocalCluster> = self
            .api
            .all("localclusters")
            .into_iter()
            .map(|object| serde_json::from_value(object).unwrap())
            .collect();
        drop(join_all(clusters.iter().map(|cluster| reconcile::of(cluster, &self.ctx))).await);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Rounds until all objects are Ready or gone, once what was changed just now has been seen.
    pub async fn settle_after_a_round(&mut self, most: usize) {
        self.round().await;
        self.settle(most).await;
    }

    pub async fn round(&mut self) {
        self.reconcile().await;
        self.pass().await;
    }

    /// Lets time go by.
    pub async fn pass(&mut self) {
        self.world(World::tick);
        process::set_clock(self.world(|w| w.clock));
        tokio::time::advance(Duration::from_secs(TICK.unsigned_abs())).await;
    }

    /// Looks at a cluster, as it was before `meanwhile`.
    pub async fn look_at_then(&mut self, name: &str, meanwhile: impl FnOnce(&Self)) {
        let read: LocalCluster =
            serde_json::from_value(self.api.get(&path("localclusters", name)).unwrap()).unwrap();
        meanwhile(self);
        drop(reconcile::of(&read, &self.ctx).await);
    }

    /// Rounds until all objects are Ready or gone.
    pub async fn settle(&mut self, most: usize) {
        for _ in 0..most {
            self.round().await;
            if self.settled() {
                return;
            }
        }
        let told: Vec<_> = self.objects().iter().map(|o| o["status"]["conditions"].to_string()).collect();
        panic!("not settled: {told:#?}\n{}", self.world(|w| w.brief()));
    }

    /// The clusters that something asked to have looked at since the last call.
    pub fn triggered(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.triggered.clusters.try_recv().ok()).map(|object| object.name).collect()
    }

    /// The notes of all Events of this reason.
    pub fn events(&self, reason: &str) -> Vec<String> {
        let events = self.api.all("events").into_iter().filter(|e| e["reason"] == reason);
        events.map(|e| e["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn objects(&self) -> Vec<Value> {
        self.api.all("registries").into_iter().chain(self.api.all("localclusters")).collect()
    }

    pub fn settled(&self) -> bool {
        self.objects().iter().all(|o| {
            o["metadata"]["deletionTimestamp"].is_null()
                && o["status"]["observedGeneration"] == o["metadata"]["generation"]
                && condition(o, "Ready").0 == "True"
        })
    }

    /// Status and reason of a condition of the cluster `dev`.
    pub fn told(&self, type_: &str) -> (String, String) {
        self.api.get(&path("localclusters", "dev")).map(|o| condition(&o, type_)).unwrap_or_default()
    }
}

pub fn condition(object: &Value, type_: &str) -> (String, String) {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let found = conditions.find(|c| c["type"] == type_);
    found.map(|c| (text(&c["status"]), text(&c["reason"]))).unwrap_or_default()
}

/// The message of a condition of the cluster `dev`.
pub fn message(rig: &Rig, type_: &str) -> String {
    let object = rig.api.get(&path("localclusters", "dev")).unwrap();
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == type_).unwrap()["message"].as_str().unwrap_or_default().to_owned()
}
