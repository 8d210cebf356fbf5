//! The picture that the operator gets of the world.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use localcluster_operator::{
    api::names,
    child::state::{Child, ChildState, Lease, Member, Node, NodeConfig},
    docker::{
        engine::{self, Attachment, ContainerDetail, EngineInfo, State},
        error::Error,
    },
    k3s::{
        self, KUBECONFIG_FILE, LEASES, REGISTRIES_FILE, RESOLV_CONF_FILE, hosts_file, images::Held,
        load_balancer, manifests, registries,
    },
    plan::{
        containers::outdated,
        desired::Look,
        host_path,
        nodes::health::NodeHealth,
        observed::{
            Balance, Host, ImageState, Kept, Observed, ObservedKubeconfig, ObservedManifests, Preload,
            Reached,
        },
        owner::Owner,
        registries::DIRECTORIES,
        registry::{
            self,
            upstream::{self, REPORT_FILE},
        },
        servers,
        service::objects::ObservedService,
        validate::certificate,
    },
};
use sha2::{Digest, Sha256};

use super::{
    k3s::{etcd::member, lead_version},
    world::{BRIDGE, Container, Network, World},
};

/// The host that has a certificate in the tests.
pub const HOST: &str = "reg.example:5443";

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

impl World {
    pub fn now(&self) -> Timestamp {
        at(self.clock)
    }

    pub fn observe(&self, owner: &Owner) -> Observed {
        let own = self.containers.iter().filter(|(_, c)| owner.owns(&c.labels));
        let own: BTreeMap<_, _> = own.map(|(id, c)| (id.clone(), self.detail(id, c))).collect();
        let seen = |(id, c): (&String, &Container)| match own.get(id) {
            Some(detail) => detail.container.clone(),
            None => self.listed(id, c),
        };
        let containers: Vec<_> = self.containers.iter().map(seen).collect();
        let images = self.images.iter().map(|i| (i.clone(), ImageState::Present));
        let unknown = Error::Pull("manifest unknown".into());
        let failed = self.unknown_images.iter().map(|i| (i.clone(), ImageState::Failed(unknown.clone())));
        let mut files = BTreeMap::new();
        for (id, detail) in &own {
            let balancer = detail.container.labels.get(names::ROLE).is_some_and(|r| r == "loadbalancer");
            if detail.container.state == State::Running && balancer {
                for path in [load_balancer::CONFIG_FILE, load_balancer::APPLIED_FILE] {
                    let hash = self.read(id, path).map(|content| Sha256::digest(&*content).into());
                    files.insert((id.clone(), path.to_owned()), hash);
                }
            }
        }
        let mut credentials = BTreeMap::new();
        let mut trees = BTreeMap::new();
        let mut seen = ObservedManifests::default();
        let ids = self.images.iter().filter_map(|i| Some((i.clone(), self.image_id(i)?)));
        let mut preload = Preload { ids: ids.collect(), ..Preload::default() };
        let child = self.child(&own);
        let hung = own
            .values()
            .filter(|d| matches!(child, Child::Unreachable(_)) && d.container.state == State::Running)
            .filter_map(|d| Some((d.container.name.clone(), at(self.containers[&d.container.id].hung?))))
            .collect();
        let several = own.values().filter(|d| servers::is_made_for_etcd(d)).count() > 1;
        let leaders: BTreeMap<_, _> = own
            .iter()
            .filter(|_| several && matches!(child, Child::Unreachable(_)))
            .filter_map(|(id, d)| Some((d.container.name.clone(), self.has_leader(id)?)))
            .collect();
        let without_data = self.without_data(&own, &leaders);
        let resets = self.containers.iter().filter(|(_, c)| c.resets() && c.state == State::Exited);
        let logs = resets.map(|(id, _)| (id.clone(), self.log(id))).collect();
        for (id, detail) in &own {
            let c = &self.containers[id];
            if !matches!(c.command.first().map(String::as_str), Some("server" | "agent"))
                || c.started.is_none()
            {
                continue;
            }
            let hash = |path: &str| self.read(id, path).map(|content| Sha256::digest(&*content).into());
            for path in [REGISTRIES_FILE.to_owned(), RESOLV_CONF_FILE.to_owned(), certificate(HOST, "ca.crt")]
            {
                files.insert((id.clone(), path.clone()), hash(&path));
            }
            let file = self.read(id, REGISTRIES_FILE).unwrap_or_default();
            let parsed = registries::parse_rendered(&String::from_utf8_lossy(&file)).unwrap_or_default();
            credentials.insert(id.clone(), parsed.auth());
            let Child::Reachable(state) = &child else { continue };
            let health =
                NodeHealth { detail, node: state.nodes.get(&c.name), hung_since: None, lacks_leader: false };
            if health.is_ready() {
                let tree = DIRECTORIES.iter().flat_map(|d| self.tree(id, d)).collect();
                trees.insert(id.clone(), tree);
                if c.command.first().is_some_and(|a| a == "server") {
                    let tree = self.tree(id, manifests::DIRECTORY);
                    let own = tree.into_iter().filter(|(path, _)| manifests::name_of(path).is_some());
                    seen.files.insert(id.clone(), own.collect());
                }
                preload.nodes.insert(id.clone(), Ok(self.images_of(id)));
            }
        }
        let (kept, rejected) = (self.kept(&own), self.rejected(&own));
        let hosts = own.keys().filter_map(|id| {
            Some((id.clone(), String::from_utf8_lossy(&self.read(id, hosts_file::FILE)?).into_owned()))
        });
        let hosts = hosts.collect();
        let placed = own.values().filter(|d| {
            d.started_at.is_some()
                && d.container.labels.get(names::ROLE).is_some_and(|role| role == "loadbalancer")
        });
        let placed = placed.filter_map(|d| self.read(&d.container.id, load_balancer::CONFIG_FILE));
        let placed = placed.flat_map(|file| load_balancer::placed(&String::from_utf8_lossy(&file))).collect();
        let balancer = |d: &&ContainerDetail| {
            let role = d.container.labels.get(names::ROLE);
            d.container.state == State::Running && role.is_some_and(|role| role == "loadbalancer")
        };
        let mut balancers = own.iter().filter(|(_, d)| balancer(d));
        let resolvers_changed = balancers.any(|(id, _)| self.containers[id].resolvers != self.resolvers);
        let running = own.values().filter(|d| d.container.state == State::Running);
        let probed = running.map(|d| (d.container.name.clone(), self.kube_proxy(&d.container.name)));
        let balance = Balance { placed, probed: probed.collect() };
        let host = Host {
            engine: EngineInfo { id: "engine".into(), version: "29".into(), ..super::world::runtimes() },
            networks: self.networks.iter().map(|(id, n)| network(id, n)).collect(),
            volumes: self
                .volumes
                .iter()
                .map(|(name, v)| engine::Volume { name: name.clone(), labels: (*v.labels).clone() })
                .collect(),
            containers,
            own,
        };
        Observed {
            host_images: None,
            // The kubeconfig follows from what the servers wrote.
            reached: Reached {
                host,
                kept,
                child,
                hung,
                leaders,
                without_data,
                balance,
                limits: None,
                resolvers_changed,
                kubeconfig: ObservedKubeconfig::default(),
                service: ObservedService::default(),
            },
            images: failed.chain(images).collect(),
            files,
            trees,
            registries: credentials,
            secrets: BTreeMap::new(),
            preload,
            manifests: seen,
            rejected,
            refused_arguments: BTreeMap::new(),
            log_errors: BTreeMap::new(),
            logs,
            upstream: None,
            host_paths: BTreeMap::new(),
            hosts,
        }
    }

    /// What the volumes of nodes hold that were never started.
    fn kept(&self, own: &BTreeMap<String, ContainerDetail>) -> BTreeMap<String, Kept> {
        let new = own.iter().filter(|(id, d)| {
            let node =
                matches!(self.containers[*id].command.first().map(String::as_str), Some("server" | "agent"));
            node && d.container.state == State::Created && d.started_at.is_none()
        });
        let kept = |id: &str| Kept {
            data: k3s::DATA.iter().any(|path| self.path_info(id, path).is_some()),
            password: self.path_info(id, k3s::PASSWORD_FILE).is_some(),
        };
        new.map(|(id, _)| (id.clone(), kept(id))).collect()
    }

    /// The servers that have not joined, while another one has no leader.
    fn without_data(
        &self,
        own: &BTreeMap<String, ContainerDetail>,
        leaders: &BTreeMap<String, bool>,
    ) -> BTreeSet<String> {
        if !leaders.values().any(|has_leader| !has_leader) {
            return BTreeSet::new();
        }
        let started = own.iter().filter(|(_, d)| {
            let silent = !leaders.contains_key(&d.container.name);
            servers::is_made_for_etcd(d) && d.started_at.is_some() && silent
        });
        let empty = started.filter(|(id, _)| k3s::DATA.iter().all(|path| self.path_info(id, path).is_none()));
        empty.map(|(_, d)| d.container.name.clone()).collect()
    }

    /// The nodes that the cluster refuses, as their log tells after a while.
    fn rejected(&self, own: &BTreeMap<String, ContainerDetail>) -> BTreeSet<String> {
        let refused = |id: &&String| {
            let c = &self.containers[*id];
            let old = c.started.is_some_and(|at| self.clock >= at + 10);
            c.state == State::Running && old && self.is_refused(id)
        };
        own.keys().filter(refused).cloned().collect()
    }

    /// What a node's containerd was given from the engine.
    pub fn images_of(&self, id: &str) -> BTreeMap<String, Held> {
        let mounts = self.containers[id].mounts.values();
        let images = mounts.filter_map(|v| self.volumes.get(v)).flat_map(|v| v.images.iter());
        images.filter_map(|(name, id)| Some((name.clone(), Held { id: id.clone()?, own: true }))).collect()
    }

    /// What is looked at of a registry once it is known what is wanted.
    pub fn details(
        &self,
        observed: &mut Observed,
        desired: &registry::Desired,
        subject: &registry::Subject<'_>,
    ) {
        for (id, detail) in &observed.reached.host.own {
            if detail.container.name == desired.container.name && detail.started_at.is_some() {
                for file in &desired.container.files {
                    let hash = self.read(id, &file.path).map(|content| Sha256::digest(&*content).into());
                    observed.files.insert((id.clone(), file.path.clone()), hash);
                }
            }
            if detail.container.state == State::Exited {
                observed.logs.insert(id.clone(), self.log(id));
            }
        }
        if let Some(look) = registry::host_path::look(desired, subject) {
            self.look(observed, &look);
        }
        if subject.valid.proxy.is_some() {
            let (report, lines) =
                (self.read(&desired.container.name, REPORT_FILE), self.log(&desired.container.name));
            observed.upstream = upstream::told(report.as_deref(), &lines, subject.secrets, subject.now);
        }
    }

    /// What the directories of the host are, where there is a container to look at them.
    pub fn look(&self, observed: &mut Observed, look: &Look) {
        let detail = observed.own.values().find(|d| d.container.name == look.looker.name);
        let Some(detail) = detail.filter(|d| !outdated(observed, d, &look.looker, None)) else { return };
        let id = detail.container.id.clone();
        for (path, prefix) in &look.paths {
            let parts = host_path::parts(prefix, path);
            let infos: Vec<_> = parts.into_iter().map(|(i, o)| (o, self.path_info(&id, &i))).collect();
            observed.host_paths.insert(path.clone(), host_path::judge(path, &infos));
        }
    }

    pub fn listed(&self, id: &str, c: &Container) -> engine::Container {
        // Docker does not list aliases.
        let place = |(id, p): (&String, &super::world::Place)| {
            let network_name = p.name.clone();
            (id.clone(), Attachment { network_name, ip: p.ip, pinned: p.pinned, aliases: Vec::new() })
        };
        engine::Container {
            id: id.to_owned(),
            name: c.name.clone(),
            image: c.image.clone(),
            labels: (*c.labels).clone(),
            state: c.state,
            // Before anybody tried to start it, a place on Docker's own network has no ID.
            networks: c
                .networks
                .iter()
                .filter(|(network, _)| c.started.is_some() || c.error.is_some() || *network != BRIDGE)
                .map(place)
                .collect(),
            ports: if c.is_up() { c.wanted_ports.to_vec() } else { Vec::new() },
            writable_binds: c.writable_binds.to_vec(),
        }
    }

    pub fn detail(&self, id: &str, c: &Container) -> ContainerDetail {
        let mut container = self.listed(id, c);
        for (network, place) in &mut container.networks {
            place.aliases.clone_from(&c.networks[network].aliases);
        }
        ContainerDetail {
            container,
            created_at: c.created.map(at),
            started_at: c.started.map(at),
            started_again: c.started_again,
            ended_at: (c.state == State::Exited).then(|| c.ended.map_or_else(|| self.now(), at)),
            exit_code: c.exit_code,
            error: c.error.clone(),
            wanted_ports: c.wanted_ports.to_vec(),
            restart_policy: c.restart_policy,
            volumes: c.mounts.values().cloned().collect(),
            past_proxy: c.past_proxy.to_vec(),
            hostname: c.name.clone(),
            has_no_network: c.networks.is_empty(),
            limits: c.limits,
            runtime: c.isolation.runtime.clone(),
            privileged: c.isolation.privileged == Some(true),
            entrypoint: self.upstreams.entrypoints.get(&c.image).cloned().unwrap_or_default(),
        }
    }

    fn child(&self, own: &BTreeMap<String, ContainerDetail>) -> Child {
        let servers = own.values().filter(|d| {
            d.container.labels.get(names::ROLE).is_some_and(|r| r == "server") && d.started_at.is_some()
        });
        let mut files = servers.filter_map(|d| Some((d, self.read(&d.container.id, KUBECONFIG_FILE)?)));
        let Some((server, file)) = files.next() else { return Child::Unknown };
        match self.state(&server.container.labels[names::CLUSTER], &String::from_utf8_lossy(&file)) {
            Ok(state) => Child::Reachable(state),
            Err(why) => Child::Unreachable(why),
        }
    }

    /// What the created cluster's API tells.
    pub fn state(&self, cluster: &str, kubeconfig: &str) -> Result<ChildState, String> {
        let incarnation = self.reach(cluster, kubeconfig)?;
        let cluster = &self.clusters[&incarnation];
        let node = |name: &String, n: &super::k3s::Node| Node {
            voter: cluster.members.get(name).copied().filter(|_| cluster.etcd && !n.made),
            leaving: n.leaving,
            left: n.left,
            ready: n.ready,
            since: Some(at(n.since)),
            message: if n.ready { String::new() } else { "kubelet is silent".into() },
            lacks_network_plugin: self.no_network_plugin && !n.ready,
            pressures: if n.full { vec!["DiskPressure".into()] } else { Vec::new() },
            addresses: n.address.map(Into::into).into_iter().collect(),
            version: n.version.clone(),
            renewed: Some(at(n.renewed)),
            api_renewed: n.api_renewed.map(at),
            schedulable: n.draining.is_none(),
            draining_since: n.draining.map(at),
            pods_to_evict: if n.draining.is_some() { n.pods.into() } else { 0 },
            pods: None,
            labels: n.labels.clone(),
            taints: n.taints.clone(),
            configured: n
                .configured
                .as_ref()
                .map(|c| NodeConfig { labels: c.labels.clone(), taints: c.taints.clone() }),
        };
        Ok(ChildState {
            nodes: cluster.nodes.iter().map(|(name, n)| (name.clone(), node(name, n))).collect(),
            pods_can_start: cluster.service_account,
            config: cluster.config.clone(),
            accounts: cluster.accounts.clone(),
            members: cluster.etcd.then(|| members(&cluster.members)),
            leases: cluster
                .lead
                .iter()
                .flat_map(|lead| LEASES.map(|(name, _)| (name.into(), lease(lead))))
                .collect(),
        })
    }
}

fn members(all: &BTreeMap<String, bool>) -> Vec<Member> {
    all.iter().map(|(node, votes)| member(node, *votes)).collect()
}

fn lease(lead: &(String, i64)) -> Lease {
    Lease { holder: lead.0.clone(), renewed: Some(at(lead.1)), version: lead_version(lead) }
}

pub fn network(id: &str, n: &Network) -> engine::Network {
    engine::Network {
        id: id.to_owned(),
        name: n.name.clone(),
        labels: (*n.labels).clone(),
        subnets: vec![n.subnet],
        driver: "bridge".into(),
        created: at(n.created).to_string(),
    }
}
