//! Parsing of specs into values.
//!
//! The schema refuses invalid specs with the same messages. They are also checked here, since an object can be older
//! than a rule, and since parsing validates.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

mod checker;
mod contents;
mod host_aliases;
mod kubeconfig;
mod network;
mod node_host;
mod pool;
mod ports;
pub mod quantity;
mod registries;
mod registry;

pub use checker::{Problems, is};
pub use contents::{Text, ValidFile, ValidManifest};
pub use host_aliases::AliasTarget;
pub use kubeconfig::{Handout, TOKEN_LIFE, TOKEN_LIVES};
pub use pool::ValidPool;
pub use ports::{ValidApi, ValidPort};
pub use registries::*;
pub use registry::{Storage, ValidProxy, ValidRegistry, registry};

use super::expiry;
use crate::{
    api::{
        LocalClusterSpec,
        local_cluster::{ClusterState, DataLoss, Durability, ImagesSpec, LocalRef, SecretKeyRef},
        names::{self, ClusterNames, Pool},
        rules::{format, text},
    },
    docker::spec::RestartPolicy,
    k3s::{networks::Networks, registries::named},
};
use checker::Checker;

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
    /// True if nodes do not wait for the disk.
    pub ephemeral: bool,
    /// Restart policy of its containers, but of several servers.
    pub restart: RestartPolicy,
    /// Secret with the credentials for the node image.
    pub image_pull_secret: Option<String>,
    /// Servers.
    pub servers: ValidPool,
    /// Agents of `spec.agents`.
    pub agents: ValidPool,
    /// Agents of `spec.agentPools`, by the name of the pool: the order of the list has no meaning.
    pub agent_pools: BTreeMap<String, ValidPool>,
    /// Join token of the user.
    pub token: Option<SecretKeyRef>,
    /// Subnet, if the spec names one.
    pub subnet: Option<Ipv4Net>,
    /// Pod and Service networks.
    pub networks: Networks,
    /// Docker networks to join besides the cluster's own.
    pub join: Vec<String>,
    /// Host address of the API.
    pub api_ip: Ipv4Addr,
    /// Host port of the API, if the spec names one.
    pub api_port: Option<u16>,
    /// Additional names and addresses in the serving certificate of the API, including the one in kubeconfigs.
    pub sans: Vec<String>,
    /// Host of the API in kubeconfigs, if it is not the address.
    pub server_name: Option<String>,
    /// DNS name of the Service that leads to the API, if there is to be one.
    pub api_service: Option<String>,
    /// Credential in the kubeconfig Secret.
    pub kubeconfig: Handout,
    /// Published ports.
    pub ports: Vec<ValidPort>,
    /// Registries that the nodes pull from.
    pub registries: ValidRegistries,
    /// Files to write to the nodes.
    pub files: Vec<ValidFile>,
    /// Images of the Docker host to import on all nodes.
    pub preload_images: Vec<String>,
    /// True if nodes get images of the Docker host when they ask for them.
    pub images_from_host: bool,
    /// Manifests that K3s applies.
    pub manifests: Vec<ValidManifest>,
    /// Addresses of names that nodes and Pods resolve.
    pub host_aliases: BTreeMap<String, AliasTarget>,
}

impl Valid {
    /// Returns all pools: servers, agents, and further agents.
    pub fn pools(&self) -> impl Iterator<Item = (Pool, &ValidPool)> {
        let named = self.agent_pools.iter().map(|(name, pool)| (Pool::Named(name.clone()), pool));
        [(Pool::Servers, &self.servers), (Pool::Agents, &self.agents)].into_iter().chain(named)
    }

    /// Returns all nodes, each by its pool and its index in it.
    pub fn nodes(&self) -> impl Iterator<Item = (Pool, usize)> {
        self.pools().flat_map(|(pool, valid)| valid.indexes().map(move |index| (pool.clone(), index)))
    }

    /// Returns the paths of files that the spec writes to nodes, which a registries file may reference.
    pub fn paths(&self) -> BTreeSet<String> {
        let given = self.files.iter().map(|f| f.path.clone());
        given.chain(named(&self.registries.typed).into_iter().map(str::to_owned)).collect()
    }
}

/// Parses the spec of a LocalCluster. Every field is named, here and in the functions for its parts: a new one does not
/// compile until it is validated.
#[allow(clippy::too_many_lines, reason = "it names every field twice")]
pub fn local_cluster(namespace: &str, name: &str, spec: &LocalClusterSpec) -> Result<Valid, Problems> {
    let LocalClusterSpec {
        version,
        image,
        image_pull_secret,
        state,
        on_data_loss,
        durability,
        cluster_name,
        servers,
        agents,
        agent_pools,
        token,
        network,
        api,
        kubeconfig,
        ports,
        registries,
        files,
        preload_images,
        images: ImagesSpec { from_docker_host },
        manifests,
        host_aliases,
        ttl,
        placement: _, // A part of the Pod that the API server checks.
    } = spec;
    let mut c = Checker::default();
    let names = c.names(namespace, name, cluster_name.as_deref());
    let (servers, agents) = c.pools(servers, agents);
    let (subnet, networks) = c.network(network, spec);
    let api = c.api((namespace, name), api);
    let valid = Valid {
        version: version.clone(),
        image: image.clone(),
        stopped: *state == ClusterState::Stopped,
        on_data_loss: *on_data_loss,
        ephemeral: *durability == Durability::Ephemeral,
        restart: RestartPolicy::UnlessStopped,
        image_pull_secret: c.node_image(version.as_deref(), image.as_deref(), image_pull_secret),
        servers,
        agents,
        agent_pools: c.agent_pools(agent_pools, spec),
        token: token.as_ref().map(|t| c.secret_key("spec.token", t)),
        subnet,
        networks,
        join: network.join.clone(),
        api_ip: api.host_ip,
        api_port: api.host_port,
        sans: api.sans,
        server_name: api.server_name,
        api_service: api.service,
        kubeconfig: c.kubeconfig(kubeconfig),
        ports: c.ports(ports, api.host_ip, api.host_port),
        registries: c.registries(namespace, name, registries),
        files: c.files(files),
        preload_images: c.images(preload_images),
        images_from_host: *from_docker_host,
        manifests: c.manifests(manifests),
        host_aliases: c.host_aliases(host_aliases, spec, &names),
        names,
    };
    c.whole(spec, ttl.as_deref());
    c.done(valid)
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

impl Checker {
    fn names(&mut self, namespace: &str, name: &str, cluster_name: Option<&str>) -> ClusterNames {
        self.fits("metadata.name", name, &format::NAME);
        if let Some(cluster_name) = cluster_name {
            self.fits("spec.clusterName", cluster_name, &format::CLUSTER_NAME);
        }
        ClusterNames::new(names::cluster(namespace, name, cluster_name))
    }

    /// Checks the node image, and returns the name of the Secret for it.
    fn node_image(
        &mut self,
        version: Option<&str>,
        image: Option<&str>,
        pull_secret: &Option<LocalRef>,
    ) -> Option<String> {
        if let Some(version) = version {
            self.fits("spec.version", version, &format::VERSION);
        }
        if let Some(image) = image {
            self.fits("spec.image", image, &format::IMAGE);
        }
        self.check(version.is_none() || image.is_none(), "spec", text::VERSION_OR_IMAGE);
        pull_secret.as_ref().map(|r| self.local_ref("spec.imagePullSecret", r))
    }

    /// Checks what concerns several fields, and the time to live.
    fn whole(&mut self, spec: &LocalClusterSpec, ttl: Option<&str>) {
        self.files_apart(spec);
        self.lifetime(ttl);
    }

    fn lifetime(&mut self, ttl: Option<&str>) {
        let lives = ttl.is_none_or(|ttl| expiry::parse(ttl).is_some());
        self.check(lives, "spec.ttl", text::LIFETIME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{local_cluster::NodePool, registry::EnvVar, rules};

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
    fn a_cluster_is_stopped_only_if_it_says_so() {
        let stopped =
            |state| local_cluster("default", "dev", &LocalClusterSpec { state, ..sound() }).unwrap().stopped;
        assert!(stopped(ClusterState::Stopped) && !stopped(ClusterState::Running));
        for (ttl, lives) in [("72h", true), ("30m", true), ("3 days", false), ("", false)] {
            assert_eq!(problems(|s| s.ttl = Some(ttl.into())).is_empty(), lives, "{ttl}");
        }
    }

    #[test]
    fn a_full_spec_is_parsed() {
        let mut spec = sound();
        spec.servers.memory = Some("2g".into());
        spec.servers.shm_size = Some("1G".into());
        spec.agents.cpus = Some("0.5".into());
        spec.agents.pids = Some(1024);
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
        assert_eq!((valid.servers.pids, valid.agents.pids), (None, Some(1024)));
        assert_eq!(valid.agents.env["HTTP_PROXY"], "http://proxy:3128");
        assert_eq!(valid.subnet.unwrap().to_string(), "172.31.16.0/24");
        assert_eq!((valid.api_ip, valid.api_port), (Ipv4Addr::LOCALHOST, Some(6550)));
    }

    #[test]
    fn every_problem_is_told_with_its_path() {
        let found = problems(|s| {
            s.servers.count = 2;
            s.servers.pids = Some(9);
            s.agents.args = vec!["--token=x".into(), "traefik".into(), "--disable=traefik".into()];
            s.network.subnet = Some("172.31.16.1/24".into());
        });
        let begin = [
            "spec.servers.count: ",
            "spec.servers.pids: ",
            "spec.agents.args[0]: --token",
            "spec.agents.args[1]: ",
            "spec.agents.args[2]: ",
            "spec.network.subnet: ",
        ];
        assert_eq!(found.len(), begin.len(), "{found:?}");
        assert!(found.iter().zip(begin).all(|(f, b)| f.starts_with(b)), "{found:?}");
    }

    /// Tools of the host take what has such labels for their own; another operator would even remove it.
    #[test]
    fn labels_of_containers_are_nobody_elses() {
        let with = |key: &str, value: &str| {
            problems(|s| drop(s.agents.container_labels.insert(key.into(), value.into())))
        };
        for key in ["team", "com.example/tier", "traefik.http.routers.x", "application", "k3d"] {
            assert_eq!(with(key, "a=b c\u{fc}"), [""; 0], "{key}");
        }
        for key in [
            "localcluster.dev/uid",
            "localcluster.dev/allow-namespaces",
            "app",
            "k3d.role",
            "k3s.registry.port.external",
            "com.docker.compose.project",
            "io.x-k8s.kind.cluster",
            "org.testcontainers.session-id",
        ] {
            let found = with(key, "x");
            assert!(found.len() == 1 && found[0].contains("use another key"), "{found:?}");
        }
        for key in ["", "a b", ".a", "a=b", &"a".repeat(129)] {
            let expected = format!("spec.agents.containerLabels[{key}]: {}", text::CONTAINER_LABEL);
            assert_eq!(with(key, "x"), [expected], "{key}");
        }
        for value in ["a\nb", &"x".repeat(1025)] {
            assert!(with("a", value)[0].contains(text::CONTAINER_LABEL_VALUE));
        }
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let begins = |name| rules::FLAGS.iter().any(|r| r.has(name));
        assert!(begins("datastore-endpoint") && begins("cluster-reset-restore-path") && begins("t"));
        assert!(!begins("tls-san-security") && !begins("data-directory") && !begins("kubelet-arg"));
    }
}
