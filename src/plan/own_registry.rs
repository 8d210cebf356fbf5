//! The Registry of a LocalCluster with `spec.registries.create`.

use super::{
    owner::Owner,
    steps::{Action, Plan},
};
use crate::api::{
    LocalCluster, Registry, RegistrySpec, condition::ConditionType, names, reason::Reason, uses::is_owned,
};

/// A desired Registry in the namespace of its owner, which it is deleted with.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnRegistry {
    /// Name of the Registry.
    pub name: String,
    /// LocalCluster that owns it.
    pub owner: Owner,
    /// Its spec.
    pub spec: RegistrySpec,
}

/// Returns the name of the cluster's own Registry.
pub fn name(owner: &Owner) -> String {
    names::own_registry(owner.name())
}

/// Plans the creation, update or deletion of the cluster's own Registry. `existing` is the Registry with its name.
pub fn plan(plan: &mut Plan, cluster: &LocalCluster, owner: &Owner, existing: Option<&Registry>) {
    let name = name(owner);
    let ours = existing.filter(|registry| is_owned(cluster, registry));
    let Some(spec) = &cluster.spec.registries.create else {
        if let Some(registry) = ours.filter(|r| r.metadata.deletion_timestamp.is_none()) {
            let uid = registry.metadata.uid.clone().unwrap_or_default();
            let action = Action::DeleteRegistry { namespace: owner.namespace().to_owned(), name, uid };
            plan.step(action, &[], "spec.registries.create was removed");
        }
        return;
    };
    let why = match (existing, ours) {
        (Some(_), None) => {
            let message = format!(
                "the Registry {name} exists and is not this cluster's own: name it in spec.registries.use instead, or \
                 rename one of the two"
            );
            plan.stalls(ConditionType::ResolvedRefs, Reason::NameConflict, message);
            return;
        }
        (Some(registry), Some(_)) if registry.spec == *spec => return,
        (Some(_), Some(_)) => "spec.registries.create changed",
        (None, _) => "it did not exist",
    };
    let registry = OwnRegistry { name, owner: owner.clone(), spec: spec.clone() };
    plan.step(Action::ApplyRegistry(Box::new(registry)), &[], why);
}
