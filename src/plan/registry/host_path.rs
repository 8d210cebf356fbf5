//! Storage in a host directory, see [`host_path`](crate::plan::host_path).

use super::{Desired, Store, Subject};
use crate::{
    api::{condition::ConditionType, names, reason::Reason},
    docker::spec::Role,
    plan::{containers::Site, desired::Look, host_path, steps::Plan},
};

/// Returns the host directory, if the images are in one.
fn path(desired: &Desired) -> Option<&str> {
    match &desired.store {
        Store::HostPath(path) => Some(path),
        Store::Managed(_) | Store::Volume(_) => None,
    }
}

fn name(desired: &Desired) -> String {
    super::helper_name(&desired.container.name, "path")
}

/// Returns the look at the directory; `None` if there is none.
pub fn look(desired: &Desired, subject: &Subject<'_>) -> Option<Look> {
    let mut labels = subject.owner.labels();
    labels.insert(names::APP.into(), "k3d".into());
    labels.insert(names::ROLE.into(), "registry-path".into());
    let container = (name(desired), Role::RegistryHelper, desired.container.image.as_str());
    Look::new(container, labels, path(desired), &subject.settings.allowed_host_paths)
}

/// Reports whether the path is a real directory, so that a container that mounts it may be created. If not, plans the
/// check or adds a problem. Without a host path, returns true.
pub fn is_sound(plan: &mut Plan, desired: &Desired, site: &Site<'_>, subject: &Subject<'_>) -> bool {
    let (Some(path), Some(look)) = (path(desired), look(desired, subject)) else { return true };
    if is_entangled(path, site) {
        let message = format!(
            "spec.storage.hostPath: {path} must not be mounted: another Registry on this Docker host writes to a \
             directory above or below it, and the lower one of both could be exchanged for a link to anywhere; create \
             a new Registry with a directory beside that one"
        );
        plan.stalls(ConditionType::Accepted, Reason::HostPathNotAllowed, message);
        return false;
    }
    let instead = "create a new Registry with the path that it points to";
    let mount = host_path::Mount { path, condition: ConditionType::ContainerReady, or_file: false, instead };
    look.is_sound(plan, &mount, site)
}

/// Reports whether the registry of another object can write to a directory above or below `path`. Docker resolves a path
/// again at each start of a container, without a check of the operator: who can write to a directory above it can
/// replace it with a symbolic link to any directory of the host. Nodes are not considered: they are privileged.
fn is_entangled(path: &str, site: &Site<'_>) -> bool {
    let nested = |other: &String| {
        path != other
            && (other == "/" || host_path::is_within(path, other) || host_path::is_within(other, path))
    };
    let others = site.observed.containers.iter().filter(|c| {
        names::is_registry(&c.labels) && c.labels.contains_key(names::MANAGER) && !site.owner.owns(&c.labels)
    });
    others.flat_map(|c| &c.writable_binds).any(nested)
}

/// Plans the removal of the helper container once it is no longer needed.
pub fn forget(plan: &mut Plan, desired: &Desired, site: &Site<'_>) {
    host_path::forget(plan, &name(desired), site);
}
