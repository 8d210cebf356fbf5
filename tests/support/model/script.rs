//! Random lives of objects: valid specs, and what happens to them.

use localcluster_operator::{
    api::{
        LocalClusterSpec, RegistrySpec,
        host_alias::HostAlias,
        local_cluster::{ManifestEntry, NodeSet, PortSpec, Protocol, RegistryRef},
        node_host::HostVolume,
        registry::EnvVar,
    },
    k3s::registries::{Auth, HostConfig, Mirror, Tls},
    plan::{refs::NodeInputs, validate::certificate},
};
use proptest::prelude::*;

use super::{
    interfere::Outside,
    lab::{ClusterObject, Lab, Object, RegistryObject, pool, spec},
    observe::HOST,
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
    /// What the spec refers to changes: one of a few contents.
    Inputs(u8),
}

/// What goes into nodes: a mirror or not, credentials or none, a certificate or not.
pub fn inputs(pick: u8) -> NodeInputs {
    let mut inputs = NodeInputs::default();
    if pick & 1 != 0 {
        let mirror = Mirror { endpoints: vec!["http://cache:5000".into()], ..Mirror::default() };
        inputs.config.mirrors.insert("docker.io".into(), mirror);
    }
    let password = ["", "a", "b", ""][usize::from(pick >> 1 & 3)];
    if !password.is_empty() {
        let text = |t: &str| Some(t.to_owned());
        let auth = Auth { username: text("u"), password: text(password), ..Auth::default() };
        inputs.credentials.insert(HOST.into(), auth);
    }
    if pick & 8 != 0 {
        let path = certificate(HOST, "ca.crt");
        let tls = Tls { ca_file: Some(path.clone()), ..Tls::default() };
        inputs.config.configs.insert(HOST.into(), HostConfig { auth: None, tls: Some(tls) });
        inputs.certificates.insert(path, (0o644, vec![b'0' + (pick >> 4)]));
    }
    inputs
}

/// A port.
pub fn port(name: &str, port: i32, host_port: Option<i32>, protocol: Protocol) -> PortSpec {
    PortSpec {
        name: name.into(),
        port,
        end_port: None,
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
    let manifest = |name: &str, objects: &[&str]| {
        let text = objects
            .iter()
            .map(|o| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {o}}}\n---\n"));
        ManifestEntry { name: name.into(), inline: Some(text.collect()), secret: None, config_map: None }
    };
    let manifests = prop_oneof![
        2 => Just(Vec::new()),
        1 => Just(vec![manifest("one", &["a", "b"])]),
        1 => Just(vec![manifest("one", &["b"]), manifest("two", &["a", "c"])]),
        1 => Just(vec![manifest("two", &["c"])]),
    ];
    let settings = (0..2u8, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let inside = (any::<bool>(), manifests);
    let excluded = prop_oneof![3 => Just(vec![]), 1 => Just(vec![0]), 1 => Just(vec![2, 1])];
    let further = (0..3i32, 0..3i32, any::<bool>(), excluded);
    ((0..4i32, further), settings, ports, any::<bool>(), any::<bool>(), any::<bool>(), inside).prop_map(
        |(
            (agents, (gpu, big, marked, excluded)),
            (args, labels, taints, env, host),
            mut ports,
            registry,
            api,
            image,
            (preload, manifests),
        )| {
            let mut spec = spec(agents);
            spec.agents.excluded_indexes = excluded;
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
            if host {
                let volume = HostVolume {
                    host_path: Some("/srv/images".into()),
                    mount_path: "/data".into(),
                    ..HostVolume::default()
                };
                spec.agents.volumes.push(volume);
                spec.host_aliases
                    .push(HostAlias { ip: "10.0.0.5".into(), hostnames: vec!["db.internal".into()] });
            }
            for (name, count) in [("gpu", gpu), ("big", big)].into_iter().filter(|(_, count)| *count > 0) {
                // A pool that is there without nodes is as one that is not.
                spec.agent_pools.push(pool(name, count - 1));
            }
            if let Some(last) = spec.agent_pools.last_mut().filter(|_| marked) {
                last.pool.labels.insert("tier".into(), "b".into());
                last.pool.args = vec!["--kubelet-arg=max-pods=60".into()];
                last.pool.max_unavailable = Some(2);
            }
            ports.sort_by(|a, b| a.name.cmp(&b.name));
            ports.dedup_by(|a, b| a.name == b.name);
            spec.ports = ports;
            if registry {
                spec.registries.used.push(RegistryRef { name: "images".into(), ..Default::default() });
            }
            spec.api.host_port = api.then_some(16443);
            if preload {
                spec.preload_images = vec!["app:1".into(), "registry.example/app:2".into()];
            }
            spec.manifests = manifests;
            spec.image = image.then(|| "example/k3s:v1.36.2-k3s1".into());
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
        1 => (0..64u8).prop_map(Event::Inputs),
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
            let names: Vec<String> = ["server-0", "agent-0", "agent-1", "serverlb", "gpu-0"]
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
        Event::Inputs(pick) => lab.inputs = inputs(*pick),
        Event::Edit(spec) => lab.clusters[0].edit(|s| *s = (**spec).clone()),
    }
}
