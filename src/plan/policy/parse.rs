//! Parsing of HostPolicies. An error makes the whole policy invalid: a rule that is left out would allow everything.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::{
    pattern::Pattern,
    rules::{LIMITS, Limit, Rules, any},
    select::{Policy, Selector},
    usage::Usage,
};
use crate::{
    api::{
        HostPolicySpec,
        host_policy::{
            self as api, Defaults, HostPathRule, ImageRules, KubeconfigRules, Mode, NetworkRules, NodeRules,
            OnViolation, PerNode, PortRules, RegistryRules,
        },
        rules::{format, pattern, text},
    },
    docker::spec::{Bind, Isolation, Limits},
    plan::{
        expiry,
        validate::{TOKEN_LIVES, is, quantity},
    },
};

const MEMORY: &str = "must be a quantity of memory: 16Gi, 512Mi";
const CPUS: &str = "must be a number of CPUs: 8, 1.5";
const COUNT: &str = "must be 0 or more";
const AT_ONCE: &str = "must be 1 or more";
const IMAGE: &str =
    "must be a pattern for full image names, beginning with the registry: docker.io/rancher/k3s:*";
const POOL: &str = "must be an IPv4 network in canonical form, /8 to /24: 10.231.0.0/16";
const NONE: &str = "must not be empty";
const ADDRESS: &str = "must be an IPv4 address: 127.0.0.1";
const RANGE: &str = "must be a range of ports from 1 to 65535: {from: 30000, to: 30999}";
const PATH: &str =
    "must be an absolute path of a directory without /./, /../, // or a trailing slash: /srv/team-a";
const TTL: &str = "must be a duration in hours, minutes and seconds: 336h";

const SHARED: &str = "has no effect without spec.images.proveAccess: true; set it, or remove this field";

/// Default of `spec.grace`.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// Parses a HostPolicy.
pub fn policy(name: &str, spec: &HostPolicySpec) -> Policy {
    // Every field is named, here and in the functions for its parts: a new one does not compile until it is parsed.
    let HostPolicySpec {
        priority,
        mode,
        namespace_selector,
        quota,
        per_node,
        defaults,
        nodes,
        kubeconfig,
        registry,
        images,
        containers,
        adopt,
        cluster_names,
        network,
        ports,
        host_paths,
        on_violation,
        grace,
        max_ttl,
    } = spec;
    let mut p = Parser::default();
    let selector = Selector::parse(namespace_selector).map_err(|error| p.errors.push(error)).ok();
    let mut rules = Rules {
        audit: *mode == Some(Mode::Audit),
        containers: names(containers.as_ref()),
        adopt: names(adopt.as_ref()).unwrap_or_default(),
        cluster_names: cluster_names.clone(),
        host_paths: host_paths.as_ref().map(|paths| p.host_paths(paths)),
        ..Rules::default()
    };
    quota.iter().for_each(|quota| p.quota(quota, &mut rules));
    per_node.iter().for_each(|limits| p.per_node(limits, &mut rules));
    defaults.iter().for_each(|defaults| p.defaults(defaults, &mut rules));
    nodes.iter().for_each(|nodes| p.nodes(nodes, &mut rules));
    kubeconfig.iter().for_each(|kubeconfig| p.kubeconfig(kubeconfig, &mut rules));
    registry.iter().for_each(|registry| p.registry(registry, &mut rules));
    if let Some(ImageRules { preload, prove_access, shared }) = images {
        rules.preload = p.images("spec.images.preload", preload.as_ref());
        rules.prove_access = *prove_access == Some(true);
        rules.shared = p.images("spec.images.shared", shared.as_ref()).unwrap_or_default();
        p.check(shared.is_none() || rules.prove_access, "spec.images.shared", SHARED);
    }
    if let Some(NetworkRules { pools, explicit_subnet, join }) = network {
        rules.pools = pools.as_ref().map(|pools| p.pools(pools));
        rules.join = names(join.as_ref());
        rules.no_explicit_subnet = *explicit_subnet == Some(false);
    }
    if let Some(PortRules { host_ips, ranges }) = ports {
        rules.host_ips = host_ips.as_ref().map(|ips| p.host_ips(ips));
        rules.ranges = ranges.as_ref().map(|ranges| p.ranges(ranges));
    }
    rules.stop_after = p.grace(grace.as_deref()).filter(|_| *on_violation == Some(OnViolation::Stop));
    rules.max_ttl = p.ttl("spec.maxTTL", max_ttl.as_deref());
    p.in_bounds(&rules);
    Policy { name: name.to_owned(), priority: *priority, selector, rules, errors: p.errors }
}

/// Returns the policy for an object that cannot be read: it may select any namespace, and refuses everything.
pub fn unreadable(name: &str, error: &str) -> Policy {
    let errors = vec![format!("it cannot be read: {error}")];
    Policy { name: name.to_owned(), priority: i32::MAX, selector: None, rules: Rules::default(), errors }
}

fn names(patterns: Option<&Vec<String>>) -> Option<Vec<Pattern>> {
    patterns.map(|patterns| patterns.iter().map(|p| Pattern::of_names(p)).collect())
}

/// Collects errors.
#[derive(Default)]
struct Parser {
    errors: Vec<String>,
}

impl Parser {
    fn check(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.errors.push(format!("{path}: {message}"));
        }
    }

    /// Returns a parsed value; adds an error if there is none.
    fn some<T>(&mut self, parsed: Option<T>, path: &str, message: &str) -> Option<T> {
        self.check(parsed.is_some(), path, message);
        parsed
    }

    fn nodes(&mut self, nodes: &NodeRules, rules: &mut Rules) {
        let NodeRules {
            images,
            require_digest,
            runtimes,
            privileged,
            args_deny,
            env,
            container_labels,
            volumes,
        } = nodes;
        rules.runtimes = names(runtimes.as_ref());
        rules.unprivileged = *privileged == Some(false);
        rules.node_digest = *require_digest == Some(true);
        rules.node_images = self.images("spec.nodes.images", images.as_ref());
        rules.args_deny.clone_from(args_deny);
        rules.env = names(env.as_ref());
        rules.container_labels = names(container_labels.as_ref());
        rules.node_volumes = names(volumes.as_ref());
    }

    fn kubeconfig(&mut self, kubeconfig: &KubeconfigRules, rules: &mut Rules) {
        let KubeconfigRules { access, max_ttl } = kubeconfig;
        self.check(access.as_ref().is_none_or(|a| !a.is_empty()), "spec.kubeconfig.access", NONE);
        rules.access.clone_from(access);
        rules.max_token_ttl = self.token_ttl("spec.kubeconfig.maxTTL", max_ttl.as_deref());
    }

    fn quota(&mut self, quota: &api::Quota, rules: &mut Rules) {
        let api::Quota {
            clusters,
            registries,
            nodes,
            cpus,
            memory,
            host_ports,
            concurrent_starts,
            concurrent_pulls,
        } = quota;
        let mut count = |name: &str, n: &Option<i32>| {
            n.and_then(|n| self.some(u64::try_from(n).ok(), &format!("spec.quota.{name}"), COUNT))
        };
        let (clusters, registries) = (count("clusters", clusters), count("registries", registries));
        let (nodes, host_ports) = (count("nodes", nodes), count("hostPorts", host_ports));
        let unsigned = |n: i64| u64::try_from(n).ok();
        let nano_cpus = self.cpus("spec.quota.cpus", cpus.as_deref()).and_then(unsigned);
        let memory = self.memory("spec.quota.memory", memory.as_deref()).and_then(unsigned);
        rules.quota = Usage { clusters, registries, nodes, nano_cpus, memory, host_ports };
        let mut at_once = |name: &str, n: &Option<i32>| {
            let at_least_one = |n: i32| usize::try_from(n).ok().filter(|n| *n > 0);
            n.and_then(|n| self.some(at_least_one(n), &format!("spec.quota.{name}"), AT_ONCE))
        };
        rules.concurrent_starts = at_once("concurrentStarts", concurrent_starts);
        rules.concurrent_pulls = at_once("concurrentPulls", concurrent_pulls);
    }

    fn per_node(&mut self, limits: &PerNode, rules: &mut Rules) {
        let PerNode { max_memory, max_cpus, max_pids, max_gpus } = limits;
        rules.max = Limits {
            memory: self.memory("spec.perNode.maxMemory", max_memory.as_deref()),
            nano_cpus: self.cpus("spec.perNode.maxCpus", max_cpus.as_deref()),
            pids: self.pids("spec.perNode.maxPids", *max_pids),
        };
        rules.max_gpus = max_gpus.map(i64::from);
        self.check(max_gpus.is_none_or(|n| n >= 0), "spec.perNode.maxGpus", COUNT);
    }

    fn defaults(&mut self, defaults: &Defaults, rules: &mut Rules) {
        let Defaults { memory, cpus, pids, ttl, kubeconfig_ttl, runtime, privileged, registries } = defaults;
        rules.defaults = Limits {
            memory: self.memory("spec.defaults.memory", memory.as_deref()),
            nano_cpus: self.cpus("spec.defaults.cpus", cpus.as_deref()),
            pids: self.pids("spec.defaults.pids", *pids),
        };
        rules.default_ttl = self.ttl("spec.defaults.ttl", ttl.as_deref());
        rules.default_registries.clone_from(registries);
        rules.token_ttl = self.token_ttl("spec.defaults.kubeconfigTTL", kubeconfig_ttl.as_deref());
        let named = runtime.as_deref().is_none_or(|name| is(pattern::RUNTIME, name));
        self.check(named, "spec.defaults.runtime", text::RUNTIME);
        rules.default_isolation = Isolation { runtime: runtime.clone(), privileged: *privileged };
    }

    /// Checks that the defaults are allowed: every object that leaves a field out would violate the policy.
    fn in_bounds(&mut self, rules: &Rules) {
        let within = |value: Option<i64>, max: Option<i64>| value.zip(max).is_none_or(|(v, max)| v <= max);
        for Limit { field, of, max, quota: _, told: _ } in LIMITS {
            let holds = within(of(&rules.defaults), of(&rules.max));
            self.check(holds, &format!("spec.defaults.{field}"), &format!("must be at most spec.{max}"));
        }
        let holds = rules.default_ttl.zip(rules.max_ttl).is_none_or(|(ttl, max)| ttl <= max);
        self.check(holds, "spec.defaults.ttl", "must be at most spec.maxTTL");
        let holds = rules.token_ttl.zip(rules.max_token_ttl).is_none_or(|(ttl, max)| ttl <= max);
        self.check(holds, "spec.defaults.kubeconfigTTL", "must be at most spec.kubeconfig.maxTTL");
        let Isolation { runtime, privileged } = &rules.default_isolation;
        let holds = rules.runtimes.as_ref().zip(runtime.as_ref()).is_none_or(|(all, name)| any(all, name));
        self.check(holds, "spec.defaults.runtime", "must match spec.nodes.runtimes");
        let holds = !(rules.unprivileged && *privileged == Some(true));
        self.check(holds, "spec.defaults.privileged", "must be false with spec.nodes.privileged: false");
    }

    fn grace(&mut self, grace: Option<&str>) -> Option<SignedDuration> {
        if grace.is_some() { self.ttl("spec.grace", grace) } else { Some(GRACE) }
    }

    fn ttl(&mut self, path: &str, ttl: Option<&str>) -> Option<SignedDuration> {
        ttl.and_then(|text| self.some(expiry::parse(text), path, TTL))
    }

    fn token_ttl(&mut self, path: &str, ttl: Option<&str>) -> Option<SignedDuration> {
        let life = |text| expiry::parse(text).filter(|ttl| TOKEN_LIVES.contains(ttl));
        ttl.and_then(|text| self.some(life(text), path, text::TOKEN_TTL))
    }

    fn pids(&mut self, path: &str, pids: Option<i32>) -> Option<i64> {
        self.check(pids.is_none_or(|n| format::PIDS.contains(&n)), path, text::PIDS);
        pids.map(i64::from)
    }

    fn registry(&mut self, registry: &RegistryRules, rules: &mut Rules) {
        let RegistryRules {
            images,
            require_digest,
            hostnames,
            remote_urls,
            require_auth_beyond_loopback,
            volumes,
        } = registry;
        rules.registry_digest = *require_digest == Some(true);
        rules.auth_beyond_loopback = *require_auth_beyond_loopback == Some(true);
        rules.registry_images = self.images("spec.registry.images", images.as_ref());
        rules.hostnames.clone_from(hostnames);
        rules.remote_urls.clone_from(remote_urls);
        rules.volumes = names(volumes.as_ref());
    }

    fn memory(&mut self, path: &str, memory: Option<&str>) -> Option<i64> {
        memory.and_then(|text| self.some(quantity::bytes(text), path, MEMORY))
    }

    fn cpus(&mut self, path: &str, cpus: Option<&str>) -> Option<i64> {
        cpus.and_then(|text| self.some(quantity::nano_cpus(text), path, CPUS))
    }

    /// Parses patterns of images. Names without a registry are never compared, so a pattern without one matches nothing.
    fn images(&mut self, path: &str, images: Option<&Vec<String>>) -> Option<Vec<Pattern>> {
        let images = images?;
        for (i, image) in images.iter().enumerate() {
            let registry = image.split_once('/').map_or("", |(first, _)| first);
            let full =
                image.starts_with("**") || registry == "localhost" || registry.contains(['.', ':', '*']);
            self.check(full, &format!("{path}[{i}]"), IMAGE);
        }
        Some(images.iter().map(|p| Pattern::of_images(p)).collect())
    }

    fn pools(&mut self, pools: &[String]) -> Vec<Ipv4Net> {
        // Without one, subnets would be allocated anywhere.
        self.check(!pools.is_empty(), "spec.network.pools", NONE);
        let each = pools.iter().enumerate().filter_map(|(i, pool)| {
            let sound =
                |n: &Ipv4Net| (8..=24).contains(&n.prefix_len()) && n.to_string() == *pool && n.trunc() == *n;
            self.some(pool.parse().ok().filter(sound), &format!("spec.network.pools[{i}]"), POOL)
        });
        each.collect()
    }

    fn host_ips(&mut self, ips: &[String]) -> Vec<Ipv4Addr> {
        let each = ips.iter().enumerate();
        each.filter_map(|(i, ip)| self.some(ip.parse().ok(), &format!("spec.ports.hostIPs[{i}]"), ADDRESS))
            .collect()
    }

    fn ranges(&mut self, ranges: &[api::PortRange]) -> Vec<RangeInclusive<u16>> {
        self.check(!ranges.is_empty(), "spec.ports.ranges", NONE);
        let port = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
        let each = ranges.iter().enumerate().filter_map(|(i, api::PortRange { from, to })| {
            let range = port(*from).zip(port(*to)).filter(|(from, to)| from <= to);
            self.some(range, &format!("spec.ports.ranges[{i}]"), RANGE).map(|(from, to)| from..=to)
        });
        each.collect()
    }

    fn host_paths(&mut self, paths: &[HostPathRule]) -> Vec<Bind> {
        for (i, HostPathRule { path, read_only: _ }) in paths.iter().enumerate() {
            let plain = |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
            let sound = path.strip_prefix('/').is_some_and(plain);
            self.check(sound, &format!("spec.hostPaths[{i}].path"), PATH);
        }
        paths.iter().map(|p| Bind { source: p.path.clone(), read_only: p.read_only }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::local_cluster::KubeconfigAccess;

    fn parsed(yaml: &str) -> Policy {
        policy("teams", &serde_saphyr::from_str::<HostPolicySpec>(yaml).unwrap())
    }

    #[test]
    fn a_full_policy_is_parsed() {
        let all = parsed(
            "{priority: 100, namespaceSelector: {matchLabels: {tier: team}},
              quota: {clusters: 3, registries: 4, nodes: 9, cpus: '8', memory: 16Gi, hostPorts: 16,
                concurrentStarts: 2, concurrentPulls: 1},
              perNode: {maxMemory: 4Gi, maxCpus: '1.5', maxPids: 16384, maxGpus: 0},
              defaults: {memory: 2Gi, cpus: '1', pids: 8192, ttl: 72h, kubeconfigTTL: 8h, runtime: sysbox-runc, privileged: false},
              kubeconfig: {access: [View, None], maxTTL: 48h},
              nodes: {images: ['docker.io/rancher/k3s:*'], requireDigest: true, runtimes: ['sysbox-*'], privileged: false, argsDeny: ['--kube-apiserver-arg=*'], env: [HTTP_PROXY], containerLabels: ['com.example.*']},
              registry: {images: ['docker.io/library/registry:3'], requireDigest: true, hostnames: ['k3d-{namespace}-*'],
                remoteURLs: ['https://quay.io'], requireAuthBeyondLoopback: true, volumes: []},
              images: {preload: ['registry.corp/team-a/**'], proveAccess: true, shared: ['docker.io/library/dev:*']},
              mode: Audit, containers: [], clusterNames: ['{namespace}-*'],
              network: {pools: [10.231.0.0/17], explicitSubnet: false},
              ports: {hostIPs: [127.0.0.1], ranges: [{from: 30000, to: 30999}]},
              hostPaths: [{path: /srv/team-a, readOnly: true}], onViolation: Stop, grace: 2h, maxTTL: 336h}",
        );
        assert_eq!(all.errors, [""; 0]);
        let rules = all.rules;
        assert_eq!((rules.quota.memory, rules.quota.nano_cpus), (Some(16 << 30), Some(8_000_000_000)));
        assert_eq!((rules.concurrent_starts, rules.concurrent_pulls), (Some(2), Some(1)));
        assert_eq!((rules.max.memory, rules.max.pids, rules.max_gpus), (Some(4 << 30), Some(16384), Some(0)));
        let defaults = Limits { memory: Some(2 << 30), nano_cpus: Some(1_000_000_000), pids: Some(8192) };
        assert_eq!((rules.defaults, rules.default_ttl.unwrap().as_hours()), (defaults, 72));
        let isolation = Isolation { runtime: Some("sysbox-runc".into()), privileged: Some(false) };
        assert_eq!((rules.default_isolation, rules.unprivileged), (isolation, true));
        assert!(rules.runtimes.unwrap()[0].matches("sysbox-runc"));
        assert_eq!(rules.access.unwrap(), [KubeconfigAccess::View, KubeconfigAccess::None]);
        let lives = (rules.token_ttl.unwrap().as_hours(), rules.max_token_ttl.unwrap().as_hours());
        assert_eq!(lives, (8, 48));
        assert_eq!((rules.volumes, rules.containers), (Some(Vec::new()), Some(Vec::new())));
        assert_eq!(rules.ranges, Some(vec![30000..=30999]));
        assert!(rules.node_digest && rules.registry_digest && rules.audit && rules.prove_access);
        assert!(rules.shared[0].matches("docker.io/library/dev:1"));
        assert!(
            rules.auth_beyond_loopback
                && rules.no_explicit_subnet
                && rules.max_ttl.unwrap().as_hours() == 336
        );
        assert_eq!(rules.stop_after, Some(SignedDuration::from_hours(2)));
        let images = "{namespaceSelector: {}, nodes: {images: ['**', '**/k3s', 'localhost/k3s:*', '*.corp/**', 'r:5000/a']}}";
        assert_eq!(parsed(images).errors, [""; 0]);
        let stop_after = |yaml| parsed(yaml).rules.stop_after.map(|grace| grace.as_hours());
        assert_eq!(stop_after("{namespaceSelector: {}, onViolation: Stop}"), Some(24));
        assert_eq!(stop_after("{namespaceSelector: {}, onViolation: Keep, grace: 1h}"), None);
        let open = parsed("{namespaceSelector: {}}");
        assert_eq!((open.rules, open.errors), (Rules::default(), Vec::new()));
    }

    #[test]
    fn what_cannot_be_parsed_is_told_and_not_left_out() {
        for (yaml, told) in [
            ("quota: {memory: 16GB}", "spec.quota.memory: "),
            ("quota: {cpus: 500m}", "spec.quota.cpus: "),
            ("quota: {clusters: -1}", "spec.quota.clusters: "),
            ("quota: {concurrentStarts: 0}", "spec.quota.concurrentStarts: must be 1 or more"),
            ("quota: {concurrentPulls: -1}", "spec.quota.concurrentPulls: "),
            ("perNode: {maxMemory: much}", "spec.perNode.maxMemory: "),
            ("perNode: {maxPids: 1023}", "spec.perNode.maxPids: must be between"),
            ("defaults: {memory: 2GB}", "spec.defaults.memory: "),
            ("defaults: {pids: 0}", "spec.defaults.pids: "),
            ("defaults: {ttl: 3d}", "spec.defaults.ttl: "),
            (
                "perNode: {maxMemory: 1Gi}, defaults: {memory: 2Gi}",
                "spec.defaults.memory: must be at most spec.perNode",
            ),
            (
                "perNode: {maxPids: 1024}, defaults: {pids: 2048}",
                "spec.defaults.pids: must be at most spec.perNode",
            ),
            ("maxTTL: 1h, defaults: {ttl: 2h}", "spec.defaults.ttl: must be at most spec.maxTTL"),
            ("perNode: {maxGpus: -1}", "spec.perNode.maxGpus: "),
            ("defaults: {runtime: /usr/bin/runc}", "spec.defaults.runtime: must be the name"),
            (
                "nodes: {runtimes: ['sysbox-*']}, defaults: {runtime: runc}",
                "spec.defaults.runtime: must match spec.nodes.runtimes",
            ),
            (
                "nodes: {privileged: false}, defaults: {privileged: true}",
                "spec.defaults.privileged: must be false",
            ),
            ("kubeconfig: {access: []}", "spec.kubeconfig.access: must not be empty"),
            ("kubeconfig: {maxTTL: 1m}", "spec.kubeconfig.maxTTL: must be 10m to"),
            ("defaults: {kubeconfigTTL: 1d}", "spec.defaults.kubeconfigTTL: must be 10m to"),
            (
                "kubeconfig: {maxTTL: 1h}, defaults: {kubeconfigTTL: 2h}",
                "spec.defaults.kubeconfigTTL: must be at most spec.kubeconfig.maxTTL",
            ),
            ("nodes: {images: ['rancher/k3s:*']}", "spec.nodes.images[0]: "),
            ("images: {shared: ['docker.io/library/dev:*']}", "spec.images.shared: has no effect"),
            ("images: {proveAccess: true, shared: ['dev:*']}", "spec.images.shared[0]: "),
            ("network: {pools: [10.231.0.1/17]}", "spec.network.pools[0]: "),
            ("network: {pools: [10.231.0.0/25]}", "spec.network.pools[0]: "),
            ("network: {pools: []}", "spec.network.pools: "),
            ("ports: {hostIPs: ['::1']}", "spec.ports.hostIPs[0]: "),
            ("ports: {ranges: [{from: 2, to: 1}]}", "spec.ports.ranges[0]: "),
            ("ports: {ranges: [{from: 0, to: 1}]}", "spec.ports.ranges[0]: "),
            ("hostPaths: [{path: /srv/../etc}]", "spec.hostPaths[0].path: "),
            ("maxTTL: 2w", "spec.maxTTL: "),
            ("onViolation: Stop, grace: 0s", "spec.grace: "),
        ] {
            let errors = parsed(&format!("{{namespaceSelector: {{}}, {yaml}}}")).errors;
            assert!(errors.len() == 1 && errors[0].starts_with(told), "{yaml}: {errors:?}");
        }
        // A mistyped rule would open what it was to close.
        assert!(
            serde_saphyr::from_str::<HostPolicySpec>("{namespaceSelector: {}, quotas: {clusters: 1}}")
                .is_err()
        );
        assert!(serde_saphyr::from_str::<HostPolicySpec>("{quota: {clusters: 1}}").is_err());
    }

    #[test]
    fn an_invalid_selector_may_select_anything() {
        let policy = parsed("{namespaceSelector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}}");
        assert!(policy.selector.is_none() && policy.errors.len() == 1 && policy.selects(&Default::default()));
    }
}
