//! Permission of a step: the last line, at which it counts what a step does. It is called for every step before it is
//! executed, and knows no fields of specs, so that a field that comes later cannot pass it by.

use std::collections::{BTreeMap, BTreeSet};

mod container;

use jiff::SignedDuration;

use super::{
    judge::{self, ACCESS, JOIN, TOKEN_TTL, allows_access},
    rules::{Rules, Violation, any, list, patterns},
    standing::Standing,
};
use crate::{
    api::{
        condition::ConditionType,
        local_cluster::KubeconfigAccess,
        names::{self, VOLUME_OF},
        reason::Reason,
    },
    docker::spec::NetworkSpec,
    plan::{
        consent, joined, kubeconfig,
        observed::Host,
        owner::Owner,
        secret::Secret,
        settings::Settings,
        steps::{Action, Problem, Target},
    },
};

/// What permits the steps of an object.
#[derive(Clone, Debug)]
pub struct Gate<'a> {
    /// Owner of everything that the steps may change.
    pub owner: &'a Owner,
    /// The observed host.
    pub host: &'a Host,
    /// Settings of the operator.
    pub settings: &'a Settings,
    /// Standing under the policy of the namespace; `None` for an object that is being deleted, for which nothing is
    /// created.
    pub standing: Option<&'a Standing>,
    /// Names of containers that are not removed while nothing may be created in their place.
    pub keep: BTreeSet<String>,
    /// Images of the host that the namespace has shown access to, where the policy requires it.
    pub proven: BTreeSet<String>,
}

/// Why a step is not permitted.
enum Refusal {
    /// Nothing of the object may be created or replaced.
    Frozen(Problem),
    /// The policy does not allow it.
    Violation(Violation),
    /// It would change what another object owns, or what no object of the kind needs.
    Foreign(&'static str),
}

type Permission = Result<(), Refusal>;

impl Gate<'_> {
    /// Returns why a step must not be executed.
    pub fn permit(&self, action: &Action) -> Result<(), Problem> {
        self.permission(action).map_err(|refusal| match (refusal, self.standing) {
            (Refusal::Frozen(problem), _) => problem,
            (Refusal::Violation(violation), Some(standing)) => standing.violated(&[violation]),
            (Refusal::Violation(violation), None) => foreign(action, &violation.what),
            (Refusal::Foreign(what), _) => foreign(action, what),
        })
    }

    /// Returns what the policy does not allow of a step that is executed, since its mode is Audit, unless the same field is
    /// reported for the spec.
    pub fn audited(&self, action: &Action) -> Option<Problem> {
        let audits = self.standing.filter(|standing| standing.rules.audit)?;
        let mut strict = audits.clone();
        strict.rules.audit = false;
        match (Gate { standing: Some(&strict), ..self.clone() }.permission(action)) {
            Err(Refusal::Violation(violation)) => {
                let field = format!("({}: ", violation.rule);
                let known = audits.audited.as_ref().is_some_and(|problem| problem.message.contains(&field));
                (!known).then(|| audits.violated(&[violation]))
            }
            Ok(()) | Err(Refusal::Frozen(_) | Refusal::Foreign(_)) => None,
        }
    }

    fn permission(&self, action: &Action) -> Permission {
        match action {
            Action::CreateNetwork(spec) => self.create_network(spec),
            Action::CreateVolume(spec) => self.creates().and_then(|()| self.is_owned(&spec.labels)),
            Action::CreateContainer { spec, network } => self.create_container(spec, network.as_deref()),
            Action::Connect { network, container, endpoint: _ } => self.connect(network, container),
            Action::Disconnect { network, container } => {
                self.own_network(network).or_else(|_| self.own(container))
            }
            Action::RemoveNetwork { id, name: _ } => self.own_network(id),
            Action::RemoveVolume { name } => {
                self.stays(name.rsplit_once('-').map_or(name, |(node, _)| node))?;
                self.own_volume(name)
            }
            Action::RemoveContainer { container } => {
                self.stays(&container.name)?;
                self.own(container)
            }
            Action::Start { container } => self.start(container),
            Action::Upload { container, files: _ }
            | Action::Stop { container, grace: _ }
            | Action::Unpause { container }
            | Action::Signal { container, signal: _ }
            | Action::Expect { container, one_of: _ }
            | Action::SetRestart { container, policy: _ }
            | Action::Exec { container, command: _ }
            | Action::RemoveFiles { container, paths: _ } => self.own(container),
            // Before it would be replaced.
            Action::Drain { node } | Action::DeleteNode { node } | Action::LeaveEtcd { node } => {
                self.stays(node)
            }
            // In the created cluster, which only its owner has the credentials of.
            Action::Uncordon { .. }
            | Action::Configure { .. }
            | Action::ForgetPassword { .. }
            | Action::ReleaseLease { .. }
            | Action::RemoveMember(_)
            | Action::SetConfig(_)
            | Action::GrantAccess { .. }
            | Action::RevokeAccess { .. }
            | Action::DeleteObject { .. } => Ok(()),
            Action::CreateSecret(secret) | Action::ApplySecret(secret) => {
                self.is_owner(&secret.owner)?;
                self.hand_out(secret)
            }
            Action::IssueToken(template) => {
                self.is_owner(template.owner())?;
                self.issue(template.role.access(), Some(template.ttl))
            }
            Action::DeleteSecret { namespace, name: _, uid: _ } => {
                owned(namespace == self.owner.namespace(), "the Secret is in another namespace")
            }
            Action::Service(change) => self.is_owner(change.owner()),
            Action::ApplyRegistry(registry) => self.is_owner(&registry.owner),
            Action::DeleteRegistry { namespace, name: _, uid: _ } => {
                owned(namespace == self.owner.namespace(), "the Registry is in another namespace")
            }
        }
    }

    /// Reports whether anything may be created.
    fn creates(&self) -> Permission {
        match self.standing {
            None => Err(Refusal::Foreign("the object is being deleted")),
            Some(standing) => {
                standing.problem.clone().map_or(Ok(()), |problem| Err(Refusal::Frozen(problem)))
            }
        }
    }

    /// Reports whether a container need not stay for want of a new one.
    fn stays(&self, name: &str) -> Permission {
        let frozen = self.standing.and_then(|standing| standing.problem.clone());
        match frozen.filter(|_| self.keep.contains(name)) {
            Some(problem) => Err(Refusal::Frozen(problem)),
            None => Ok(()),
        }
    }

    fn rules(&self) -> Option<&Rules> {
        self.standing.map(Standing::enforced)
    }

    fn is_owner(&self, owner: &Owner) -> Permission {
        owned(owner == self.owner, "it would have another owner")
    }

    fn is_owned(&self, labels: &BTreeMap<String, String>) -> Permission {
        owned(self.owner.owns(labels), "it would have another owner")
    }

    /// Reports whether a container is the object's own. One that the plan creates was permitted.
    fn own(&self, target: &Target) -> Permission {
        let own = |id: &String| self.labels(id).is_some_and(|labels| self.owner.owns(labels));
        owned(target.id.as_ref().is_none_or(own), "the container is not managed by this object")
    }

    /// Permits the start of a container. The first one is part of its creation: its files may be those of another spec.
    fn start(&self, target: &Target) -> Permission {
        self.own(target)?;
        let detail = target.id.as_ref().and_then(|id| self.host.own.get(id));
        if detail.is_some_and(|d| d.started_at.is_none()) { self.creates() } else { Ok(()) }
    }

    fn labels(&self, id: &str) -> Option<&BTreeMap<String, String>> {
        self.host.containers.iter().find(|c| c.id == id).map(|c| &c.labels)
    }

    fn network_labels(&self, id: &str) -> Option<&BTreeMap<String, String>> {
        self.host.networks.iter().find(|n| n.id == id).map(|n| &n.labels)
    }

    fn own_network(&self, id: &str) -> Permission {
        let own = self.network_labels(id).is_some_and(|labels| self.owner.owns(labels));
        owned(own, "the network is not managed by this object")
    }

    /// Reports whether a volume may be removed: the object's own, or one that an earlier Registry in its namespace left.
    fn own_volume(&self, name: &str) -> Permission {
        let labels = self.host.volumes.iter().find(|v| v.name == name).map(|v| &v.labels);
        let own = labels.is_some_and(|labels| self.owner.owns(labels) || self.is_retained(labels));
        owned(own, "the volume is not managed by this object")
    }

    fn is_retained(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.contains_key(VOLUME_OF)
            && labels.get(names::MANAGER) == Some(&self.owner.manager)
            && names::owner_namespace(labels) == Some(self.owner.namespace())
    }

    /// Permits the connection of an own container to a network of the user, which must consent.
    fn join(&self, id: &str) -> Permission {
        let network = self.host.networks.iter().find(|n| n.id == id);
        let allows = network.filter(|n| joined::allows(n, self.owner.namespace()));
        let Some(network) = allows else {
            return Err(Refusal::Foreign(
                "the network is not managed by this operator and does not allow it",
            ));
        };
        let Some(allowed) = self.rules().and_then(|rules| rules.join.as_ref()) else { return Ok(()) };
        let what = format!("a connection to the network {}", network.name);
        check(any(allowed, &network.name), || Violation::new(what, JOIN, patterns(allowed)))
    }

    /// Permits a Secret with a kubeconfig. The client certificate of K3s has all rights, and a life that no rule for tokens
    /// allows. What a token may be was decided when it was issued.
    fn hand_out(&self, secret: &Secret) -> Permission {
        let certificate = kubeconfig::hands_out_certificate(secret);
        if certificate { self.issue(KubeconfigAccess::Admin, None) } else { Ok(()) }
    }

    /// Permits a credential with these rights, and this life if it is a token.
    fn issue(&self, access: KubeconfigAccess, ttl: Option<SignedDuration>) -> Permission {
        let Some(rules) = self.rules() else { return Ok(()) };
        check(allows_access(rules, access), || {
            Violation::new(format!("a kubeconfig with access {access:?}"), ACCESS, judge::access(rules))
        })?;
        let Some(max) = rules.max_token_ttl else { return Ok(()) };
        check(ttl.is_some_and(|ttl| ttl <= max), || {
            let what = ttl.map_or("a client certificate".into(), |ttl| format!("a token for {ttl:#}"));
            Violation::new(format!("{what} in a kubeconfig"), TOKEN_TTL, format!("at most {max:#}"))
        })
    }

    /// Reports whether an own registry is on a network of another object of this operator, whose cluster uses it. One that is
    /// made in its place is connected there again.
    fn is_used_on(&self, network: &str, container: &Target) -> bool {
        let ours =
            self.network_labels(network).is_some_and(|l| l.get(names::MANAGER) == Some(&self.owner.manager));
        let mut own = self.host.containers.iter().filter(|c| self.owner.owns(&c.labels));
        ours && own.any(|c| {
            c.name == container.name && names::is_registry(&c.labels) && c.networks.contains_key(network)
        })
    }

    /// Permits a connection of a container to a network: of others' containers only those that consent, and of others'
    /// networks only those of clusters that use the registry, of the Node of the management cluster, and those that consent.
    fn connect(&self, network: &str, container: &Target) -> Permission {
        if self.own(container).is_ok() {
            let known = self.own_network(network).is_ok() || self.is_used_on(network, container);
            let node = self.settings.management.container(self.host, &self.owner.manager);
            let shared = node.is_some_and(|node| node.networks.contains_key(network));
            return if known || shared { Ok(()) } else { self.join(network) };
        }
        self.own_network(network)?;
        let Some(labels) = container.id.as_deref().and_then(|id| self.labels(id)) else {
            return Err(Refusal::Foreign("the container is unknown"));
        };
        let registry = names::is_registry(labels);
        if registry && labels.get(names::MANAGER) == Some(&self.owner.manager) {
            return Ok(());
        }
        owned(consent::connects(labels, self.owner.namespace()), "the container does not allow it")?;
        match self.rules().and_then(|rules| rules.containers.as_ref()) {
            Some(allowed) if !any(allowed, &container.name) => Err(Refusal::Violation(Violation::new(
                format!("a connection of the container {}", container.name),
                "containers",
                patterns(allowed),
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn create_network(&self, spec: &NetworkSpec) -> Permission {
        self.creates()?;
        self.is_owned(&spec.labels)?;
        let Some(pools) = self.rules().and_then(|rules| rules.pools.as_ref()) else { return Ok(()) };
        let within =
            spec.addressing.as_ref().is_some_and(|a| pools.iter().any(|pool| pool.contains(&a.subnet)));
        let subnet = spec.addressing.as_ref().map_or("chosen by Docker".to_owned(), |a| a.subnet.to_string());
        let violation = || Violation::new(format!("the subnet {subnet}"), "network.pools", list(pools));
        check(within, violation)
    }
}

fn owned(holds: bool, why: &'static str) -> Permission {
    if holds { Ok(()) } else { Err(Refusal::Foreign(why)) }
}

fn check(holds: bool, violation: impl FnOnce() -> Violation) -> Permission {
    if holds { Ok(()) } else { Err(Refusal::Violation(violation())) }
}

/// Returns the problem of a step that no plan should contain.
fn foreign(action: &Action, why: &str) -> Problem {
    let message =
        format!("{action} is refused: {why}; this is a bug, report it with the log of the operator");
    Problem::stalls(ConditionType::Accepted, Reason::InternalError, message)
}

#[cfg(test)]
mod tests;
