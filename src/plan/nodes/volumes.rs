//! Volumes of a node.

use crate::{
    api::reason::Reason,
    docker::spec::VolumeSpec,
    plan::{
        containers,
        desired::NodeSpec,
        observed::Host,
        owner::{Owner, taken},
        steps::{Action, Plan},
    },
};

/// Plans the missing volumes of a node after the steps `after`, and returns the steps; `None` if a name is in use by
/// an unmanaged volume.
pub fn volumes(
    plan: &mut Plan,
    node: &NodeSpec,
    owner: &Owner,
    observed: &Host,
    after: &[usize],
) -> Option<Vec<usize>> {
    let condition = containers::condition_of(node.container.role);
    let mut steps = Vec::new();
    for spec in &node.volumes {
        match observed.volumes.iter().find(|v| v.name == spec.name) {
            Some(v) if owner.owns(&v.labels) => {}
            Some(other) => {
                let message = taken(owner, "volume", &spec.name, &spec.name, &other.labels);
                plan.stalls(condition, Reason::NameConflict, message);
                return None;
            }
            None => steps.push(plan.step(Action::CreateVolume(spec.clone()), after, "")),
        }
    }
    Some(steps)
}

/// Reports whether a volume of a node exists.
pub fn has_volume(spec: &[VolumeSpec], kind: &str, observed: &Host) -> bool {
    let suffix = format!("-{kind}");
    let Some(wanted) = spec.iter().find(|v| v.name.ends_with(&suffix)) else { return false };
    observed.volumes.iter().any(|v| v.name == wanted.name)
}
