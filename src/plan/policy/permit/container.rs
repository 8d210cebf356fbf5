//! Permission to create a container.

use std::net::Ipv4Addr;

use super::{Gate, Permission, Refusal, check, owned};
use crate::{
    docker::spec::{ContainerSpec, Gpus, PortBinding, Role},
    k3s::images::canonical,
    plan::{
        consent, host_path,
        policy::{
            access,
            judge::{
                AUTH, CONTAINER_LABELS, NODE_VOLUMES, PRIVILEGED, RUNTIMES, allows_ip, allows_path,
                allows_port, has_digest, host_ips, paths, ranges,
            },
            rules::{LIMITS, Limit, Rules, Violation, any, patterns},
        },
        registry::config::HTPASSWD_FILE,
    },
};

impl Gate<'_> {
    /// Permits the creation of a container, of everything that it mounts, publishes and is labelled with.
    pub(super) fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Permission {
        self.creates()?;
        self.is_owned(&spec.labels)?;
        let node = spec.role.is_node();
        owned(node || !spec.privileged, "only nodes are privileged")?;
        owned(spec.role != Role::Hub, "no object has a hub")?;
        match (network, spec.role) {
            (Some(id), _) => self.own_network(id)?,
            (None, Role::RegistryHelper | Role::NodeHelper) => {}
            (None, Role::Node(_) | Role::LoadBalancer | Role::Registry | Role::Hub) => {
                return Err(Refusal::Foreign("it has no network"));
            }
        }
        for name in spec.mounts.values() {
            self.mount(spec, name)?;
        }
        for given in spec.given_volumes.values() {
            self.given(&given.name)?;
        }
        let Some(rules) = self.rules() else { return Ok(()) };
        self.image(rules, spec)?;
        self.binds(rules, spec)?;
        labels(rules, spec)?;
        spec.ports.iter().try_for_each(|port| published(rules, port))?;
        if spec.role == Role::Registry {
            requires_auth(rules, spec)?;
        }
        if node { limits(rules, spec).and_then(|()| isolation(rules, spec)) } else { Ok(()) }
    }

    /// Permits a mount of a volume: the object's own, or one that consents.
    fn mount(&self, spec: &ContainerSpec, name: &str) -> Permission {
        let Some(volume) = self.host.volumes.iter().find(|v| v.name == *name) else {
            // Docker creates it.
            return self.is_owned(&spec.volume_labels);
        };
        if self.owner.owns(&volume.labels) || self.is_retained(&volume.labels) {
            return Ok(());
        }
        owned(consent::given(&volume.labels, self.owner.namespace()), "the volume does not allow it")?;
        let Some(allowed) = self.rules().and_then(|rules| rules.volumes.as_ref()) else { return Ok(()) };
        let violation =
            || Violation::new(format!("the volume {name}"), "registry.volumes", patterns(allowed));
        check(any(allowed, name), violation)
    }

    /// Permits a mount of a volume of the user, which must consent. It exists, or the operator would create it.
    fn given(&self, name: &str) -> Permission {
        let consents = consent::to_volume(&self.host.volumes, name, self.owner.namespace());
        owned(consents, "the volume does not allow it")?;
        let allowed = self.rules().and_then(|rules| rules.node_volumes.as_ref());
        let violation =
            |allowed| Violation::new(format!("the volume {name}"), NODE_VOLUMES, patterns(allowed));
        allowed.map_or(Ok(()), |allowed| check(any(allowed, name), || violation(allowed)))
    }

    fn image(&self, rules: &Rules, spec: &ContainerSpec) -> Permission {
        let (rule, allowed) = match spec.role {
            Role::Node(_) | Role::NodeHelper => {
                digest(rules.node_digest, "nodes.requireDigest", &spec.image)?;
                ("nodes.images", &rules.node_images)
            }
            Role::Registry | Role::RegistryHelper | Role::Hub => {
                digest(rules.registry_digest, "registry.requireDigest", &spec.image)?;
                ("registry.images", &rules.registry_images)
            }
            Role::LoadBalancer => {
                let has = self.host.own_named(&spec.name).is_some_and(|d| d.container.image == spec.image);
                let operators = spec.image == self.settings.load_balancer_image;
                return owned(has || operators, "load balancers have the image of the operator");
            }
        };
        let image = canonical(&spec.image);
        let proven = self.proven.contains(&spec.image);
        check(proven || !access::is_required(rules, self.settings, &spec.image), || {
            let allowed = "images that their registries let the namespace read";
            Violation::new(format!("the image {image}"), "images.proveAccess", allowed)
        })?;
        let Some(allowed) = allowed else { return Ok(()) };
        check(any(allowed, &image), || Violation::new(format!("the image {image}"), rule, patterns(allowed)))
    }

    fn binds(&self, rules: &Rules, spec: &ContainerSpec) -> Permission {
        let looks = matches!(spec.role, Role::NodeHelper | Role::RegistryHelper);
        for bind in spec.binds.values() {
            let fence = host_path::allowed(&bind.source, &self.settings.allowed_host_paths);
            owned(fence.is_some(), "the operator does not allow the host directory")?;
            // A helper that looks whether a directory exists is never started.
            if !(looks && bind.read_only) {
                check(allows_path(rules, bind), || {
                    Violation::new(format!("the host directory {}", bind.source), "hostPaths", paths(rules))
                })?;
            }
        }
        Ok(())
    }
}

fn digest(required: bool, rule: &'static str, image: &str) -> Permission {
    check(!required || has_digest(image), || {
        Violation::new(format!("the image {}", canonical(image)), rule, "NAME:TAG@sha256:DIGEST")
    })
}

fn published(rules: &Rules, port: &PortBinding) -> Permission {
    let ip = port.host_ip.parse().is_ok_and(|ip| allows_ip(rules, ip)) || rules.host_ips.is_none();
    check(ip, || {
        Violation::new(format!("a port at the address {}", port.host_ip), "ports.hostIPs", host_ips(rules))
    })?;
    check(allows_port(rules, port.host_port), || {
        Violation::new(format!("the host port {}", port.host_port), "ports.ranges", ranges(rules))
    })
}

/// Permits a registry that other machines reach: with credentials, if they must be required.
fn requires_auth(rules: &Rules, spec: &ContainerSpec) -> Permission {
    let loopback = |port: &PortBinding| port.host_ip.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback());
    let requires = spec.files.iter().any(|file| file.path == HTPASSWD_FILE);
    check(!rules.auth_beyond_loopback || requires || spec.ports.iter().all(loopback), || {
        Violation::new(format!("{} without auth", spec.name), AUTH, "set auth, or hostIP 127.0.0.1")
    })
}

fn limits(rules: &Rules, spec: &ContainerSpec) -> Permission {
    let has = spec.limits();
    for Limit { field, of, max: rule, quota: _, told } in LIMITS {
        let Some(max) = of(&rules.max) else { continue };
        check(of(&has).is_some_and(|has| has <= max), || {
            Violation::new(
                format!("the {field} of {}", spec.name),
                rule,
                format!("at most {}", told(max.into())),
            )
        })?;
    }
    let gpus = spec.gpus.map_or(0, |gpus| match gpus {
        Gpus::All => i64::MAX,
        Gpus::Count(n) => n.into(),
    });
    check(rules.max_gpus.is_none_or(|max| gpus <= max), || {
        let max = rules.max_gpus.unwrap_or_default();
        Violation::new(format!("the GPUs of {}", spec.name), "perNode.maxGpus", format!("at most {max}"))
    })
}

/// Permits what separates a node from the host.
fn isolation(rules: &Rules, spec: &ContainerSpec) -> Permission {
    if let Some(allowed) = &rules.runtimes {
        let runtime = spec.runtime.as_deref();
        check(runtime.is_some_and(|runtime| any(allowed, runtime)), || {
            let which =
                runtime.map_or("default runtime of the engine".into(), |name| format!("runtime {name}"));
            let what = format!("the {which} of {}", spec.name);
            Violation::new(what, RUNTIMES, patterns(allowed))
        })?;
    }
    check(!(rules.unprivileged && spec.privileged), || {
        Violation::new(format!("the privileged node {}", spec.name), PRIVILEGED, "privileged must be false")
    })
}

/// Permits the labels from the user.
fn labels(rules: &Rules, spec: &ContainerSpec) -> Permission {
    let taken = spec.given_labels.keys().any(|key| spec.labels.contains_key(key));
    owned(!taken, "a label has a key of the operator")?;
    let Some(allowed) = &rules.container_labels else { return Ok(()) };
    let refused = spec.given_labels.keys().find(|key| !any(allowed, key));
    refused.map_or(Ok(()), |key| {
        let what = format!("the label {key} of {}", spec.name);
        Err(Refusal::Violation(Violation::new(what, CONTAINER_LABELS, patterns(allowed))))
    })
}
