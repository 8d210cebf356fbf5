//! The hash of the intent behind a container, kept in the label [`names::SPEC_HASH`]: another hash means that the
//! container has to be replaced.
//!
//! It covers what users ask for, never what Docker made of it (engines add, drop and reorder fields), nor labels,
//! nor secrets. Its input is versioned by a prefix: a later operator that computes it in another way keeps this
//! function for containers that carry `v1-`, so that an upgrade of the operator alone replaces nothing (k3k#1078).

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::desired::{ContainerSpec, FileChange};
use crate::api::names;

const VERSION: &str = "v1-";

/// The label's value for a container made from `spec` on the network with this id.
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
        hosts: Vec<(&'a String, &'a String)>,
        files: Vec<(&'a str, u32, String)>,
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
        hosts: spec.extra_hosts.iter().collect(),
        files: spec
            .files
            .iter()
            .filter(|f| f.change == FileChange::Replace)
            .map(|f| (f.path.as_str(), f.mode, names::hex(&Sha256::digest(&f.content))))
            .collect(),
    };
    let json = serde_json::to_vec(&intent).expect("plain values always serialize");
    format!("{VERSION}{}", names::hex(&Sha256::digest(json)[..16]))
}

/// Whether a container with this label was made from `spec`. A label of a version that this operator does not know
/// comes from a newer one, whose containers an older one leaves alone.
pub fn matches(label: Option<&str>, spec: &ContainerSpec, network: Option<&str>) -> bool {
    match label {
        Some(l) if l.starts_with(VERSION) => l == of(spec, network),
        Some(_) => true,
        None => false,
    }
}
