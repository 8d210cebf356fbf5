//! From a spec as it was written to values that can be used as they are.
//!
//! The schema refuses all of this with the same words already. It is checked here as well, since an object can be
//! older than a rule, and since parsing is checking.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use ipnet::Ipv4Net;
use regex::Regex;

use crate::api::{
    LocalClusterSpec, RegistrySpec,
    local_cluster::{NodePool, NodeSet, Protocol, SecretKeyRef},
    names::{self, ClusterNames, MAX_CLUSTER_NAME, MAX_HOSTNAME},
    registry::EnvVar,
    rules::{self, Refused, pattern, text},
};

/// A LocalCluster's spec, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// The names on the Docker host.
    pub names: ClusterNames,
    /// The K3s version, where the spec names one.
    pub version: Option<String>,
    /// The node image, where the spec names one; there is no version then.
    pub image: Option<String>,
    /// The Secret for pulling the node image.
    pub image_pull_secret: Option<String>,
    /// The servers.
    pub servers: ValidPool,
    /// The agents.
    pub agents: ValidPool,
    /// The user's own join token.
    pub token: Option<SecretKeyRef>,
    /// The subnet, where the spec names one.
    pub subnet: Option<Ipv4Net>,
    /// The host address of the API.
    pub api_ip: Ipv4Addr,
    /// The host port of the API, where the spec names one.
    pub api_port: Option<u16>,
    /// Further names and addresses in the API's serving certificate.
    pub sans: Vec<String>,
    /// The published ports.
    pub ports: Vec<ValidPort>,
    /// The names of the Registry objects in use.
    pub registries: Vec<String>,
}

/// Nodes of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidPool {
    /// How many.
    pub count: usize,
    /// Further K3s arguments.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Labels of the Nodes.
    pub labels: BTreeMap<String, String>,
    /// Taints of the Nodes, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// CPU limit in billionths of a core.
    pub nano_cpus: Option<i64>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPort {
    /// Its name.
    pub name: String,
    /// The port of the nodes.
    pub port: u16,
    /// The host port, where the spec names one.
    pub host_port: Option<u16>,
    /// The host address.
    pub host_ip: Ipv4Addr,
    /// The transport.
    pub protocol: Protocol,
    /// The nodes behind it.
    pub nodes: NodeSet,
}

/// A Registry's spec, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRegistry {
    /// The container's name, which is its DNS name in clusters.
    pub hostname: String,
    /// The image, where the spec names one.
    pub image: Option<String>,
    /// The host address.
    pub host_ip: Ipv4Addr,
    /// The host port, where the spec names one.
    pub host_port: Option<u16>,
    /// Whether the volume outlives the object.
    pub retain: bool,
    /// A volume of the user's, which is never removed.
    pub volume_name: Option<String>,
    /// Whether clients may delete images.
    pub delete_enabled: bool,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
}

/// What is wrong with a spec, each as `path: what to write instead`.
pub type Problems = Vec<String>;

/// Parses a LocalCluster's spec.
pub fn local_cluster(namespace: &str, name: &str, spec: &LocalClusterSpec) -> Result<Valid, Problems> {
    let mut c = Checker::default();
    c.shape("metadata.name", name, pattern::LABEL, 63, text::NAME);
    if let Some(n) = &spec.cluster_name {
        c.shape("spec.clusterName", n, pattern::LABEL, MAX_CLUSTER_NAME, text::CLUSTER_NAME);
    }
    if let Some(v) = &spec.version {
        c.shape("spec.version", v, pattern::VERSION, 32, text::VERSION);
    }
    if let Some(i) = &spec.image {
        c.shape("spec.image", i, pattern::IMAGE, 512, text::IMAGE);
    }
    c.check(spec.version.is_none() || spec.image.is_none(), "spec", text::VERSION_OR_IMAGE);
    if let Some(secret) = &spec.image_pull_secret {
        c.shape("spec.imagePullSecret.name", &secret.name, pattern::DNS, 253, text::OBJECT_NAME);
    }
    if let Some(token) = &spec.token {
        c.shape("spec.token.secretName", &token.secret_name, pattern::DNS, 253, text::OBJECT_NAME);
        c.shape("spec.token.key", &token.key, pattern::SECRET_KEY, 253, text::SECRET_KEY);
    }

    c.check(spec.servers.count == 1, "spec.servers.count", text::ONE_SERVER);
    c.check((0..=32).contains(&spec.agents.count), "spec.agents.count", text::AGENTS);
    let servers = c.pool("spec.servers", &spec.servers);
    let agents = c.pool("spec.agents", &spec.agents);
    for (i, arg) in spec.agents.args.iter().enumerate() {
        c.check(
            !rules::SERVER_FLAGS.has(flag(arg)),
            format_args!("spec.agents.args[{i}]"),
            rules::SERVER_FLAGS.instead,
        );
    }

    let subnet = spec.network.subnet.as_deref().and_then(|s| c.subnet("spec.network.subnet", s));
    let api_ip = c.host_ip("spec.api.hostIP", &spec.api.host_ip);
    let api_port = spec.api.host_port.map(|p| c.port("spec.api.hostPort", p));
    for (i, san) in spec.api.sans.iter().enumerate() {
        let path = format!("spec.api.sans[{i}]");
        if san.parse::<IpAddr>().is_err() {
            c.shape(&path, san, pattern::DNS, 253, text::SAN);
        }
    }
    let ports = c.ports(spec, api_ip, api_port);
    let registries: Vec<_> = spec.registries.used.iter().map(|r| r.name.clone()).collect();
    for (i, name) in registries.iter().enumerate() {
        c.shape(&format!("spec.registries.use[{i}].name"), name, pattern::DNS, 253, text::OBJECT_NAME);
    }
    c.distinct("spec.registries.use", &registries);

    c.done(Valid {
        names: ClusterNames::new(names::cluster(namespace, name, spec.cluster_name.as_deref())),
        version: spec.version.clone(),
        image: spec.image.clone(),
        image_pull_secret: spec.image_pull_secret.as_ref().map(|r| r.name.clone()),
        servers,
        agents,
        token: spec.token.clone(),
        subnet,
        api_ip,
        api_port,
        sans: spec.api.sans.clone(),
        ports,
        registries,
    })
}

/// Parses a Registry's spec.
pub fn registry(namespace: &str, name: &str, spec: &RegistrySpec) -> Result<ValidRegistry, Problems> {
    let mut c = Checker::default();
    c.check(name.len() <= 63, "metadata.name", text::REGISTRY_NAME);
    if let Some(i) = &spec.image {
        c.shape("spec.image", i, pattern::IMAGE, 512, text::IMAGE);
    }
    if let Some(h) = &spec.hostname {
        c.shape("spec.hostname", h, pattern::DNS, MAX_HOSTNAME, text::HOSTNAME);
        c.check(h != "localhost", "spec.hostname", text::HOSTNAME);
    }
    if let Some(v) = &spec.storage.volume_name {
        c.shape("spec.storage.volumeName", v, pattern::VOLUME_NAME, 253, text::VOLUME_NAME);
    }
    let host_ip = c.host_ip("spec.hostIP", &spec.host_ip);
    let host_port = spec.host_port.map(|p| c.port("spec.hostPort", p));
    let env = c.env("spec.env", &spec.env, rules::REGISTRY_ENV);
    let memory = c.memory("spec.memory", spec.memory.as_deref());
    c.done(ValidRegistry {
        hostname: names::registry(namespace, name, spec.hostname.as_deref()),
        image: spec.image.clone(),
        host_ip,
        host_port,
        retain: spec.storage.retain,
        volume_name: spec.storage.volume_name.clone(),
        delete_enabled: spec.delete_enabled,
        env,
        memory,
    })
}

/// Collects problems. What can't be parsed becomes some value, which nobody sees since there is a problem.
#[derive(Default)]
struct Checker {
    problems: Problems,
}

impl Checker {
    fn done<T>(self, valid: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(valid) } else { Err(self.problems) }
    }

    fn check(&mut self, holds: bool, path: impl std::fmt::Display, message: &str) {
        if !holds {
            self.problems.push(format!("{path}: {message}"));
        }
    }

    fn shape(&mut self, path: &str, value: &str, pattern: &'static str, max: usize, message: &str) {
        self.check(value.len() <= max && is(pattern, value), path, message);
    }

    fn distinct(&mut self, path: &str, names: &[String]) {
        let set: BTreeSet<_> = names.iter().collect();
        self.check(set.len() == names.len(), path, text::TWICE);
    }

    fn pool(&mut self, path: &str, pool: &NodePool) -> ValidPool {
        for (i, arg) in pool.args.iter().enumerate() {
            let path = format!("{path}.args[{i}]");
            self.shape(&path, arg, pattern::ARG, 1024, text::ARG);
            self.refuse(&path, flag(arg), rules::FLAGS, "--");
        }
        for (key, value) in &pool.labels {
            let path = format!("{path}.labels[{key}]");
            let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
            self.shape(&path, key, pattern::LABEL_KEY, 317, text::LABEL_KEY);
            self.check(prefix.len() <= 253, &path, text::LABEL_KEY);
            self.shape(&path, value, pattern::LABEL_VALUE, 63, text::LABEL_VALUE);
            self.refuse(&path, key, rules::NODE_LABELS, "");
        }
        let mut taints = BTreeSet::new();
        for (i, taint) in pool.taints.iter().enumerate() {
            let path = format!("{path}.taints[{i}]");
            self.shape(&path, taint, pattern::TAINT, 512, text::TAINT);
            let (left, effect) = taint.split_once(':').unwrap_or((taint, ""));
            let key = left.split('=').next().unwrap_or(left);
            self.check(taints.insert((key, effect)), &path, text::TAINT_TWICE);
        }
        ValidPool {
            count: pool.count.try_into().unwrap_or(0),
            args: pool.args.clone(),
            env: self.env(&format!("{path}.env"), &pool.env, rules::NODE_ENV),
            labels: pool.labels.clone(),
            taints: pool.taints.clone(),
            memory: self.memory(&format!("{path}.memory"), pool.memory.as_deref()),
            nano_cpus: self.nano_cpus(&format!("{path}.cpus"), pool.cpus.as_deref()),
        }
    }

    fn refuse(&mut self, path: &str, name: &str, table: &[Refused], dashes: &str) {
        for refused in table.iter().filter(|r| r.has(name)) {
            self.check(false, path, &refused.message(dashes));
        }
    }

    fn env(&mut self, path: &str, env: &[EnvVar], table: &[Refused]) -> BTreeMap<String, String> {
        for (i, var) in env.iter().enumerate() {
            let path = format!("{path}[{i}].name");
            self.shape(&path, &var.name, pattern::ENV_NAME, 128, text::ENV_NAME);
            self.refuse(&path, &var.name, table, "");
        }
        let names: Vec<_> = env.iter().map(|v| v.name.clone()).collect();
        self.distinct(path, &names);
        env.iter().map(|v| (v.name.clone(), v.value.clone())).collect()
    }

    fn memory(&mut self, path: &str, memory: Option<&str>) -> Option<i64> {
        let memory = memory?;
        let bytes = bytes(memory).filter(|b| (rules::MEMORY.0..=rules::MEMORY.1).contains(b));
        self.check(bytes.is_some(), path, text::MEMORY);
        bytes
    }

    fn nano_cpus(&mut self, path: &str, cpus: Option<&str>) -> Option<i64> {
        let nano = nano_cpus(cpus?).filter(|n| (rules::NANO_CPUS.0..=rules::NANO_CPUS.1).contains(n));
        self.check(nano.is_some(), path, text::CPUS);
        nano
    }

    fn subnet(&mut self, path: &str, subnet: &str) -> Option<Ipv4Net> {
        // Written back it has to be the same: ipnet takes 172.31.016.0 too, which some read as octal.
        let sound =
            |n: &Ipv4Net| (16..=25).contains(&n.prefix_len()) && n.trunc() == *n && n.to_string() == subnet;
        let net: Option<Ipv4Net> = subnet.parse().ok().filter(sound);
        self.check(net.is_some(), path, text::SUBNET);
        let taken = |net: &Ipv4Net| {
            rules::NO_SUBNET.iter().any(|r| r.parse().is_ok_and(|r: Ipv4Net| r.contains(&net.network())))
        };
        self.check(!net.as_ref().is_some_and(taken), path, text::SUBNET_RANGE);
        net
    }

    fn host_ip(&mut self, path: &str, ip: &str) -> Ipv4Addr {
        let parsed = ip.parse();
        self.check(parsed.is_ok(), path, text::HOST_IP);
        parsed.unwrap_or(Ipv4Addr::LOCALHOST)
    }

    fn port(&mut self, path: &str, port: i32) -> u16 {
        let parsed = u16::try_from(port).ok().filter(|p| *p > 0);
        self.check(parsed.is_some(), path, text::PORT);
        parsed.unwrap_or(1)
    }

    fn ports(&mut self, spec: &LocalClusterSpec, api_ip: Ipv4Addr, api_port: Option<u16>) -> Vec<ValidPort> {
        let mut ports: Vec<ValidPort> = Vec::new();
        for (i, p) in spec.ports.iter().enumerate() {
            let path = format!("spec.ports[{i}]");
            self.shape(&format!("{path}.name"), &p.name, pattern::LABEL, 63, text::PORT_NAME);
            let port = ValidPort {
                name: p.name.clone(),
                port: self.port(&format!("{path}.port"), p.port),
                host_port: p.host_port.map(|h| self.port(&format!("{path}.hostPort"), h)),
                host_ip: self.host_ip(&format!("{path}.hostIP"), &p.host_ip),
                protocol: p.protocol,
                nodes: p.nodes,
            };
            let tcp = port.protocol == Protocol::Tcp;
            self.check(!(tcp && port.port == 6443), &path, text::API_PORT);
            let clashes = |ip: Ipv4Addr, other: Option<u16>| {
                other.is_some()
                    && other == port.host_port
                    && (ip == port.host_ip || ip.is_unspecified() || port.host_ip.is_unspecified())
            };
            self.check(
                !(tcp && clashes(api_ip, api_port)),
                format_args!("{path}.hostPort"),
                text::API_HOST_PORT,
            );
            let twice = ports.iter().any(|o| o.protocol == port.protocol && clashes(o.host_ip, o.host_port));
            self.check(!twice, format_args!("{path}.hostPort"), text::HOST_PORT_TWICE);
            ports.push(port);
        }
        let names: Vec<_> = ports.iter().map(|p| p.name.clone()).collect();
        self.distinct("spec.ports", &names);
        ports
    }
}

/// The name of the flag in `--name=value`, without hyphens.
fn flag(arg: &str) -> &str {
    let name = arg.trim_start_matches('-');
    name.split_once('=').map_or(name, |(name, _)| name)
}

/// Whether the whole of `value` has the shape of `pattern`, one of [`pattern`]'s.
fn is(pattern: &'static str, value: &str) -> bool {
    static COMPILED: LazyLock<BTreeMap<&'static str, Regex>> = LazyLock::new(|| {
        let compile = |p| Regex::new(&format!("^(?:{p})$")).expect("a pattern of our own is one");
        pattern::ALL.iter().map(|p| (*p, compile(*p))).collect()
    });
    COMPILED.get(pattern).is_some_and(|regex| regex.is_match(value))
}

/// The bytes of a quantity such as `2Gi`, `1.5G` or `536870912`, rounded up as Kubernetes does.
fn bytes(quantity: &str) -> Option<i64> {
    if !is(pattern::MEMORY, quantity) {
        return None;
    }
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: i128 = match &quantity[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    const NANO: i128 = 1_000_000_000;
    let nano = billionths(digits)?.checked_mul(unit)?;
    ((nano + NANO - 1) / NANO).try_into().ok()
}

/// The billionths of cores such as `1.5`.
fn nano_cpus(cpus: &str) -> Option<i64> {
    if is(pattern::CPUS, cpus) { billionths(cpus)?.try_into().ok() } else { None }
}

/// A decimal number in billionths.
fn billionths(decimal: &str) -> Option<i128> {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let part: i128 = format!("{part:0<9}").parse().ok()?;
    Some(whole.parse::<i128>().ok()? * 1_000_000_000 + part)
}
#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut LocalClusterSpec)) -> Problems {
        let mut spec = sound();
        change(&mut spec);
        local_cluster("default", "dev", &spec).err().unwrap_or_default()
    }

    fn sound() -> LocalClusterSpec {
        LocalClusterSpec {
            servers: NodePool { count: 1, ..NodePool::default() },
            agents: NodePool { count: 2, ..NodePool::default() },
            ..LocalClusterSpec::default()
        }
    }

    #[test]
    fn quantities_become_bytes() {
        for (text, want) in [
            ("2Gi", Some(2 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("512Mi", Some(512 << 20)),
            ("1024Ki", Some(1 << 20)),
            ("1Ti", Some(1 << 40)),
            ("1k", Some(1_000)),
            ("2M", Some(2_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("1T", Some(1_000_000_000_000)),
            ("536870912", Some(536_870_912)),
            ("0.1", Some(1)),
            ("999999999999999Ti", None),
            ("2 Gi", None),
            ("2gi", None),
            ("2GB", None),
            ("-1", None),
            ("1.", None),
            (".5Gi", None),
            ("", None),
            ("1e3", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
        }
    }

    #[test]
    fn cores_become_billionths() {
        for (text, want) in [
            ("1.5", Some(1_500_000_000)),
            ("2", Some(2_000_000_000)),
            ("0.000000001", Some(1)),
            ("0.0000000001", None),
            ("500m", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(nano_cpus(text), want, "{text}");
        }
    }

    #[test]
    fn a_full_spec_is_parsed() {
        let mut spec = sound();
        spec.servers.memory = Some("2Gi".into());
        spec.agents.cpus = Some("0.5".into());
        spec.agents.env = vec![EnvVar { name: "HTTP_PROXY".into(), value: "http://proxy:3128".into() }];
        spec.network.subnet = Some("172.31.16.0/24".into());
        spec.api.host_port = Some(6550);
        let valid = local_cluster("team-a", "dev", &spec).unwrap();
        assert_eq!(valid.names.cluster, "team-a-dev");
        assert_eq!((valid.servers.memory, valid.agents.nano_cpus), (Some(2 << 30), Some(500_000_000)));
        assert_eq!(valid.agents.env["HTTP_PROXY"], "http://proxy:3128");
        assert_eq!(valid.subnet.unwrap().to_string(), "172.31.16.0/24");
        assert_eq!((valid.api_ip, valid.api_port), (Ipv4Addr::LOCALHOST, Some(6550)));
    }

    #[test]
    fn every_problem_is_told_with_its_path() {
        let found = problems(|s| {
            s.servers.count = 3;
            s.agents.args = vec!["--token=x".into(), "traefik".into(), "--disable=traefik".into()];
            s.network.subnet = Some("172.31.16.1/24".into());
        });
        let begin = [
            "spec.servers.count: ",
            "spec.agents.args[0]: --token",
            "spec.agents.args[1]: ",
            "spec.agents.args[2]: ",
            "spec.network.subnet: ",
        ];
        assert_eq!(found.len(), begin.len(), "{found:?}");
        assert!(found.iter().zip(begin).all(|(f, b)| f.starts_with(b)), "{found:?}");
    }

    #[test]
    fn a_host_port_is_given_once_per_address() {
        let port = |name: &str, ip: &str, host_port| crate::api::local_cluster::PortSpec {
            name: name.into(),
            port: 80,
            host_port,
            host_ip: ip.into(),
            protocol: Protocol::Tcp,
            nodes: NodeSet::All,
        };
        let clash = |a, b| !problems(|s| s.ports = vec![a, b]).is_empty();
        assert!(clash(port("a", "127.0.0.1", Some(80)), port("b", "0.0.0.0", Some(80))));
        assert!(!clash(port("a", "127.0.0.1", Some(80)), port("b", "127.0.0.2", Some(80))));
        assert!(!clash(port("a", "127.0.0.1", None), port("b", "127.0.0.1", None)));
        let api = problems(|s| {
            s.api.host_port = Some(80);
            s.ports = vec![port("a", "0.0.0.0", Some(80))];
        });
        assert_eq!(api, [format!("spec.ports[0].hostPort: {}", text::API_HOST_PORT)]);
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let begins = |name| rules::FLAGS.iter().any(|r| r.has(name));
        assert!(begins("datastore-endpoint") && begins("cluster-reset-restore-path") && begins("t"));
        assert!(!begins("tls-san-security") && !begins("data-directory") && !begins("kubelet-arg"));
    }
}
