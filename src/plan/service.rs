//! The Service in the management cluster that leads to the API of a created cluster: `spec.api.service`. It has no
//! selector, since no Pod serves the API. Its EndpointSlice has the address at which Pods reach it.

pub mod objects;

use std::net::{SocketAddr, SocketAddrV4};

use super::{
    desired::Desired,
    observed::Reached,
    owner::Owner,
    steps::{Action, Plan},
    subject::Subject,
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    child::path::Path,
    k3s::API_PORT,
};
use objects::{Existing, ObservedService, ServiceChange};

/// Where Pods of the management cluster reach the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromPods {
    /// At this address.
    At(SocketAddrV4),
    /// It is not known at the moment.
    Unknown,
    /// They do not reach it, or not by an address that is known.
    Nowhere,
}

/// Returns where Pods of the management cluster reach the API. If its Node is a container of this engine, Docker assigns
/// the address of the load balancer on the network of that Node, and assigns another one when the load balancer is
/// recreated. Otherwise, it is where the operator reaches the API itself.
pub fn from_pods(subject: &Subject<'_>, desired: &Desired, observed: &Reached) -> FromPods {
    let own = observed.network_of(desired.addresses.subnet);
    let own = own.map(|n| n.id.as_str()).unwrap_or_default();
    let (settings, manager) = (&subject.settings.management, &subject.owner.manager);
    match (settings.place(observed, manager, own, &desired.load_balancer.name), observed.kubeconfig.path) {
        (Some(Some(ip)), _) => FromPods::At(SocketAddrV4::new(ip, API_PORT)),
        (Some(None), _) | (None, None) => FromPods::Unknown,
        (None, Some(Path::Direct(SocketAddr::V4(address)))) if !address.ip().is_loopback() => {
            FromPods::At(address)
        }
        (None, Some(Path::Direct(_) | Path::Tunnel)) => FromPods::Nowhere,
    }
}

/// Returns the URL of the API at its Service; `None` if there is not to be one, or its name is another one's.
pub fn url(subject: &Subject<'_>, observed: &Reached) -> Option<String> {
    let name = subject.valid.api_service.as_ref()?;
    observed.service.foreign(subject.owner).is_none().then(|| format!("https://{name}"))
}

/// Plans the Service and its EndpointSlice. Returns the name if the status refers to it: before it is created, so that it
/// is found later.
pub fn plan(plan: &mut Plan, subject: &Subject<'_>, desired: &Desired, observed: &Reached) -> Option<String> {
    let (found, owner) = (&observed.service, subject.owner);
    let name = owner.name().to_owned();
    if subject.valid.api_service.is_none() {
        return withdraw(plan, found, owner).then_some(name);
    }
    if let Some(kind) = found.foreign(owner) {
        let message = format!(
            "the {kind} {name} exists and is not managed by this object; it is left unchanged. Remove or rename it, or set \
             spec.api.service to None"
        );
        plan.stalls(ConditionType::KubeconfigReady, Reason::NameConflict, message);
        // A Service of another one would lead to the API too.
        if let (None, Some(own)) = found.own(owner) {
            delete_endpoints(plan, owner, own, "the Service is another one's");
        }
        return subject.previous.api_service.clone();
    }
    let mut before = Vec::new();
    if let Some(service) = found.service_to_apply(owner) {
        let (reason, why) = cause(service.uid.is_some(), "its content changed");
        let message = format!("writing the Service {name}: {why}");
        plan.waits(ConditionType::KubeconfigReady, reason, message);
        before.push(plan.step(Action::Service(ServiceChange::Apply(service)), &[], why));
    }
    let address = match from_pods(subject, desired, observed) {
        FromPods::At(address) => Some(Some(address)),
        FromPods::Nowhere => Some(None),
        FromPods::Unknown => None,
    };
    if let Some(endpoints) = address.and_then(|address| found.endpoints_to_apply(owner, address)) {
        let (reason, why) = cause(endpoints.uid.is_some(), "the address of the API changed");
        let message = format!("writing the EndpointSlice {name}: {why}");
        plan.waits(ConditionType::KubeconfigReady, reason, message);
        plan.step(Action::Service(ServiceChange::ApplyEndpoints(endpoints)), &before, why);
    }
    Some(name)
}

/// Plans that the Service of a cluster that is stopped leads nowhere: Docker may give its address to another container.
pub fn stop(plan: &mut Plan, owner: &Owner, found: &ObservedService) {
    let (_, endpoints) = found.own(owner);
    if endpoints.is_none() {
        return;
    }
    if let Some(endpoints) = found.endpoints_to_apply(owner, None) {
        plan.step(Action::Service(ServiceChange::ApplyEndpoints(endpoints)), &[], "the cluster is stopped");
    }
}

/// Plans the deletion of what this object owns. Reports whether that is anything.
fn withdraw(plan: &mut Plan, found: &ObservedService, owner: &Owner) -> bool {
    const WHY: &str = "spec.api.service is None";
    let (service, endpoints) = found.own(owner);
    if let Some(own) = service {
        let message = format!("deleting the Service {}: {WHY}", owner.name());
        plan.waits(ConditionType::KubeconfigReady, Reason::Updating, message);
        let change = ServiceChange::Delete { owner: owner.clone(), uid: own.uid.clone() };
        plan.step(Action::Service(change), &[], WHY);
    }
    if let Some(own) = endpoints {
        delete_endpoints(plan, owner, own, WHY);
    }
    service.is_some() || endpoints.is_some()
}

fn delete_endpoints(plan: &mut Plan, owner: &Owner, own: &Existing, why: &str) {
    let message = format!("deleting the EndpointSlice {}: {why}", owner.name());
    plan.waits(ConditionType::KubeconfigReady, Reason::Updating, message);
    let change = ServiceChange::DeleteEndpoints { owner: owner.clone(), uid: own.uid.clone() };
    plan.step(Action::Service(change), &[], why);
}

/// Returns why an object is written.
fn cause(exists: bool, changed: &'static str) -> (Reason, &'static str) {
    if exists { (Reason::Updating, changed) } else { (Reason::Creating, "it did not exist") }
}
