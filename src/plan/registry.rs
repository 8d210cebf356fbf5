//! The plan for a Registry: its volume and its container, which every cluster that uses it connects to its network.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    addresses,
    cluster::{Settings, image_of},
    containers::{Owner, Site, Standing, taken},
    desired::{ContainerSpec, Endpoint, Role, VolumeSpec},
    local_cluster::management_network,
    observed::Observed,
    steps::{Action, Plan},
    validate::ValidRegistry,
};
use crate::{
    api::{
        RegistryStatus,
        condition::{reasons, types},
        names,
    },
    docker::engine::Published,
    k3s::registries::REGISTRY_PORT,
};

/// Where a registry keeps its images.
const DATA: &str = "/var/lib/registry";

/// Label of a registry's volume: the host name of the registry, by which a retained volume is taken up again.
pub const VOLUME_OF: &str = "localcluster.dev/registry";

/// What a Registry wants.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Its container.
    pub container: ContainerSpec,
    /// Its volume; `None` where the user named an existing one.
    pub volume: Option<VolumeSpec>,
    /// Its port on the Docker host.
    pub host_port: u16,
}

/// The name of the volume.
pub fn volume_name(valid: &ValidRegistry) -> String {
    valid.volume_name.clone().unwrap_or_else(|| valid.hostname.clone())
}

/// What the Registry wants; `None`: the plan's problems say why that can't be told.
pub fn desired(
    plan: &mut Plan,
    valid: &ValidRegistry,
    owner: &Owner,
    settings: &Settings,
    observed: &Observed,
    previous: &RegistryStatus,
    refused: &BTreeSet<u16>,
) -> Option<Desired> {
    let port_range = &settings.port_range;
    let made = observed.own.values().find(|d| d.container.name == valid.hostname);
    let made =
        made.and_then(|d| d.wanted_ports.first()).map(|p| p.host_port).filter(|p| !refused.contains(p));
    let taken: BTreeSet<u16> = observed
        .containers
        .iter()
        .filter(|c| !owner.owns(&c.labels))
        .flat_map(|c| c.ports.iter().map(|p| p.host_port))
        .chain(refused.iter().copied())
        .collect();
    let known = previous.host_port.and_then(|p| u16::try_from(p).ok());
    let port = valid.host_port.or(known).or(made);
    let Some(host_port) = port.or_else(|| addresses::free_port(port_range, &owner.uid, &taken)) else {
        let (first, last) = (port_range.start(), port_range.end());
        plan.stalls(
            types::CONTAINER_READY,
            reasons::PORT_CONFLICT,
            format!("no host port from {first} to {last} is free: set spec.hostPort, or widen --port-range"),
        );
        return None;
    };
    let mut labels = owner.labels();
    labels.insert(names::APP.into(), "k3d".into());
    labels.insert(names::ROLE.into(), "registry".into());
    labels.insert("k3s.registry.port.external".into(), host_port.to_string());
    labels.insert("k3s.registry.port.internal".into(), REGISTRY_PORT.to_string());
    let mut env = valid.env.clone();
    if valid.delete_enabled {
        env.insert("REGISTRY_STORAGE_DELETE_ENABLED".into(), "true".into());
    }
    let mut volume_labels = owner.labels();
    volume_labels.insert(names::APP.into(), "k3d".into());
    volume_labels.insert(VOLUME_OF.into(), valid.hostname.clone());
    let volume = volume_name(valid);
    Some(Desired {
        container: ContainerSpec {
            name: valid.hostname.clone(),
            role: Role::Registry,
            image: valid
                .image
                .clone()
                .or_else(|| image_of(observed, &valid.hostname))
                .unwrap_or_else(|| settings.registry_image.clone()),
            command: Vec::new(),
            env,
            labels,
            privileged: false,
            tmpfs: Vec::new(),
            mounts: BTreeMap::from([(DATA.to_owned(), volume.clone())]),
            volume_labels: if valid.volume_name.is_none() { volume_labels.clone() } else { BTreeMap::new() },
            endpoint: Endpoint::default(),
            ports: vec![Published {
                host_ip: valid.host_ip.to_string(),
                host_port,
                port: REGISTRY_PORT,
                protocol: "tcp".into(),
            }],
            memory: valid.memory,
            nano_cpus: None,
            extra_hosts: BTreeMap::new(),
            files: Vec::new(),
        },
        volume: valid.volume_name.is_none().then_some(VolumeSpec { name: volume, labels: volume_labels }),
        host_port,
    })
}

/// What has to be done so that there is what is desired.
pub fn plan(plan: &mut Plan, desired: &Desired, owner: &Owner, observed: &Observed, node_name: Option<&str>) {
    let site = Site { owner, observed, network: None };
    let mut after = Vec::new();
    let name = &desired.container.mounts[DATA];
    let existing = observed.volumes.iter().find(|v| v.name == *name);
    match (&desired.volume, existing) {
        (Some(spec), None) => after.push(plan.step(Action::CreateVolume(spec.clone()), &[], "")),
        // A volume that an earlier Registry of this host name retained is taken up again.
        (Some(spec), Some(volume)) => {
            let retained = volume.labels.get(names::MANAGER) == Some(&owner.manager)
                && volume.labels.get(VOLUME_OF) == spec.labels.get(VOLUME_OF);
            if !retained {
                let message = format!(
                    "{}; or set spec.storage.volumeName to use it as it is",
                    taken("volume", &spec.name, &spec.name)
                );
                plan.stalls(types::CONTAINER_READY, reasons::NAME_CONFLICT, message);
                return;
            }
        }
        (None, Some(_)) => {}
        (None, None) => {
            let message = format!(
                "there is no Docker volume {name}: make it with `docker volume create {name}`, or take \
                 spec.storage.volumeName away to have one made"
            );
            plan.stalls(types::CONTAINER_READY, reasons::VOLUME_NOT_FOUND, message);
            return;
        }
    }
    let further: Vec<(String, Endpoint)> =
        management_network(observed, node_name, "").into_iter().map(|id| (id, Endpoint::default())).collect();
    let spec = &desired.container;
    match site.converge(plan, spec, &further, &after, None) {
        Standing::Outdated if site.has_image(plan, spec) => {
            let standing = site.replace(plan, spec, &further, &[], "its spec changed");
            rejoin(plan, spec, observed, &site, standing);
        }
        Standing::Running | Standing::Changing(_) | Standing::Outdated | Standing::Blocked => {}
    }
}

/// A replaced registry goes back to the networks of the clusters that use it at the same addresses, in the same
/// breath; the clusters would see to it too, a moment later.
fn rejoin(plan: &mut Plan, spec: &ContainerSpec, observed: &Observed, site: &Site<'_>, standing: Standing) {
    let (Standing::Changing(started), Some(old)) = (standing, site.own(&spec.name)) else { return };
    for (network, place) in &old.container.networks {
        let Some(ip) = place.pinned else { continue };
        if observed.networks.iter().any(|n| n.id == *network) {
            let endpoint = Endpoint { ip: Some(ip), aliases: Vec::new() };
            let container = super::steps::Target { name: spec.name.clone(), id: None };
            plan.step(Action::Connect { network: network.clone(), container, endpoint }, &[started], "");
        }
    }
}
