//! Registry configuration of nodes: the registries file of K3s, the certificates that it references, and the
//! containerd configuration that K3s generates from it.
//!
//! K3s reads its file once at start and generates a `hosts.toml` for each registry in it, which containerd reads for
//! each pull (k3s-io/k3s#8972). A change is therefore written to running nodes twice: to the file for the next start,
//! and to `hosts.toml` as K3s would write it, for immediate effect. Only credentials are in the configuration of
//! containerd itself: a node with other credentials is replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    containers::{Site, outdated},
    desired::{Desired, HostImages, NodeRegistries},
    inputs::Inputs,
    refs::{NodeInputs, Refs, UsedRegistry},
    steps::{Action, Plan, Target},
    validate::{CERTIFICATES, Valid, ValidRegistries, certificate},
};
use crate::{
    api::{condition::ConditionType, names::Pool, reason::Reason},
    docker::{
        engine::ContainerDetail,
        spec::{FileChange, FileSpec},
    },
    k3s::{
        self, proxy,
        registries::{
            EMBEDDED_REGISTRY, HostConfig, Mirrored, Registries, Scheme, Tls, of_registries, on_host,
        },
    },
};

/// Directories of a node that only contain desired files.
pub const DIRECTORIES: [&str; 2] = [k3s::HOSTS_DIR, CERTIFICATES];

/// Reports whether K3s adds an endpoint of its own to the containerd configuration, in its own format.
pub fn is_embedded(valid: &Valid) -> bool {
    valid.servers.args.iter().any(|arg| arg.starts_with(EMBEDDED_REGISTRY))
}

/// Returns the registry configuration of the nodes.
pub fn of_nodes(
    valid: &Valid,
    refs: &Refs,
    inputs: &NodeInputs,
    host_images: Option<&HostImages>,
) -> NodeRegistries {
    let live = !is_embedded(valid);
    let change = if live { FileChange::Live } else { FileChange::Recreate };
    let valid = &valid.registries;
    let mirrored: Vec<Mirrored> = mirrored(valid, refs);
    let mut merged = of_registries(&mirrored);
    let mut files: BTreeMap<String, FileSpec> = BTreeMap::new();
    let mut put = |path: String, mode, content: Vec<u8>| {
        files.insert(path.clone(), FileSpec { path, mode, content, change });
    };
    for registry in &refs.registries {
        let host = registry.address();
        let mut config = HostConfig { auth: registry.auth.clone(), tls: None };
        if let Some(ca) = &registry.ca {
            let path = certificate(&host, "ca.crt");
            config.tls = Some(Tls { ca_file: Some(path.clone()), ..Tls::default() });
            put(path, 0o644, ca.clone());
        }
        if config != HostConfig::default() {
            merged.merge(Registries { configs: BTreeMap::from([(host, config)]), ..Registries::default() });
        }
    }
    let mut typed = valid.typed.clone();
    for (host, auth) in &inputs.credentials {
        typed.configs.entry(host.clone()).or_default().auth = Some(auth.clone());
    }
    merged.merge(typed);
    merged.merge(inputs.config.clone());
    if let Some(HostImages::Served { address, own }) = host_images {
        merged.put_first(&format!("http://{address}"), own);
    }
    for (path, (mode, content)) in &inputs.certificates {
        put(path.clone(), *mode, content.clone());
    }
    let mut files: Vec<FileSpec> = files.into_values().collect();
    files.push(FileSpec {
        path: k3s::REGISTRIES_FILE.into(),
        mode: 0o600,
        content: merged.render().into_bytes(),
        change,
    });
    let complete = refs.registries.iter().all(|r| r.host_port.is_some());
    NodeRegistries { merged, files, default_endpoint: valid.default_endpoint, live, complete }
}

/// Returns the registries that images can be pulled from by name: Registry objects, then unmanaged containers.
pub fn mirrored(valid: &ValidRegistries, refs: &Refs) -> Vec<Mirrored> {
    let used = refs.registries.iter().map(UsedRegistry::mirrored);
    let containers = valid.containers.iter().map(|c| Mirrored {
        hostname: c.name.clone(),
        port: c.port,
        host: c.host_port.map(|port| on_host(Ipv4Addr::LOCALHOST, port)),
        scheme: Scheme::Http,
        upstream: None,
    });
    used.chain(containers).collect()
}

/// Reports whether K3s on the node runs with other credentials than desired. The file contains the credentials that
/// K3s started with: they are never changed on a running node.
pub fn has_other_credentials(desired: &Desired, detail: &ContainerDetail, inputs: &Inputs<'_>) -> bool {
    let Some(wanted) = &desired.registries else { return false };
    let seen = inputs.observed.registries.get(&detail.container.id);
    detail.started_at.is_some() && seen.is_some_and(|seen| *seen != wanted.merged.auth())
}

/// Plans the update of containerd on a working node to what K3s would generate from the registries file.
pub fn refresh(plan: &mut Plan, desired: &Desired, detail: &ContainerDetail, inputs: &Inputs<'_>) {
    let Some(wanted) = desired.registries.as_ref().filter(|r| r.live && r.complete) else { return };
    let Some(seen) = inputs.observed.trees.get(&detail.container.id) else { return };
    let file = |path: &str, content: &str| FileSpec {
        path: path.to_owned(),
        mode: 0o600,
        content: content.into(),
        change: FileChange::Live,
    };
    // A directory that K3s did not generate is unmanaged, and K3s leaves it unchanged too.
    let generated = |content: &[u8]| content.starts_with(k3s::hosts_toml::HEADER.as_bytes());
    let written =
        seen.iter().filter(|(_, content)| generated(content)).filter_map(|(path, _)| directory(path));
    let hosts = wanted.merged.hosts_over(wanted.default_endpoint, written);
    let mut stale: Vec<FileSpec> = hosts
        .iter()
        .map(|(dir, text)| (format!("{}/{dir}/hosts.toml", k3s::HOSTS_DIR), text))
        .filter(|(path, text)| seen.get(path).map(Vec::as_slice) != Some(text.as_bytes()))
        .map(|(path, text)| file(&path, text))
        .collect();
    let gone = seen.iter().filter(|(path, content)| {
        let wanted = || wanted.files.iter().any(|f| f.path == **path);
        path.starts_with(CERTIFICATES) && !content.is_empty() && !wanted()
    });
    stale.extend(gone.map(|(path, _)| file(path, "")));
    if stale.is_empty() {
        return;
    }
    let name = &detail.container.name;
    let container = Target::of(&detail.container);
    plan.step(Action::Upload { container, files: stale }, &[], "its registry configuration changed");
    plan.waits(
        ConditionType::RegistriesReady,
        Reason::Updating,
        format!("updating registry configuration on {name}"),
    );
}

/// Adds a problem for each node that sends requests for a registry of the cluster to its proxy, since it was created
/// before the cluster used the registry. NO_PROXY is read at start, and no node is replaced for a registry unless the
/// user requests it.
pub fn judge_proxies(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    let named = inputs.refs.registries.iter().filter(|r| !r.by_default);
    let used: BTreeSet<&String> = named.map(|r| &r.hostname).chain(&desired.foreign_registries).collect();
    for node in desired.nodes().filter(|n| !n.container.host_env.is_empty()) {
        let name = &node.container.name;
        let Some(detail) = site.own(name) else { continue };
        let asked: Vec<&str> = used
            .iter()
            .filter(|host| !detail.past_proxy.iter().any(|list| proxy::passes(list, host)))
            .map(|host| host.as_str())
            .collect();
        if asked.is_empty() || outdated(inputs.observed, detail, &node.container, site.network) {
            continue;
        }
        let asked = asked.join(",");
        let (field, pool) =
            (node.pool.field(), if node.pool == Pool::Servers { "servers" } else { "agents" });
        let message = format!(
            "{name} sends requests for {asked} to its proxy: nodes read NO_PROXY only when they start, and {name} was \
             created before the cluster used it; add {asked} to NO_PROXY in {field}.env, which replaces the {pool} one \
             at a time"
        );
        plan.stalls(ConditionType::RegistriesReady, Reason::RegistryBehindProxy, message);
    }
}

/// Returns the registry directory of a `hosts.toml`.
fn directory(path: &str) -> Option<&str> {
    path.strip_prefix(k3s::HOSTS_DIR)?.strip_prefix('/')?.strip_suffix("/hosts.toml")
}
