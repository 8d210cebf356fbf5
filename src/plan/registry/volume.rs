//! Permission of a registry to use a volume: its own, one that an earlier Registry in its namespace left, or one that
//! consents to the namespace. The volume of an existing object or of another namespace is never used: a host name is
//! no proof, as any spec can contain it.
//!
//! Only containers that are about to be created are checked. A running one keeps its volume, with one warning.

use std::collections::BTreeSet;

use super::{Desired, Inputs, Store, Subject};
use crate::{
    api::{
        condition::ConditionType,
        names::{self, VOLUME_OF},
        reason::Reason,
    },
    docker::{engine::Volume, spec::VolumeSpec},
    plan::{
        consent,
        owner::{Owner, taken},
        steps::{Action, Plan},
    },
};

/// Reports whether an earlier Registry with the same host name and namespace left this volume, so that it may be
/// reused. `living` contains the UIDs of all Registries.
pub fn is_retained(volume: &Volume, owner: &Owner, hostname: &str, living: &BTreeSet<String>) -> bool {
    let label = |key| volume.labels.get(key).map(String::as_str);
    label(names::MANAGER) == Some(&owner.manager)
        && label(VOLUME_OF) == Some(hostname)
        && names::owner_namespace(&volume.labels) == Some(owner.namespace())
        && label(names::UID).is_some_and(|uid| !living.contains(uid))
}

/// Existing storage of a registry.
enum Place<'a> {
    /// A host directory, or a volume that it may use.
    Its,
    /// Nothing yet.
    Free(&'a VolumeSpec),
    /// An unmanaged volume with the name of its own.
    Taken(&'a VolumeSpec, &'a Volume),
    /// No volume with the name in the spec that allows its namespace.
    Refused(&'a str),
}

fn place<'a>(desired: &'a Desired, inputs: &Inputs<'a>) -> Place<'a> {
    let Inputs { subject: Subject { owner, living, .. }, observed } = *inputs;
    let existing = |name: &str| observed.volumes.iter().find(|v| v.name == name);
    match &desired.store {
        Store::HostPath(_) => Place::Its,
        Store::Managed(spec) => match existing(&spec.name) {
            None => Place::Free(spec),
            Some(volume) => {
                let hostname = &desired.container.name;
                let its = owner.owns(&volume.labels) || is_retained(volume, owner, hostname, living);
                if its { Place::Its } else { Place::Taken(spec, volume) }
            }
        },
        Store::Volume(name) => {
            if consent::to_volume(&observed.volumes, name, owner.namespace()) {
                Place::Its
            } else {
                Place::Refused(name)
            }
        }
    }
}

/// Plans the volume, and returns the steps that create it; `None` if it is blocked. `kept` is true if the container
/// need not be created.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, kept: bool) -> Option<Vec<usize>> {
    let namespace = inputs.subject.owner.namespace();
    match place(desired, inputs) {
        Place::Its => {}
        Place::Free(spec) => return Some(vec![plan.step(Action::CreateVolume(spec.clone()), &[], "")]),
        Place::Taken(VolumeSpec { name, .. }, _) if kept => plan.warnings.push(format!(
            "the images are in the Docker volume {name}, which another object manages: the container continues to \
             use it, but is not recreated on it; create a Registry with another hostname and copy the images"
        )),
        Place::Refused(name) if kept => plan.warnings.push(format!(
            "the images are in the Docker volume {name}, which does not allow the namespace {namespace}: the \
             container continues to use it, but is not recreated on it; {}",
            consent::of_volume(name, namespace)
        )),
        Place::Taken(VolumeSpec { name, .. }, volume) => {
            plan.stalls(ConditionType::ContainerReady, Reason::NameConflict, taken(inputs.subject.owner, "volume", name, name, &volume.labels));
            return None;
        }
        Place::Refused(name) => {
            plan.stalls(ConditionType::ContainerReady, Reason::NotAllowed, refusal(name, namespace));
            return None;
        }
    }
    Some(Vec::new())
}

/// Returns why no garbage collection container may be created on the volume; `None` if it may.
pub fn hindrance(desired: &Desired, inputs: &Inputs<'_>) -> Option<String> {
    match place(desired, inputs) {
        Place::Its | Place::Free(_) => None,
        Place::Taken(VolumeSpec { name, .. }, volume) => {
            Some(taken(inputs.subject.owner, "volume", name, name, &volume.labels))
        }
        Place::Refused(name) => Some(refusal(name, inputs.subject.owner.namespace())),
    }
}

/// Returns the message about a volume that does not exist or does not allow this namespace.
fn refusal(name: &str, namespace: &str) -> String {
    consent::no_volume("spec.storage.volumeName", name, namespace)
}
