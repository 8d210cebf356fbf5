//! Condition types and reasons, which are part of the API, and functions that set conditions.
//!
//! Conditions have positive polarity and are present from the first status on, except those marked abnormal-true. A
//! status update writes all conditions and `observedGeneration` in a single patch, and no patch if nothing changed:
//! [`set`] leaves an unchanged condition byte for byte as it was.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{reason::Reason, text_enum::string_enum};

/// Maximum length of a condition message. Engines sometimes respond with whole pages of text, and a status is copied to
/// every watcher.
pub const MAX_MESSAGE: usize = 1024;

string_enum! {
    /// A condition type.
    pub enum ConditionType {
        /// Summary: everything in the spec exists and is usable. Its reason and message are those of the first condition
        /// that is not met.
        Ready = "Ready",
        /// The spec is valid and can be fulfilled on this host.
        Accepted = "Accepted",
        /// All objects that the spec references exist and are usable.
        ResolvedRefs = "ResolvedRefs",
        /// The Docker engine responds.
        DockerReachable = "DockerReachable",
        /// LocalCluster: the Docker network exists.
        NetworkReady = "NetworkReady",
        /// LocalCluster: all servers are Ready Nodes at the desired version, and the API responds.
        ControlPlaneReady = "ControlPlaneReady",
        /// LocalCluster: all agents are Ready Nodes at the desired version.
        AgentsReady = "AgentsReady",
        /// LocalCluster: the load balancer is running and publishes all ports.
        LoadBalancerReady = "LoadBalancerReady",
        /// LocalCluster: all registries that the cluster uses respond.
        RegistriesReady = "RegistriesReady",
        /// LocalCluster: all nodes have the images of `spec.preloadImages`, and can ask for those of the Docker host if
        /// `spec.images.fromDockerHost` is true.
        ImagesReady = "ImagesReady",
        /// LocalCluster: the cluster contains all objects of `spec.manifests`, and none that was removed from them.
        ManifestsReady = "ManifestsReady",
        /// LocalCluster: the kubeconfig Secret exists, and the API responds to its credentials.
        KubeconfigReady = "KubeconfigReady",
        /// Registry: the container is running.
        ContainerReady = "ContainerReady",
        /// Registry: the registry responds to requests.
        Reachable = "Reachable",
        /// Registry, abnormal-true: its storage has almost reached `spec.storage.maxSize`, or has exceeded it. Only with
        /// that field, and not part of `Ready`.
        StorageFull = "StorageFull",
        /// Registry that is a pull-through cache, neutral: its upstream registry answers and does not limit the rate of pulls.
        UpstreamReady = "UpstreamReady",
        /// Registry, neutral: LocalClusters use it, so a deletion waits for them.
        InUse = "InUse",
        /// LocalClusterClaim: it has taken a cluster, which it keeps.
        Bound = "Bound",
        /// Abnormal-true: the operator is reconciling the object or waiting for something that needs no intervention. Never
        /// together with [`Stalled`](Self::Stalled).
        Reconciling = "Reconciling",
        /// Abnormal-true: reconciliation makes no progress without user intervention. Never together with [`Reconciling`](Self::Reconciling).
        Stalled = "Stalled",
        /// Abnormal-true: the HostPolicy of the namespace does not allow what the spec says, or there is none.
        PolicyViolation = "PolicyViolation",
        /// HostPolicy, abnormal-true: another policy with the same priority selects a namespace that this one selects.
        Ambiguous = "Ambiguous",
        /// Abnormal-true: the annotation `localcluster.dev/paused` pauses reconciliation.
        Paused = "Paused",
        /// LocalCluster, neutral: the limits of the Docker host are high enough for its nodes.
        HostReady = "HostReady",
        /// LocalCluster, neutral: Pods of the management cluster reach the API at the URL in the key `value` of the
        /// kubeconfig Secret, as the operator's own Pod does.
        ReachableFromPods = "ReachableFromPods",
        /// Its placeholder Pod has a Docker host, where there are several. Not part of `Ready`.
        Scheduled = "Scheduled",
        /// Its Docker host is ready and its agent responds, where there are several. Not part of `Ready`.
        HostReachable = "HostReachable",
        /// LocalCluster, neutral: the cluster is stopped, as desired. There is no `Ready` condition then.
        Stopped = "Stopped",
    }
}

string_enum! {
    /// Status of a condition.
    pub enum Status {
        /// The condition is met.
        True = "True",
        /// The condition is not met.
        False = "False",
        /// The status cannot be determined at present.
        Unknown = "Unknown",
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// When and for which generation a status is made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The object's generation.
    pub generation: i64,
    /// The time.
    pub now: Timestamp,
}

/// Sets the condition of type `type_` and returns whether anything changed. The last transition time changes only with
/// the status; a new condition is appended, so that the order is stable.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: ConditionType,
    (status, reason, message): (impl Into<Status>, Reason, &str),
    Moment { generation, now }: Moment,
) -> bool {
    // Whole seconds, as in the API: the value equals the one that is read back.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut new = Condition {
        last_transition_time: Time(now),
        message: bounded(message),
        observed_generation: Some(generation),
        reason: reason.to_string(),
        status: status.into().to_string(),
        type_: type_.to_string(),
    };
    let Some(old) = conditions.iter_mut().find(|c| c.type_ == type_) else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

/// Returns the condition of this type.
pub fn get(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Reports whether the condition of this type is True.
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    get(conditions, type_).is_some_and(|c| c.status == Status::True)
}

/// Returns `message`, truncated to [`MAX_MESSAGE`] bytes.
fn bounded(message: &str) -> String {
    let message = message.trim();
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    const MARK: &str = "…";
    let mut end = MAX_MESSAGE - MARK.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &message[..end])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(generation: i64, second: i64) -> Moment {
        Moment { generation, now: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn a_transition_is_a_change_of_status_only() {
        let mut c = Vec::new();
        assert!(set(&mut c, ConditionType::Ready, (false, Reason::Creating, "making it"), at(1, 10)));
        assert!(set(&mut c, ConditionType::Ready, (Status::False, Reason::NodeStarting, ""), at(2, 20)));
        let ready = get(&c, ConditionType::Ready).unwrap();
        assert_eq!(
            (ready.last_transition_time.0, ready.observed_generation, ready.reason.as_str()),
            (at(2, 10).now, Some(2), "NodeStarting")
        );
        assert!(!is_true(&c, ConditionType::Ready));

        assert!(set(&mut c, ConditionType::Ready, (true, Reason::Ready, ""), at(2, 30)));
        assert_eq!(get(&c, ConditionType::Ready).unwrap().last_transition_time.0, at(2, 30).now);
        assert!(is_true(&c, ConditionType::Ready));
    }

    #[test]
    fn setting_the_same_changes_nothing() {
        let mut c = Vec::new();
        set(&mut c, ConditionType::Ready, (Status::Unknown, Reason::DockerUnavailable, "gone"), at(1, 1));
        let before = c.clone();
        assert!(!set(
            &mut c,
            ConditionType::Ready,
            (Status::Unknown, Reason::DockerUnavailable, "gone"),
            at(1, 99)
        ));
        assert_eq!(c, before);
    }

    #[test]
    fn the_order_is_that_of_the_first_setting() {
        let mut c = Vec::new();
        for (n, type_) in
            [ConditionType::Accepted, ConditionType::Ready, ConditionType::Accepted].into_iter().enumerate()
        {
            set(&mut c, type_, (n == 2, Reason::Pending, ""), at(1, 0));
        }
        assert_eq!(c.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["Accepted", "Ready"]);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let mut c = Vec::new();
        set(&mut c, ConditionType::Ready, (false, Reason::DockerError, &"é".repeat(4000)), at(1, 0));
        let message = &c[0].message;
        assert!(message.len() <= MAX_MESSAGE && message.ends_with('…'), "{}", message.len());
    }

    #[test]
    fn reasons_are_distinct_camel_case_words() {
        // The pattern that the API server requires for `reason`.
        let word = |r: &str| {
            r.starts_with(|c: char| c.is_ascii_uppercase()) && r.chars().all(|c| c.is_ascii_alphanumeric())
        };
        assert!(Reason::ALL.iter().all(|r| word(r.as_str())));
        assert_eq!(Reason::ALL.iter().map(|r| r.as_str()).collect::<BTreeSet<_>>().len(), Reason::ALL.len());
    }
}
