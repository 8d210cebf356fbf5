//! The state of a process of the operator over the fakes.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::PartialObjectMeta,
    runtime::{
        events::{Recorder, Reporter},
        reflector::store::Writer,
    },
};
use localcluster_operator::{
    controller::{
        context::{ClusterGuard, Context, Memory, RegistryGuard},
        files::Files,
        host_images::HostImages,
        host_limits::Limits,
        interruptions::Interruptions,
        known::Known,
        logs::Logs,
        measures::Measures,
        policies::{Policies, PolicyGuard},
        preload::Preloads,
        pulls::Pulls,
        quorum::Quorum,
        resolvers::Resolvers,
        triggers::{Triggered, Triggers},
        turns::Turns,
        workers::Workers,
    },
    docker::{engine::Engine, tunnels::Tunnels},
    metrics::Metrics,
    plan::{host_limits::HostLimits, settings::Settings},
};
use tokio_util::sync::CancellationToken;

use super::{api::FakeApi, engine::Fake};
use crate::support::model::{lab, world::BEGIN};

thread_local! {
    /// The time of the test that runs on this thread.
    static CLOCK: Cell<i64> = const { Cell::new(BEGIN) };
}

/// Returns the time of the test that runs on this thread.
pub fn now() -> Timestamp {
    Timestamp::from_second(CLOCK.get()).unwrap()
}

/// Sets the time of the test that runs on this thread.
pub fn set_clock(seconds: i64) {
    CLOCK.set(seconds);
}

/// What the watches write to.
#[derive(Default)]
pub struct Stores {
    pub clusters: Writer<ClusterGuard>,
    pub registries: Writer<RegistryGuard>,
    pub policies: Writer<PolicyGuard>,
    pub namespaces: Writer<PartialObjectMeta<Namespace>>,
}

/// A new process, with an empty memory, that looks at Docker through `engine`.
pub fn start(
    fake: &Arc<Fake>,
    engine: Arc<dyn Engine>,
    api: &FakeApi,
    settings: Settings,
) -> (Context, Stores, Triggered) {
    let (triggers, triggered) = Triggers::new();
    let stores = Stores::default();
    let (client, metrics) = (api.client(), Metrics::new());
    let tunnels = Tunnels::new(engine.clone(), "/proc/self/exe".into());
    let preloads = Preloads::new(engine.clone(), Duration::from_secs(300));
    let ctx = Context {
        recorder: Recorder::new(client.clone(), Reporter::from("test")),
        client,
        tunnels: tunnels.clone(),
        connector: fake.clone(),
        probe: fake.clone(),
        hosting: None,
        settings,
        manager: lab::MANAGER.into(),
        pulls: Pulls::new(engine.clone(), metrics.clone()),
        turns: Turns::default(),
        workers: Workers::new(CancellationToken::new()),
        limits: Limits::new(engine.clone(), Duration::MAX)
            .observed(HostLimits { inotify_instances: 8192, free: 50 }),
        resolvers: Resolvers::new(engine.clone(), None),
        quorum: Quorum::new(engine.clone()),
        host_images: HostImages::new(engine.clone(), tunnels, preloads.clone()),
        preloads,
        logs: Logs::new(engine.clone()),
        measures: Measures::new(engine.clone()),
        files: Files::new(engine.clone(), Duration::from_secs(300)),
        engine,
        triggers,
        interruptions: Interruptions::default(),
        clusters: stores.clusters.as_reader(),
        registries: stores.registries.as_reader(),
        policies: Policies::new(stores.policies.as_reader(), stores.namespaces.as_reader()),
        known: Known::default(),
        memory: Memory::default(),
        metrics,
        subnets: Mutex::default(),
        health: Arc::default(),
        resync: Duration::from_secs(300),
        now,
    };
    (ctx, stores, triggered)
}
