//! Contents of the objects that a spec references.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{owner::Owner, steps::Problem};
use crate::{
    api::names,
    docker::engine::Container,
    k3s::{
        manifests::Parsed,
        registries::{Auth, Mirrored, REGISTRY_PORT, Registries, Scheme, on_host},
    },
};

/// What the spec refers to.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    /// The join secret.
    pub token: Vec<u8>,
    /// The join secret that is to take its place.
    pub next_token: Option<Vec<u8>>,
    /// The registries in use, in the spec's order.
    pub registries: Vec<UsedRegistry>,
    /// The manifests that K3s is to apply.
    pub manifests: Vec<Manifest>,
    /// What goes into the nodes. `None` while something that it is made of is missing: nodes then stay as they are.
    pub inputs: Option<NodeInputs>,
    /// What is missing or wrong there.
    pub problems: Vec<Problem>,
}

/// What goes into the nodes from Secrets and ConfigMaps.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NodeInputs {
    /// The credentials of `spec.registries.configs`, by host.
    pub credentials: BTreeMap<String, Auth>,
    /// The certificates of `spec.registries.configs`, by path, with their modes.
    pub certificates: BTreeMap<String, (u32, Vec<u8>)>,
    /// The user's own registries file.
    pub config: Registries,
    /// The contents of `spec.files`, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for NodeInputs {
    /// Without the contents, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeInputs").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A registry in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedRegistry {
    /// The name of the Registry object, as `namespace/name` where it is in another one.
    pub name: String,
    /// What its owner labels are.
    pub owner: Owner,
    /// Its container's name.
    pub hostname: String,
    /// Its port on the Docker host; `None` while nothing tells it.
    pub host_port: Option<u16>,
    /// The address of the Docker host that the port is bound to, where it is not 127.0.0.1.
    pub host_ip: Option<Ipv4Addr>,
    /// Whether it serves HTTPS.
    pub tls: bool,
    /// Whom to trust there, in PEM.
    pub ca: Option<Vec<u8>>,
    /// How to log in.
    pub auth: Option<Auth>,
    /// The registry that it caches.
    pub upstream: Option<String>,
    /// Whether tools in the cluster are told of it.
    pub hosting: bool,
    /// Why it does not serve, by the last word of its own status. What that does not tell, for whatever reason, is no
    /// trouble: its container shows whether it runs.
    pub trouble: Option<String>,
}

impl UsedRegistry {
    /// Its name and port on the cluster's network.
    pub fn address(&self) -> String {
        format!("{}:{REGISTRY_PORT}", self.hostname)
    }

    /// Its port on the Docker host, as its container was made with it.
    pub fn port_of(&self, container: &Container) -> Option<u16> {
        let its = container.name == self.hostname && self.owner.owns(&container.labels);
        its.then(|| container.labels.get(names::EXTERNAL_PORT)?.parse().ok()).flatten()
    }

    /// Where it is reached on the Docker host.
    pub fn host(&self) -> Option<String> {
        self.host_port.map(|port| on_host(self.host_ip.unwrap_or(Ipv4Addr::LOCALHOST), port))
    }

    /// As the nodes see it.
    pub fn mirrored(&self) -> Mirrored {
        Mirrored {
            hostname: self.hostname.clone(),
            port: REGISTRY_PORT,
            host: self.host(),
            scheme: if self.tls { Scheme::Https } else { Scheme::Http },
            upstream: self.upstream.clone(),
        }
    }
}

/// A manifest of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its content; `None` while it is not there or can't be applied.
    pub content: Option<Parsed>,
}
