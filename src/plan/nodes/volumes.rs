//! Volumes of a node.

use crate::{
    api::reason::Reason,
    docker::spec::VolumeSpec,
    plan::{
        containers,
        desired::NodeSpec,
        observed::Observed,
        owner::{Owner, taken},
        steps::{Action, Plan},
    },
};

/// Plans a node's missing volumes after the steps `after`; answers the steps, or `None` where a name is somebody
/// else's.
pub fn volumes(
    plan: &mut Plan,
    node: &NodeSpec,
    owner: &Owner,
    observed: &Observed,
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

/// Whether a volume of a node is there.
pub fn has_volume(spec: &[VolumeSpec], kind: &str, observed: &Observed) -> bool {
    let suffix = format!("-{kind}");
    let Some(wanted) = spec.iter().find(|v| v.name.ends_with(&suffix)) else { return false };
    observed.volumes.iter().any(|v| v.name == wanted.name)
}
