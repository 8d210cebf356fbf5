//! Calls of chance to both engines, and the comparison of what they say and show.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::Ipv4Addr,
    process::Command,
    sync::{Arc, Mutex},
};

use localcluster_operator::{
    api::local_cluster::NodeRole,
    docker::{
        archive,
        engine::{Attachment, Container, Engine, Result, State, Update},
        spec::{
            ContainerSpec, EndpointSettings, FileChange, FileSpec, NetworkSpec, PortBinding, RestartPolicy,
            Role, VolumeSpec,
        },
    },
};

use crate::{
    live,
    support::{
        fakes::{engine::Fake, faults::Faults},
        model::{lab::Chance, world::World},
    },
};

/// A call, or what somebody does at the command line. Containers, networks and volumes have numbers.
#[derive(Clone, Debug)]
pub enum Call {
    CreateNetwork(u8),
    RemoveNetwork(u8),
    /// The network, the container, and the last number of its address, unless it is 0.
    Connect(u8, u8, u8),
    Disconnect(u8, u8),
    CreateVolume(u8),
    RemoveVolume(u8),
    /// With what it has: bits for a network (0), another one (1), an address (2), a port (3), a volume (4, 5), a restart
    /// policy (6), an alias (7).
    CreateContainer(u8, u8),
    Start(u8),
    Stop(u8),
    Unpause(u8),
    Signal(u8),
    Update(u8, bool),
    RemoveContainer(u8),
    Upload(u8, bool),
    Pause(u8),
    Kill(u8),
}

const CONTAINERS: u8 = 3;
const NETWORKS: u8 = 2;
const FILES: [&str; 2] = ["/etc/here", "/data/there"];

/// Returns the calls of a seed.
pub fn calls(seed: u64) -> Vec<Call> {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    chance.below(2);
    let mut byte = |below: usize| u8::try_from(chance.below(below)).unwrap();
    let mut calls = vec![Call::CreateNetwork(0), Call::CreateContainer(0, byte(256) | 1)];
    for _ in 0..14 {
        let (c, n) = (byte(CONTAINERS.into()), byte(NETWORKS.into()));
        calls.push(match byte(22) {
            0 => Call::CreateNetwork(n),
            1 => Call::RemoveNetwork(n),
            2..=3 => Call::Connect(n, c, [0, 0, 5, 6][usize::from(byte(4))]),
            4 => Call::Disconnect(n, c),
            5 => Call::CreateVolume(n),
            6 => Call::RemoveVolume(n),
            7..=9 => Call::CreateContainer(c, byte(256)),
            10..=13 => Call::Start(c),
            14 => Call::Stop(c),
            15 => Call::Unpause(c),
            16 => Call::Signal(c),
            17 => Call::Update(c, byte(2) == 0),
            18 => Call::RemoveContainer(c),
            19 => Call::Upload(c, byte(2) == 0),
            20 => Call::Pause(c),
            _ => Call::Kill(c),
        });
    }
    calls
}

/// Somebody at the command line, who does this to a container. Reports whether it was done.
type Outside<'a> = Box<dyn Fn(&str, &str) -> bool + 'a>;

/// One of the two engines, with what was created there.
struct Side<'a> {
    engine: &'a dyn Engine,
    live: &'a live::World,
    /// The last IDs by number, also of what is gone.
    containers: BTreeMap<u8, String>,
    networks: BTreeMap<u8, String>,
    /// Networks that were removed.
    gone: Vec<String>,
    third: u8,
    port: u16,
    outside: Outside<'a>,
}

/// Makes the calls to both; how they differ, if they do.
pub async fn run(seed: u64, calls: &[Call]) -> Option<String> {
    let live = live::World::new(&format!("model{seed}"));
    let world = Arc::new(Mutex::new(World::default()));
    world.lock().unwrap().images.insert(live::image());
    let version = live.engine.info().await.unwrap().version;
    let major: u8 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap();
    world.lock().unwrap().duplicates = major < 25;
    world.lock().unwrap().failed_starts_disconnect = major >= 29;
    let fake = Fake { world: world.clone(), faults: Arc::new(Faults::default()) };
    let (guard, port) = live::listener();
    drop(guard);
    let third = free_subnet(&live).await;
    let mut real = Side::new(
        (&live.engine, &live),
        (third, port),
        Box::new(|what: &str, id: &str| {
            Command::new("docker").args([what, id]).output().is_ok_and(|out| out.status.success())
        }),
    );
    let mut model = Side::new(
        (&fake, &live),
        (third, port),
        Box::new(|what: &str, id: &str| {
            let mut world = world.lock().unwrap();
            let state = world.id(id).map(|id| world.containers[&id].state);
            match (what, state) {
                ("pause", Some(State::Running)) => world.pause(id).is_ok(),
                ("kill", Some(State::Running | State::Paused)) => world.end(id, 137).is_ok(),
                _ => false,
            }
        }),
    );
    for (index, call) in calls.iter().enumerate() {
        let said = (real.make(call).await, model.make(call).await);
        let shown = (real.shown().await, model.shown().await);
        if said.0 != said.1 || shown.0 != shown.1 {
            return Some(differ(&calls[..=index], &said, &shown));
        }
    }
    None
}

fn differ(calls: &[Call], said: &(String, String), shown: &(Vec<String>, Vec<String>)) -> String {
    let only = |a: &[String], b: &[String]| a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>();
    let (docker, model) = (only(&shown.0, &shown.1), only(&shown.1, &shown.0));
    format!(
        "{calls:?}\n  Docker says {}\n   model says {}\n  Docker shows {docker:#?}\n   model shows {model:#?}",
        said.0, said.1
    )
}

/// Returns the third number of two subnets that no network of the engine has.
async fn free_subnet(live: &live::World) -> u8 {
    let networks = live.engine.networks().await.unwrap();
    let taken = |third: u8| {
        networks.iter().any(|n| n.subnets.iter().any(|s| s.contains(&Ipv4Addr::new(10, 213, third, 0))))
    };
    let start = std::process::id() as u8;
    (0..=u8::MAX)
        .map(|i| start.wrapping_add(i) & 0xFE)
        .find(|t| !taken(*t) && !taken(t + 1))
        .expect("a free subnet")
}

/// An answer without its words.
fn said<T: Debug>(result: Result<T>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => {
            let text = format!("{error:?}");
            text.split('(').next().unwrap_or_default().to_owned()
        }
    }
}

impl<'a> Side<'a> {
    fn new(
        (engine, live): (&'a dyn Engine, &'a live::World),
        (third, port): (u8, u16),
        outside: Outside<'a>,
    ) -> Self {
        let (containers, networks, gone) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { engine, live, containers, networks, gone, third, port, outside }
    }

    fn container(&self, number: u8) -> String {
        self.containers.get(&number).cloned().unwrap_or_else(|| self.live.name("none"))
    }

    fn network(&self, number: u8) -> String {
        self.networks.get(&number).cloned().unwrap_or_else(|| "0".repeat(64))
    }

    fn network_spec(&self, number: u8) -> NetworkSpec {
        self.live.network_spec(&format!("net{number}"), self.third + number)
    }

    fn volume(&self, number: u8) -> String {
        self.live.name(&format!("volume{number}"))
    }

    fn endpoint(&self, network: u8, last: u8) -> EndpointSettings {
        let ip = (last != 0).then(|| Ipv4Addr::new(10, 213, self.third + network, last));
        EndpointSettings { ip, ..EndpointSettings::default() }
    }

    fn spec(&self, number: u8, with: u8) -> ContainerSpec {
        let has = |bit: u8| with & 1 << bit != 0;
        let network = u8::from(has(1));
        let mut spec = ContainerSpec::bare(
            self.live.name(&format!("c{number}")),
            Role::Node(NodeRole::Server),
            live::image(),
        );
        spec.command = ["/bin/sh", "-c", "while :; do sleep 1000; done"].map(String::from).into();
        spec.labels = self.live.labels();
        spec.restart_policy = if has(6) { RestartPolicy::UnlessStopped } else { RestartPolicy::No };
        if has(0) && has(2) {
            spec.endpoint = self.endpoint(network, 5);
        }
        if has(0) && has(7) {
            spec.endpoint.aliases = vec!["other".into()];
        }
        if has(3) {
            let (host_ip, protocol) = ("127.0.0.1".into(), "tcp".into());
            spec.ports = vec![PortBinding { host_ip, host_port: self.port, port: 80, protocol }];
        }
        for volume in [0, 1] {
            if has(4 + volume) {
                spec.mounts.insert(["/data", "/more"][usize::from(volume)].into(), self.volume(volume));
            }
        }
        spec.volume_labels = BTreeMap::from([("made".into(), "with".into())]);
        spec.volume_labels.extend(self.live.labels());
        spec
    }

    async fn make(&mut self, call: &Call) -> String {
        let engine = self.engine;
        match *call {
            Call::CreateNetwork(n) => {
                let made = engine.create_network(&self.network_spec(n)).await;
                if let Ok(id) = &made {
                    self.networks.insert(n, id.clone());
                }
                said(made)
            }
            Call::RemoveNetwork(n) => {
                let removed = engine.remove_network(&self.network(n)).await;
                if removed.is_ok() {
                    self.gone.push(self.network(n));
                }
                said(removed)
            }
            Call::Connect(n, c, last) => {
                // Docker keeps a second place for the ID of one that is gone: which of the two it shows is chance.
                let id = Some(self.network(n)).filter(|id| !self.gone.contains(id));
                let id = id.unwrap_or_else(|| "0".repeat(64));
                said(engine.connect(&id, &self.container(c), &self.endpoint(n, last)).await)
            }
            Call::Disconnect(n, c) => said(engine.disconnect(&self.network(n), &self.container(c)).await),
            Call::CreateVolume(v) => {
                let spec = VolumeSpec { name: self.volume(v), labels: self.live.labels() };
                said(engine.create_volume(&spec).await)
            }
            Call::RemoveVolume(v) => said(engine.remove_volume(&self.volume(v)).await),
            Call::CreateContainer(c, with) => {
                let network = (with & 1 != 0).then(|| self.network(u8::from(with & 2 != 0)));
                let made = engine.create_container(&self.spec(c, with), network.as_deref()).await;
                if let Ok(id) = &made {
                    self.containers.insert(c, id.clone());
                }
                said(made)
            }
            Call::Start(c) => said(engine.start(&self.container(c)).await),
            Call::Stop(c) => said(engine.stop(&self.container(c), 0).await),
            Call::Unpause(c) => said(engine.unpause(&self.container(c)).await),
            Call::Signal(c) => said(engine.signal(&self.container(c), "SIGCONT").await),
            Call::Update(c, on) => {
                let policy = if on { RestartPolicy::UnlessStopped } else { RestartPolicy::No };
                let change = Update { restart_policy: Some(policy) };
                said(engine.update(&self.container(c), &change).await)
            }
            Call::RemoveContainer(c) => said(engine.remove_container(&self.container(c)).await),
            Call::Upload(c, into_volume) => {
                let path = FILES[usize::from(into_volume)].to_owned();
                let file = FileSpec { path, mode: 0o644, content: b"text".into(), change: FileChange::Keep };
                said(engine.upload(&self.container(c), archive::pack(&[file])).await)
            }
            Call::Pause(c) => (self.outside)("pause", &self.container(c)).to_string(),
            Call::Kill(c) => (self.outside)("kill", &self.container(c)).to_string(),
        }
    }

    /// What the engine shows of the test's objects, without IDs and times.
    async fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        let prefix = self.live.name("");
        for c in self.engine.containers().await.unwrap() {
            if c.name.starts_with(&prefix) {
                shown.push(self.container_shown(&c).await);
            }
        }
        for n in self.engine.networks().await.unwrap() {
            if n.name.starts_with(&prefix) {
                shown.push(format!("network {} {:?} {:?}", n.name, n.subnets, n.labels));
            }
        }
        for v in self.engine.volumes().await.unwrap() {
            if v.name.starts_with(&prefix) {
                shown.push(format!("volume {} {:?}", v.name, v.labels));
            }
        }
        shown.sort();
        shown
    }

    /// The name of a network, or what stands for one that is gone.
    fn name_of(&self, name: &str) -> String {
        if self.gone.iter().any(|gone| gone == name) { "gone".to_owned() } else { name.to_owned() }
    }

    async fn container_shown(&self, c: &Container) -> String {
        // Docker 20.10 goes on listing addresses and ports after a start that failed.
        let is_up = matches!(c.state, State::Running | State::Paused);
        let ports = if is_up { &c.ports[..] } else { &[] };
        // Of what is allocated, only that it is.
        let place = |a: &Attachment| {
            let ip = a.ip.filter(|_| is_up);
            let ip = ip.map(|ip| if a.pinned.is_some() { ip.to_string() } else { "some".into() });
            (self.name_of(&a.network_name), format!("{ip:?} {:?}", a.pinned))
        };
        let places: BTreeMap<_, _> = c.networks.values().map(place).collect();
        let detail = self.engine.inspect(&c.id).await.unwrap();
        let detail = detail.map(|d| {
            let mut volumes = d.volumes.clone();
            volumes.sort();
            let aliases = d.container.networks.values().map(|a| (self.name_of(&a.network_name), &a.aliases));
            format!(
                "started {} ended {} error {} ports {:?} {:?} volumes {volumes:?} no network {} {:?}",
                d.started_at.is_some(),
                d.ended_at.is_some(),
                d.error.as_ref().is_some_and(|e| !e.is_empty()),
                d.wanted_ports,
                d.restart_policy,
                d.has_no_network,
                aliases.collect::<BTreeMap<_, _>>()
            )
        });
        let mut files = Vec::new();
        for path in FILES {
            files.push(self.engine.read_file(&c.id, path, 1 << 20).await.is_ok_and(|file| file.is_some()));
        }
        format!("{} {:?} {ports:?} {places:?} {detail:?} files {files:?}", c.name, c.state)
    }
}
