//! Hash of the spec behind a container, stored in the label [`names::SPEC_HASH`]: a container with another hash must
//! be replaced.
//!
//! The hash covers what users request, but not what Docker returns (engines add, drop and reorder fields), nor labels
//! or secrets. Its input is versioned by a prefix: a later operator with another algorithm keeps this function for
//! containers with `v1-`, so that an upgrade of the operator alone replaces nothing (k3k#1078).

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    api::names,
    docker::spec::{ContainerSpec, FileChange, Gpus},
};

const VERSION: &str = "v1-";

/// Returns the label value of a container created from `spec` on the network with this ID.
pub fn of(spec: &ContainerSpec, network: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Intent<'a> {
        image: &'a str,
        command: &'a [String],
        env: Vec<(&'a String, &'a String)>,
        mounts: Vec<(&'a String, &'a String)>,
        network: Option<&'a str>,
        ip: Option<String>,
        aliases: &'a [String],
        ports: Vec<String>,
        memory: Option<i64>,
        nano_cpus: Option<i64>,
        // Omitted if empty, so that containers from earlier operators keep their hash.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ulimits: Vec<(&'a String, i64, i64)>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gpus: Option<i64>,
        hosts: Vec<(&'a String, &'a String)>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        binds: Vec<(&'a String, &'a String, bool)>,
        files: Vec<(&'a str, u32, String)>,
        // The only label that counts: a server migrates its data only at start.
        #[serde(skip_serializing_if = "Option::is_none")]
        datastore: Option<&'a String>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        given_files: &'a [String],
    }
    let mut ports: Vec<_> = spec
        .ports
        .iter()
        .map(|p| format!("{}:{}:{}/{}", p.host_ip, p.host_port, p.port, p.protocol))
        .collect();
    ports.sort();
    let intent = Intent {
        image: &spec.image,
        command: &spec.command,
        env: spec.env.iter().collect(),
        mounts: spec.mounts.iter().collect(),
        network,
        ip: spec.endpoint.ip.map(|ip| ip.to_string()),
        aliases: &spec.endpoint.aliases,
        ports,
        memory: spec.memory,
        nano_cpus: spec.nano_cpus,
        ulimits: spec.ulimits.iter().map(|(name, limit)| (name, limit.soft, limit.hard)).collect(),
        gpus: spec.gpus.map(Gpus::count),
        hosts: spec.extra_hosts.iter().collect(),
        binds: spec.binds.iter().map(|(target, bind)| (target, &bind.source, bind.read_only)).collect(),
        files: spec
            .files
            .iter()
            .filter(|f| f.change == FileChange::Replace)
            .map(|f| (f.path.as_str(), f.mode, names::hex(&Sha256::digest(&f.content))))
            .collect(),
        datastore: spec.labels.get(names::DATASTORE),
        given_files: &spec.given_files,
    };
    let json = serde_json::to_vec(&intent).expect("plain values always serialize");
    format!("{VERSION}{}", names::hex(&Sha256::digest(json)[..16]))
}

/// Reports whether a container with this label was created from `spec`. A label with an unknown version comes from a
/// newer operator, and its container is left unchanged.
pub fn matches(label: Option<&str>, spec: &ContainerSpec, network: Option<&str>) -> bool {
    match label {
        Some(l) if l.starts_with(VERSION) => l == of(spec, network),
        Some(_) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::spec::{Limit, Role};

    fn bare() -> ContainerSpec {
        ContainerSpec::bare("c", Role::Registry, "i:1")
    }

    /// Containers of operators that had fewer fields must not be replaced.
    #[test]
    fn what_is_not_asked_for_is_not_in_it() {
        assert_eq!(of(&bare(), None), "v1-d69c16f54a3b37508cc2bd42df913c1a");
        let host = ContainerSpec { host_args: vec!["--kubelet-arg=x".into()], ..bare() };
        assert_eq!(of(&host, None), of(&bare(), None), "what the host is, is nobody's intent");
        let list = ("NO_PROXY".to_owned(), "172.31.0.0/24".to_owned());
        let proxied = ContainerSpec { host_env: [list].into(), ..bare() };
        assert_eq!(of(&proxied, None), of(&bare(), None), "what is around it comes and goes");
        let shared = ContainerSpec { shares_mounts: true, ..bare() };
        assert_eq!(of(&shared, None), of(&bare(), None), "a new operator replaces no node for it");
    }

    #[test]
    fn what_is_asked_for_is() {
        let limit = |soft, hard| ContainerSpec {
            ulimits: [("nofile".to_owned(), Limit { soft, hard })].into(),
            ..bare()
        };
        let gpus = |gpus| ContainerSpec { gpus: Some(gpus), ..bare() };
        let all = [bare(), limit(1, 2), limit(1, 1), gpus(Gpus::All), gpus(Gpus::Count(1))];
        let hashes: std::collections::BTreeSet<String> = all.iter().map(|spec| of(spec, None)).collect();
        assert_eq!(hashes.len(), all.len());
    }
}
