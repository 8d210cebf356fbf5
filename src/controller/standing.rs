//! Standing of objects under the policy of their namespace.

use kube::ResourceExt;

use super::context::Context;
use crate::{
    api::{
        LocalCluster, Registry,
        condition::{self, ConditionType},
    },
    plan::{
        policy::{
            judge,
            rules::{Rules, Violation},
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
        let valid = validate::local_cluster(&namespace, &cluster.name_any(), &cluster.spec);
        let judged = |rules: &Rules| {
            let valid = valid.as_ref().ok();
            valid.map(|valid| judge::cluster(rules, cluster, valid, &self.settings)).unwrap_or_default()
        };
        self.standing(&namespace, &cluster_claim(cluster), judged)
    }

    /// Returns the standing of a Registry. One with an invalid spec is not judged.
    pub fn standing_of_registry(&self, registry: &Registry) -> Standing {
        let (namespace, name) = (registry.namespace().unwrap_or_default(), registry.name_any());
        let valid = validate::registry(&namespace, &name, &registry.spec);
        let judged = |rules: &Rules| {
            let judged = |valid| judge::registry(rules, (&namespace, &name), valid, &self.settings);
            valid.as_ref().map(judged).unwrap_or_default()
        };
        self.standing(&namespace, &registry_claim(registry), judged)
    }

    /// Returns the standing of an object, and grants it what it uses if nothing is against it.
    fn standing(
        &self,
        namespace: &str,
        own: &Claim,
        judged: impl FnOnce(&Rules) -> Vec<Violation>,
    ) -> Standing {
        let policies = self.policies.all();
        let labels = self.policies.labels(namespace);
        let standing = Standing::of(&policies, (namespace, labels.as_ref()), self.settings.without_policy);
        let mut violations = judged(&standing.rules);
        // Others that are judged at the same time get what is left.
        let mut grants = self.policies.grants();
        let quota = standing.rules.quota;
        if quota != usage::Quota::default() {
            let sum = usage::sum(&quota, &self.claims(namespace), own, &grants);
            violations.extend(quota.exceeded(&own.usage, &sum, namespace));
        }
        let standing = standing.judged(&violations);
        if standing.problem.is_none() {
            grants.insert(own.uid.clone(), own.usage);
        }
        standing
    }

    /// Returns what all objects of a namespace use.
    fn claims(&self, namespace: &str) -> Vec<Claim> {
        let clusters = self.clusters.state();
        let clusters = clusters.iter().filter_map(|guard| guard.0.as_ref().ok());
        let clusters = clusters.filter(|c| c.namespace().as_deref() == Some(namespace)).map(cluster_claim);
        let registries = self.registries.state();
        let registries = registries.iter().filter_map(|guard| guard.0.as_ref().ok());
        let registries = registries.filter(|r| r.namespace().as_deref() == Some(namespace));
        clusters.chain(registries.map(registry_claim)).collect()
    }

    /// Returns all objects for the status of the policies.
    pub fn policy_objects(&self) -> Vec<PolicyObject> {
        let clusters = self.clusters.state();
        let clusters = clusters.iter().filter_map(|guard| guard.0.as_ref().ok()).map(|c| {
            let conditions = c.status.as_ref().map_or(&[][..], |s| &s.conditions);
            PolicyObject {
                kind: "LocalCluster",
                namespace: c.namespace().unwrap_or_default(),
                name: c.name_any(),
                usage: Usage::of_cluster(&c.spec),
                violates: condition::is_true(conditions, ConditionType::PolicyViolation),
            }
        });
        let registries = self.registries.state();
        let registries = registries.iter().filter_map(|guard| guard.0.as_ref().ok()).map(|r| {
            let conditions = r.status.as_ref().map_or(&[][..], |s| &s.conditions);
            PolicyObject {
                kind: "Registry",
                namespace: r.namespace().unwrap_or_default(),
                name: r.name_any(),
                usage: Usage::of_registry(&r.spec),
                violates: condition::is_true(conditions, ConditionType::PolicyViolation),
            }
        });
        clusters.chain(registries).collect()
    }
}

fn cluster_claim(cluster: &LocalCluster) -> Claim {
    let status = cluster.status.as_ref();
    let runs = status.is_some_and(|s| {
        !s.nodes.is_empty()
            && s.observed_generation == cluster.metadata.generation
            && !condition::is_true(&s.conditions, ConditionType::PolicyViolation)
    });
    Claim {
        uid: cluster.uid().unwrap_or_default(),
        created: cluster.creation_timestamp().map(|time| time.0),
        usage: Usage::of_cluster(&cluster.spec),
        runs,
    }
}

fn registry_claim(registry: &Registry) -> Claim {
    let status = registry.status.as_ref();
    let runs = status.is_some_and(|s| {
        s.container.is_some()
            && s.observed_generation == registry.metadata.generation
            && !condition::is_true(&s.conditions, ConditionType::PolicyViolation)
    });
    Claim {
        uid: registry.uid().unwrap_or_default(),
        created: registry.creation_timestamp().map(|time| time.0),
        usage: Usage::of_registry(&registry.spec),
        runs,
    }
}

/// Returns the problem of an object that may not be created, if nothing of it exists.
pub fn refused(standing: &Standing, exists: bool) -> Option<Problem> {
    standing.problem.clone().filter(|_| !exists)
}
