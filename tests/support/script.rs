//! Random lives of objects: valid specs, and what happens to them.

use localcluster_operator::api::{
    LocalClusterSpec, RegistrySpec,
    local_cluster::{LocalRef, NodeSet, PortSpec, Protocol},
    registry::EnvVar,
};
use proptest::prelude::*;

use super::{
    interfere::Outside,
    lab::{ClusterObject, Lab, Object, RegistryObject, spec},
};

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// One of the acts that are possible then.
    Outside(u16),
    /// Somebody else takes a name that the cluster wants, or a port.
    Stranger(u8, u8),
    /// The operator does this many steps and dies; whether its last status is lost too.
    Crash(u8, bool),
    Rounds(u8),
    Edit(Box<LocalClusterSpec>),
}

/// A port.
pub fn port(name: &str, port: i32, host_port: Option<i32>, protocol: Protocol) -> PortSpec {
    PortSpec {
        name: name.into(),
        port,
        host_port,
        host_ip: "127.0.0.1".into(),
        protocol,
        nodes: NodeSet::All,
    }
}

/// Specs that the schema lets through, few in number and far apart.
pub fn specs() -> impl Strategy<Value = LocalClusterSpec> {
    let ports = prop::collection::vec(
        prop_oneof![
            Just(port("web", 80, Some(8080), Protocol::Tcp)),
            Just(port("auto", 80, None, Protocol::Tcp)),
            Just(port("dns", 53, None, Protocol::Udp)),
        ],
        0..3,
    );
    let pool = (0..2u8, any::<bool>(), any::<bool>(), any::<bool>());
    (0..4i32, pool, ports, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(agents, (args, labels, taints, env), mut ports, registry, api, image)| {
            let mut spec = spec(agents);
            if args == 1 {
                spec.agents.args = vec!["--kubelet-arg=max-pods=50".into()];
                spec.servers.args = vec!["--disable=traefik".into()];
            }
            if labels {
                spec.agents.labels.insert("tier".into(), "a".into());
            }
            if taints {
                spec.agents.taints.push("dedicated=gpu:NoSchedule".into());
            }
            if env {
                spec.agents.env.push(EnvVar { name: "HTTP_PROXY".into(), value: "http://p".into() });
            }
            ports.sort_by(|a, b| a.name.cmp(&b.name));
            ports.dedup_by(|a, b| a.name == b.name);
            spec.ports = ports;
            if registry {
                spec.registries.used.push(LocalRef { name: "images".into() });
            }
            spec.api.host_port = api.then_some(16443);
            spec.image = image.then(|| "example/k3s:v1.35.1-k3s1".into());
            spec
        },
    )
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => any::<u16>().prop_map(Event::Outside),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Event::Stranger(a, b)),
        3 => (0..12u8, any::<bool>()).prop_map(|(n, lost)| Event::Crash(n, lost)),
        3 => (1..8u8).prop_map(Event::Rounds),
        1 => specs().prop_map(|s| Event::Edit(Box::new(s))),
    ];
    prop::collection::vec(event, 0..10)
}

/// A cluster of this spec beside a registry.
pub fn lab(spec: LocalClusterSpec, chance: u64) -> Lab {
    let cluster: ClusterObject = Object::new("default", "dev", spec);
    let registry: RegistryObject = Object::new("default", "images", RegistrySpec::default());
    let mut lab = Lab::new(vec![cluster], vec![registry]);
    lab.chance.0 = chance;
    lab
}

/// Has it happen.
pub fn happen(lab: &mut Lab, event: &Event) {
    match event {
        Event::Outside(pick) => {
            let possible = lab.world.possible();
            if !possible.is_empty() {
                lab.world.interfere(&possible[usize::from(*pick) % possible.len()]);
            }
        }
        Event::Stranger(kind, pick) => {
            let names: Vec<String> = ["server-0", "agent-0", "agent-1", "serverlb"]
                .iter()
                .map(|n| format!("k3d-dev-{n}"))
                .chain(["k3d-images".into()])
                .collect();
            let name = names[usize::from(*pick) % names.len()].clone();
            lab.world.interfere(&match kind % 4 {
                0 => Outside::ForeignContainer(name),
                1 => Outside::ForeignVolume(format!("{name}-etc")),
                2 => Outside::ForeignNetwork("k3d-dev".into()),
                _ => Outside::HoldPort(if pick % 2 == 0 { 8080 } else { 16443 }),
            });
        }
        Event::Crash(limit, lost) => {
            lab.pass_registry(0, usize::from(*limit));
            lab.pass(0, usize::from(*limit));
            if *lost {
                lab.clusters[0].forget();
                lab.registries[0].forget();
            }
        }
        Event::Rounds(n) => (0..*n).for_each(|_| drop(lab.round())),
        Event::Edit(spec) => lab.clusters[0].edit(|s| *s = (**spec).clone()),
    }
}
