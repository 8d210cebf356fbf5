//! Parsing of specs into values.
//!
//! The schema refuses invalid specs with the same messages. They are also checked here, since an object can be older
//! than a rule, and since parsing validates.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use ipnet::Ipv4Net;
use regex::Regex;

mod contents;
mod host_aliases;
mod network;
mod node_host;
mod ports;
mod quantity;
mod registries;
mod registry;

pub use contents::ValidManifest;
pub use ports::ValidPort;
pub use registries::*;
pub use registry::{ValidProxy, ValidRegistry, registry};

use super::expiry;
use crate::{
    api::{
        LocalClusterSpec,
        local_cluster::{ApiSpec, ClusterState, DataLoss, NetworkSpec, NodePool, SecretKeyRef},
        names::{self, ClusterNames, MAX_CLUSTER_NAME},
        registry::EnvVar,
        rules::{self, Refused, pattern, text},
    },
    docker::spec::{Bind, Gpus, Ulimit},
    k3s::{networks::Networks, registries::named},
};

/// Parsed spec of a LocalCluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// Names on the Docker host.
    pub names: ClusterNames,
    /// K3s version, if the spec names one.
    pub version: Option<String>,
    /// Node image, if the spec names one; there is no version then.
    pub image: Option<String>,
    /// True if the cluster is stopped.
    pub stopped: bool,
    /// Policy for lost data.
    pub on_data_loss: DataLoss,
    /// Secret with the credentials for the node image.
    pub image_pull_secret: Option<String>,
    /// Servers.
    pub servers: ValidPool,
    /// Agents.
    pub agents: ValidPool,
    /// Join token of the user.
    pub token: Option<SecretKeyRef>,
    /// Subnet, if the spec names one.
    pub subnet: Option<Ipv4Net>,
    /// Pod and Service networks.
    pub networks: Networks,
    /// Host address of the API.
    pub api_ip: Ipv4Addr,
    /// Host port of the API, if the spec names one.
    pub api_port: Option<u16>,
    /// Additional names and addresses in the serving certificate of the API.
    pub sans: Vec<String>,
    /// Published ports.
    pub ports: Vec<ValidPort>,
    /// Registries that the nodes pull from.
    pub registries: ValidRegistries,
    /// Files to write to the nodes.
    pub files: Vec<ValidFile>,
    /// Images of the Docker host to import on all nodes.
    pub preload_images: Vec<String>,
    /// Manifests that K3s applies.
    pub manifests: Vec<ValidManifest>,
    /// Addresses of names that nodes and Pods resolve.
    pub host_aliases: BTreeMap<String, IpAddr>,
}

impl Valid {
    /// Returns the paths of files that the spec writes to nodes, which a registries file may reference.
    pub fn paths(&self) -> BTreeSet<String> {
        let given = self.files.iter().map(|f| f.path.clone());
        given.chain(named(&self.registries.typed).into_iter().map(str::to_owned)).collect()
    }
}

/// A pool of nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidPool {
    /// Number of nodes.
    pub count: usize,
    /// Number of nodes that may be unavailable during a rolling update.
    pub max_unavailable: usize,
    /// Additional K3s arguments.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Labels of the Nodes.
    pub labels: BTreeMap<String, String>,
    /// Taints of the Nodes, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<i64>,
    /// CPU limit in billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// Process limits, by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Host directories, by path in the nodes.
    pub volumes: BTreeMap<String, Bind>,
    /// GPUs of the Docker host.
    pub gpus: Option<Gpus>,
}

/// Errors of a spec, each as `path: what is required`.
pub type Problems = Vec<String>;

/// Parses the spec of a LocalCluster.
pub fn local_cluster(namespace: &str, name: &str, spec: &LocalClusterSpec) -> Result<Valid, Problems> {
    // Every field is named: a new one does not compile until it is validated. The fields with `_` are checked together
    // with others, by the functions that get the whole spec.
    let LocalClusterSpec {
        version,
        image,
        image_pull_secret,
        state,
        on_data_loss,
        cluster_name,
        servers: server_pool,
        agents: agent_pool,
        token,
        network,
        api,
        ports: _,
        registries: _,
        files,
        preload_images,
        manifests,
        host_aliases: _,
        ttl,
    } = spec;
    let NetworkSpec { subnet } = network;
    let ApiSpec { host_ip, host_port, sans } = api;
    let mut c = Checker::default();
    c.shape("metadata.name", name, pattern::LABEL, 63, text::NAME);
    if let Some(n) = cluster_name {
        c.shape("spec.clusterName", n, pattern::LABEL, MAX_CLUSTER_NAME, text::CLUSTER_NAME);
    }
    if let Some(v) = version {
        c.shape("spec.version", v, pattern::VERSION, 32, text::VERSION);
    }
    if let Some(i) = image {
        c.shape("spec.image", i, pattern::IMAGE, 512, text::IMAGE);
    }
    c.check(version.is_none() || image.is_none(), "spec", text::VERSION_OR_IMAGE);
    if let Some(secret) = image_pull_secret {
        c.shape("spec.imagePullSecret.name", &secret.name, pattern::DNS, 253, text::OBJECT_NAME);
    }
    if let Some(token) = token {
        c.shape("spec.token.secretName", &token.secret_name, pattern::DNS, 253, text::OBJECT_NAME);
        c.shape("spec.token.key", &token.key, pattern::SECRET_KEY, 253, text::SECRET_KEY);
    }

    c.check(matches!(server_pool.count, 1 | 3 | 5), "spec.servers.count", text::SERVERS);
    c.check((0..=32).contains(&agent_pool.count), "spec.agents.count", text::AGENTS);
    let places = agent_pool.max_unavailable.is_none_or(|n| (1..=32).contains(&n));
    c.check(places, "spec.agents.maxUnavailable", text::MAX_UNAVAILABLE);
    let servers = c.pool("spec.servers", server_pool);
    let agents = c.pool("spec.agents", agent_pool);
    for (i, arg) in agent_pool.args.iter().enumerate() {
        c.check(
            !rules::SERVER_FLAGS.has(flag(arg)),
            format_args!("spec.agents.args[{i}]"),
            rules::SERVER_FLAGS.instead,
        );
    }
    for (i, arg) in server_pool.args.iter().enumerate() {
        let path = format!("spec.servers.args[{i}]");
        c.check(!rules::AGENT_FLAGS.has(flag(arg)), &path, rules::AGENT_FLAGS.instead);
        for (shape, instead) in SERVER_ARGS.iter() {
            c.check(!shape.is_match(arg), &path, instead);
        }
    }

    let subnet = subnet.as_deref().and_then(|s| c.subnet("spec.network.subnet", s));
    let networks = c.networks(spec, subnet);
    let api_ip = c.host_ip("spec.api.hostIP", host_ip);
    let api_port = host_port.map(|p| c.port("spec.api.hostPort", p));
    for (i, san) in sans.iter().enumerate() {
        let path = format!("spec.api.sans[{i}]");
        if san.parse::<IpAddr>().is_err() {
            c.shape(&path, san, pattern::DNS, 253, text::SAN);
        }
    }
    let ports = c.ports(spec, api_ip, api_port);
    let registries = c.registries(namespace, name, spec);
    let files = c.files(files);
    c.images(preload_images);
    let manifests = c.manifests(manifests);
    c.files_apart(spec);
    let names = ClusterNames::new(names::cluster(namespace, name, cluster_name.as_deref()));
    let host_aliases = c.host_aliases(spec, &names);
    let lives = ttl.as_deref().is_none_or(|ttl| expiry::parse(ttl).is_some());
    c.check(lives, "spec.ttl", text::LIFETIME);

    c.done(Valid {
        names,
        version: version.clone(),
        image: image.clone(),
        stopped: *state == ClusterState::Stopped,
        on_data_loss: *on_data_loss,
        image_pull_secret: image_pull_secret.as_ref().map(|r| r.name.clone()),
        servers,
        agents,
        token: token.clone(),
        subnet,
        networks,
        api_ip,
        api_port,
        sans: sans.clone(),
        ports,
        registries,
        files,
        preload_images: preload_images.clone(),
        manifests,
        host_aliases,
    })
}

/// Parses the spec of a cluster that already has this name on the Docker host, whatever the current naming rule is.
pub fn local_cluster_called(
    namespace: &str,
    name: &str,
    spec: &LocalClusterSpec,
    has: &str,
) -> Result<Valid, Problems> {
    let cluster_name = spec.cluster_name.clone().or_else(|| Some(has.to_owned()));
    local_cluster(namespace, name, &LocalClusterSpec { cluster_name, ..spec.clone() })
}

/// Collects errors. Unparsable fields get a placeholder value, which is discarded because of the error.
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
        // Every field is named: a new one does not compile until it is validated.
        let NodePool {
            count,
            max_unavailable,
            args,
            env,
            labels,
            taints,
            memory,
            shm_size,
            cpus,
            ulimits,
            volumes,
            gpus,
        } = pool;
        for (i, arg) in args.iter().enumerate() {
            let path = format!("{path}.args[{i}]");
            self.shape(&path, arg, pattern::ARG, 1024, text::ARG);
            self.check(!is(pattern::TWO_ARGS, arg), &path, text::TWO_ARGS);
            self.check(!is(pattern::FILTERED_ARG, arg), &path, text::FILTERED_ARG);
            self.refuse(&path, flag(arg), rules::FLAGS, "--");
        }
        for (key, value) in labels {
            let path = format!("{path}.labels[{key}]");
            let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
            self.shape(&path, key, pattern::LABEL_KEY, 317, text::LABEL_KEY);
            self.check(prefix.len() <= 253, &path, text::LABEL_KEY);
            self.shape(&path, value, pattern::LABEL_VALUE, 63, text::LABEL_VALUE);
            self.refuse(&path, key, rules::NODE_LABELS, "");
        }
        let mut seen = BTreeSet::new();
        for (i, taint) in taints.iter().enumerate() {
            let path = format!("{path}.taints[{i}]");
            self.shape(&path, taint, pattern::TAINT, 512, text::TAINT);
            let (left, effect) = taint.split_once(':').unwrap_or((taint, ""));
            let key = left.split('=').next().unwrap_or(left);
            self.check(seen.insert((key, effect)), &path, text::TAINT_TWICE);
        }
        ValidPool {
            count: (*count).try_into().unwrap_or(0),
            max_unavailable: max_unavailable.and_then(|n| n.try_into().ok()).unwrap_or(1),
            args: args.clone(),
            env: self.env(&format!("{path}.env"), env, rules::NODE_ENV),
            labels: labels.clone(),
            taints: taints.clone(),
            memory: self.memory(&format!("{path}.memory"), memory.as_deref()),
            shm_size: self.memory(&format!("{path}.shmSize"), shm_size.as_deref()),
            nano_cpus: self.nano_cpus(&format!("{path}.cpus"), cpus.as_deref()),
            ulimits: self.ulimits(&format!("{path}.ulimits"), ulimits),
            volumes: self.volumes(&format!("{path}.volumes"), volumes),
            gpus: self.gpus(&format!("{path}.gpus"), gpus.as_deref()),
        }
    }

    fn refuse(&mut self, path: &str, name: &str, table: &[Refused], dashes: &str) {
        for refused in table.iter().filter(|r| r.has(name)) {
            self.check(false, path, &refused.message(dashes));
        }
    }

    fn env(&mut self, path: &str, env: &[EnvVar], table: &[Refused]) -> BTreeMap<String, String> {
        for (i, EnvVar { name, value: _ }) in env.iter().enumerate() {
            let path = format!("{path}[{i}].name");
            self.shape(&path, name, pattern::ENV_NAME, 128, text::ENV_NAME);
            self.refuse(&path, name, table, "");
        }
        let names: Vec<_> = env.iter().map(|v| v.name.clone()).collect();
        self.distinct(path, &names);
        env.iter().map(|v| (v.name.clone(), v.value.clone())).collect()
    }

    fn subnet(&mut self, path: &str, subnet: &str) -> Option<Ipv4Net> {
        // The canonical form must be equal: ipnet accepts 172.31.016.0 too, which some parsers read as octal.
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
}

/// Returns the name of the flag in `--name=value`, without hyphens.
fn flag(arg: &str) -> &str {
    let name = arg.trim_start_matches('-');
    name.split_once('=').map_or(name, |(name, _)| name)
}

static SERVER_ARGS: LazyLock<Vec<(Regex, String)>> = LazyLock::new(|| {
    rules::server_args().into_iter().map(|(shape, instead)| (whole(&shape), instead)).collect()
});

fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("a pattern of our own is one")
}

/// Reports whether `value` matches a `pattern` of [`pattern`] completely.
fn is(pattern: &'static str, value: &str) -> bool {
    static COMPILED: LazyLock<BTreeMap<&'static str, Regex>> =
        LazyLock::new(|| pattern::ALL.iter().map(|p| (*p, whole(p))).collect());
    COMPILED.get(pattern).is_some_and(|regex| regex.is_match(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn problems(change: impl FnOnce(&mut LocalClusterSpec)) -> Problems {
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
    fn a_full_spec_is_parsed() {
        let mut spec = sound();
        spec.servers.memory = Some("2Gi".into());
        spec.servers.shm_size = Some("1G".into());
        spec.agents.cpus = Some("0.5".into());
        spec.agents.env = vec![EnvVar { name: "HTTP_PROXY".into(), value: "http://proxy:3128".into() }];
        spec.network.subnet = Some("172.31.16.0/24".into());
        spec.api.host_port = Some(6550);
        let valid = local_cluster("team-a", "dev", &spec).unwrap();
        assert_eq!(valid.names.cluster, names::cluster("team-a", "dev", None));
        assert_eq!(
            local_cluster_called("team-a", "dev", &spec, "team-a-dev").unwrap().names.cluster,
            "team-a-dev"
        );
        assert_eq!((valid.servers.memory, valid.agents.nano_cpus), (Some(2 << 30), Some(500_000_000)));
        assert_eq!((valid.servers.shm_size, valid.agents.shm_size), (Some(1_000_000_000), None));
        assert_eq!(valid.agents.env["HTTP_PROXY"], "http://proxy:3128");
        assert_eq!(valid.subnet.unwrap().to_string(), "172.31.16.0/24");
        assert_eq!((valid.api_ip, valid.api_port), (Ipv4Addr::LOCALHOST, Some(6550)));
    }

    #[test]
    fn every_problem_is_told_with_its_path() {
        let found = problems(|s| {
            s.servers.count = 2;
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
    fn a_star_stands_for_the_rest_of_a_name() {
        let begins = |name| rules::FLAGS.iter().any(|r| r.has(name));
        assert!(begins("datastore-endpoint") && begins("cluster-reset-restore-path") && begins("t"));
        assert!(!begins("tls-san-security") && !begins("data-directory") && !begins("kubelet-arg"));
    }
}
