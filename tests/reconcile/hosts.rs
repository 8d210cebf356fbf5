//! Several Docker hosts: the role `controller` and two agents over one API, each agent with a Docker of its own. The test is
//! scheduler, kubelet and Pod garbage collector.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    core::PartialObjectMeta,
    runtime::{reflector::store::Writer, watcher},
};
use localcluster_operator::{
    api::{LocalCluster, Registry},
    controller::{
        agent,
        context::Context,
        hosts::{Placer, Writers},
        place::Hosting,
        reconcile,
    },
    plan::placement::heartbeat,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::support::{
    fakes::{
        api::FakeApi,
        engine::Fake,
        faults::Faults,
        process::{self, Stores},
    },
    model::world::{BEGIN, World},
};

/// Address of all hosts.
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A Docker host with its agent.
pub struct Host {
    pub name: &'static str,
    pub world: Arc<Mutex<World>>,
    pub ctx: Arc<Context>,
    pub stores: Stores,
    pub pods: Writer<Pod>,
    /// Whether its agent runs.
    pub agent: bool,
    /// Whether its kubelet runs.
    pub kubelet: bool,
}

struct Hosts {
    api: FakeApi,
    placer: Placer,
    writers: Writers,
    hosts: Vec<Host>,
}

pub fn fill<K>(writer: &mut Writer<K>, objects: impl IntoIterator<Item = Value>)
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        let object = serde_json::from_value(object).unwrap();
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

/// A Node that is ready.
pub fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "localcluster.dev/docker": "ready"}},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": IP}],
        },
    })
}

/// Whether a Node has all labels that a Pod selects.
pub fn is_selected(node: &Value, pod: &Value) -> bool {
    let mut selector = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    node["spec"]["unschedulable"] != true
        && selector.all(|(key, value)| node["metadata"]["labels"][key] == *value)
}

fn placeholder() -> String {
    "/api/v1/namespaces/default/pods/dev-host".into()
}

impl Host {
    fn new(name: &'static str, api: &FakeApi) -> Self {
        Self::over(name, api, Arc::new(Mutex::new(World::default())))
    }

    /// A new process of the agent, with an empty memory.
    fn over(name: &'static str, api: &FakeApi, world: Arc<Mutex<World>>) -> Self {
        Self::with(name, api, world, Arc::new(Faults::default()))
    }

    /// A new process of the agent, whose calls go wrong in this way.
    pub fn with(name: &'static str, api: &FakeApi, world: Arc<Mutex<World>>, faults: Arc<Faults>) -> Self {
        let fake = Arc::new(Fake { world: world.clone(), faults: faults.clone() });
        let api = api.with_faults(faults);
        let (mut ctx, stores, _) = process::start(&fake, fake.clone(), &api, lab::settings());
        let pods = Writer::default();
        ctx.hosting = Some(Hosting { node: name.into(), ip: Some(IP), pods: pods.as_reader() });
        Self { name, world, ctx: Arc::new(ctx), stores, pods, agent: true, kubelet: true }
    }

    /// What the watches of the agent do.
    fn sync(&mut self, api: &FakeApi) {
        fill(&mut self.stores.clusters, api.all("localclusters"));
        fill(&mut self.pods, api.all("pods").into_iter().filter(|pod| pod["spec"]["nodeName"] == self.name));
        self.know(api);
    }

    /// What its watches know from the beginning on.
    pub fn know(&mut self, api: &FakeApi) {
        fill(&mut self.stores.registries, api.all("registries"));
        fill(&mut self.stores.policies, api.all("hostpolicies"));
        self.stores.namespaces.apply_watcher_event(&watcher::Event::Init);
        let namespace: PartialObjectMeta<_> =
            serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        self.stores.namespaces.apply_watcher_event(&watcher::Event::InitApply(namespace));
        self.stores.namespaces.apply_watcher_event(&watcher::Event::InitDone);
        for known in [
            &self.ctx.known.clusters,
            &self.ctx.known.registries,
            &self.ctx.known.policies,
            &self.ctx.known.namespaces,
            &self.ctx.known.pods,
        ] {
            known.set(()).ok();
        }
    }

    async fn reconcile(&mut self, api: &FakeApi) {
        for object in api.all("registries") {
            self.sync(api);
            let object: Registry = serde_json::from_value(object).unwrap();
            drop(reconcile::of(&object, &self.ctx).await);
        }
        for object in api.all("localclusters") {
            self.sync(api);
            let object: LocalCluster = serde_json::from_value(object).unwrap();
            drop(reconcile::of(&object, &self.ctx).await);
        }
        self.sync(api);
        agent::end(&self.ctx).await;
    }

    /// The containers that run, and all volumes.
    fn has(&self) -> (usize, usize) {
        let world = self.world.lock().unwrap();
        (world.containers.values().filter(|c| c.is_up()).count(), world.volumes.len())
    }
}

impl Hosts {
    fn new() -> Self {
        process::set_clock(BEGIN);
        let api = FakeApi::new(Arc::default(), Arc::default());
        let client = api.with_faults(Arc::default()).client();
        let writers = Writers::default();
        let placer = Placer::new(client, "operator:1".into(), &writers, process::now);
        let hosts: Vec<Host> = ["a", "b"].map(|name| Host::new(name, &api)).into();
        let all = Self { api, placer, writers, hosts };
        all.hosts.iter().for_each(|host| all.put_node(host.name));
        all
    }

    fn put_node(&self, name: &str) {
        self.api.store(&format!("/api/v1/nodes/{name}"), node(name));
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let Some(mut object) = self.api.get(path) else { return };
        change(&mut object);
        self.api.store(path, object);
    }

    fn node(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.change(&format!("/api/v1/nodes/{name}"), change);
    }

    fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.name == name).unwrap()
    }

    fn has(&self, name: &str) -> (usize, usize) {
        self.hosts.iter().find(|host| host.name == name).unwrap().has()
    }

    fn put(&self, placement: Value) {
        let object = json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": {"name": "dev"},
            "spec": {"servers": {"count": 1}, "placement": placement},
        });
        self.api.put(&path("localclusters", "dev"), object);
    }

    /// Binds Pods, and runs those that are bound.
    fn scheduler_and_kubelets(&self) {
        for (path, pod) in self.api.stored("pods") {
            let node = &pod["spec"]["nodeName"];
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            if node.is_null() {
                let fits = |host: &&Host| {
                    let node = self.api.get(&format!("/api/v1/nodes/{}", host.name));
                    host.kubelet && node.is_some_and(|node| is_selected(&node, &pod))
                };
                let found = self.hosts.iter().find(fits).map(|host| host.name);
                self.change(&path, |pod| match found {
                    Some(name) => pod["spec"]["nodeName"] = json!(name),
                    None => {
                        pod["status"] = json!({"phase": "Pending", "conditions": [{
                            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                            "message": "0/2 nodes are available"
                        }]});
                    }
                });
            } else if self.hosts.iter().any(|host| *node == host.name && host.kubelet) {
                self.change(&path, |pod| pod["status"] = json!({"phase": "Running"}));
            }
        }
    }

    /// What the watches of the controller do, and a look.
    async fn place(&mut self) {
        fill(&mut self.writers.clusters, self.api.all("localclusters"));
        fill(&mut self.writers.registries, self.api.all("registries"));
        fill(&mut self.writers.pods, self.api.all("pods"));
        fill::<Node>(&mut self.writers.nodes, self.api.all("nodes"));
        fill::<PodDisruptionBudget>(&mut self.writers.budgets, self.api.all("poddisruptionbudgets"));
        self.placer.round().await;
    }

    async fn round(&mut self) {
        self.place().await;
        self.scheduler_and_kubelets();
        let api = self.api.clone();
        let mut beating = Vec::new();
        for host in self.hosts.iter_mut().filter(|host| host.agent) {
            host.reconcile(&api).await;
            beating.push(host.name);
        }
        for name in beating {
            self.node(name, |node| {
                node["metadata"]["labels"]["localcluster.dev/docker"] = json!("ready");
                node["metadata"]["annotations"] = json!({heartbeat::HEARTBEAT: process::now().to_string()});
            });
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let running: Vec<_> =
            self.hosts.iter().filter(|h| h.agent && h.has().0 > 0).map(|h| h.name).collect();
        assert!(running.len() < 2, "it exists twice: {running:?}");
        for host in &self.hosts {
            host.world.lock().unwrap().tick();
        }
        process::set_clock(self.hosts[0].world.lock().unwrap().clock);
        tokio::time::advance(Duration::from_secs(TICK.unsigned_abs())).await;
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..60 {
            self.round().await;
            if holds(self) {
                return;
            }
        }
        panic!("not {what}: {}\n{:#?}", self.cluster(), self.api.all("pods"));
    }

    fn cluster(&self) -> Value {
        self.api.get(&path("localclusters", "dev")).unwrap_or_default()
    }

    fn told(&self, type_: &str) -> (String, String) {
        condition(&self.cluster(), type_)
    }

    fn is(&self, type_: &str, reason: &str) -> bool {
        self.told(type_).1 == reason
    }

    fn runs_on(&self, name: &str) -> bool {
        let cluster = self.cluster();
        cluster["status"]["host"] == name && self.told("Ready").0 == "True" && self.has(name).0 > 0
    }

    /// A cluster that runs on host a.
    async fn running(placement: Value) -> Self {
        let mut all = Self::new();
        all.put(placement);
        all.until("running", |all| all.runs_on("a")).await;
        all
    }

    fn cordon(&self, name: &str, on: bool) {
        self.node(name, |node| node["spec"]["unschedulable"] = json!(on));
    }

    /// The machine loses power, and its Node is not ready; the controller has noticed that its agent is silent.
    fn lose(&mut self, name: &str) {
        let host = self.host(name);
        (host.agent, host.kubelet) = (false, false);
        self.node(name, |node| {
            node["metadata"]["labels"].as_object_mut().unwrap().remove("localcluster.dev/docker");
            node["status"]["conditions"][0]["status"] = json!("Unknown");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_runs_on_the_host_of_its_placeholder() {
    let mut all = Hosts::running(json!({})).await;
    let status = all.cluster()["status"].clone();
    assert_eq!((&status["hostIP"], &status["placeholder"]), (&json!("192.0.2.7"), &json!("dev-host")));
    assert_eq!(all.told("Scheduled"), ("True".into(), "Scheduled".into()));
    assert_eq!(all.told("HostReachable"), ("True".into(), "Reachable".into()));
    assert_eq!(all.has("b"), (0, 0), "the other agent makes nothing");
    // Other machines reach it.
    let endpoint = status["endpoint"].as_str().unwrap();
    assert!(endpoint.starts_with("https://192.0.2.7:"), "{endpoint}");
    // When all is settled, nobody writes.
    for _ in 0..3 {
        all.round().await;
    }
    let all_but_nodes = |all: &Hosts| -> Vec<Value> {
        all.api
            .all("")
            .into_iter()
            .filter(|object| object["metadata"]["name"] != "a" && object["metadata"]["name"] != "b")
            .collect()
    };
    let before = all_but_nodes(&all);
    all.round().await;
    assert_eq!(all_but_nodes(&all), before);
}

#[tokio::test(start_paused = true)]
async fn a_drain_stops_it_in_order_and_an_uncordon_starts_it_with_its_data() {
    let mut all = Hosts::running(json!({})).await;
    let (_, volumes) = all.has("a");
    let before = all.cluster()["status"]["apiPort"].clone();
    all.cordon("a", true);
    let first = all.api.get(&placeholder()).unwrap();
    all.api.delete(&placeholder());
    all.until("waiting for its host", |all| all.is("Scheduled", "HostCordoned")).await;
    assert_eq!((all.has("a"), all.has("b")), ((0, volumes), (0, 0)));
    assert_eq!(all.told("Ready"), ("False".into(), "Evicted".into()));
    assert_eq!(all.told("Stopped"), ("True".into(), "Evicted".into()));
    assert_ne!(all.api.get(&placeholder()).unwrap()["metadata"]["uid"], first["metadata"]["uid"]);
    all.cordon("a", false);
    all.until("running again", |all| all.runs_on("a")).await;
    assert_eq!(all.cluster()["status"]["apiPort"], before);
    assert_eq!(all.has("a").1, volumes);
}

#[tokio::test(start_paused = true)]
async fn a_placeholder_stays_until_its_agent_has_stopped_the_cluster() {
    let mut all = Hosts::running(json!({"data": "Ephemeral"})).await;
    all.host("a").agent = false;
    all.cordon("a", true);
    all.api.delete(&placeholder());
    for _ in 0..10 {
        all.round().await;
    }
    assert!(all.has("a").0 > 0, "it runs on");
    assert!(all.api.get(&placeholder()).is_some());
    assert_eq!((all.cluster()["status"]["host"].clone(), all.has("b").0), (json!("a"), 0));
    // Another process of the agent, which knows nothing.
    let api = all.api.clone();
    let world = all.host("a").world.clone();
    *all.host("a") = Host::over("a", &api, world);
    all.until("elsewhere", |all| all.runs_on("b")).await;
    all.until("cleared", |all| all.has("a") == (0, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_in_the_middle_of_a_stop_goes_on_after_its_restart() {
    let mut all = Hosts::running(json!({})).await;
    all.cordon("a", true);
    all.api.delete(&placeholder());
    let up = all.has("a").0;
    let api = all.api.clone();
    // A call of each number fails, and the process ends there.
    for call in 0..4 {
        let host = all.host("a");
        let world = host.world.clone();
        let faults = Arc::new(Faults::default());
        faults.plan(Side::Docker, call, Fault::Refused);
        *host = Host::over("a", &api.with_faults(faults), world);
        let api = api.clone();
        all.host("a").reconcile(&api).await;
    }
    assert!(all.has("a").0 <= up);
    let world = all.host("a").world.clone();
    *all.host("a") = Host::over("a", &api, world);
    all.until("stopped", |all| all.has("a").0 == 0 && all.is("Scheduled", "HostCordoned")).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_host_keeps_what_is_sticky() {
    let mut all = Hosts::running(json!({})).await;
    all.lose("a");
    all.until("lost", |all| all.is("Ready", "HostLost")).await;
    assert_eq!(all.told("HostReachable"), ("False".into(), "HostLost".into()));
    all.api.remove("/api/v1/nodes/a");
    all.api.delete(&placeholder());
    all.until("gone", |all| all.is("Ready", "HostGone")).await;
    assert_eq!((all.told("Stalled").0.as_str(), all.has("b")), ("True", (0, 0)));
    assert!(all.api.get(&placeholder()).is_none());
    // It returns.
    all.put_node("a");
    let host = all.host("a");
    (host.agent, host.kubelet) = (true, true);
    all.until("running again", |all| all.runs_on("a")).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_ephemeral_is_made_anew_when_a_user_says_that_its_host_is_off() {
    let mut all = Hosts::running(json!({"data": "Ephemeral", "hostLoss": "Recreate"})).await;
    all.lose("a");
    let ran = all.host("a").world.lock().unwrap().lose_power();
    for _ in 0..10 {
        all.round().await;
    }
    assert_eq!(
        (all.told("Ready").1.as_str(), all.has("b")),
        ("HostLost", (0, 0)),
        "nobody says that it is off"
    );
    all.node("a", |node| {
        node["spec"]["taints"] = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
    });
    all.until("elsewhere", |all| all.runs_on("b")).await;
    // It returns with the old copy, which its Docker does not start.
    assert!(!ran.is_empty());
    all.host("a").world.lock().unwrap().boot(ran);
    assert_eq!(all.has("a").0, 0);
    assert!(all.has("a").1 > 0, "its volumes are there");
    all.put_node("a");
    let api = all.api.clone();
    let host = all.host("a");
    (host.agent, host.kubelet) = (true, true);
    for _ in 0..5 {
        host.reconcile(&api).await;
    }
    assert_eq!(all.has("a"), (0, 0));
    all.until("as it was", |all| all.runs_on("b")).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_changes_nothing_that_runs() {
    let mut all = Hosts::running(json!({})).await;
    all.host("a").agent = false;
    all.until("noticed", |all| all.is("HostReachable", "AgentDown")).await;
    assert_eq!(all.told("Ready").0, "True");
    assert!(
        all.has("a").0 > 0 && all.api.get(&placeholder()).unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_cluster_leaves_nothing_on_its_host_and_no_placeholder() {
    let mut all = Hosts::running(json!({})).await;
    all.api.delete(&path("localclusters", "dev"));
    all.until("gone", |all| all.cluster().is_null() && all.api.all("pods").is_empty()).await;
    assert_eq!(all.has("a"), (0, 0));
    // One that no host takes is gone at once, and so is one whose host is gone for good.
    all.put(json!({"nodeSelector": {"disk": "fast"}}));
    all.until("unschedulable", |all| all.is("Ready", "Unschedulable")).await;
    all.api.delete(&path("localclusters", "dev"));
    all.until("gone", |all| all.cluster().is_null() && all.api.all("pods").is_empty()).await;
    all.put(json!({}));
    all.until("running", |all| all.runs_on("a")).await;
    all.lose("a");
    all.api.remove("/api/v1/nodes/a");
    all.api.delete(&path("localclusters", "dev"));
    all.api.delete(&placeholder());
    all.until("gone", |all| all.cluster().is_null() && all.api.all("pods").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_is_placed_stopped_and_started_too() {
    let mut all = Hosts::new();
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "images"}, "spec": {},
    });
    all.api.put(&path("registries", "images"), object);
    let told =
        |all: &Hosts, type_: &str| condition(&all.api.get(&path("registries", "images")).unwrap(), type_);
    all.until("running", |all| told(all, "Ready").0 == "True" && all.has("a").0 == 1).await;
    assert_eq!(all.api.get(&path("registries", "images")).unwrap()["status"]["dockerHost"], "a");
    all.cordon("a", true);
    all.api.delete("/api/v1/namespaces/default/pods/images.registry");
    all.until("stopped", |all| told(all, "Scheduled").1 == "HostCordoned" && all.has("a").0 == 0).await;
    assert_eq!(told(&all, "Ready"), ("False".into(), "Evicted".into()));
    all.cordon("a", false);
    all.until("running again", |all| told(all, "Ready").0 == "True" && all.has("a").0 == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_judges_the_address_that_the_api_gets() {
    let mut all = Hosts::new();
    let policy = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "HostPolicy", "metadata": {"name": "loopback"},
        "spec": {"namespaceSelector": {}, "ports": {"hostIPs": ["127.0.0.1"]}},
    });
    all.api.put_cluster("/apis/localcluster.dev/v1alpha1/hostpolicies/loopback", policy);
    all.put(json!({}));
    all.until("refused", |all| all.is("Ready", "PolicyViolation")).await;
    let conditions = all.cluster()["status"]["conditions"].to_string();
    assert!(conditions.contains("spec.api with hostIP 192.0.2.7"), "{conditions}");
    assert_eq!(all.has("a").0, 0);
    all.change(&path("localclusters", "dev"), |object| {
        object["spec"]["api"] = json!({"hostIP": "127.0.0.1"});
        object["metadata"]["generation"] = json!(2);
    });
    all.until("running", |all| all.runs_on("a")).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_and_blocked_drains() {
    let mut all = Hosts::new();
    all.put(json!({"drain": "Block"}));
    all.until("running", |all| all.runs_on("a")).await;
    assert_eq!(all.api.all("poddisruptionbudgets")[0]["spec"]["minAvailable"], 1);
    all.put(json!({}));
    all.until("without a budget", |all| all.api.all("poddisruptionbudgets").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn on_a_single_host_the_placement_is_not_heeded_which_is_told() {
    let mut rig = Rig::new(lab::settings());
    put_registry(&rig);
    put(&rig, 0, |spec| {
        spec["placement"] = json!({"nodeSelector": {"disk": "fast"}, "affinity": {"any": 1}})
    });
    rig.settle(ENOUGH).await;
    assert_eq!(rig.told("Scheduled"), ("False".into(), "PlacementIgnored".into()));
    assert!(message(&rig, "Scheduled").contains("--role=all"));
    assert!(rig.api.all("pods").is_empty());
    put(&rig, 0, |_| {});
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(rig.told("Scheduled"), (String::new(), String::new()));
}
