//! Desired containers of a LocalCluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{image, image_of};
use crate::{
    api::{
        condition::ConditionType,
        local_cluster::{NodeRole, NodeSet, Protocol},
        names,
    },
    child::state::NodeConfig,
    docker::spec::{
        ContainerSpec, EndpointSettings, FileChange, FileSpec, NetworkSpec, PortBinding, Role, VolumeSpec,
    },
    k3s::{
        self,
        args::{self, NodeArgs},
        dns,
        load_balancer::{self, Forward},
        proxy,
        reserved::{self, Limits},
        versions::{self, Version},
    },
    plan::{
        addresses::Addresses,
        balance::{self, Standing},
        desired::{Allocation, Desired, Mounts, NodeRegistries, NodeSpec},
        host_aliases,
        observed::Reached,
        registries, servers,
        steps::Plan,
        subject::Subject,
        validate::{ValidFile, ValidPool},
    },
};

/// Inputs of the desired state.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// The cluster.
    pub subject: &'a Subject<'a>,
    /// The allocation.
    pub allocation: &'a Allocation,
    /// The observed state.
    pub observed: &'a Reached,
}

/// Computes the desired state. Adds a problem if the cluster cannot run the version in its spec.
pub fn desired(plan: &mut Plan, basis: Basis<'_>) -> Desired {
    let Basis { subject, allocation, observed } = basis;
    let Subject { valid, owner, settings, refs, previous, .. } = *subject;
    let (image, refusal) = image(valid, settings, observed, previous);
    if let Some((reason, message)) = refusal {
        plan.stalls(ConditionType::ControlPlaneReady, reason, message);
    }
    let holders = servers::holders(previous, &valid.names);
    let existing = servers::existing(&valid.names, owner, observed, &holders);
    let etcd = servers::in_etcd(valid.servers.count, &existing);
    let version = versions::of_image(&image);
    let refuses = version.as_deref().and_then(Version::parse).is_none_or(|v| v.refuses_cgroup_v1());
    let cgroup_v1 = observed.engine.cgroup_v1 && refuses;
    let registries = refs.inputs.as_ref().map(|inputs| registries::of_nodes(valid, refs, inputs));
    let mounts = Mounts::new(valid, owner, &image, &settings.allowed_host_paths);
    let build = Build {
        basis,
        image,
        cgroup_v1,
        registries: &registries,
        existing: &existing,
        holders,
        etcd,
        mounts: &mounts,
    };
    let Addresses { subnet } = allocation.addresses;
    Desired {
        names: valid.names.clone(),
        network: NetworkSpec {
            name: valid.names.network(),
            subnet,
            gateway: allocation.addresses.gateway(),
            ip_range: allocation.addresses.strangers(),
            labels: build.labels(None),
        },
        addresses: allocation.addresses,
        servers: (0..valid.servers.count).map(|i| build.node(NodeRole::Server, &valid.servers, i)).collect(),
        agents: (0..valid.agents.count).map(|i| build.node(NodeRole::Agent, &valid.agents, i)).collect(),
        max_unavailable: valid.agents.max_unavailable,
        load_balancer: build.load_balancer(),
        awaited: build.awaited(),
        strangers: valid.registries.containers.iter().map(|c| c.name.clone()).collect(),
        preload: valid.preload_images.clone(),
        version,
        registries,
        on_data_loss: valid.on_data_loss,
        host_aliases: valid.host_aliases.clone(),
        mounts: mounts.clone(),
    }
}

struct Build<'a> {
    basis: Basis<'a>,
    image: String,
    cgroup_v1: bool,
    registries: &'a Option<NodeRegistries>,
    existing: &'a BTreeMap<usize, servers::Server<'a>>,
    holders: Vec<String>,
    etcd: bool,
    mounts: &'a Arc<Mounts>,
}

impl Build<'_> {
    fn labels(&self, role: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = self.basis.subject.owner.labels();
        labels.insert(names::APP.into(), "k3d".into());
        labels.insert(names::CLUSTER.into(), self.basis.subject.valid.names.cluster.clone());
        if let Some(role) = role {
            labels.insert(names::ROLE.into(), role.into());
            labels.insert(names::SUBNET.into(), self.basis.allocation.addresses.subnet.to_string());
        }
        labels
    }

    fn node(&self, role: NodeRole, pool: &ValidPool, index: usize) -> NodeSpec {
        let name = self.basis.subject.valid.names.node(role, index);
        let mut sans = self.basis.subject.valid.sans.clone();
        sans.push(self.basis.subject.valid.api_ip.to_string());
        sans.push(self.basis.allocation.addresses.load_balancer().to_string());
        let command = args::command(&NodeArgs {
            role,
            load_balancer: &self.basis.subject.valid.names.load_balancer(),
            sans: &sans,
            taints: &pool.taints,
            default_endpoint: self.basis.subject.valid.registries.default_endpoint,
            cgroup_v1: self.cgroup_v1,
            extra: &pool.args,
        });
        let limits = Limits { memory: pool.memory, nano_cpus: pool.nano_cpus };
        let engine = &self.basis.observed.engine;
        let resolvers: String =
            self.basis.subject.settings.node_dns.iter().map(|ip| format!("nameserver {ip}\n")).collect();
        let file = |path: &str, mode, content: Vec<u8>, change| FileSpec {
            path: path.into(),
            mode,
            content,
            change,
        };
        let mut labels = self.labels(Some(match role {
            NodeRole::Server => "server",
            NodeRole::Agent => "agent",
        }));
        if role == NodeRole::Server && self.etcd {
            labels.insert(names::DATASTORE.into(), names::ETCD.into());
        }
        let volumes = k3s::NODE_VOLUMES
            .iter()
            .map(|(kind, _)| VolumeSpec { name: names::volume(&name, kind), labels: self.labels(None) })
            .collect();
        let container = ContainerSpec {
            role: Role::Node(role),
            image: self.image.clone(),
            command,
            host_args: reserved::argument(limits, engine.memory, engine.cpus, &pool.args)
                .into_iter()
                .collect(),
            env: pool.env.clone(),
            host_env: proxy::past(&pool.env, &self.inside()),
            labels,
            privileged: true,
            shares_mounts: true,
            tmpfs: vec!["/run".into(), "/var/run".into()],
            volume_labels: self.labels(None),
            binds: pool.volumes.clone(),
            once: false,
            mounts: k3s::NODE_VOLUMES
                .iter()
                .map(|(kind, path)| ((*path).to_owned(), names::volume(&name, kind)))
                .collect(),
            endpoint: self.endpoint(self.basis.allocation.addresses.node(role, index)),
            ports: Vec::new(),
            memory: pool.memory,
            shm_size: pool.shm_size,
            nano_cpus: pool.nano_cpus,
            ulimits: pool.ulimits.clone(),
            gpus: pool.gpus,
            extra_hosts: host_aliases::of_nodes(
                &self.basis.subject.valid.host_aliases,
                self.basis.allocation.addresses.gateway(),
            ),
            files: [
                file(k3s::TOKEN_FILE, 0o600, self.basis.subject.refs.token.clone(), FileChange::Recreate),
                file(k3s::RESOLV_CONF_FILE, 0o644, resolvers.into_bytes(), FileChange::Replace),
            ]
            .into_iter()
            .chain((role == NodeRole::Server).then(|| {
                let join = self.join(index).into_bytes();
                file(k3s::JOIN_FILE, 0o600, join, FileChange::Keep)
            }))
            .chain(self.files(role))
            .chain(self.registry_files(&name))
            .collect(),
            expects: self.expects(&name),
            given_files: self.given(role).map(|f| f.path.clone()).collect(),
            name,
        };
        let config = NodeConfig { labels: pool.labels.clone(), taints: pool.taints.clone() };
        NodeSpec { container, volumes, config, mounts: self.mounts.clone() }
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
        let pools = [(NodeRole::Server, &valid.servers), (NodeRole::Agent, &valid.agents)];
        let nodes = pools
            .into_iter()
            .flat_map(|(role, pool)| (0..pool.count).map(move |i| valid.names.node(role, i)));
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
            self.basis.observed.node(&name).is_some_and(|n| n.voter == Some(true))
        };
        servers::join_file(index, self.etcd, self.basis.allocation.addresses, self.existing, voter)
    }

    /// Returns the files of the spec for nodes of a role.
    fn given(&self, role: NodeRole) -> impl Iterator<Item = &ValidFile> {
        self.basis.subject.valid.files.iter().filter(move |f| match f.nodes {
            NodeSet::All => true,
            NodeSet::Servers => role == NodeRole::Server,
            NodeSet::Agents => role == NodeRole::Agent,
        })
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

    fn endpoint(&self, ip: Ipv4Addr) -> EndpointSettings {
        EndpointSettings { ip: Some(ip), ..EndpointSettings::default() }
    }

    /// Returns the nodes that published ports forward to, with their state.
    fn standings(&self) -> impl Iterator<Item = (String, Ipv4Addr, Standing)> {
        let Basis { subject: Subject { valid, now, .. }, allocation, observed } = self.basis;
        balance::standings(observed, valid, allocation.addresses, *now)
    }

    /// Returns the nodes that published ports are about to forward to.
    fn awaited(&self) -> Vec<String> {
        let awaited = self.standings().filter(|(_, _, standing)| *standing == Standing::Awaited);
        awaited.map(|(name, _, _)| name).collect()
    }

    fn load_balancer(&self) -> ContainerSpec {
        let addresses = self.basis.allocation.addresses;
        let nodes = |role, pool: &ValidPool| (0..pool.count).map(move |i| addresses.node(role, i));
        let servers: Vec<_> = nodes(NodeRole::Server, &self.basis.subject.valid.servers).collect();
        let agents: Vec<_> = nodes(NodeRole::Agent, &self.basis.subject.valid.agents).collect();
        let count = self.basis.subject.valid.servers.count;
        let serving =
            servers::serving(count, self.etcd, self.existing, self.basis.observed, self.basis.subject.now);
        let mut forwards = vec![Forward {
            listen: k3s::API_PORT,
            protocol: Protocol::Tcp,
            port: k3s::API_PORT,
            nodes: serving.into_iter().map(|i| addresses.node(NodeRole::Server, i)).collect(),
            placed: true,
        }];
        let placed: BTreeSet<Ipv4Addr> = self
            .standings()
            .filter(|(_, _, standing)| *standing == Standing::Placed)
            .map(|(_, ip, _)| ip)
            .collect();
        // If no node is known to handle traffic, the ports forward to all: one of them may respond.
        let nodes_of = |set| {
            let all: Vec<Ipv4Addr> = match set {
                NodeSet::All => servers.iter().chain(&agents).copied().collect(),
                NodeSet::Servers => servers.clone(),
                NodeSet::Agents => agents.clone(),
            };
            let known: Vec<Ipv4Addr> = all.iter().filter(|ip| placed.contains(ip)).copied().collect();
            if known.is_empty() { (all, false) } else { (known, true) }
        };
        let api = PortBinding {
            host_ip: self.basis.subject.valid.api_ip.to_string(),
            host_port: self.basis.allocation.api_port,
            port: k3s::API_PORT,
            protocol: Protocol::Tcp.docker().into(),
        };
        let mut ports: Vec<PortBinding> =
            self.basis.allocation.api_held.is_none().then_some(api).into_iter().collect();
        for (port, allocated) in self.basis.subject.valid.ports.iter().zip(&self.basis.allocation.ports) {
            for i in 0..=port.further {
                let (listen, host_port) = (allocated.listen + i, allocated.host_port + i);
                let (nodes, placed) = nodes_of(port.nodes);
                forwards.push(Forward {
                    listen,
                    protocol: port.protocol,
                    port: port.port + i,
                    nodes,
                    placed,
                });
                if !allocated.held.contains_key(&host_port) {
                    ports.push(PortBinding {
                        host_ip: port.host_ip.to_string(),
                        host_port,
                        port: listen,
                        protocol: port.protocol.docker().into(),
                    });
                }
            }
        }
        let config = load_balancer::render(&forwards).into_bytes();
        let mut files = vec![FileSpec {
            path: load_balancer::CONFIG_FILE.into(),
            mode: 0o644,
            content: config,
            change: FileChange::Hangup,
        }];
        files.push(FileSpec {
            path: load_balancer::APPLIED_FILE.into(),
            mode: 0o644,
            content: names::hex(&files[0].sha256()).into_bytes(),
            change: FileChange::Hangup,
        });
        let mut labels = self.labels(Some("loadbalancer"));
        labels.insert(names::API_PORT.into(), self.basis.allocation.api_port.to_string());
        let name = self.basis.subject.valid.names.load_balancer();
        // Kept for the same reason as the node image.
        let image = image_of(self.basis.observed, &name)
            .unwrap_or_else(|| self.basis.subject.settings.load_balancer_image.clone());
        ContainerSpec {
            labels,
            endpoint: self.endpoint(addresses.load_balancer()),
            ports,
            files,
            ..ContainerSpec::bare(name, Role::LoadBalancer, image)
        }
    }
}
