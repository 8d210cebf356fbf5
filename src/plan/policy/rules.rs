//! Rules of a HostPolicy as values. A rule that is `None` restricts nothing.

use std::{fmt, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::{pattern::Pattern, usage::Quota};
use crate::{
    api::{host_policy::NamedRegistry, local_cluster::KubeconfigAccess},
    docker::spec::{Bind, Isolation, Limits},
    plan::settings::Settings,
};

/// Rules of a HostPolicy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// True if violations are only reported.
    pub audit: bool,
    /// Limits for the sum over all objects of a namespace.
    pub quota: Quota,
    /// Number of LocalClusters of a namespace that start at the same time.
    pub concurrent_starts: Option<usize>,
    /// Number of images that are pulled for a namespace at the same time.
    pub concurrent_pulls: Option<usize>,
    /// Highest limits of a node.
    pub max: Limits,
    /// Limits of nodes where the spec has none.
    pub defaults: Limits,
    /// OCI runtime and privileges of nodes where the spec does not decide.
    pub default_isolation: Isolation,
    /// Time to live where the spec has none.
    pub default_ttl: Option<SignedDuration>,
    /// Registries that clusters use besides those of their specs.
    pub default_registries: Vec<NamedRegistry>,
    /// Highest number of GPUs of a node.
    pub max_gpus: Option<i64>,
    /// Node images.
    pub node_images: Option<Vec<Pattern>>,
    /// True if node images must have a digest.
    pub node_digest: bool,
    /// OCI runtimes of nodes.
    pub runtimes: Option<Vec<Pattern>>,
    /// True if nodes must not be privileged.
    pub unprivileged: bool,
    /// Rights of kubeconfigs.
    pub access: Option<Vec<KubeconfigAccess>>,
    /// Longest life of a token in a kubeconfig.
    pub max_token_ttl: Option<SignedDuration>,
    /// Life of such a token where the spec has none.
    pub token_ttl: Option<SignedDuration>,
    /// K3s arguments that are refused.
    pub args_deny: Vec<String>,
    /// Environment variables of nodes.
    pub env: Option<Vec<Pattern>>,
    /// Keys of labels of node containers.
    pub container_labels: Option<Vec<Pattern>>,
    /// Docker volumes in nodes.
    pub node_volumes: Option<Vec<Pattern>>,
    /// Images of registries.
    pub registry_images: Option<Vec<Pattern>>,
    /// True if images of registries must have a digest.
    pub registry_digest: bool,
    /// Host names of registries.
    pub hostnames: Option<Vec<String>>,
    /// Upstream registries of caches.
    pub remote_urls: Option<Vec<String>>,
    /// True if registries that are reached from other machines must require credentials.
    pub auth_beyond_loopback: bool,
    /// Unmanaged volumes of registries.
    pub volumes: Option<Vec<Pattern>>,
    /// Images of the Docker host that are imported.
    pub preload: Option<Vec<Pattern>>,
    /// True if a namespace must have shown access to images of the Docker host.
    pub prove_access: bool,
    /// Images that it may use without that.
    pub shared: Vec<Pattern>,
    /// Unmanaged containers.
    pub containers: Option<Vec<Pattern>>,
    /// Other management clusters that objects may adopt from. If empty, there are none.
    pub adopt: Vec<Pattern>,
    /// Names of clusters on the Docker host.
    pub cluster_names: Option<Vec<String>>,
    /// Networks that contain all subnets.
    pub pools: Option<Vec<Ipv4Net>>,
    /// True if specs may not name a subnet.
    pub no_explicit_subnet: bool,
    /// Docker networks that clusters join.
    pub join: Option<Vec<Pattern>>,
    /// Host addresses of ports.
    pub host_ips: Option<Vec<Ipv4Addr>>,
    /// Ranges of host ports.
    pub ranges: Option<Vec<RangeInclusive<u16>>>,
    /// Host directories.
    pub host_paths: Option<Vec<Bind>>,
    /// Time after which a cluster that violates the policy is stopped; `None` if it is kept.
    pub stop_after: Option<SignedDuration>,
    /// Longest time to live.
    pub max_ttl: Option<SignedDuration>,
}

impl Rules {
    /// Returns the settings for the objects of a namespace: ports and subnets are allocated where the policy allows them,
    /// and nodes have its defaults.
    pub fn settings(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        settings.node_defaults = self.defaults;
        settings.node_isolation = self.default_isolation.clone();
        if let Some(range) = self.ranges.as_ref().and_then(|ranges| ranges.first()) {
            settings.port_range = range.clone();
        }
        if let Some(pool) = self.pools.as_ref().and_then(|pools| pools.first()) {
            // Explicit subnets in the pool of the operator are as before, within the policy.
            settings.allowed_subnets.extend(settings.network_pool);
            settings.network_pool = Some(*pool);
            settings.pool_required = true;
        }
        settings
    }
}

/// A value that a rule does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Field with its value, or the thing.
    pub what: String,
    /// Field of the policy.
    pub rule: &'static str,
    /// What it allows.
    pub allowed: String,
}

impl Violation {
    /// Returns a violation by the value of a field.
    pub fn new(what: impl Into<String>, rule: &'static str, allowed: impl Into<String>) -> Self {
        Self { what: what.into(), rule, allowed: allowed.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.what, self.rule, self.allowed)
    }
}

/// Number of values that a message lists.
const LISTED: usize = 5;

/// Returns a list of values for a message.
pub fn list<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut values = values.into_iter();
    let mut listed: Vec<String> = values.by_ref().take(LISTED).map(|v| v.to_string()).collect();
    if values.next().is_some() {
        listed.push("…".to_owned());
    }
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// Returns a list of patterns for a message.
pub fn patterns(patterns: &[Pattern]) -> String {
    list(patterns.iter().map(Pattern::text))
}

/// Reports whether one of the patterns matches a value.
pub fn any(patterns: &[Pattern], value: &str) -> bool {
    patterns.iter().any(|p| p.matches(value))
}

/// Reports whether one of the patterns, in which `{namespace}` is the namespace, matches a name.
pub fn any_of(patterns: &[String], namespace: &str, name: &str) -> bool {
    patterns.iter().any(|p| Pattern::of_names(&p.replace("{namespace}", namespace)).matches(name))
}

/// Returns bytes as a quantity.
pub fn bytes(bytes: i128) -> String {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes != 0 && bytes % (1_i128 << shift) == 0);
    unit.map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// Field of a policy for the quota, and its part.
type Part = (&'static str, fn(&Quota) -> Option<u64>);

/// A limit of nodes, for messages.
pub struct Limit {
    /// Field of a pool.
    pub field: &'static str,
    /// Its part of the limits.
    pub of: fn(&Limits) -> Option<i64>,
    /// Field of the policy with the highest value.
    pub max: &'static str,
    /// Field of the policy with the quota for the sum, and its part.
    pub quota: Option<Part>,
    /// Returns a value as users write it.
    pub told: fn(i128) -> String,
}

/// All limits of nodes.
pub const LIMITS: [Limit; 3] = [
    Limit {
        field: "memory",
        of: |limits| limits.memory,
        max: "perNode.maxMemory",
        quota: Some(("quota.memory", |quota| quota.memory)),
        told: bytes,
    },
    Limit {
        field: "cpus",
        of: |limits| limits.nano_cpus,
        max: "perNode.maxCpus",
        quota: Some(("quota.cpus", |quota| quota.nano_cpus)),
        told: cpus,
    },
    Limit {
        field: "pids",
        of: |limits| limits.pids,
        max: "perNode.maxPids",
        quota: None,
        told: |n| n.to_string(),
    },
];

/// Returns billionths of CPUs as a decimal number.
pub fn cpus(nano: i128) -> String {
    let (whole, part) = (nano / 1_000_000_000, nano % 1_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{part:09}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_users_write_them() {
        let told: Vec<String> = [0, 1000, 1 << 20, 3 << 29, 16 << 30].into_iter().map(bytes).collect();
        assert_eq!(told, ["0", "1000", "1Mi", "1536Mi", "16Gi"]);
        let told: Vec<String> =
            [0, 500_000_000, 8_000_000_000, 1_250_000_000].into_iter().map(cpus).collect();
        assert_eq!(told, ["0", "0.5", "8", "1.25"]);
        assert_eq!((list([""; 0]), list(1..=6)), ("none".into(), "1, 2, 3, 4, 5, …".into()));
    }
}
