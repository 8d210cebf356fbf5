//! Objects that are placed on one of several Docker hosts, as both roles see them.

use kube::ResourceExt;

use super::{
    context::Context,
    pass::Managed,
    place::{Place, PlacedStatus},
};
use crate::{
    api::{PAUSED_ANNOTATION, placement::Data},
    docker::spec::RestartPolicy,
    plan::placement::{Object, is_held},
    status,
};

/// Returns an object as far as its placement needs it.
pub fn object<K: Managed>(object: &K) -> Object {
    let paused = object.annotations().get(PAUSED_ANNOTATION).is_some_and(|value| value == "true");
    Object {
        kind: K::KIND,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        deleting: object.meta().deletion_timestamp.is_some(),
        paused,
        held: is_held(object.finalizers()),
        placement: object.placement().cloned().unwrap_or_default(),
        requests: object.requests(),
        host: object.status().and_then(|status| status.place().host),
        near: object.near(),
    }
}

/// Reports whether an object may be made anew without its data.
pub fn is_ephemeral<K: Managed>(object: &K) -> bool {
    object.placement().is_some_and(|placement| placement.data == Data::Ephemeral)
}

/// Returns the restart policy of the containers of an object. One that may be made anew elsewhere must not run here too when
/// this host returns: its agent starts it, not Docker.
pub fn restart<K: Managed>(ctx: &Context, object: &K) -> RestartPolicy {
    match ctx.hosting.is_some() && is_ephemeral(object) {
        true => RestartPolicy::No,
        false => RestartPolicy::UnlessStopped,
    }
}

/// Returns the part of a status that this process writes: that of the role `controller` has a field manager of its own.
pub fn own<K: Managed>(ctx: &Context, status: &K::Status) -> K::Status {
    let mut own = status.clone();
    if ctx.hosting.is_some() {
        strip::<K>(&mut own);
    }
    own
}

/// Removes the part of a status that the role `controller` writes.
pub fn strip<K: Managed>(status: &mut K::Status) {
    status.set_place(Place::default());
    status::without_placed(K::conditions_mut(status));
}
