//! Removal of everything that a Registry created.

use std::collections::BTreeSet;

use super::volume::is_retained;
use crate::{
    api::RegistrySpec,
    plan::{
        called, local_cluster,
        observed::Host,
        owner::Owner,
        steps::{Action, Plan},
        validate::Storage,
    },
};

/// A deleted Registry.
#[derive(Clone, Copy)]
pub struct Deleted<'a> {
    /// Its owner labels.
    pub owner: &'a Owner,
    /// Its spec, which need not be valid.
    pub spec: &'a RegistrySpec,
    /// Its name on the Docker host in the last status.
    pub cluster: Option<&'a str>,
    /// UIDs of all Registries.
    pub living: &'a BTreeSet<String>,
}

/// Plans the removal of everything that the Registry created, and of the volume that it reused from an earlier one in
/// its namespace, unless its images are retained.
pub fn plan(plan: &mut Plan, deleted: &Deleted<'_>, observed: &Host) {
    let Deleted { owner, spec, cluster, living } = *deleted;
    let kept = Storage::of(&spec.storage).is_kept();
    local_cluster::teardown(plan, owner, observed, |_| kept);
    if kept {
        return;
    }
    let hostname = called::registry(owner, spec.hostname.as_deref(), cluster, observed, living);
    let inherited = observed
        .volumes
        .iter()
        .filter(|v| v.name == hostname && !owner.owns(&v.labels) && is_retained(v, owner, &hostname, living));
    let containers: Vec<usize> = (0..plan.steps.len()).collect();
    for volume in inherited {
        let remove = Action::RemoveVolume { name: volume.name.clone() };
        plan.step(remove, &containers, "the object was deleted");
    }
}
