//! HostPolicies in the shell, the namespaces that they select, and what objects were granted of their quotas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    ResourceExt,
    core::{PartialObjectMeta, error_boundary::DeserializeGuard},
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::Notify;

use crate::{
    api::HostPolicy,
    metrics::Counts,
    plan::policy::{parse, rules::Violation, select::Policy, usage::Grants},
};

/// A HostPolicy in the watch: one that cannot be decoded refuses instead of being ignored.
pub type PolicyGuard = DeserializeGuard<HostPolicy>;

/// HostPolicies, the namespaces that they select, and what objects were granted of their quotas.
pub struct Policies {
    /// All HostPolicies.
    pub policies: Store<PolicyGuard>,
    /// All Namespaces.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Wakes the task that writes the status of the policies.
    pub changed: Notify,
    grants: Mutex<Grants>,
    violations: Mutex<BTreeMap<String, Violated>>,
}

/// Name of a policy, and those of its fields that an object violates.
type Violated = (String, BTreeSet<&'static str>);

impl Policies {
    /// Creates the part of the shared state.
    pub fn new(policies: Store<PolicyGuard>, namespaces: Store<PartialObjectMeta<Namespace>>) -> Self {
        let (grants, violations) = (Mutex::default(), Mutex::default());
        Self { policies, namespaces, changed: Notify::new(), grants, violations }
    }

    /// Returns all policies as values.
    pub fn all(&self) -> Vec<Policy> {
        let parsed = |guard: &PolicyGuard| match &guard.0 {
            Ok(policy) => {
                let mut parsed = parse::policy(&policy.name_any(), &policy.spec);
                // One that is being deleted stops nothing.
                parsed.rules.stop_after.take_if(|_| policy.metadata.deletion_timestamp.is_some());
                parsed
            }
            Err(invalid) => {
                parse::unreadable(invalid.metadata.name.as_deref().unwrap_or_default(), &invalid.error)
            }
        };
        self.policies.state().iter().map(|guard| parsed(guard)).collect()
    }

    /// Returns the labels of a namespace; `None` while they are unknown.
    pub fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let known = self.namespaces.get(&ObjectRef::new(namespace))?;
        Some(known.labels().clone())
    }

    /// Removes what a deleted object was granted.
    pub fn forget(&self, uid: &str) {
        self.grants().remove(uid);
        self.violations().remove(uid);
    }

    /// Records what an object violates, and returns the number of objects that violate each field of a policy.
    pub fn violated(&self, uid: &str, policy: Option<&str>, violations: &[Violation]) -> Counts {
        let mut all = self.violations();
        match policy.filter(|_| !violations.is_empty()) {
            Some(policy) => {
                let fields = violations.iter().map(|violation| violation.rule).collect();
                all.insert(uid.to_owned(), (policy.to_owned(), fields));
            }
            None => drop(all.remove(uid)),
        }
        let mut counts = Counts::new();
        for (policy, fields) in all.values() {
            for field in fields {
                *counts.entry((policy.clone(), *field)).or_default() += 1;
            }
        }
        counts
    }

    fn violations(&self) -> MutexGuard<'_, BTreeMap<String, Violated>> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what objects were granted. Others that are judged at the same time wait.
    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
