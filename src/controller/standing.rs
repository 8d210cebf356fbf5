//! Standing of objects under the policy of their namespace.

use std::collections::BTreeMap;

use kube::{ResourceExt, api::ObjectMeta};

use super::{context::Context, pass::Managed, place, series::decoded};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus, Registry, RegistryStatus,
        condition::{self, ConditionType},
        reason::Reason,
        uses::refers,
    },
    docker::spec::Limits,
    plan::{
        default_registries,
        policy::{
            judge,
            rules::{Rules, Violation},
            select::Policy,
            standing::Standing,
            usage::{self, Claim, Usage},
        },
        steps::Problem,
        validate,
    },
    status::PolicyObject,
};

impl Context {
    /// Returns the standing of a LocalCluster. One with an invalid spec is not judged.
    pub fn standing_of_cluster(&self, cluster: &LocalCluster) -> Standing {
        let namespace = cluster.namespace().unwrap_or_default();
        let spec = place::spec(self.hosting.as_ref(), &cluster.spec);
        let valid = validate::local_cluster(&namespace, &cluster.name_any(), &spec);
        let judged = |rules: &Rules| {
            let valid = valid.as_ref().ok();
            valid.map(|valid| judge::cluster(rules, cluster, valid, &self.settings)).unwrap_or_default()
        };
        let claimed = |rules: &Rules| cluster_claim(cluster, rules.defaults);
        self.standing(&namespace, claimed, judged)
    }

    /// Returns the standing of a Registry. One with an invalid spec is not judged.
    pub fn standing_of_registry(&self, registry: &Registry) -> Standing {
        let (namespace, name) = (registry.namespace().unwrap_or_default(), registry.name_any());
        let valid = validate::registry(&namespace, &name, &registry.spec);
        let judged = |rules: &Rules| {
            let judged = |valid| judge::registry(rules, (&namespace, &name), valid, &self.settings);
            valid.as_ref().map(judged).unwrap_or_default()
        };
        self.standing(&namespace, |_| registry_claim(registry), judged)
    }

    /// Returns the standing of the objects in a namespace before their specs are judged.
    pub(super) fn policy_of(&self, policies: &[Policy], namespace: &str) -> Standing {
        let labels = self.policies.labels(namespace);
        Standing::of(policies, (namespace, labels.as_ref()), self.settings.without_policy)
    }

    /// Reports whether the spec of the cluster or its HostPolicy names the registry.
    pub fn refers(&self, cluster: &LocalCluster, registry: &Registry) -> bool {
        refers(cluster, registry) || self.is_default(cluster, registry)
    }

    /// Reports whether the cluster uses the registry because its HostPolicy names it.
    pub fn uses_by_default(&self, cluster: &LocalCluster, registry: &Registry) -> bool {
        let namespace = cluster.namespace().unwrap_or_default();
        cluster.metadata.deletion_timestamp.is_none()
            && self.is_default(cluster, registry)
            && default_registries::judge(registry, "", &namespace) == default_registries::Use::Yes
    }

    fn is_default(&self, cluster: &LocalCluster, registry: &Registry) -> bool {
        let policies = self.policies.all();
        let some =
            policies.iter().any(|p| default_registries::contain(&p.rules.default_registries, registry));
        some && {
            let standing = self.policy_of(&policies, &cluster.namespace().unwrap_or_default());
            default_registries::contain(&standing.rules.default_registries, registry)
        }
    }

    /// Returns the standing of an object, and grants it what it uses if nothing is against it.
    fn standing(
        &self,
        namespace: &str,
        claimed: impl FnOnce(&Rules) -> Claim,
        judged: impl FnOnce(&Rules) -> Vec<Violation>,
    ) -> Standing {
        let standing = self.policy_of(&self.policies.all(), namespace);
        let own = claimed(&standing.rules);
        let mut violations = judged(&standing.rules);
        // Others that are judged at the same time get what is left.
        let mut grants = self.policies.grants();
        let quota = standing.rules.quota;
        if quota != usage::Quota::default() {
            let claims = self.claims(namespace, standing.rules.defaults);
            let sum = usage::sum(&quota, &claims, &own, &grants);
            violations.extend(quota.exceeded(&own.usage, &sum, namespace));
        }
        let counts = self.policies.violated(&own.uid, standing.policy.as_deref(), &violations);
        self.metrics.set_violations(&counts);
        let standing = standing.judged(&violations);
        if standing.problem.is_none() {
            grants.insert(own.uid.clone(), own.usage);
        }
        standing
    }

    /// Returns what all objects of a namespace use.
    fn claims(&self, namespace: &str, defaults: Limits) -> Vec<Claim> {
        let here = |meta: &ObjectMeta| meta.namespace.as_deref() == Some(namespace);
        let clusters = self.clusters.state();
        let clusters = decoded(&clusters).filter(|c| here(&c.metadata));
        let clusters = clusters.map(|c| cluster_claim(c, defaults));
        let registries = self.registries.state();
        clusters.chain(decoded(&registries).filter(|r| here(&r.metadata)).map(registry_claim)).collect()
    }

    /// Returns all objects for the status of the policies.
    pub fn policy_objects(&self, policies: &[Policy]) -> Vec<PolicyObject> {
        let clusters = self.clusters.state();
        let mut defaults: BTreeMap<String, Limits> = BTreeMap::new();
        let clusters = decoded(&clusters).map(|c| {
            let namespace = c.namespace().unwrap_or_default();
            let rules = |namespace: &String| self.policy_of(policies, namespace).rules.defaults;
            let defaults = defaults.entry(namespace).or_insert_with_key(rules);
            policy_object(c, Usage::of_cluster(c, *defaults))
        });
        let registries = self.registries.state();
        clusters.chain(decoded(&registries).map(|r| policy_object(r, Usage::of_registry(&r.spec)))).collect()
    }
}

fn policy_object<K: Managed>(object: &K, usage: Usage) -> PolicyObject {
    PolicyObject {
        kind: K::KIND.as_str(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        usage,
        violates: object.status().is_some_and(violates::<K>),
    }
}

fn violates<K: Managed>(status: &K::Status) -> bool {
    condition::is_true(K::conditions(status), ConditionType::PolicyViolation)
}

/// Reports whether a policy keeps the object from being as its spec says.
fn is_refused<K: Managed>(status: &K::Status) -> bool {
    let violation = condition::get(K::conditions(status), ConditionType::PolicyViolation);
    violation.is_some_and(|c| c.status == "True" && c.reason != Reason::PolicyAudited.as_str())
}

fn cluster_claim(cluster: &LocalCluster, defaults: Limits) -> Claim {
    let generation = cluster.metadata.generation;
    let made = |s: &LocalClusterStatus| !s.nodes.is_empty() && s.observed_generation == generation;
    claim(cluster, Usage::of_cluster(cluster, defaults), made)
}

fn registry_claim(registry: &Registry) -> Claim {
    let generation = registry.metadata.generation;
    let made = |s: &RegistryStatus| s.container.is_some() && s.observed_generation == generation;
    claim(registry, Usage::of_registry(&registry.spec), made)
}

/// Returns the claim of an object. `made` reports whether its status shows that it exists with this spec.
fn claim<K: Managed>(object: &K, usage: Usage, made: impl FnOnce(&K::Status) -> bool) -> Claim {
    Claim {
        uid: object.uid().unwrap_or_default(),
        created: object.creation_timestamp().map(|time| time.0),
        usage,
        // What violates a policy that only audits it runs with its spec.
        runs: object.status().is_some_and(|status| made(status) && !is_refused::<K>(status)),
    }
}

/// Returns the problem of an object that may not be created, if nothing of it exists.
pub fn refused(standing: &Standing, exists: bool) -> Option<Problem> {
    standing.problem.clone().filter(|_| !exists)
}
