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

/// Contents of what a spec references.
#[derive(Clone, Default)]
pub struct Refs {
    /// Join token.
    pub token: Vec<u8>,
    /// Hash of the CA of the cluster, as in the tokens that its servers wrote; `None` while unknown.
    pub ca_hash: Option<String>,
    /// Join token that replaces it.
    pub next_token: Option<Vec<u8>>,
    /// Registries in use, in the order of the spec.
    pub registries: Vec<UsedRegistry>,
    /// Registries of the spec that were not found, as `namespace/name`. What the cluster has of them stays.
    pub unknown_registries: Vec<String>,
    /// Manifests that K3s applies.
    pub manifests: Vec<Manifest>,
    /// Contents for the nodes. `None` while part of them is missing: nodes stay unchanged.
    pub inputs: Option<NodeInputs>,
    /// Problems of the references.
    pub problems: Vec<Problem>,
    /// References that are left out, which holds up nothing.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for Refs {
    /// Omits the tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            token: _,
            next_token: _,
            ca_hash,
            registries,
            unknown_registries,
            manifests,
            inputs,
            problems,
            warnings,
        } = self;
        let mut debug = f.debug_struct("Refs");
        debug.field("ca_hash", ca_hash).field("registries", registries);
        debug.field("unknown_registries", unknown_registries).field("manifests", manifests);
        debug.field("inputs", inputs).field("problems", problems).field("warnings", warnings);
        debug.finish_non_exhaustive()
    }
}

impl Refs {
    /// Keeps what the cluster has of these Registries, each as `namespace/name`: its nodes stay unchanged, and their
    /// containers on its network.
    pub fn keep(&mut self, registries: Vec<String>) {
        self.inputs.take_if(|_| !registries.is_empty());
        self.unknown_registries.extend(registries);
    }
}

/// Contents for the nodes from Secrets and ConfigMaps.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NodeInputs {
    /// Credentials of `spec.registries.configs`, by host.
    pub credentials: BTreeMap<String, Auth>,
    /// Certificates of `spec.registries.configs`, by path, with their modes.
    pub certificates: BTreeMap<String, (u32, Vec<u8>)>,
    /// Registries file of the user.
    pub config: Registries,
    /// Contents of `spec.files`, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for NodeInputs {
    /// Omits the contents, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeInputs").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A registry in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedRegistry {
    /// Name of the Registry object, as `namespace/name` if it is in another namespace.
    pub name: String,
    /// Owner labels of the registry.
    pub owner: Owner,
    /// Name of the container.
    pub hostname: String,
    /// Port on the Docker host; `None` while unknown.
    pub host_port: Option<u16>,
    /// Address of the Docker host that the port is bound to, if it is not 127.0.0.1.
    pub host_ip: Option<Ipv4Addr>,
    /// True if it serves HTTPS.
    pub tls: bool,
    /// CA certificates to trust for it, in PEM.
    pub ca: Option<Vec<u8>>,
    /// Credentials.
    pub auth: Option<Auth>,
    /// Upstream registry of a cache.
    pub upstream: Option<String>,
    /// True if it is advertised to tools in the cluster.
    pub hosting: bool,
    /// True if only the HostPolicy names it: the cluster does not wait for it.
    pub by_default: bool,
    /// Why it is not ready according to its own status. A status without information is no problem: the state of the
    /// container shows whether it is running.
    pub trouble: Option<String>,
}

/// Returns the name and the port of a registry on the network of a cluster.
pub fn address(hostname: &str) -> String {
    format!("{hostname}:{REGISTRY_PORT}")
}

impl UsedRegistry {
    /// Returns its name and port on the network of the cluster.
    pub fn address(&self) -> String {
        address(&self.hostname)
    }

    /// Returns the port on the Docker host that its container was created with.
    pub fn port_of(&self, container: &Container) -> Option<u16> {
        let its = container.name == self.hostname && self.owner.owns(&container.labels);
        its.then(|| container.labels.get(names::EXTERNAL_PORT)?.parse().ok()).flatten()
    }

    /// Returns its address on the Docker host.
    pub fn host(&self) -> Option<String> {
        self.host_port.map(|port| on_host(self.host_ip.unwrap_or(Ipv4Addr::LOCALHOST), port))
    }

    /// Returns the registry as nodes see it.
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
    /// Name of the manifest.
    pub name: String,
    /// Content; `None` while it is missing or invalid.
    pub content: Option<Parsed>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_printed() {
        let refs = Refs { token: b"abc".to_vec(), next_token: Some(b"xyz".to_vec()), ..Refs::default() };
        let told = format!("{refs:?} {refs:#?}");
        assert!(!told.contains("97") && !told.contains("120") && !told.contains("token"), "{told}");
    }
}
