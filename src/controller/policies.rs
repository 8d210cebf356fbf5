//! HostPolicies in the shell, the namespaces that they select, and what objects were granted of their quotas.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource, ResourceExt,
    core::{PartialObjectMeta, error_boundary::DeserializeGuard},
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::Notify;

use super::access::Proofs;
use crate::{
    api::HostPolicy,
    metrics::Counts,
    plan::{
        adoption::Consent,
        policy::{parse, rules::Violation, select::Policy, usage::Grants},
    },
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
    /// Proofs of access to images.
    pub proofs: Proofs,
    grants: Mutex<Grants>,
    violations: Mutex<Violations>,
    parsed: Mutex<Parsed>,
    adopting: Mutex<Adopting>,
}

/// Namespaces that may adopt, with the other management clusters that they may adopt from.
type Adopting = BTreeSet<(String, String)>;

/// Name of a policy, and those of its fields that an object violates.
type Violated = (String, BTreeSet<&'static str>);

/// What objects violate, by UID, and the numbers of them.
#[derive(Default)]
struct Violations {
    of: BTreeMap<String, Violated>,
    counts: Counts,
}

impl Violations {
    /// Replaces what an object violates, and counts it.
    fn set(&mut self, uid: &str, violated: Option<Violated>) {
        let before = match &violated {
            Some(now) => self.of.insert(uid.to_owned(), now.clone()),
            None => self.of.remove(uid),
        };
        for (violated, by) in [(before, -1), (violated, 1)] {
            let Some((policy, fields)) = violated else { continue };
            for field in fields {
                *self.counts.entry((policy.clone(), field)).or_default() += by;
            }
        }
        self.counts.retain(|_, count| *count > 0);
    }
}

/// Parsed policies, with the versions of the objects that they were parsed from.
#[derive(Default)]
struct Parsed {
    versions: Vec<Version>,
    policies: Arc<Vec<Policy>>,
}

/// UID and resource version of a policy.
type Version = (Option<String>, Option<String>);

fn version(guard: &PolicyGuard) -> Version {
    (guard.meta().uid.clone(), guard.meta().resource_version.clone())
}

impl Policies {
    /// Creates the part of the shared state.
    pub fn new(policies: Store<PolicyGuard>, namespaces: Store<PartialObjectMeta<Namespace>>) -> Self {
        let (grants, violations, parsed) = (Mutex::default(), Mutex::default(), Mutex::default());
        let adopting = Mutex::default();
        Self {
            policies,
            namespaces,
            changed: Notify::new(),
            proofs: Proofs::default(),
            grants,
            violations,
            parsed,
            adopting,
        }
    }

    /// Returns all policies as values. They are parsed when one of them changes.
    pub fn all(&self) -> Arc<Vec<Policy>> {
        let state = self.policies.state();
        let versions: Vec<Version> = state.iter().map(|guard| version(guard)).collect();
        let known = versions.iter().all(|(_, version)| version.is_some());
        let mut cached = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if !known || cached.versions != versions {
            *cached = Parsed { versions, policies: Arc::new(Self::parse(&state)) };
        }
        cached.policies.clone()
    }

    fn parse(state: &[Arc<PolicyGuard>]) -> Vec<Policy> {
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
        state.iter().map(|guard| parsed(guard)).collect()
    }

    /// Returns the labels of a namespace; `None` while they are unknown.
    pub fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let known = self.namespaces.get(&ObjectRef::new(namespace))?;
        Some(known.labels().clone())
    }

    /// Decides about adoptions by `consent`, which is asked for namespaces and management clusters. What was allowed stays so
    /// while it is not known: what runs is not given up for a moment.
    pub fn adopting<T>(
        &self,
        decide: impl FnOnce(&dyn Fn(&str, &str) -> Consent) -> T,
        consent: impl Fn(&str, &str) -> Consent,
    ) -> T {
        let mut before = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let given = RefCell::new(Adopting::new());
        let decided = decide(&|namespace: &str, manager: &str| {
            let key = (namespace.to_owned(), manager.to_owned());
            let now = match consent(namespace, manager) {
                Consent::Unknown if before.contains(&key) => Consent::Given,
                other => other,
            };
            if now == Consent::Given {
                given.borrow_mut().insert(key);
            }
            now
        });
        *before = given.into_inner();
        decided
    }

    /// Removes what a deleted object was granted.
    pub fn forget(&self, uid: &str) {
        self.grants().remove(uid);
        self.violations().set(uid, None);
    }

    /// Records what an object violates, and returns the number of objects that violate each field of a policy.
    pub fn violated(&self, uid: &str, policy: Option<&str>, violations: &[Violation]) -> Counts {
        let violated = policy
            .filter(|_| !violations.is_empty())
            .map(|policy| (policy.to_owned(), violations.iter().map(|violation| violation.rule).collect()));
        let mut all = self.violations();
        all.set(uid, violated);
        all.counts.clone()
    }

    fn violations(&self) -> MutexGuard<'_, Violations> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what objects were granted. Others that are judged at the same time wait.
    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_once_by_what_they_violate_now() {
        let mut all = Violations::default();
        let mut set = |uid: &str, violated: Option<(&str, &[&'static str])>| {
            let owned =
                violated.map(|(policy, fields)| (policy.to_owned(), fields.iter().copied().collect()));
            all.set(uid, owned);
            let told = all.counts.iter().map(|((policy, field), n)| format!("{policy} {field} {n}"));
            told.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            set("a", Some(("teams", &["maxTTL", "containers"]))),
            "teams containers 1, teams maxTTL 1"
        );
        assert_eq!(set("b", Some(("teams", &["maxTTL"]))), "teams containers 1, teams maxTTL 2");
        assert_eq!(set("b", Some(("teams", &["maxTTL"]))), "teams containers 1, teams maxTTL 2");
        assert_eq!(set("a", Some(("other", &["maxTTL"]))), "other maxTTL 1, teams maxTTL 1");
        assert_eq!(
            (set("b", None), set("a", None), set("a", None)),
            ("other maxTTL 1".into(), "".into(), "".into())
        );
    }
}
