//! A Docker Engine without processes: it keeps containers, networks and volumes as they were asked for, starts and ends
//! containers in no more than their state, and tells of it in events.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{authority::Authority, child::Child, counts::Counts, shapes};

/// What `docker start` takes on an idle host.
const START: Duration = Duration::from_millis(300);
/// The time from the start of a server to its API.
const BOOT: Duration = Duration::from_secs(5);
/// Containers that Docker starts at a time when it has been started itself.
const AT_ONCE: usize = 8;

/// Status of a refusal, and its message.
pub type Refusal = (u16, String);

pub struct Engine {
    state: Mutex<State>,
    pub events: broadcast::Sender<Bytes>,
    pub counts: Counts,
    authority: Authority,
    number: AtomicU64,
}

#[derive(Default)]
pub struct State {
    /// By ID.
    pub containers: BTreeMap<String, Container>,
    /// IDs by name.
    names: HashMap<String, String>,
    /// IDs by the address of what runs.
    addresses: HashMap<Ipv4Addr, String>,
    /// By ID.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub volumes: BTreeMap<String, Value>,
    /// Commands by ID.
    pub execs: HashMap<String, (String, Vec<String>)>,
    /// The APIs of created clusters, by the name of the server.
    children: HashMap<String, Arc<Child>>,
}

pub struct Network {
    pub id: String,
    pub created: Timestamp,
    /// The request.
    pub body: Value,
    pub subnet: Ipv4Net,
    range: Ipv4Net,
}

pub struct Container {
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    /// The request.
    pub body: Value,
    /// Exists while it runs.
    pub run: Option<Run>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub code: i64,
    /// By the name of the network.
    pub places: BTreeMap<String, Place>,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A process.
#[derive(Clone)]
pub struct Run {
    /// Ends with it, and so do its connections.
    pub ended: CancellationToken,
    since: Instant,
}

impl Run {
    /// Whether a server serves its API.
    fn has_booted(&self) -> bool {
        self.since.elapsed() >= BOOT
    }
}

#[derive(Clone, Default)]
pub struct Place {
    pub network: String,
    /// The request.
    pub settings: Value,
    pub ip: Option<Ipv4Addr>,
}

impl Container {
    /// Whether Docker starts it when Docker itself starts.
    fn restarts(&self) -> bool {
        self.body["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    }

    fn is_server(&self) -> bool {
        self.name.contains("-server-")
    }
}

fn missing<T>(what: &str) -> Result<T, Refusal> {
    Err((404, format!("No such object: {what}")))
}

impl State {
    fn id(&self, key: &str) -> Result<String, Refusal> {
        if self.containers.contains_key(key) {
            return Ok(key.to_owned());
        }
        self.names.get(key).cloned().map_or_else(|| missing(key), Ok)
    }

    pub fn container(&mut self, key: &str) -> Result<&mut Container, Refusal> {
        let id = self.id(key)?;
        self.containers.get_mut(&id).map_or_else(|| missing(key), Ok)
    }

    /// Returns a network by its ID or name.
    pub fn network(&self, key: &str) -> Result<&Network, Refusal> {
        let named = || self.networks.values().find(|network| network.body["Name"] == key);
        self.networks.get(key).or_else(named).map_or_else(|| missing(key), Ok)
    }

    /// Returns the ID and the name of a network.
    fn network_named(&self, key: &str) -> Result<(String, String), Refusal> {
        let network = self.network(key)?;
        Ok((network.id.clone(), network.body["Name"].as_str().unwrap_or_default().to_owned()))
    }

    /// Gives a running container its address on a network.
    fn attach(&mut self, id: &str, network: &str) {
        let Ok(place) = self.containers[id].places.get(network).cloned().map_or_else(|| missing(network), Ok)
        else {
            return;
        };
        let Some(net) = self.networks.get(&place.network) else { return };
        let pinned = place.settings["IPAMConfig"]["IPv4Address"].as_str().and_then(|ip| ip.parse().ok());
        let free = || net.range.hosts().skip(1).find(|ip| !self.addresses.contains_key(ip));
        let Some(ip) = pinned.or_else(free) else { return };
        self.addresses.insert(ip, id.to_owned());
        let container = self.containers.get_mut(id).expect("it was found");
        container.places.get_mut(network).expect("it was found").ip = Some(ip);
    }

    fn detach(&mut self, id: &str, network: &str) {
        let place = self.containers.get_mut(id).and_then(|c| c.places.get_mut(network));
        if let Some(ip) = place.and_then(|place| place.ip.take()) {
            self.addresses.remove(&ip);
        }
    }
}

impl Engine {
    pub fn new(authority: Authority) -> Arc<Self> {
        let engine = Self {
            state: Mutex::default(),
            events: broadcast::channel(65536).0,
            counts: Counts::default(),
            authority,
            number: AtomicU64::new(1),
        };
        engine.create_network(json!({"Name": "bridge"})).expect("it is the first");
        Arc::new(engine)
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns an ID as Docker makes them.
    pub fn fresh_id(&self) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        // As different as hashes are.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{mixed:016x}{number:048x}")
    }

    /// Tells of an event.
    fn tell(&self, kind: &str, action: &str, id: &str, attributes: &Value) {
        let now = Timestamp::now();
        let event = json!({
            "Type": kind, "Action": action, "Actor": {"ID": id, "Attributes": attributes}, "scope": "local",
            "time": now.as_second(), "timeNano": u64::try_from(now.as_nanosecond()).unwrap_or_default(),
        });
        // Nobody may listen.
        let _ = self.events.send(Bytes::from(format!("{event}\n")));
    }

    fn tell_of(&self, container: &Container, action: &str) {
        let mut attributes = container.body["Labels"].clone();
        attributes["image"] = container.body["Image"].clone();
        attributes["name"] = json!(container.name);
        self.tell("container", action, &container.id, &attributes);
    }

    pub fn create_network(&self, body: Value) -> Result<String, Refusal> {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let mut state = self.state();
        if state.network(&name).is_ok() {
            return Err((409, format!("network with name {name} already exists")));
        }
        let config = &body["IPAM"]["Config"][0];
        let subnet = config["Subnet"].as_str().and_then(|s| s.parse().ok());
        let subnet: Ipv4Net = subnet.unwrap_or_else(|| "172.17.0.0/16".parse().expect("a network"));
        let overlaps = |n: &Network| n.subnet.contains(&subnet) || subnet.contains(&n.subnet);
        if state.networks.values().any(overlaps) {
            return Err((403, "Pool overlaps with other one on this address space".into()));
        }
        let range = config["IPRange"].as_str().and_then(|s| s.parse().ok()).unwrap_or(subnet);
        let id = self.fresh_id();
        let network = Network { id: id.clone(), created: Timestamp::now(), body, subnet, range };
        state.networks.insert(id.clone(), network);
        drop(state);
        self.tell("network", "create", &id, &json!({"name": name, "type": "bridge"}));
        Ok(id)
    }

    pub fn remove_network(&self, key: &str) -> Result<(), Refusal> {
        let mut state = self.state();
        let (id, name) = state.network(key).map(|n| (n.id.clone(), n.body["Name"].clone()))?;
        let used = |c: &Container| c.run.is_some() && c.places.values().any(|place| place.network == id);
        if state.containers.values().any(used) {
            return Err((403, format!("network {key} has active endpoints")));
        }
        state.networks.remove(&id);
        drop(state);
        self.tell("network", "destroy", &id, &json!({"name": name, "type": "bridge"}));
        Ok(())
    }

    pub fn create_volume(&self, body: &Value) -> Value {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let mut state = self.state();
        if let Some(volume) = state.volumes.get(&name) {
            return volume.clone();
        }
        let volume = shapes::volume(&name, &body["Labels"]);
        state.volumes.insert(name.clone(), volume.clone());
        drop(state);
        self.tell("volume", "create", &name, &json!({"driver": "local"}));
        volume
    }

    pub fn remove_volume(&self, name: &str) -> Result<(), Refusal> {
        if self.state().volumes.remove(name).is_none() {
            return missing(name);
        }
        self.tell("volume", "destroy", name, &json!({"driver": "local"}));
        Ok(())
    }

    pub fn create_container(&self, name: &str, mut body: Value) -> Result<String, Refusal> {
        if self.state().names.contains_key(name) {
            return Err((409, format!("The container name \"/{name}\" is already in use")));
        }
        for mount in body["HostConfig"]["Mounts"].as_array().into_iter().flatten() {
            if mount["Type"] == "volume" {
                let labels = &mount["VolumeOptions"]["Labels"];
                self.create_volume(&json!({"Name": mount["Source"], "Labels": labels}));
            }
        }
        if name.ends_with("-serverlb") {
            self.authority.issue(name);
        }
        let endpoints = body["NetworkingConfig"]["EndpointsConfig"].take();
        let mut state = self.state();
        let mut places = BTreeMap::new();
        for (network, settings) in endpoints.as_object().into_iter().flatten() {
            let network = state.network(network)?;
            let (name, network) = (network.body["Name"].as_str().unwrap_or_default(), network.id.clone());
            places.insert(name.to_owned(), Place { network, settings: settings.clone(), ip: None });
        }
        let id = self.fresh_id();
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            created: Timestamp::now(),
            body,
            run: None,
            started: None,
            ended: None,
            code: 0,
            places,
            files: BTreeMap::from([("/etc/hosts".into(), b"127.0.0.1\tlocalhost\n".to_vec())]),
        };
        self.tell_of(&container, "create");
        state.names.insert(name.to_owned(), id.clone());
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    pub fn remove_container(&self, key: &str) -> Result<(), Refusal> {
        self.end(key, 137)?;
        let mut state = self.state();
        let id = state.id(key)?;
        if let Some(container) = state.containers.remove(&id) {
            state.names.remove(&container.name);
            self.tell_of(&container, "destroy");
        }
        Ok(())
    }

    pub fn connect(&self, network: &str, body: &Value) -> Result<(), Refusal> {
        let mut state = self.state();
        let (network, name) = state.network_named(network)?;
        let container = state.container(body["Container"].as_str().unwrap_or_default())?;
        let place = Place { network: network.clone(), settings: body["EndpointConfig"].clone(), ip: None };
        container.places.insert(name.clone(), place);
        let (id, runs) = (container.id.clone(), container.run.is_some());
        if runs {
            state.attach(&id, &name);
        }
        drop(state);
        self.tell("network", "connect", &network, &json!({"name": name, "container": id}));
        Ok(())
    }

    pub fn disconnect(&self, network: &str, body: &Value) -> Result<(), Refusal> {
        let mut state = self.state();
        let (network, name) = state.network_named(network)?;
        let id = state.id(body["Container"].as_str().unwrap_or_default())?;
        state.detach(&id, &name);
        state.container(&id)?.places.remove(&name);
        drop(state);
        self.tell("network", "disconnect", &network, &json!({"name": name, "container": id}));
        Ok(())
    }

    /// Starts a container. Reports whether it did not run.
    pub async fn start(&self, key: &str) -> Result<bool, Refusal> {
        if self.state().container(key)?.run.is_some() {
            return Ok(false);
        }
        let turn = self.counts.begin_start();
        sleep(START).await;
        drop(turn);
        let mut state = self.state();
        let container = state.container(key)?;
        if container.run.is_some() {
            return Ok(false);
        }
        container.run = Some(Run { ended: CancellationToken::new(), since: Instant::now() });
        container.started = Some(Timestamp::now());
        let (id, networks) = (container.id.clone(), container.places.keys().cloned().collect::<Vec<_>>());
        networks.iter().for_each(|network| state.attach(&id, network));
        self.tell_of(&state.containers[&id], "start");
        Ok(true)
    }

    /// Ends the process of a container. Reports whether it ran.
    pub fn end(&self, key: &str, code: i64) -> Result<bool, Refusal> {
        let mut state = self.state();
        let container = state.container(key)?;
        let Some(run) = container.run.take() else { return Ok(false) };
        run.ended.cancel();
        (container.ended, container.code) = (Some(Timestamp::now()), code);
        let (id, networks) = (container.id.clone(), container.places.keys().cloned().collect::<Vec<_>>());
        networks.iter().for_each(|network| state.detach(&id, network));
        self.tell_of(&state.containers[&id], "die");
        Ok(true)
    }

    /// Ends all containers at once.
    pub fn end_all(&self) {
        for id in self.running() {
            // One may be removed meanwhile.
            drop(self.end(&id, 137));
        }
    }

    /// Starts what Docker starts with itself.
    pub async fn start_all(self: &Arc<Self>, ran: Vec<String>) {
        let restarts = |id: &String| self.state().containers.get(id).is_some_and(Container::restarts);
        let ran: Vec<String> = ran.into_iter().filter(restarts).collect();
        let starts = ran.into_iter().map(|id| {
            let engine = self.clone();
            async move { drop(engine.start(&id).await) }
        });
        futures::StreamExt::for_each_concurrent(futures::stream::iter(starts), AT_ONCE, |start| start).await;
    }

    /// The IDs of all containers that run.
    pub fn running(&self) -> Vec<String> {
        let state = self.state();
        state.containers.values().filter(|c| c.run.is_some()).map(|c| c.id.clone()).collect()
    }

    /// Returns the content of a file; `None` if it does not exist.
    pub fn read(&self, key: &str, path: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let mut state = self.state();
        let container = state.container(key)?;
        let written = container.is_server() && path == localcluster_operator::k3s::KUBECONFIG_FILE;
        if written && container.run.as_ref().is_some_and(Run::has_booted) {
            let kubeconfig = self.authority.kubeconfig.clone().into_bytes();
            container.files.insert(path.to_owned(), kubeconfig);
        }
        Ok(container.files.get(path).cloned())
    }

    /// Returns the API behind the address of a load balancer, and the processes that it ends with; `None` while nothing is
    /// served there.
    pub fn child(&self, ip: Ipv4Addr) -> Option<(Arc<Child>, [Run; 2])> {
        let mut state = self.state();
        let id = state.addresses.get(&ip)?.clone();
        let balancer = state.containers.get(&id)?;
        let server = format!("{}-server-0", balancer.name.strip_suffix("-serverlb")?);
        let balancer = balancer.run.clone()?;
        let container = state.container(&server).ok()?;
        let run = container.run.clone().filter(Run::has_booted)?;
        let ip = container.places.values().find_map(|place| place.ip)?;
        let started = container.started?;
        let image = container.body["Image"].as_str().unwrap_or_default().to_owned();
        let child = state.children.entry(server.clone()).or_insert_with(|| Arc::new(Child::new(&server)));
        child.is_at(ip, started, &image);
        Some((child.clone(), [balancer, run]))
    }

    /// Whether something that runs has an address.
    pub fn runs_at(&self, ip: Ipv4Addr) -> bool {
        self.state().addresses.contains_key(&ip)
    }
}
