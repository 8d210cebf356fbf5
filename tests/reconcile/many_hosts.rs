//! Lives of many Docker hosts with many clusters, each from a seed: the role `controller` and an agent on each host over one
//! API. Users apply, delete and evict, hosts are drained, lose their power, are said to be gone and return, processes die at
//! any call, calls fail or lose their reply, and watches are late. At no time does a cluster run on two hosts, or on another
//! one than its status says; when nothing happens any more, all run where they are placed.
//!
//! `SEED=7` lives that one; `MINUTES=10 SEED=1` one after the other, from 1 on. `HOSTS=10 CLUSTERS=100` sets the size, and
//! `TELL=1` says what happens.

use std::{
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, store::Writer},
        watcher::Event,
    },
};
use localcluster_operator::{
    api::names,
    controller::{
        agent,
        hosts::{Placer, Writers},
        reconcile,
    },
    plan::placement::heartbeat,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    hosts::{Host, fill, is_selected, node},
    *,
};
use crate::support::{
    fakes::{
        api::FakeApi,
        faults::{FAULTS, Faults},
        process,
    },
    model::{
        check,
        lab::Chance,
        world::{BEGIN, World},
    },
};

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
/// How many lives a run has that is given no minutes.
const LIVES: u64 = 8;
/// Ticks until all must be well when nothing happens any more, and until all must be gone.
const QUIET: usize = 120;
/// Ticks after which an agent looks at what is settled again.
const RESYNC: usize = 10;

/// Size of a life.
#[derive(Clone, Copy, Debug)]
struct Size {
    hosts: usize,
    clusters: usize,
}

/// Something that happens. The controller has the number after the last host.
#[derive(Clone, Debug)]
enum Deed {
    Ticks(usize),
    /// A user applies a cluster.
    Put(usize, usize),
    Delete(usize),
    /// Its placeholder is deleted: by a drain, by preemption, by hand.
    Evict(usize),
    /// The kubelet rejects its placeholder, as after a restart of the host.
    Reject(usize),
    /// A host takes no new Pods, or does again; whether its Pods are evicted.
    Cordon(usize, bool),
    Uncordon(usize),
    /// A host loses its power, or has it again.
    Off(usize),
    On(usize),
    /// A user says that a host that is off is gone for good, by a taint or by the deletion of its Node.
    Gone(usize, bool),
    /// The agent of a host ends, or another process of it starts.
    Agent(usize, bool),
    /// After so many calls of a process, one goes wrong.
    Wrong(usize, usize, Fault),
    /// After so many calls, the process dies; whether the last one still takes effect.
    Death(usize, usize, bool),
    /// After so many calls of a process, this happens before the next one.
    Meanwhile(usize, usize, Box<Deed>),
    /// The watches of a process are late, or no longer.
    Lag(usize, bool),
}

/// Returns the life of a seed.
fn script(seed: u64, size: Size) -> Vec<Deed> {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed);
    chance.below(2);
    let puts = (0..size.clusters).map(|cluster| Deed::Put(cluster, 0));
    let mut deeds: Vec<Deed> = puts.collect();
    deeds.push(Deed::Ticks(1 + chance.below(12)));
    let many = 6 + chance.below(14 + size.clusters / 4);
    deeds.extend((0..many).map(|_| any(&mut chance, size)));
    deeds
}

fn any(chance: &mut Chance, size: Size) -> Deed {
    let (host, process) = (chance.below(size.hosts), chance.below(size.hosts + 1));
    match chance.below(32) {
        0..=7 => Deed::Ticks(1 + chance.below(6)),
        8..=10 => Deed::Off(host),
        11..=12 => Deed::On(host),
        13..=14 => Deed::Gone(host, chance.below(2) == 0),
        15..=16 => Deed::Cordon(host, chance.below(2) == 0),
        17 => Deed::Uncordon(host),
        18 => Deed::Agent(host, chance.below(2) == 0),
        19..=20 => Deed::Wrong(process, chance.below(60), FAULTS[chance.below(FAULTS.len())]),
        21..=22 => Deed::Death(process, chance.below(60), chance.below(2) == 0),
        23..=24 => Deed::Meanwhile(process, chance.below(40), Box::new(users(chance, size))),
        25 => Deed::Lag(process, chance.below(2) == 0),
        _ => users(chance, size),
    }
}

/// What users and Kubernetes do to a cluster, which may happen at any moment.
fn users(chance: &mut Chance, size: Size) -> Deed {
    let cluster = chance.below(size.clusters);
    match chance.below(8) {
        0..=1 => Deed::Put(cluster, chance.below(8)),
        2 => Deed::Delete(cluster),
        3 => Deed::Reject(cluster),
        _ => Deed::Evict(cluster),
    }
}

fn cluster(number: usize) -> String {
    path("localclusters", &format!("c{number}"))
}

fn placeholder(number: usize) -> String {
    format!("/api/v1/namespaces/default/pods/c{number}-host")
}

/// Applies a cluster with a spec of a pick. Its placement stays what it is: each third one is Sticky.
fn put(api: &FakeApi, number: usize, pick: usize) {
    let placement = [
        json!({}),
        json!({"data": "Ephemeral", "hostLoss": "Recreate"}),
        json!({"data": "Ephemeral", "hostLoss": "Wait"}),
    ][number % 3]
        .clone();
    let mut spec = json!({"servers": {"count": 1}, "placement": placement});
    match pick {
        1 => spec["state"] = json!("Stopped"),
        2 => spec["agents"] = json!({"count": 1}),
        3 => spec["servers"]["args"] = json!(["--disable=traefik"]),
        _ => {}
    }
    if api.get(&cluster(number)).is_none_or(|old| old["metadata"]["deletionTimestamp"].is_null()) {
        let metadata = json!({"name": format!("c{number}")});
        let object = json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": metadata, "spec": spec,
        });
        api.put(&cluster(number), object);
    }
}

/// What users and Kubernetes do to the objects of the API.
fn act(api: &FakeApi, deed: &Deed) {
    match deed {
        Deed::Put(number, pick) => put(api, *number, *pick),
        Deed::Delete(number) => api.delete(&cluster(*number)),
        Deed::Evict(number) => api.delete(&placeholder(*number)),
        Deed::Reject(number) => change(api, &placeholder(*number), |pod| {
            if !pod["spec"]["nodeName"].is_null() {
                pod["status"] = json!({"phase": "Failed", "reason": "NodeAffinity"});
            }
        }),
        other => unreachable!("{other:?} concerns more than the API"),
    }
}

fn change(api: &FakeApi, path: &str, change: impl FnOnce(&mut Value)) {
    let Some(mut object) = api.get(path) else { return };
    change(&mut object);
    api.store(path, object);
}

/// What happens at calls of a process.
#[derive(Default)]
struct Turns {
    due: Vec<(usize, Deed)>,
    dead: AtomicBool,
}

/// A process: what goes wrong with it, and what its watches have shown.
struct Process {
    faults: Arc<Faults>,
    turns: Arc<Mutex<Turns>>,
    lags: bool,
    /// Objects by path, as the watches have shown them last.
    seen: BTreeMap<String, Arc<Value>>,
}

impl Process {
    fn new(api: &FakeApi) -> Self {
        let (faults, turns) = (Arc::new(Faults::default()), Arc::new(Mutex::new(Turns::default())));
        let (at, api) = (turns.clone(), api.clone());
        faults.follow(Some(Box::new(move |side, _, writes| at.lock().unwrap().call(side, writes, &api))));
        Self { faults, turns, lags: false, seen: BTreeMap::new() }
    }

    fn is_dead(&self) -> bool {
        self.turns.lock().unwrap().dead.load(Ordering::Relaxed)
    }

    /// Applies to a store what has changed of a kind since the last time. Returns the paths.
    fn watch<K>(
        &mut self,
        writer: &mut Writer<K>,
        now: &BTreeMap<String, Arc<Value>>,
        kind: &str,
    ) -> Vec<String>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
    {
        let of_kind = format!("/{kind}/");
        let parsed = |object: &Value| -> K { serde_json::from_value(object.clone()).unwrap() };
        let mut changed = Vec::new();
        let gone: Vec<String> =
            self.seen.keys().filter(|p| p.contains(&of_kind) && !now.contains_key(*p)).cloned().collect();
        for path in gone {
            let object = self.seen.remove(&path).unwrap();
            writer.apply_watcher_event(&Event::Delete(parsed(&object)));
            changed.push(path);
        }
        for (path, object) in now {
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            if self.seen.get(path).is_none_or(|old| version(old) != version(object)) {
                writer.apply_watcher_event(&Event::Apply(parsed(object)));
                self.seen.insert(path.clone(), object.clone());
                changed.push(path.clone());
            }
        }
        changed
    }
}

impl Turns {
    fn call(&mut self, side: Side, writes: bool, api: &FakeApi) -> Option<Fault> {
        if self.dead.load(Ordering::Relaxed) {
            return Some(if side == Side::Kube { Fault::Refused } else { Fault::Timeout });
        }
        let mut fault = None;
        for (after, deed) in std::mem::take(&mut self.due) {
            match (after.checked_sub(1), deed) {
                (Some(after), deed) => self.due.push((after, deed)),
                (None, Deed::Wrong(.., wrong)) => fault = Some(wrong),
                (None, Deed::Death(.., lands)) => {
                    self.dead.store(true, Ordering::Relaxed);
                    fault = Some(if lands { Fault::Lost } else { Fault::Timeout });
                }
                (None, deed) => act(api, &deed),
            }
        }
        // A lost reply is no reply where nothing was done.
        fault.map(|fault| if fault == Fault::Lost && !writes { Fault::Timeout } else { fault })
    }
}

/// A host, its agent, and what it does while it is off.
struct Site {
    host: Host,
    agent: Process,
    /// What ran when its power was lost; `None` while it has power.
    off: Option<Vec<String>>,
    /// Versions of the clusters and of their placeholders that its agent has settled.
    settled: BTreeMap<String, [Value; 2]>,
}

struct Life {
    api: FakeApi,
    sites: Vec<Site>,
    placer: Placer,
    writers: Writers,
    controller: Process,
    /// Pods that a host takes.
    room: usize,
    ticks: usize,
    tells: bool,
    looks: usize,
}

/// Lives a script to its end; what must not be, if anything is.
fn live(seed: u64, size: Size) -> Result<usize, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let lived = panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut life = Life::new(size);
            life.whole(&script(seed, size)).await.map(|()| life.looks)
        })
    }));
    let text = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    lived.unwrap_or_else(|panic| Err(format!("a panic: {}", text(panic))))
}

impl Life {
    fn new(size: Size) -> Self {
        process::set_clock(BEGIN);
        let api = FakeApi::new(Arc::default(), Arc::default());
        for name in &NAMES[..size.hosts] {
            api.store(&format!("/api/v1/nodes/{name}"), node(name));
        }
        let sites = NAMES[..size.hosts].iter().map(|name| {
            let agent = Process::new(&api);
            let host = Host::with(name, &api, Arc::new(Mutex::new(World::default())), agent.faults.clone());
            Site { host, agent, off: None, settled: BTreeMap::new() }
        });
        let sites = sites.collect();
        let (placer, writers, controller) = Self::controller(&api);
        let room = size.clusters * 2 / size.hosts + 2;
        let tells = std::env::var_os("TELL").is_some();
        let mut life = Self { api, sites, placer, writers, controller, room, ticks: 0, tells, looks: 0 };
        (0..size.hosts).for_each(|host| life.begin(host));
        life
    }

    /// A new process of the role `controller`, which knows nothing.
    fn controller(api: &FakeApi) -> (Placer, Writers, Process) {
        let (process, mut writers) = (Process::new(api), Writers::default());
        let client = api.with_faults(process.faults.clone()).client();
        let placer = Placer::new(client, "operator:1".into(), &writers, process::now);
        fill(&mut writers.clusters, []);
        fill(&mut writers.registries, []);
        fill(&mut writers.pods, []);
        fill::<Node>(&mut writers.nodes, []);
        fill::<PodDisruptionBudget>(&mut writers.budgets, []);
        (placer, writers, process)
    }

    /// A new process of an agent, which knows nothing.
    fn begin(&mut self, number: usize) {
        let site = &mut self.sites[number];
        site.agent = Process::new(&self.api);
        let (name, world) = (site.host.name, site.host.world.clone());
        let kubelet = site.host.kubelet;
        site.host = Host::with(name, &self.api, world, site.agent.faults.clone());
        site.host.kubelet = kubelet;
        site.settled.clear();
        fill(&mut site.host.stores.clusters, []);
        fill::<Pod>(&mut site.host.pods, []);
        site.host.know(&self.api);
    }

    async fn whole(&mut self, script: &[Deed]) -> Result<(), String> {
        for deed in script {
            self.tell(|| format!("== {deed:?}"));
            self.happen(deed).await?;
        }
        self.calm();
        self.until("when nothing happens any more", Self::unsettled).await?;
        let living = self.api.all("localclusters");
        for object in &living {
            self.api.delete(&path("localclusters", object["metadata"]["name"].as_str().unwrap()));
        }
        self.until("after the deletion of everything", |life| life.left(&living)).await
    }

    async fn until(&mut self, when: &str, unmet: impl Fn(&Self) -> Option<String>) -> Result<(), String> {
        for _ in 0..QUIET {
            if unmet(self).is_none() {
                return Ok(());
            }
            self.tick().await?;
        }
        unmet(self).map_or(Ok(()), |unmet| Err(format!("{when}: {unmet}\n{}", self.told())))
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.tells {
            println!("{}", text());
        }
    }

    async fn happen(&mut self, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::Ticks(many) => {
                for _ in 0..*many {
                    self.tick().await?;
                }
            }
            Deed::Cordon(host, evicts) => {
                self.node(*host, |node| node["spec"]["unschedulable"] = json!(true));
                if *evicts {
                    self.delete_pods(*host);
                }
            }
            Deed::Uncordon(host) => self.node(*host, |node| node["spec"]["unschedulable"] = json!(false)),
            Deed::Off(host) => self.lose_power(*host),
            Deed::On(host) => self.boot(*host),
            Deed::Gone(host, deleted) if self.sites[*host].off.is_some() => self.give_up(*host, *deleted),
            Deed::Gone(..) => {}
            Deed::Agent(host, runs) => self.sites[*host].host.agent = *runs,
            Deed::Wrong(process, after, _)
            | Deed::Death(process, after, _)
            | Deed::Meanwhile(process, after, _) => {
                let deed = match deed {
                    Deed::Meanwhile(.., deed) => (**deed).clone(),
                    deed => deed.clone(),
                };
                self.process(*process).turns.lock().unwrap().due.push((*after, deed));
            }
            Deed::Lag(process, lags) => self.process(*process).lags = *lags,
            deed => act(&self.api, deed),
        }
        Ok(())
    }

    fn process(&mut self, number: usize) -> &mut Process {
        self.sites.get_mut(number).map_or(&mut self.controller, |site| &mut site.agent)
    }

    fn node(&self, host: usize, then: impl FnOnce(&mut Value)) {
        change(&self.api, &format!("/api/v1/nodes/{}", NAMES[host]), then);
    }

    fn delete_pods(&self, host: usize) {
        let pods = self.api.stored("pods");
        let bound = pods.iter().filter(|(_, pod)| pod["spec"]["nodeName"] == NAMES[host]);
        bound.for_each(|(path, _)| self.api.delete(path));
    }

    fn lose_power(&mut self, number: usize) {
        let site = &mut self.sites[number];
        if site.off.is_none() {
            site.off = Some(site.host.world.lock().unwrap().lose_power());
            site.host.kubelet = false;
            self.node(number, |node| node["status"]["conditions"][0]["status"] = json!("Unknown"));
        }
    }

    /// The kubelet registers the Node, and users take back what they said of it.
    fn boot(&mut self, number: usize) {
        let Some(ran) = self.sites[number].off.take() else { return };
        let at = format!("/api/v1/nodes/{}", NAMES[number]);
        let mut fresh = node(NAMES[number]);
        fresh["metadata"]["labels"].as_object_mut().unwrap().remove("localcluster.dev/docker");
        fresh["spec"]["unschedulable"] =
            self.api.get(&at).map_or(Value::Null, |old| old["spec"]["unschedulable"].clone());
        self.api.store(&at, fresh);
        let site = &mut self.sites[number];
        site.host.world.lock().unwrap().boot(ran);
        site.host.kubelet = true;
        self.begin(number);
    }

    fn give_up(&mut self, number: usize, deleted: bool) {
        if deleted {
            self.api.remove(&format!("/api/v1/nodes/{}", NAMES[number]));
        } else {
            let taint = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
            self.node(number, |node| node["spec"]["taints"] = taint);
        }
        // Kubernetes then deletes the Pods.
        self.delete_pods(number);
    }

    /// What is wrong is over, and nothing happens any more.
    fn calm(&mut self) {
        for number in 0..self.sites.len() {
            self.boot(number);
            self.node(number, |node| node["spec"]["unschedulable"] = json!(false));
            self.sites[number].host.agent = true;
        }
        for number in 0..=self.sites.len() {
            let process = self.process(number);
            process.lags = false;
            process.turns.lock().unwrap().due.clear();
        }
    }

    async fn tick(&mut self) -> Result<(), String> {
        self.ticks += 1;
        self.place().await;
        self.schedule();
        for number in 0..self.sites.len() {
            if self.sites[number].off.is_none() && self.sites[number].host.agent {
                self.work(number).await;
                self.check()?;
            }
        }
        self.place().await;
        for site in &self.sites {
            let mut world = site.host.world.lock().unwrap();
            world.tick();
            check::world(&world);
        }
        self.check()?;
        process::set_clock(self.sites[0].host.world.lock().unwrap().clock);
        tokio::time::advance(Duration::from_secs(TICK.unsigned_abs())).await;
        Ok(())
    }

    /// What the watches of the controller do, and a look.
    async fn place(&mut self) {
        if !self.controller.lags {
            let (writers, process) = (&mut self.writers, &mut self.controller);
            process.watch(&mut writers.clusters, &self.api.stored("localclusters"), "localclusters");
            process.watch(&mut writers.pods, &self.api.stored("pods"), "pods");
            process.watch(&mut writers.nodes, &self.api.stored("nodes"), "nodes");
        }
        self.placer.round().await;
        if self.controller.is_dead() {
            (self.placer, self.writers, self.controller) = Self::controller(&self.api);
        }
    }

    /// Binds Pods to the host with the fewest, and runs those that are bound.
    fn schedule(&self) {
        let nodes = self.api.stored("nodes");
        let pods = self.api.stored("pods");
        let mut used: BTreeMap<&str, usize> = BTreeMap::new();
        for pod in pods.values() {
            if let Some(name) = NAMES.iter().find(|name| pod["spec"]["nodeName"] == **name) {
                *used.entry(name).or_default() += 1;
            }
        }
        for (at, pod) in pods.iter().filter(|(_, pod)| pod["metadata"]["deletionTimestamp"].is_null()) {
            if pod["spec"]["nodeName"].is_null() {
                let fits = |site: &&Site| {
                    let node = nodes.get(&format!("/api/v1/nodes/{}", site.host.name));
                    let full = used.get(site.host.name).copied().unwrap_or_default() >= self.room;
                    site.host.kubelet && !full && node.is_some_and(|node| is_selected(node, pod))
                };
                let free = |site: &&Site| used.get(site.host.name).copied().unwrap_or_default();
                let found = self.sites.iter().filter(fits).min_by_key(free).map(|site| site.host.name);
                if let Some(name) = found {
                    *used.entry(name).or_default() += 1;
                }
                change(&self.api, at, |pod| match found {
                    Some(name) => pod["spec"]["nodeName"] = json!(name),
                    None => {
                        let why = json!({
                            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node",
                        });
                        pod["status"] = json!({"phase": "Pending", "conditions": [why]});
                    }
                });
            } else if pod["status"]["phase"] != "Failed"
                && self.sites.iter().any(|s| s.host.kubelet && pod["spec"]["nodeName"] == s.host.name)
            {
                change(&self.api, at, |pod| pod["status"] = json!({"phase": "Running"}));
            }
        }
    }

    /// What the watches of an agent do, and its reconciles: of what has changed, and of what it has not settled.
    async fn work(&mut self, number: usize) {
        let site = &mut self.sites[number];
        let name = site.host.name;
        if !site.agent.lags {
            let mut pods = self.api.stored("pods");
            pods.retain(|_, pod| pod["spec"]["nodeName"] == name);
            site.agent.watch(
                &mut site.host.stores.clusters,
                &self.api.stored("localclusters"),
                "localclusters",
            );
            site.agent.watch(&mut site.host.pods, &pods, "pods");
        }
        let again = self.ticks % RESYNC == number % RESYNC;
        let known: Vec<String> =
            site.agent.seen.keys().filter(|p| p.contains("/localclusters/")).cloned().collect();
        for at in known {
            let name = at.rsplit('/').next().unwrap();
            let pod = format!("/api/v1/namespaces/default/pods/{name}-host");
            let version = |at: &str| {
                let seen = site.agent.seen.get(at);
                seen.map_or(Value::Null, |object| object["metadata"]["resourceVersion"].clone())
            };
            let versions = [version(&at), version(&pod)];
            if !again && site.settled.get(&at) == Some(&versions) {
                continue;
            }
            let Some(guard) = site.host.ctx.clusters.get(&ObjectRef::new(name).within("default")) else {
                continue;
            };
            let object =
                guard.0.as_ref().unwrap_or_else(|error| panic!("cannot be decoded: {}", error.error));
            let done = reconcile::of(object, &site.host.ctx).await;
            let ready = site.agent.seen.get(&at).is_some_and(|o| condition(o, "Ready").0 == "True");
            let here = site.agent.seen.get(&at).is_some_and(|o| o["status"]["host"] == site.host.name);
            let owned = || site.host.world.lock().unwrap().owned_by(object.metadata.uid.as_deref().unwrap());
            if done.is_ok() && if here { ready } else { !owned() } {
                site.settled.insert(at, versions);
            } else {
                site.settled.remove(&at);
            }
        }
        agent::end(&site.host.ctx).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        if site.agent.is_dead() {
            return self.begin(number);
        }
        let beat = json!({heartbeat::HEARTBEAT: process::now().to_string()});
        self.node(number, |node| {
            node["metadata"]["labels"]["localcluster.dev/docker"] = json!("ready");
            node["metadata"]["annotations"] = beat;
        });
    }

    /// Nothing runs on two hosts, or on another one than the status of its object says.
    fn check(&mut self) -> Result<(), String> {
        self.looks += 1;
        let objects = self.api.all("localclusters");
        let host_of: BTreeMap<&str, &Value> = objects
            .iter()
            .map(|object| (object["metadata"]["uid"].as_str().unwrap(), &object["status"]["host"]))
            .collect();
        let mut runs: BTreeMap<String, &str> = BTreeMap::new();
        for site in self.sites.iter().filter(|site| site.off.is_none()) {
            let world = site.host.world.lock().unwrap();
            let up = world.containers.values().filter(|c| c.is_up());
            let up: BTreeSet<&String> = up.filter_map(|c| c.labels.get(names::UID)).collect();
            for uid in up {
                if let Some(other) = runs.insert(uid.clone(), site.host.name) {
                    return Err(format!("{uid} runs on {other} and on {}\n{}", site.host.name, self.told()));
                }
                if host_of.get(uid.as_str()).is_some_and(|host| **host != site.host.name) {
                    let said = host_of[uid.as_str()];
                    return Err(format!(
                        "{uid} runs on {}, and its status says {said}\n{}",
                        site.host.name,
                        self.told()
                    ));
                }
            }
        }
        Ok(())
    }

    /// A cluster that is not as it should be when nothing happens any more.
    fn unsettled(&self) -> Option<String> {
        self.api.all("localclusters").iter().find_map(|object| {
            let (name, uid) = (&object["metadata"]["name"], object["metadata"]["uid"].as_str().unwrap());
            if !object["metadata"]["deletionTimestamp"].is_null() {
                return Some(format!("{name} is not deleted"));
            }
            if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
                return Some(format!("{name} is not observed"));
            }
            let stops = object["spec"]["state"] == "Stopped";
            let (status, reason) = condition(object, if stops { "Stopped" } else { "Ready" });
            if status != "True" {
                return Some(format!("{name} {status} {reason}"));
            }
            let agents = object["spec"]["agents"]["count"].as_u64().unwrap_or(0);
            self.sites.iter().find_map(|site| {
                let world = site.host.world.lock().unwrap();
                let own =
                    world.containers.values().filter(|c| c.labels.get(names::UID).is_some_and(|u| u == uid));
                let (all, up) = (own.clone().count() as u64, own.filter(|c| c.is_up()).count() as u64);
                if object["status"]["host"] != site.host.name {
                    return world.owned_by(uid).then(|| format!("{name} is also on {}", site.host.name));
                }
                let right = if stops { up == 0 } else { (all, up) == (2 + agents, 2 + agents) };
                (!right).then(|| format!("{name} has {all} containers, of which {up} run"))
            })
        })
    }

    /// Whether something is left of these objects.
    fn left(&self, gone: &[Value]) -> Option<String> {
        let (objects, pods) = (self.api.all("localclusters").len(), self.api.all("pods").len());
        if objects + pods > 0 {
            return Some(format!("{objects} clusters and {pods} placeholders are left"));
        }
        self.sites.iter().find_map(|site| {
            let world = site.host.world.lock().unwrap();
            let mut uids = gone.iter().filter_map(|object| object["metadata"]["uid"].as_str());
            uids.find(|uid| world.owned_by(uid)).map(|uid| format!("{uid} is left on {}", site.host.name))
        })
    }

    /// The objects and the hosts, for whoever reads a failure.
    fn told(&self) -> String {
        let objects = self.api.all("localclusters");
        let lines = objects.iter().map(|o| {
            let told = ["Ready", "Scheduled", "HostReachable"].map(|type_| condition(o, type_));
            format!("{} {} {} {told:?}", o["metadata"]["name"], o["metadata"]["uid"], o["status"]["host"])
        });
        let pods = self.api.all("pods");
        let pods = pods.iter().map(|p| {
            let metadata = &p["metadata"];
            let (phase, node) = (&p["status"]["phase"], &p["spec"]["nodeName"]);
            format!("{} {phase} {node} {}", metadata["name"], metadata["deletionTimestamp"])
        });
        let sites = self.sites.iter().map(|site| {
            let (name, off, agent) = (site.host.name, site.off.is_some(), site.host.agent);
            let world = site.host.world.lock().unwrap();
            format!("{name} off: {off}, agent: {agent}\n{}", world.brief())
        });
        lines.chain(pods).chain(sites).collect::<Vec<_>>().join("\n")
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// Small lives, in which a host is often lost; see the beginning of this file.
#[test]
fn lives_on_many_hosts_go_well() {
    let set = |name: &str| number(name).map(|number| usize::try_from(number).unwrap());
    let hosts = set("HOSTS").unwrap_or(3);
    let size = Size { hosts, clusters: set("CLUSTERS").unwrap_or(2 * hosts) };
    let (seed, began) = (number("SEED"), Instant::now());
    let minutes = number("MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    let first = seed.unwrap_or(1);
    let last = if seed.is_some() { first } else { LIVES };
    let (mut lives, mut looks, mut failed) = (0, 0, Vec::new());
    for next in first.. {
        if minutes.map_or(next > last, |minutes| began.elapsed() > minutes) || failed.len() > 4 {
            break;
        }
        match live(next, size) {
            Ok(more) => looks += more,
            Err(why) => {
                println!("SEED={next} of {size:?}: {why}");
                failed.push(next);
            }
        }
        lives += 1;
    }
    println!("{lives} lives of {size:?}, {looks} looks, {:.1} s", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}
