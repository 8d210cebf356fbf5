//! Desired containers of a LocalCluster.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use super::{NodeImage, image};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, names},
    docker::spec::{Addressing, EndpointSettings, NetworkSpec},
    k3s::versions::{self, Version},
    plan::{
        addresses::Addresses,
        desired::{Allocation, Desired, Mounts, NodeRegistries, NodeSpec, PoolSpec},
        host_aliases, host_images,
        observed::Reached,
        registries, servers,
        steps::Plan,
        subject::Subject,
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
    let NodeImage { image, default, refusal } = image(valid, settings, observed, previous);
    if let Some((reason, message)) = refusal {
        plan.stalls(ConditionType::ControlPlaneReady, reason, message);
    }
    let holders = servers::holders(previous, &valid.names);
    let existing = servers::existing(&valid.names, owner, observed, &holders);
    let etcd = servers::in_etcd(valid.servers.count, &existing);
    let version = versions::of_image(&image);
    let refuses = version.as_deref().and_then(Version::parse).is_none_or(|v| v.refuses_cgroup_v1());
    let cgroup_v1 = observed.engine.cgroup_v1 && refuses;
    let host_images = host_images::of_cluster(valid, refs, allocation, version.as_deref());
    let registries = refs.inputs.as_ref();
    let registries = registries.map(|i| registries::of_nodes(valid, refs, i, host_images.as_ref()));
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
            addressing: Some(Addressing {
                subnet,
                gateway: allocation.addresses.gateway(),
                ip_range: allocation.addresses.foreign(),
            }),
            labels: build.labels(None),
        },
        join: valid.join.clone(),
        networks: valid.networks.clone(),
        addresses: allocation.addresses,
        servers: build.nodes(NodeRole::Server),
        agents: build.nodes(NodeRole::Agent),
        pools: valid.pools().map(|(pool, valid)| (pool, PoolSpec::of(valid))).collect(),
        load_balancer: build.load_balancer(),
        awaited: build.awaited(),
        foreign_registries: valid.registries.containers.iter().map(|c| c.name.clone()).collect(),
        preload: valid.preload_images.clone(),
        host_images,
        default_image: default,
        version,
        registries,
        on_data_loss: valid.on_data_loss,
        host_aliases: host_aliases::addresses(&valid.host_aliases, allocation.addresses.gateway()),
        mounts: mounts.clone(),
    }
}

/// What all containers of a cluster have in common.
pub(super) struct Build<'a> {
    pub(super) basis: Basis<'a>,
    /// Node image.
    pub(super) image: String,
    /// True if the kubelet must be allowed to run on cgroup v1.
    pub(super) cgroup_v1: bool,
    pub(super) registries: &'a Option<NodeRegistries>,
    pub(super) existing: &'a BTreeMap<usize, servers::Server<'a>>,
    /// Servers that are known to have data.
    pub(super) holders: Vec<String>,
    /// True if the servers store their data in etcd.
    pub(super) etcd: bool,
    pub(super) mounts: &'a Arc<Mounts>,
}

impl Build<'_> {
    /// Returns the nodes of all pools with a role.
    fn nodes(&self, role: NodeRole) -> Vec<NodeSpec> {
        let pools = self.basis.subject.valid.pools().filter(|(pool, _)| pool.role() == role);
        pools
            .flat_map(|(pool, valid)| valid.indexes().filter_map(move |index| self.node(&pool, valid, index)))
            .collect()
    }

    pub(super) fn labels(&self, role: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = common_labels(self.basis.subject);
        if let Some(role) = role {
            labels.insert(names::ROLE.into(), role.into());
            labels.insert(names::SUBNET.into(), self.basis.allocation.addresses.subnet.to_string());
        }
        labels
    }

    pub(super) fn endpoint(&self, ip: Ipv4Addr) -> EndpointSettings {
        EndpointSettings { ip: Some(ip), ..EndpointSettings::default() }
    }
}

/// Returns the labels of everything on the Docker host that belongs to a cluster.
pub(super) fn common_labels(subject: &Subject<'_>) -> BTreeMap<String, String> {
    let mut labels = subject.owner.labels();
    labels.insert(names::APP.into(), "k3d".into());
    labels.insert(names::CLUSTER.into(), subject.valid.names.cluster.clone());
    labels
}
