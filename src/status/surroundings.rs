//! Neutral conditions about the surroundings of a cluster: its host, and the routes of others to it. `Ready` does not
//! depend on them, and what is unknown for a moment leaves them unchanged.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{ClusterView, Moment};
use crate::{
    api::{
        condition::{self, ConditionType, Status},
        reason::Reason,
    },
    child::path::Path,
    plan::{host_limits, kubeconfig, management::Management},
};

/// Types of these conditions.
pub const TYPES: [ConditionType; 2] = [ConditionType::HostReady, ConditionType::ReachableFromPods];

/// Status, reason and message of a condition.
type Judgement = (Status, Reason, String);

/// Sets the conditions.
pub fn set(conditions: &mut Vec<Condition>, view: &ClusterView<'_>, moment: Moment) {
    for (type_, judgement) in TYPES.into_iter().zip([host(view), pods(view)]) {
        let (status, reason, message) = judgement.unwrap_or_else(|| kept(conditions, type_));
        condition::set(conditions, type_, (status, reason, &message), moment);
    }
}

/// Returns what a condition was before.
pub(super) fn kept(conditions: &[Condition], type_: ConditionType) -> Judgement {
    let pending = || (Status::Unknown, Reason::Pending, "not observed yet".to_owned());
    let Some(before) = condition::get(conditions, type_) else { return pending() };
    match Status::parse(&before.status).zip(Reason::parse(&before.reason)) {
        None | Some((_, Reason::Paused | Reason::Stopped)) => pending(),
        Some((status, reason)) => (status, reason, before.message.clone()),
    }
}

/// Judges the limits of the host; `None` while they are unknown.
fn host(view: &ClusterView<'_>) -> Option<Judgement> {
    let limits = view.observed.limits.as_ref();
    let nodes: Vec<&str> = view.desired.nodes().map(|n| n.container.name.as_str()).collect();
    match host_limits::too_low(view.observed, limits, &nodes) {
        Some((reason, message)) => Some((Status::False, reason, message)),
        None => limits.map(|_| (Status::True, Reason::Ready, String::new())),
    }
}

/// Judges the route of Pods by that of the operator; `None` while the API does not respond.
fn pods(view: &ClusterView<'_>) -> Option<Judgement> {
    let settings = view.subject.settings;
    let is_pod = match &settings.management {
        Management::Node { ip, name } => ip.is_some() || name.is_some(),
        Management::Named(_) => true,
        Management::None => settings.engine_host.is_some(),
    };
    match view.observed.kubeconfig.path {
        None => None,
        _ if !is_pod => {
            let message = "the operator does not run as a Pod, and does not know the routes of Pods";
            Some((Status::Unknown, Reason::NotAPod, message.to_owned()))
        }
        Some(Path::Direct(_)) => Some((Status::True, Reason::Reachable, String::new())),
        Some(Path::Tunnel) => Some((Status::False, Reason::NoRoute, no_route(view))),
    }
}

fn no_route(view: &ClusterView<'_>) -> String {
    let (valid, name) = (view.subject.valid, kubeconfig::name(view.subject.owner.name()));
    let cure = match valid.api_ip.is_loopback() {
        true => {
            "set spec.api.hostIP to 0.0.0.0 or to an address of the Docker host that Pods reach".to_owned()
        }
        false => format!("allow connections from Pods to {}:{}", valid.api_ip, view.allocation.api_port),
    };
    format!(
        "the operator reaches the API only through Docker, so the URL in the key value of the Secret {name} does not work \
         for Pods of the management cluster: {cure}"
    )
}
