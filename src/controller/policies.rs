//! HostPolicies in the shell, the namespaces that they select, and what objects were granted of their quotas.

use std::{
    collections::BTreeMap,
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
    plan::policy::{parse, select::Policy, usage::Grants},
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
}

impl Policies {
    /// Creates the part of the shared state.
    pub fn new(policies: Store<PolicyGuard>, namespaces: Store<PartialObjectMeta<Namespace>>) -> Self {
        Self { policies, namespaces, changed: Notify::new(), grants: Mutex::default() }
    }

    /// Returns all policies as values.
    pub fn all(&self) -> Vec<Policy> {
        let parsed = |guard: &PolicyGuard| match &guard.0 {
            Ok(policy) => parse::policy(&policy.name_any(), &policy.spec),
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
    }

    /// Returns what objects were granted. Others that are judged at the same time wait.
    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
