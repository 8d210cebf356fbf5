//! Images of the Docker host that nodes get when they ask for them, as from the first mirror of every registry.
//!
//! The operator answers at an address of the load balancer, on the network of the cluster only. Without it, nodes find
//! nobody there and ask the registries.

use std::net::SocketAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    desired::{Allocation, Desired, HostImages},
    observed::{Listening, Observed},
    refs::Refs,
    registries,
    steps::Plan,
    validate::Valid,
};
use crate::{
    api::{
        condition::{self, ConditionType},
        reason::Reason,
    },
    k3s::{self, registries::Mirrored, versions::Version},
};

/// Returns what the nodes of a cluster get; `None` if its spec does not want it.
pub fn of_cluster(
    valid: &Valid,
    refs: &Refs,
    allocation: &Allocation,
    version: Option<&str>,
) -> Option<HostImages> {
    if !valid.images_from_host {
        return None;
    }
    let old = version.filter(|v| Version::parse(v).is_some_and(|v| !v.has_mirrors_of_all()));
    if let Some(version) = old {
        return Some(HostImages::Unsupported(format!(
            "K3s {version} has no mirrors of all registries; use K3s v1.29.3 or later, but neither v1.31.6 nor v1.32.2"
        )));
    }
    if registries::is_embedded(valid) {
        return Some(HostImages::Unsupported(
            "nodes with --embedded-registry ask each other for all images of such a mirror; remove the argument from \
             servers.args"
                .into(),
        ));
    }
    let used = registries::mirrored(&valid.registries, refs);
    let own = used.iter().flat_map(Mirrored::names).collect();
    let address = SocketAddr::from((allocation.addresses.load_balancer(), k3s::HOST_IMAGES_PORT));
    Some(HostImages::Served { address, own })
}

/// Adds a problem if nodes cannot get images of the Docker host. While the listener starts, which it also does with each
/// start of the operator, that is one only for a cluster that has never had it.
pub fn plan(plan: &mut Plan, desired: &Desired, observed: &Observed, previous: &[Condition]) {
    let ready = ConditionType::ImagesReady;
    let cannot = "nodes cannot use images of the Docker host";
    match (&desired.host_images, &observed.host_images) {
        (None, _) | (Some(HostImages::Served { .. }), None | Some(Listening::Up)) => {}
        (Some(HostImages::Unsupported(why)), _) => {
            let message = format!("{cannot}: {why}, or set images.fromDockerHost to false");
            plan.stalls(ready, Reason::HostImagesUnsupported, message);
        }
        (Some(_), Some(Listening::Starting)) if condition::is_true(previous, ready) => {}
        (Some(_), Some(Listening::Starting)) => {
            let message = format!("{cannot} yet: the listener in the load balancer starts");
            plan.waits(ready, Reason::Pending, message);
        }
        (Some(_), Some(Listening::Failed(why))) => {
            plan.waits(ready, Reason::HostImagesUnavailable, format!("{cannot}: {why}; retrying"));
        }
    }
}
