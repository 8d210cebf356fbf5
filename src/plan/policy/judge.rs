//! Judgement of specs by the rules of a HostPolicy: all that a spec says, for messages that name its fields.

mod kubeconfig;

use std::net::Ipv4Addr;

pub use kubeconfig::{ACCESS, TOKEN_TTL, access, allows_access};

use super::{
    pattern::{Pattern, denies},
    rules::{LIMITS, Limit, Rules, Violation, any, any_of, list, patterns},
};
use crate::{
    api::{HOLD_ANNOTATION, LocalCluster, names},
    docker::spec::{Bind, Gpus, Limits},
    k3s::{images::canonical, versions},
    plan::{
        expiry,
        settings::Settings,
        validate::{Storage, Valid, ValidPool, ValidRegistry},
    },
};

/// Returns what the rules do not allow of a LocalCluster.
pub fn cluster(rules: &Rules, object: &LocalCluster, valid: &Valid, settings: &Settings) -> Vec<Violation> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let mut judge = Judge { rules, namespace, found: Vec::new() };
    judge.node_image(object, valid, settings);
    for (pool, valid) in valid.pools() {
        judge.pool(&pool.field(), valid);
    }
    judge.cluster_name(object);
    judge.network(valid);
    judge.cluster_ports(valid);
    judge.images("spec.preloadImages", "images.preload", rules.preload.as_ref(), &valid.preload_images);
    for container in &valid.registries.containers {
        judge.name("spec.registries.containers", "containers", rules.containers.as_ref(), &container.name);
    }
    if let Some((key, own)) = &valid.registries.own {
        judge.registry("spec.registries.create", &key.name, own, settings);
    }
    judge.kubeconfig(object);
    judge.lifetime(object);
    judge.found
}

/// Returns what the rules do not allow of a Registry.
pub fn registry(
    rules: &Rules,
    (namespace, name): (&str, &str),
    valid: &ValidRegistry,
    settings: &Settings,
) -> Vec<Violation> {
    let mut judge = Judge { rules, namespace, found: Vec::new() };
    judge.registry("spec", name, valid, settings);
    judge.found
}

/// Reports whether an image is named by digest. Docker runs no other content under such a name.
pub fn has_digest(image: &str) -> bool {
    image.contains("@sha256:")
}

/// Returns whether the rules allow a mount of a host directory.
pub fn allows_path(rules: &Rules, bind: &Bind) -> bool {
    let within = |allowed: &Bind| {
        let rest = bind.source.strip_prefix(&allowed.source);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && (bind.read_only || !allowed.read_only)
    };
    rules.host_paths.as_ref().is_none_or(|paths| paths.iter().any(within))
}

/// Returns the directories that the rules allow, for a message.
pub fn paths(rules: &Rules) -> String {
    list(rules.host_paths.iter().flatten().map(|p| {
        let only = if p.read_only { " (read-only)" } else { "" };
        format!("{}{only}", p.source)
    }))
}

/// Field of the rule for registries that are reached from other machines.
pub const AUTH: &str = "registry.requireAuthBeyondLoopback";

/// Field of the rule for Docker volumes in nodes.
pub const NODE_VOLUMES: &str = "nodes.volumes";

/// Field of the rule for networks of others.
pub const JOIN: &str = "network.join";

/// Field of the rule for OCI runtimes of nodes.
pub const RUNTIMES: &str = "nodes.runtimes";

/// Field of the rule for privileges of nodes.
pub const PRIVILEGED: &str = "nodes.privileged";

/// Field of the rule for labels of node containers.
pub const CONTAINER_LABELS: &str = "nodes.containerLabels";

/// Returns the host addresses that the rules allow, for a message.
pub fn host_ips(rules: &Rules) -> String {
    list(rules.host_ips.iter().flatten())
}

/// Returns the ranges of ports that the rules allow, for a message.
pub fn ranges(rules: &Rules) -> String {
    list(rules.ranges.iter().flatten().map(|r| format!("{}-{}", r.start(), r.end())))
}

/// Reports whether the rules allow a host port.
pub fn allows_port(rules: &Rules, port: u16) -> bool {
    rules.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|r| r.contains(&port)))
}

/// Reports whether the rules allow a host address.
pub fn allows_ip(rules: &Rules, ip: Ipv4Addr) -> bool {
    rules.host_ips.as_ref().is_none_or(|ips| ips.contains(&ip))
}

struct Judge<'a> {
    rules: &'a Rules,
    namespace: &'a str,
    found: Vec<Violation>,
}

impl Judge<'_> {
    fn check(&mut self, holds: bool, violation: impl FnOnce() -> Violation) {
        if !holds {
            self.found.push(violation());
        }
    }

    /// Checks a value by patterns.
    fn name(&mut self, field: &str, rule: &'static str, allowed: Option<&Vec<Pattern>>, value: &str) {
        if let Some(allowed) = allowed {
            let violation = || Violation::new(format!("{field} {value}"), rule, patterns(allowed));
            self.check(any(allowed, value), violation);
        }
    }

    /// Checks images by their full names.
    fn images<'i>(
        &mut self,
        field: &str,
        rule: &'static str,
        allowed: Option<&Vec<Pattern>>,
        images: impl IntoIterator<Item = &'i String>,
    ) {
        for image in images {
            self.name(field, rule, allowed, &canonical(image));
        }
    }

    fn digest(&mut self, what: &str, rule: &'static str, (required, field): (bool, &str), image: &str) {
        self.check(!required || has_digest(image), || {
            let what = format!("{what} {} without a digest", canonical(image));
            Violation::new(what, rule, format!("set {field} to NAME:TAG@sha256:DIGEST"))
        });
    }

    fn node_image(&mut self, object: &LocalCluster, valid: &Valid, settings: &Settings) {
        let has = object.status.as_ref().and_then(|s| s.default_image.as_ref().or(s.image.as_ref()));
        let (field, image) = match (&valid.image, &valid.version) {
            (Some(image), _) => ("spec.image", image.clone()),
            // A cluster that exists keeps its default.
            (None, None) if has.is_some() => ("the image", has.cloned().unwrap_or_default()),
            (None, version) => {
                let version = version.as_ref().unwrap_or(&settings.default_version);
                let image = format!("{}:{}", settings.node_image_repository, versions::tag(version));
                ("spec.version", image)
            }
        };
        self.images(field, "nodes.images", self.rules.node_images.as_ref(), [&image]);
        self.digest(field, "nodes.requireDigest", (self.rules.node_digest, "spec.image"), &image);
    }

    fn pool(&mut self, path: &str, pool: &ValidPool) {
        let rules = self.rules;
        for arg in &pool.args {
            let denied = rules.args_deny.iter().find(|pattern| denies(pattern, arg));
            if let Some(pattern) = denied {
                let violation = Violation::new(format!("{path}.args {arg}"), "nodes.argsDeny", pattern);
                self.found.push(violation);
            }
        }
        for name in pool.env.keys() {
            self.name(&format!("{path}.env"), "nodes.env", rules.env.as_ref(), name);
        }
        for key in pool.container_labels.keys() {
            let field = format!("{path}.containerLabels");
            self.name(&field, CONTAINER_LABELS, rules.container_labels.as_ref(), key);
        }
        for bind in pool.volumes.values() {
            self.host_path(&format!("{path}.volumes"), bind);
        }
        for given in pool.named_volumes.values() {
            self.name(&format!("{path}.volumes"), NODE_VOLUMES, rules.node_volumes.as_ref(), &given.name);
        }
        if pool.count > 0 {
            self.limits(path, pool);
            self.isolation(path, pool);
        }
    }

    /// Checks the limits of a pool. One without a limit may use everything, so it must set those that are limited.
    fn limits(&mut self, path: &str, pool: &ValidPool) {
        let rules = self.rules;
        let own = Limits { memory: pool.memory, nano_cpus: pool.nano_cpus, pids: pool.pids };
        for Limit { field, of, max: rule, quota, told } in LIMITS {
            match (of(&own.or(rules.defaults)), of(&rules.max)) {
                (Some(value), Some(max)) => self.check(value <= max, || {
                    let what = format!("{path}.{field} {}", told(value.into()));
                    Violation::new(what, rule, format!("at most {}", told(max.into())))
                }),
                (None, Some(max)) => {
                    let allowed = format!("must be set, at most {}", told(max.into()));
                    self.found.push(Violation::new(format!("{path} without {field}"), rule, allowed));
                }
                (None, None) => {
                    let limited = quota.filter(|(_, of)| of(&rules.quota).is_some());
                    if let Some((rule, _)) = limited {
                        self.found.push(Violation::new(
                            format!("{path} without {field}"),
                            rule,
                            "must be set",
                        ));
                    }
                }
                (Some(_), None) => {}
            }
        }
        if let (Some(gpus), Some(max)) = (pool.gpus, rules.max_gpus) {
            let (fits, told) = match gpus {
                Gpus::All => (false, "all".to_owned()),
                Gpus::Count(n) => (i64::from(n) <= max, n.to_string()),
            };
            let what = format!("{path}.gpus {told}");
            self.check(fits, || Violation::new(what, "perNode.maxGpus", format!("at most {max}")));
        }
    }

    /// Checks what separates the nodes of a pool from the host. A pool that leaves it to the engine must not, if it matters.
    fn isolation(&mut self, path: &str, pool: &ValidPool) {
        let rules = self.rules;
        let has = pool.isolation.or(&rules.default_isolation);
        match (&rules.runtimes, has.runtime) {
            (allowed, Some(runtime)) => {
                self.name(&format!("{path}.runtime"), RUNTIMES, allowed.as_ref(), &runtime);
            }
            (Some(allowed), None) => {
                let allowed = format!("must be set, {}", patterns(allowed));
                self.found.push(Violation::new(format!("{path} without runtime"), RUNTIMES, allowed));
            }
            (None, None) => {}
        }
        self.check(!rules.unprivileged || has.privileged == Some(false), || {
            Violation::new(format!("privileged nodes of {path}"), PRIVILEGED, "privileged must be false")
        });
    }

    fn host_path(&mut self, field: &str, bind: &Bind) {
        let rules = self.rules;
        self.check(allows_path(rules, bind), || {
            let how = if bind.read_only { "" } else { " for writing" };
            Violation::new(format!("{field} {}{how}", bind.source), "hostPaths", paths(rules))
        });
    }

    fn cluster_name(&mut self, object: &LocalCluster) {
        let (namespace, rules) = (self.namespace, self.rules);
        if let (Some(name), Some(allowed)) = (&object.spec.cluster_name, &rules.cluster_names) {
            self.check(any_of(allowed, namespace, name), || {
                Violation::new(format!("spec.clusterName {name}"), "clusterNames", list(allowed))
            });
        }
    }

    fn network(&mut self, valid: &Valid) {
        for name in &valid.join {
            self.name("spec.network.join", JOIN, self.rules.join.as_ref(), name);
        }
        let Some(subnet) = valid.subnet else { return };
        let (rules, what) = (self.rules, format!("spec.network.subnet {subnet}"));
        if rules.no_explicit_subnet {
            self.found.push(Violation::new(what, "network.explicitSubnet", "must not be set"));
        } else if let Some(pools) = &rules.pools {
            let within = pools.iter().any(|pool| pool.contains(&subnet));
            self.check(within, || Violation::new(what, "network.pools", list(pools)));
        }
    }

    fn cluster_ports(&mut self, valid: &Valid) {
        self.port("spec.api", valid.api_ip, valid.api_port);
        for port in &valid.ports {
            let field = format!("spec.ports {}", port.name);
            // Of a range, all have to be allowed; the first that is not is named.
            let refused = port.host_ports().find(|p| !allows_port(self.rules, *p));
            self.port(&field, port.host_ip, refused.or(port.host_port));
        }
    }

    fn port(&mut self, field: &str, ip: Ipv4Addr, port: Option<u16>) {
        let rules = self.rules;
        self.check(allows_ip(rules, ip), || {
            Violation::new(format!("{field} with hostIP {ip}"), "ports.hostIPs", host_ips(rules))
        });
        if let Some(port) = port {
            self.check(allows_port(rules, port), || {
                Violation::new(format!("{field} with hostPort {port}"), "ports.ranges", ranges(rules))
            });
        }
    }

    fn lifetime(&mut self, object: &LocalCluster) {
        let Some(max) = self.rules.max_ttl else { return };
        let allowed = format!("at most {max:#}");
        match object.spec.ttl.as_deref() {
            // Not longer than the longest.
            None if self.rules.default_ttl.is_some() => {}
            None => {
                let allowed = format!("must be set, {allowed}");
                self.found.push(Violation::new("no spec.ttl", "maxTTL", allowed));
            }
            Some(ttl) => self.check(expiry::parse(ttl).is_some_and(|ttl| ttl <= max), || {
                Violation::new(format!("spec.ttl {ttl}"), "maxTTL", allowed)
            }),
        }
        self.check(!expiry::is_held(&object.metadata), || {
            Violation::new(format!("the annotation {HOLD_ANNOTATION}"), "maxTTL", "must not be set")
        });
    }

    fn registry(&mut self, path: &str, name: &str, valid: &ValidRegistry, settings: &Settings) {
        let (namespace, rules) = (self.namespace, self.rules);
        let image = valid.image.as_ref().unwrap_or(&settings.registry_image);
        let field = format!("{path}.image");
        self.images(&field, "registry.images", rules.registry_images.as_ref(), [image]);
        self.digest(&field, "registry.requireDigest", (rules.registry_digest, &field), image);
        let hostname = &valid.hostname;
        if let Some(allowed) = &rules.hostnames {
            let chosen = *hostname != names::registry(namespace, name, None);
            self.check(!chosen || any_of(allowed, namespace, hostname), || {
                Violation::new(format!("{path}.hostname {hostname}"), "registry.hostnames", list(allowed))
            });
        }
        if let (Some(proxy), Some(allowed)) = (&valid.proxy, &rules.remote_urls) {
            let url = proxy.remote_url.trim_end_matches('/');
            self.check(allowed.iter().any(|a| a.trim_end_matches('/') == url), || {
                Violation::new(format!("{path}.proxy.remoteURL {url}"), "registry.remoteURLs", list(allowed))
            });
        }
        match &valid.storage {
            Storage::Managed { retain: _ } => {}
            Storage::Volume(volume) => {
                let field = format!("{path}.storage.volumeName");
                self.name(&field, "registry.volumes", rules.volumes.as_ref(), volume);
            }
            Storage::HostPath(source) => {
                let bind = Bind { source: source.clone(), read_only: false };
                self.host_path(&format!("{path}.storage.hostPath"), &bind);
            }
        }
        self.check(rules.quota.memory.is_none() || valid.memory.is_some(), || {
            Violation::new(format!("{path} without memory"), "quota.memory", "must be set")
        });
        self.port(path, valid.host_ip, valid.host_port);
        let open = valid.auth.is_none() && !valid.host_ip.is_loopback();
        self.check(!(open && rules.auth_beyond_loopback), || {
            let what = format!("{path} with hostIP {} and without auth", valid.host_ip);
            Violation::new(what, AUTH, format!("set {path}.auth, or {path}.hostIP 127.0.0.1"))
        });
    }
}

#[cfg(test)]
mod tests;
