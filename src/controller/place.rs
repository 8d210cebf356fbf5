//! What both kinds say about their placement.

use std::{borrow::Cow, collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    api::{
        LocalCluster, LocalClusterSpec, LocalClusterStatus, Registry, RegistryStatus,
        local_cluster::ApiSpec,
        placement::{Amount, Placement},
    },
    plan::{
        kind::Kind,
        placement::{self, Near},
        validate,
    },
};

/// The host that a process is the agent of.
pub struct Hosting {
    /// Name of its Node.
    pub node: String,
    /// Its address, which the APIs of clusters are bound to.
    pub ip: Option<Ipv4Addr>,
    /// Placeholders that are bound to it.
    pub pods: Store<Pod>,
}

impl Hosting {
    /// Returns a Pod on this host.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(namespace))
    }
}

/// Returns the spec of a cluster as it is meant where it runs: of several hosts, others than this one reach its API, unless
/// it says otherwise.
pub fn spec<'a>(hosting: Option<&Hosting>, spec: &'a LocalClusterSpec) -> Cow<'a, LocalClusterSpec> {
    match hosting.and_then(|hosting| hosting.ip) {
        Some(ip) if spec.api.host_ip.is_none() => {
            let api = ApiSpec { host_ip: Some(ip.to_string()), ..spec.api.clone() };
            Cow::Owned(LocalClusterSpec { api, ..spec.clone() })
        }
        _ => Cow::Borrowed(spec),
    }
}

/// An object that is placed on one of several Docker hosts.
pub trait Placed {
    /// Its kind.
    const KIND: Kind;
    /// Returns where the object may run.
    fn placement(&self) -> Option<&Placement>;
    /// Returns the objects on whose host it runs.
    fn near(&self) -> Vec<Near>;
    /// Returns what its placeholder requests, or the problems of its spec.
    fn requests(&self) -> Result<BTreeMap<String, Amount>, String>;
}

/// Where an object is placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the host.
    pub host: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Name of the placeholder.
    pub placeholder: Option<String>,
}

/// The status of an object that is placed.
pub trait PlacedStatus {
    /// Name of the field with the host.
    const HOST: &'static str;
    /// Returns where the object is placed.
    fn place(&self) -> Place;
    /// Replaces where the object is placed.
    fn set_place(&mut self, place: Place);
}

impl Placed for LocalCluster {
    const KIND: Kind = Kind::LocalCluster;

    fn placement(&self) -> Option<&Placement> {
        self.spec.placement.as_ref()
    }

    /// Returns the Registries that it uses. Its own one follows it.
    fn near(&self) -> Vec<Near> {
        let own = self.namespace().unwrap_or_default();
        let used = self.spec.registries.used.iter().map(|used| Near {
            kind: Kind::Registry,
            namespace: if used.namespace.is_empty() { own.clone() } else { used.namespace.clone() },
            name: used.name.clone(),
        });
        used.collect()
    }

    fn requests(&self) -> Result<BTreeMap<String, Amount>, String> {
        let namespace = self.namespace().unwrap_or_default();
        let valid = validate::local_cluster(&namespace, &self.name_any(), &self.spec);
        let valid = valid.map_err(|problems| problems.join("; "))?;
        Ok(placement::cluster_requests(&valid, &self.spec.placement.clone().unwrap_or_default()))
    }
}

impl PlacedStatus for LocalClusterStatus {
    const HOST: &'static str = "host";

    fn place(&self) -> Place {
        let Self { host, host_ip, placeholder, .. } = self;
        Place { host: host.clone(), ip: host_ip.clone(), placeholder: placeholder.clone() }
    }

    fn set_place(&mut self, place: Place) {
        (self.host, self.host_ip, self.placeholder) = (place.host, place.ip, place.placeholder);
    }
}

impl Placed for Registry {
    const KIND: Kind = Kind::Registry;

    fn placement(&self) -> Option<&Placement> {
        self.spec.placement.as_ref()
    }

    /// Returns the cluster whose own Registry it is.
    fn near(&self) -> Vec<Near> {
        let namespace = self.namespace().unwrap_or_default();
        let owner = self.owner_references().iter().find(|owner| owner.kind == Kind::LocalCluster.as_str());
        let cluster =
            owner.map(|owner| Near { kind: Kind::LocalCluster, namespace, name: owner.name.clone() });
        cluster.into_iter().collect()
    }

    fn requests(&self) -> Result<BTreeMap<String, Amount>, String> {
        let namespace = self.namespace().unwrap_or_default();
        let valid = validate::registry(&namespace, &self.name_any(), &self.spec);
        let memory = valid.map_err(|problems| problems.join("; "))?.memory;
        Ok(placement::registry_requests(memory, &self.spec.placement.clone().unwrap_or_default()))
    }
}

impl PlacedStatus for RegistryStatus {
    const HOST: &'static str = "dockerHost";

    fn place(&self) -> Place {
        let Self { docker_host, host_ip, placeholder, .. } = self;
        Place { host: docker_host.clone(), ip: host_ip.clone(), placeholder: placeholder.clone() }
    }

    fn set_place(&mut self, place: Place) {
        (self.docker_host, self.host_ip, self.placeholder) = (place.host, place.ip, place.placeholder);
    }
}
