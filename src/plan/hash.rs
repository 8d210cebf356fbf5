//! The hash of the intent behind a container, kept in the label [`names::SPEC_HASH`]: another hash means that the
//! container has to be replaced.
//!
//! It covers what users ask for, never what Docker made of it (engines add, drop and reorder fields), nor labels,
//! nor secrets. Its input is versioned by a prefix: a later operator that computes it in another way keeps this
//! function for containers that carry `v1-`, so that an upgrade of the operator alone replaces nothing (k3k#1078).

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    api::names,
    docker::spec::{ContainerSpec, EndpointSettings, FileChange, FileSpec, Gpus, PortBinding, Role},
};

const VERSION: &str = "v1-";

/// Returns the label of a container made from `spec` on the network with this ID.
pub fn of(spec: &ContainerSpec, network: Option<&str>) -> String {
    let json = serde_json::to_vec(&intent(spec, network)).expect("plain values always serialize");
    format!("{VERSION}{}", names::hex(&Sha256::digest(json)[..16]))
}

/// The part of a container's spec that a user asks for, in the form that is hashed.
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
    // Absent where there are none, so that containers from before there were any keep their hash.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimits: Vec<(&'a String, i64, i64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<i64>,
    hosts: Vec<(&'a String, &'a String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    binds: Vec<(&'a String, &'a String, bool)>,
    files: Vec<(&'a str, u32, String)>,
    // The one label that counts: a server moves its data only when it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    datastore: Option<&'a String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    given_files: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    given_volumes: Vec<(&'a String, &'a String, bool)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    given_labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privileged: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skips_flushes: bool,
}

/// Returns the intent behind a container. Every field of the spec is named: a new one does not compile until it is
/// decided whether a change of it replaces the container.
#[allow(clippy::too_many_lines, reason = "it names every field twice")]
fn intent<'a>(spec: &'a ContainerSpec, network: Option<&'a str>) -> Intent<'a> {
    let ContainerSpec {
        image,
        command,
        env,
        mounts,
        binds,
        endpoint: EndpointSettings { ip, aliases, aside: _ },
        ports,
        memory,
        shm_size,
        nano_cpus,
        pids,
        ulimits,
        gpus,
        extra_hosts,
        files,
        given_files,
        given_volumes,
        given_labels,
        given_isolation,
        skips_flushes,
        labels,
        // These follow from the above, from the host or from the role, or take effect without a replacement.
        name: _,
        role,
        host_args: _,
        host_env: _,
        defaults: _,
        privileged: _,
        runtime: _,
        shares_mounts: _,
        tmpfs: _,
        volume_labels: _,
        restart_policy: _,
        expects: _,
    } = spec;
    Intent {
        image,
        command,
        env: env.iter().collect(),
        mounts: mounts.iter().collect(),
        // A registry is moved to a network that replaces a removed one, and was created without one before.
        network: network.filter(|_| *role != Role::Registry),
        ip: ip.map(|ip| ip.to_string()),
        aliases,
        ports: published(ports),
        memory: *memory,
        shm_size: *shm_size,
        nano_cpus: *nano_cpus,
        pids: *pids,
        ulimits: ulimits.iter().map(|(name, limit)| (name, limit.soft, limit.hard)).collect(),
        gpus: gpus.map(Gpus::count),
        hosts: extra_hosts.iter().collect(),
        binds: binds.iter().map(|(target, bind)| (target, &bind.source, bind.read_only)).collect(),
        files: files.iter().filter_map(hashed).collect(),
        datastore: labels.get(names::DATASTORE),
        given_files,
        given_volumes: given_volumes.iter().map(|(target, v)| (target, &v.name, v.read_only)).collect(),
        given_labels,
        runtime: given_isolation.runtime.as_ref(),
        privileged: given_isolation.privileged,
        skips_flushes: *skips_flushes,
    }
}

/// Returns the published ports, in an order of their own.
fn published(ports: &[PortBinding]) -> Vec<String> {
    let port = |p: &PortBinding| format!("{}:{}:{}/{}", p.host_ip, p.host_port, p.port, p.protocol);
    let mut ports: Vec<_> = ports.iter().map(port).collect();
    ports.sort();
    ports
}

/// Returns path, mode and hash of a file whose change replaces the container.
fn hashed(file: &FileSpec) -> Option<(&str, u32, String)> {
    let hash = match file.change {
        FileChange::Replace => file.sha256(),
        FileChange::LiveFrom(setting) => setting,
        FileChange::Keep
        | FileChange::Hangup
        | FileChange::Recreate
        | FileChange::Token
        | FileChange::Live => return None,
    };
    Some((file.path.as_str(), file.mode, names::hex(&hash)))
}

/// Reports whether a container with this label was created from `spec`. A label of a version that this operator does not know
/// comes from a newer one, whose containers an older one leaves alone.
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
    use crate::docker::spec::VolumeMount;
    use crate::docker::spec::{Isolation, Ulimit};

    fn bare() -> ContainerSpec {
        ContainerSpec::bare("c", Role::Registry, "i:1")
    }

    /// Containers of operators that knew fewer fields must not be replaced for it.
    #[test]
    fn what_is_not_asked_for_is_not_in_it() {
        assert_eq!(of(&bare(), None), "v1-d69c16f54a3b37508cc2bd42df913c1a");
        assert_eq!(of(&bare(), Some("n")), of(&bare(), None), "a registry has a network of its own now");
        let node = ContainerSpec { role: Role::LoadBalancer, ..bare() };
        assert_ne!(of(&node, Some("n")), of(&node, None));
        let host = ContainerSpec { host_args: vec!["--kubelet-arg=x".into()], ..bare() };
        assert_eq!(of(&host, None), of(&bare(), None), "what the host is, is nobody's intent");
        let list = ("NO_PROXY".to_owned(), "172.31.0.0/24".to_owned());
        let proxied = ContainerSpec { host_env: [list].into(), ..bare() };
        assert_eq!(of(&proxied, None), of(&bare(), None), "what is around it comes and goes");
        let shared = ContainerSpec { shares_mounts: true, ..bare() };
        assert_eq!(of(&shared, None), of(&bare(), None), "a new operator replaces no node for it");
    }

    #[test]
    fn of_a_file_that_is_updated_in_place_the_setting_counts() {
        let file = |content: &str, change| ContainerSpec {
            files: vec![FileSpec { path: "/f".into(), mode: 0o644, content: content.into(), change }],
            ..bare()
        };
        let setting: [u8; 32] = Sha256::digest("a").into();
        let kept = of(&file("a", FileChange::Replace), None);
        assert_eq!(of(&file("b", FileChange::LiveFrom(setting)), None), kept);
        assert_ne!(of(&file("b", FileChange::LiveFrom(Sha256::digest("b").into())), None), kept);
    }

    #[test]
    fn what_is_asked_for_is() {
        let limit = |soft, hard| ContainerSpec {
            ulimits: [("nofile".to_owned(), Ulimit { soft, hard })].into(),
            ..bare()
        };
        let gpus = |gpus| ContainerSpec { gpus: Some(gpus), ..bare() };
        let shm = |size| ContainerSpec { shm_size: Some(size), ..bare() };
        let pids = ContainerSpec { pids: Some(1), ..bare() };
        let labelled = |value: &str| ContainerSpec {
            given_labels: [("team".to_owned(), value.to_owned())].into(),
            ..bare()
        };
        let volume = |name: &str, read_only| ContainerSpec {
            given_volumes: [("/data".to_owned(), VolumeMount { name: name.into(), read_only })].into(),
            ..bare()
        };
        let isolation = |runtime: Option<&str>, privileged| ContainerSpec {
            given_isolation: Isolation { runtime: runtime.map(str::to_owned), privileged },
            ..bare()
        };
        let all = [
            bare(),
            isolation(Some("runc"), None),
            isolation(Some("sysbox-runc"), None),
            isolation(None, Some(false)),
            isolation(None, Some(true)),
            limit(1, 2),
            limit(1, 1),
            gpus(Gpus::All),
            gpus(Gpus::Count(1)),
            shm(1),
            shm(2),
            pids,
            labelled("a"),
            labelled("b"),
            volume("a", false),
            volume("b", false),
            volume("a", true),
            ContainerSpec { skips_flushes: true, ..bare() },
        ];
        let hashes: std::collections::BTreeSet<String> = all.iter().map(|spec| of(spec, None)).collect();
        assert_eq!(hashes.len(), all.len());
    }
}
