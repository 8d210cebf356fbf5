//! Desired node of a LocalCluster.

use std::{collections::BTreeMap, net::Ipv4Addr};

use sha2::{Digest, Sha256};

use super::build::{Basis, Build};
use crate::{
    api::{
        local_cluster::NodeRole,
        names::{self, Pool},
    },
    child::state::NodeConfig,
    docker::spec::{ContainerSpec, FileChange, FileSpec, RestartPolicy, Role, VolumeSpec},
    k3s::{
        self,
        args::{self, NodeArgs},
        dns, proxy,
        reserved::{self, Limits},
    },
    plan::{
        desired::NodeSpec,
        host_aliases, registries, servers,
        subject::Subject,
        validate::{ValidFile, ValidPool},
    },
};

/// Resolvers that the hash of a node contains if `--node-dns` is not set. Earlier operators wrote them into the nodes,
/// which must not be replaced for it.
const UNSET: [&str; 2] = ["1.1.1.1", "8.8.8.8"];

impl Build<'_> {
    /// Returns a node; `None` if it has no address.
    pub(super) fn node(&self, of: &Pool, pool: &ValidPool, index: usize) -> Option<NodeSpec> {
        let Basis { subject: Subject { valid, settings, .. }, allocation, observed } = self.basis;
        let name = valid.names.node_of(of, index);
        let ip = allocation.node(&valid.names, of, index)?;
        let role = of.role();
        let defaults = settings.node_defaults;
        let limits = Limits {
            memory: pool.memory.or(defaults.memory),
            nano_cpus: pool.nano_cpus.or(defaults.nano_cpus),
        };
        let isolation = pool.isolation.or(&settings.node_isolation);
        let engine = &observed.engine;
        let host_args = reserved::argument(limits, engine.memory, engine.cpus, &pool.args);
        let volume = |kind: &str| names::volume(&name, kind);
        let volumes = k3s::NODE_VOLUMES
            .iter()
            .map(|(kind, _)| VolumeSpec { name: volume(kind), labels: self.labels(None) })
            .collect();
        let mounts =
            k3s::NODE_VOLUMES.iter().map(|(kind, path)| ((*path).to_owned(), volume(kind))).collect();
        let container = ContainerSpec {
            role: Role::Node(role),
            image: self.image.clone(),
            command: self.command(role, pool),
            host_args: host_args.into_iter().collect(),
            env: pool.env.clone(),
            host_env: proxy::past(&pool.env, &self.inside()),
            labels: self.node_labels(of),
            given_labels: pool.container_labels.clone(),
            privileged: isolation.privileged != Some(false),
            runtime: isolation.runtime,
            given_isolation: pool.isolation.clone(),
            shares_mounts: true,
            skips_flushes: valid.ephemeral,
            tmpfs: vec!["/run".into(), "/var/run".into()],
            volume_labels: self.labels(None),
            binds: pool.volumes.clone(),
            given_volumes: pool.named_volumes.clone(),
            restart_policy: self.restart_policy(of),
            mounts,
            endpoint: self.endpoint(ip),
            ports: Vec::new(),
            memory: pool.memory,
            shm_size: pool.shm_size,
            nano_cpus: pool.nano_cpus,
            pids: pool.pids,
            defaults,
            ulimits: pool.ulimits.clone(),
            gpus: pool.gpus,
            extra_hosts: host_aliases::of_nodes(&valid.host_aliases, allocation.addresses.gateway()),
            files: self.node_files(of, index),
            expects: self.expects(&name),
            given_files: self.given(role).map(|f| f.path.clone()).collect(),
            name,
        };
        let config = NodeConfig { labels: pool.labels.clone(), taints: pool.taints.clone() };
        Some(NodeSpec { pool: of.clone(), container, volumes, config, mounts: self.mounts.clone() })
    }

    /// Returns the restart policy of a node. Of several servers, one without restarts is one that leaves etcd.
    fn restart_policy(&self, of: &Pool) -> RestartPolicy {
        let valid = self.basis.subject.valid;
        let several = valid.servers.count > 1 || self.existing.len() > 1;
        if *of == Pool::Servers && several { RestartPolicy::UnlessStopped } else { valid.restart }
    }

    /// Returns the command line of K3s.
    fn command(&self, role: NodeRole, pool: &ValidPool) -> Vec<String> {
        let Basis { subject: Subject { valid, .. }, allocation, .. } = self.basis;
        let addresses = [valid.api_ip.to_string(), allocation.addresses.load_balancer().to_string()];
        let sans: Vec<String> = valid.sans.iter().cloned().chain(addresses).collect();
        args::command(&NodeArgs {
            role,
            load_balancer: &valid.names.load_balancer(),
            sans: &sans,
            taints: &pool.taints,
            default_endpoint: valid.registries.default_endpoint,
            cgroup_v1: self.cgroup_v1,
            extra: &pool.args,
        })
    }

    fn node_labels(&self, of: &Pool) -> BTreeMap<String, String> {
        let mut labels = self.labels(Some(match of.role() {
            NodeRole::Server => "server",
            NodeRole::Agent => "agent",
        }));
        if *of == Pool::Servers && self.etcd {
            labels.insert(names::DATASTORE.into(), names::ETCD.into());
        }
        if let Some(name) = of.name() {
            labels.insert(names::POOL.into(), name.into());
        }
        labels
    }

    /// Returns the files of a node: those that K3s is configured with, and those of the spec.
    fn node_files(&self, of: &Pool, index: usize) -> Vec<FileSpec> {
        let role = of.role();
        let Subject { valid, refs, .. } = *self.basis.subject;
        let file = |path: &str, mode, content, change| FileSpec { path: path.into(), mode, content, change };
        let join = (role == NodeRole::Server).then(|| self.join(index));
        // A server that joins no other one has no CA yet, or its own.
        let joins = join.as_deref().is_none_or(servers::joins);
        let ca_hash = refs.ca_hash.as_deref().filter(|_| joins);
        let token = k3s::token::pinned(&refs.token, ca_hash, role);
        let join = join.map(|join| file(k3s::JOIN_FILE, 0o600, join.into_bytes(), FileChange::Keep));
        [file(k3s::TOKEN_FILE, 0o600, token, FileChange::Token), self.resolv_conf()]
            .into_iter()
            .chain(join)
            .chain(self.files(role))
            .chain(self.registry_files(&valid.names.node_of(of, index)))
            .collect()
    }

    /// Returns the file with the resolvers of Pods. The kubelet reads it for each Pod that it starts.
    fn resolv_conf(&self) -> FileSpec {
        let Basis { subject: Subject { settings, .. }, allocation, .. } = self.basis;
        let render =
            |servers: &[String]| servers.iter().map(|ip| format!("nameserver {ip}\n")).collect::<String>();
        let set = &settings.node_dns;
        let (content, setting) = match set.is_empty() {
            true => (
                render(&[allocation.addresses.load_balancer().to_string()]),
                render(&UNSET.map(str::to_owned)),
            ),
            false => (render(set), render(set)),
        };
        FileSpec {
            path: k3s::RESOLV_CONF_FILE.into(),
            mode: 0o644,
            content: content.into_bytes(),
            change: FileChange::LiveFrom(Sha256::digest(setting).into()),
        }
    }

    /// Returns the expected content of existing volumes of a node: the data of a server that is known to have data,
    /// and the node password that its Node was registered with.
    fn expects(&self, node: &str) -> Vec<Vec<String>> {
        let Basis { subject: Subject { valid, .. }, observed, .. } = self.basis;
        let there = |kind: &str| {
            let name = names::volume(node, kind);
            observed.volumes.iter().any(|v| v.name == name)
        };
        let server = valid.names.parse_server(node);
        let data =
            server.is_some() && servers::is_known(node, observed, &self.holders) && there(k3s::STATE_VOLUME);
        let password = observed.node(node).is_some() && there(k3s::ETC_VOLUME);
        let data = data.then(|| k3s::DATA.map(String::from).to_vec());
        let password = password.then(|| vec![k3s::PASSWORD_FILE.to_owned()]);
        data.into_iter().chain(password).collect()
    }

    /// Returns the registry files of a node. A node that was started keeps its files until all registries are known.
    fn registry_files(&self, node: &str) -> Vec<FileSpec> {
        let own = self.basis.observed.own_named(node);
        let started = own.is_some_and(|d| d.started_at.is_some());
        let known = self.registries.as_ref().filter(|r| r.complete || !started);
        known.map(|r| r.files.clone()).unwrap_or_default()
    }

    /// Returns what must bypass a proxy: the nodes, their network, and the cluster.
    fn inside(&self) -> Vec<String> {
        let Basis { subject: Subject { valid, refs, .. }, allocation, .. } = self.basis;
        let nodes = valid.nodes().map(|(pool, index)| valid.names.node_of(&pool, index));
        let registries = registries::mirrored(&valid.registries, refs).into_iter().map(|r| r.hostname);
        let networks = ["cluster-cidr", "service-cidr"].map(|flag| args::value(&valid.servers.args, flag));
        let networks = networks
            .into_iter()
            .zip(args::DEFAULT_CIDRS)
            .flat_map(|(own, default)| own.unwrap_or(default).split(',').map(str::to_owned));
        let domain = args::value(&valid.servers.args, "cluster-domain").unwrap_or(args::DEFAULT_DOMAIN);
        ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), allocation.addresses.subnet.to_string()]
            .into_iter()
            .chain([valid.names.load_balancer()])
            .chain(nodes)
            .chain(registries)
            .chain([dns::HOST.to_owned()])
            .chain(networks)
            .chain([".svc".to_owned(), format!(".{domain}")])
            .collect()
    }

    fn join(&self, index: usize) -> String {
        let voter = |other: usize| {
            let name = self.basis.subject.valid.names.node(NodeRole::Server, other);
            self.basis.observed.child.state().is_some_and(|state| state.voters().contains(name.as_str()))
        };
        servers::join_file(index, self.etcd, self.basis.allocation.addresses, self.existing, voter)
    }

    /// Returns the files of the spec for nodes of a role.
    fn given(&self, role: NodeRole) -> impl Iterator<Item = &ValidFile> {
        self.basis.subject.valid.files.iter().filter(move |f| f.nodes.contains(role))
    }

    fn files(&self, role: NodeRole) -> impl Iterator<Item = FileSpec> {
        let live = self.registries.as_ref().map(|r| k3s::registries::named(&r.merged)).unwrap_or_default();
        let inputs = self.basis.subject.refs.inputs.as_ref();
        self.given(role).filter_map(move |given| {
            Some(FileSpec {
                path: given.path.clone(),
                mode: given.mode(),
                content: inputs?.files.get(&given.path)?.clone(),
                change: if live.contains(given.path.as_str()) {
                    FileChange::Live
                } else {
                    FileChange::Recreate
                },
            })
        })
    }
}
