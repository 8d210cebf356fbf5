//! A part of the real Docker Engine that is cleaned up after each test.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, TcpListener},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use ipnet::Ipv4Net;
use localcluster_operator::{
    api::local_cluster::NodeRole,
    docker::{
        bollard::BollardEngine,
        engine::{Container, Engine},
        error::Error,
        spec::{Addressing, ContainerSpec, NetworkSpec, PortBinding, Role, VolumeSpec},
    },
};

/// The engine, and a prefix for the names of everything that a test creates there.
pub struct World {
    pub engine: BollardEngine,
    prefix: String,
}

impl World {
    pub fn new(test: &str) -> Self {
        let host = env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let engine = BollardEngine::connect(&host).unwrap();
        Self { engine, prefix: format!("lco-live-{}-{test}-", std::process::id()) }
    }

    /// Returns the name of an object of this test.
    pub fn name(&self, thing: &str) -> String {
        format!("{}{thing}", self.prefix)
    }

    /// Creates a network on the next free /24 and returns it with its ID.
    pub async fn network(&self, thing: &str) -> (NetworkSpec, String) {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let start = std::process::id() as u8;
        for _ in 0..=u8::MAX {
            let third = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let spec = self.network_spec(thing, third);
            match self.engine.create_network(&spec).await {
                Ok(id) => return (spec, id),
                Err(Error::Address(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("no subnet is free in 10.213.0.0/16");
    }

    pub fn network_spec(&self, thing: &str, third: u8) -> NetworkSpec {
        let address = |last| Ipv4Addr::new(10, 213, third, last);
        NetworkSpec {
            name: self.name(thing),
            addressing: Some(Addressing {
                subnet: Ipv4Net::new(address(0), 24).unwrap(),
                gateway: address(1),
                ip_range: Ipv4Net::new(address(128), 25).unwrap(),
            }),
            labels: self.labels(),
        }
    }

    pub async fn volume(&self, thing: &str) -> String {
        let spec = VolumeSpec { name: self.name(thing), labels: self.labels() };
        self.engine.create_volume(&spec).await.unwrap();
        spec.name
    }

    /// Returns a container that waits until it is stopped, and then exits at once.
    pub fn spec(&self, thing: &str) -> ContainerSpec {
        let script =
            "trap 'exit 7' TERM; trap 'echo hangup' HUP; echo ready; while :; do sleep 1 & wait $!; done";
        ContainerSpec {
            command: ["/bin/sh", "-c", script].map(String::from).into(),
            labels: self.labels(),
            ..ContainerSpec::bare(self.name(thing), Role::Node(NodeRole::Server), image())
        }
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("lco-live".to_owned(), self.prefix.clone())])
    }

    pub async fn listed(&self, id: &str) -> Container {
        let all = self.engine.containers().await.unwrap();
        all.into_iter().find(|container| container.id == id).expect("the container is listed")
    }

    fn ids(&self, list: &[&str]) -> Vec<String> {
        let filter = format!("name={}", self.prefix);
        let out = Command::new("docker").args(list).args(["--filter", &filter]).output();
        let Ok(out) = out else { return Vec::new() };
        String::from_utf8_lossy(&out.stdout).split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for World {
    /// Uses the command line, which also works during a panic.
    fn drop(&mut self) {
        for (list, remove) in [
            (&["ps", "-aq", "--no-trunc"][..], &["rm", "-fv"][..]),
            (&["network", "ls", "-q", "--no-trunc"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm"]),
        ] {
            let ids = self.ids(list);
            if !ids.is_empty() {
                let _ = Command::new("docker").args(remove).args(ids).output();
            }
        }
    }
}

/// Returns a small image with a shell that exists on the engine.
pub fn image() -> String {
    std::env::var("WORLD_BUSYBOX_IMAGE").unwrap_or_else(|_| "standin/busybox:1.35".into())
}

/// Returns the output of the docker command line.
pub fn docker(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).output().expect("the docker command line exists");
    assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Returns a listener on a free host port.
pub fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Returns a port binding from a host port to port 80 of a container.
pub fn publish(host_port: u16) -> Vec<PortBinding> {
    vec![PortBinding { host_ip: "0.0.0.0".into(), host_port, port: 80, protocol: "tcp".into() }]
}

/// Returns the address `last` of the subnet of a test's network.
pub fn pin(network: &NetworkSpec, last: u8) -> Option<Ipv4Addr> {
    let [a, b, c, _] = network.addressing.as_ref()?.subnet.network().octets();
    Some(Ipv4Addr::new(a, b, c, last))
}
