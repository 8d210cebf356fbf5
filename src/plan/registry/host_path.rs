//! Storage in a host directory, see [`host_path`](crate::plan::host_path).

use super::{Desired, Store, Subject};
use crate::{
    api::{condition::ConditionType, names},
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
    let instead = "create a new Registry with the path that it points to";
    let mount = host_path::Mount { path, condition: ConditionType::ContainerReady, or_file: false, instead };
    look.is_sound(plan, &mount, site)
}

/// Plans the removal of the helper container once it is no longer needed.
pub fn forget(plan: &mut Plan, desired: &Desired, site: &Site<'_>) {
    host_path::forget(plan, &name(desired), site);
}
