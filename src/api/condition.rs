//! Condition types and reasons, which are part of the API, and functions that set conditions.
//!
//! Conditions have positive polarity and are present from the first status on, except those marked abnormal-true. A
//! status update writes all conditions and `observedGeneration` in a single patch, and no patch if nothing changed:
//! [`set`] leaves an unchanged condition byte for byte as it was.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Maximum length of a condition message. Engines sometimes respond with whole pages of text, and a status is copied to
/// every watcher.
pub const MAX_MESSAGE: usize = 1024;

/// Condition types.
pub mod types {
    /// Summary: everything in the spec exists and is usable. Its reason and message are those of the first condition
    /// that is not met.
    pub const READY: &str = "Ready";
    /// The spec is valid and can be fulfilled on this host.
    pub const ACCEPTED: &str = "Accepted";
    /// All objects that the spec references exist and are usable.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// The Docker engine responds.
    pub const DOCKER_REACHABLE: &str = "DockerReachable";
    /// LocalCluster: the Docker network exists.
    pub const NETWORK_READY: &str = "NetworkReady";
    /// LocalCluster: all servers are Ready Nodes at the desired version, and the API responds.
    pub const CONTROL_PLANE_READY: &str = "ControlPlaneReady";
    /// LocalCluster: all agents are Ready Nodes at the desired version.
    pub const AGENTS_READY: &str = "AgentsReady";
    /// LocalCluster: the load balancer is running and publishes all ports.
    pub const LOAD_BALANCER_READY: &str = "LoadBalancerReady";
    /// LocalCluster: all registries that the cluster uses respond.
    pub const REGISTRIES_READY: &str = "RegistriesReady";
    /// LocalCluster: all nodes have the images of `spec.preloadImages`.
    pub const IMAGES_READY: &str = "ImagesReady";
    /// LocalCluster: the cluster contains all objects of `spec.manifests`, and none that was removed from them.
    pub const MANIFESTS_READY: &str = "ManifestsReady";
    /// LocalCluster: the kubeconfig Secret exists, and the API responds to its credentials.
    pub const KUBECONFIG_READY: &str = "KubeconfigReady";
    /// Registry: the container is running.
    pub const CONTAINER_READY: &str = "ContainerReady";
    /// Registry: the registry responds to requests.
    pub const REACHABLE: &str = "Reachable";
    /// Registry, neutral: LocalClusters use it, so a deletion waits for them.
    pub const IN_USE: &str = "InUse";
    /// Abnormal-true: the operator is reconciling the object or waiting for something that needs no intervention. Never
    /// together with [`STALLED`].
    pub const RECONCILING: &str = "Reconciling";
    /// Abnormal-true: reconciliation makes no progress without user intervention. Never together with [`RECONCILING`].
    pub const STALLED: &str = "Stalled";
    /// Abnormal-true: the annotation `localcluster.dev/paused` pauses reconciliation.
    pub const PAUSED: &str = "Paused";
    /// LocalCluster, neutral: the cluster is stopped, as desired. There is no `Ready` condition then.
    pub const STOPPED: &str = "Stopped";
}

/// Condition reasons.
pub mod reasons {
    // Success.

    /// The subject of the condition matches the spec.
    pub const READY: &str = "Ready";
    /// The spec is valid.
    pub const ACCEPTED: &str = "Accepted";
    /// All references are resolved.
    pub const RESOLVED: &str = "Resolved";
    /// The engine, API or registry responds.
    pub const REACHABLE: &str = "Reachable";
    /// The observed state matches the desired state.
    pub const SETTLED: &str = "Settled";
    /// Nothing needs user intervention.
    pub const NOT_STALLED: &str = "NotStalled";

    // Progress.

    /// Not evaluated yet: an earlier condition is not met.
    pub const PENDING: &str = "Pending";
    /// Waiting for other clusters to start.
    pub const QUEUED: &str = "Queued";
    /// Reconciliation is in progress.
    pub const PROGRESSING: &str = "Progressing";
    /// Resources are being created.
    pub const CREATING: &str = "Creating";
    /// Containers are being replaced because the spec changed.
    pub const UPDATING: &str = "Updating";
    /// Agents are being added or removed.
    pub const SCALING: &str = "Scaling";
    /// Servers are being added or removed.
    pub const SCALING_SERVERS: &str = "ScalingServers";
    /// A server is joining etcd as a voter.
    pub const JOINING: &str = "Joining";
    /// Nodes are being replaced with another image.
    pub const UPGRADING: &str = "Upgrading";
    /// The containers of the cluster are being stopped.
    pub const STOPPING: &str = "Stopping";
    /// A node is being drained before its removal.
    pub const DRAINING: &str = "Draining";
    /// The object is being deleted.
    pub const DELETING: &str = "Deleting";
    /// An image is being pulled.
    pub const IMAGE_PULLING: &str = "ImagePulling";
    /// An image of the Docker host is being imported on a node.
    pub const IMAGE_IMPORTING: &str = "ImageImporting";
    /// The container of a node is running; the Node is not Ready yet.
    pub const NODE_STARTING: &str = "NodeStarting";
    /// A node lost the password that its Node was registered with, and joins with a new one.
    pub const NODE_PASSWORD_LOST: &str = "NodePasswordLost";
    /// The cluster cannot create Pods yet: the service account `default` is missing.
    pub const SERVICE_ACCOUNT_MISSING: &str = "ServiceAccountMissing";

    // Failures that can resolve without intervention.

    /// The Docker engine does not respond.
    pub const DOCKER_UNAVAILABLE: &str = "DockerUnavailable";
    /// The Docker engine rejected a request.
    pub const DOCKER_ERROR: &str = "DockerError";
    /// The API of the created cluster does not respond.
    pub const API_NOT_ANSWERING: &str = "APINotAnswering";
    /// The API of the created cluster rejected a request.
    pub const API_REFUSED: &str = "APIRefused";
    /// An image cannot be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// An image of the Docker host cannot be imported on a node.
    pub const IMAGE_IMPORT_FAILED: &str = "ImageImportFailed";
    /// A Node exists but is not Ready.
    pub const NODE_NOT_READY: &str = "NodeNotReady";
    /// A Node is Ready but under pressure, so Kubernetes does not schedule new Pods to it.
    pub const NODE_PRESSURE: &str = "NodePressure";
    /// The Docker engine or the cluster reported success, but the change had no effect.
    pub const NO_EFFECT: &str = "NoEffect";
    /// A container does not exist.
    pub const CONTAINER_MISSING: &str = "ContainerMissing";
    /// The registry is stopped while unreferenced blobs are removed.
    pub const GARBAGE_COLLECTING: &str = "GarbageCollecting";
    /// A container is not running.
    pub const CONTAINER_NOT_RUNNING: &str = "ContainerNotRunning";
    /// The registry does not respond.
    pub const NOT_ANSWERING: &str = "NotAnswering";
    /// K3s has not applied a manifest yet, or objects that it applied were deleted.
    pub const MANIFEST_NOT_APPLIED: &str = "ManifestNotApplied";
    /// A referenced Registry is not ready.
    pub const REGISTRY_NOT_READY: &str = "RegistryNotReady";

    // Failures that need user intervention.

    /// The spec is invalid; the message says what to change.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A container, network or volume with this name exists and is not managed by this object. It is left unchanged.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// A host port is in use.
    pub const PORT_CONFLICT: &str = "PortConflict";
    /// The subnet overlaps another network.
    pub const SUBNET_CONFLICT: &str = "SubnetConflict";
    /// The network pool of the operator has no free subnet, or the subnet has no free address.
    pub const ADDRESS_POOL_EXHAUSTED: &str = "AddressPoolExhausted";
    /// A Secret that the spec references does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A Secret lacks required data, or is not managed by this object.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// A Registry that the spec references does not exist.
    pub const REGISTRY_NOT_FOUND: &str = "RegistryNotFound";
    /// A ConfigMap that the spec references does not exist.
    pub const CONFIG_MAP_NOT_FOUND: &str = "ConfigMapNotFound";
    /// A ConfigMap lacks required data.
    pub const CONFIG_MAP_INVALID: &str = "ConfigMapInvalid";
    /// A Registry in another namespace, or an unmanaged volume or container, does not allow this namespace to use it.
    pub const NOT_ALLOWED: &str = "NotAllowed";
    /// A manifest cannot be applied: it is not valid YAML, or an object lacks its name or kind.
    pub const MANIFEST_INVALID: &str = "ManifestInvalid";
    /// The registries file contains settings that K3s would ignore or fail on.
    pub const REGISTRIES_INVALID: &str = "RegistriesInvalid";
    /// The subnet of the spec is outside the ranges that the operator allows.
    pub const SUBNET_NOT_ALLOWED: &str = "SubnetNotAllowed";
    /// The host directory of the spec does not exist.
    pub const HOST_PATH_NOT_FOUND: &str = "HostPathNotFound";
    /// The operator does not allow mounting the host directory of the spec.
    pub const HOST_PATH_NOT_ALLOWED: &str = "HostPathNotAllowed";
    /// The Docker engine cannot provide the GPUs of the spec to a container.
    pub const GPU_UNAVAILABLE: &str = "GPUUnavailable";
    /// Nodes send requests for a registry on their own network to a proxy.
    pub const REGISTRY_BEHIND_PROXY: &str = "RegistryBehindProxy";
    /// The node image lacks a required component.
    pub const NODE_IMAGE_INVALID: &str = "NodeImageInvalid";
    /// Clusters cannot verify the certificate of the registry.
    pub const CERTIFICATE_INVALID: &str = "CertificateInvalid";
    /// The registry rejects the credentials that clusters log in with.
    pub const CREDENTIALS_REFUSED: &str = "CredentialsRefused";
    /// The desired version is lower than the running version.
    pub const DOWNGRADE_REFUSED: &str = "DowngradeRefused";
    /// The desired version is more than one minor version above the running version.
    pub const UPGRADE_REFUSED: &str = "UpgradeRefused";
    /// K3s does not start with the arguments in the spec.
    pub const ARGUMENTS_REFUSED: &str = "ArgumentsRefused";
    /// The data of all servers is lost.
    pub const DATA_LOST: &str = "DataLost";
    /// The data of most servers is lost, so etcd has no quorum.
    pub const QUORUM_LOST: &str = "QuorumLost";
    /// etcd is being reset to a single member.
    pub const RESETTING_QUORUM: &str = "ResettingQuorum";
    /// K3s failed to reset etcd.
    pub const QUORUM_RESET_FAILED: &str = "QuorumResetFailed";
    /// A node was repaired several times, but its Node is still not Ready.
    pub const REPAIR_GIVEN_UP: &str = "RepairGivenUp";

    /// The operator failed to process the object.
    pub const INTERNAL_ERROR: &str = "InternalError";

    // Reasons of neutral conditions.

    /// LocalClusters use the Registry; the message lists them.
    pub const IN_USE: &str = "InUse";
    /// No LocalCluster uses the Registry.
    pub const NOT_IN_USE: &str = "NotInUse";
    /// Reconciliation is paused.
    pub const PAUSED: &str = "Paused";
    /// Reconciliation is not paused.
    pub const NOT_PAUSED: &str = "NotPaused";
    /// The cluster is stopped, as desired.
    pub const STOPPED: &str = "Stopped";
    /// The desired state of the cluster is Running.
    pub const NOT_STOPPED: &str = "NotStopped";

    /// All reasons, for the documentation and tests.
    pub const ALL: &[&str] = &[
        READY,
        ACCEPTED,
        RESOLVED,
        REACHABLE,
        SETTLED,
        NOT_STALLED,
        PENDING,
        QUEUED,
        PROGRESSING,
        CREATING,
        UPDATING,
        SCALING,
        SCALING_SERVERS,
        JOINING,
        UPGRADING,
        STOPPING,
        DRAINING,
        DELETING,
        IMAGE_PULLING,
        IMAGE_IMPORTING,
        NODE_STARTING,
        NODE_PASSWORD_LOST,
        SERVICE_ACCOUNT_MISSING,
        DOCKER_UNAVAILABLE,
        DOCKER_ERROR,
        API_NOT_ANSWERING,
        API_REFUSED,
        IMAGE_PULL_FAILED,
        IMAGE_IMPORT_FAILED,
        NODE_NOT_READY,
        NODE_PRESSURE,
        NO_EFFECT,
        CONTAINER_MISSING,
        CONTAINER_NOT_RUNNING,
        GARBAGE_COLLECTING,
        NOT_ANSWERING,
        MANIFEST_NOT_APPLIED,
        REGISTRY_NOT_READY,
        INVALID_SPEC,
        NAME_CONFLICT,
        PORT_CONFLICT,
        SUBNET_CONFLICT,
        ADDRESS_POOL_EXHAUSTED,
        SECRET_NOT_FOUND,
        SECRET_INVALID,
        REGISTRY_NOT_FOUND,
        CONFIG_MAP_NOT_FOUND,
        CONFIG_MAP_INVALID,
        NOT_ALLOWED,
        MANIFEST_INVALID,
        REGISTRIES_INVALID,
        SUBNET_NOT_ALLOWED,
        HOST_PATH_NOT_FOUND,
        HOST_PATH_NOT_ALLOWED,
        GPU_UNAVAILABLE,
        REGISTRY_BEHIND_PROXY,
        NODE_IMAGE_INVALID,
        CERTIFICATE_INVALID,
        CREDENTIALS_REFUSED,
        DOWNGRADE_REFUSED,
        UPGRADE_REFUSED,
        ARGUMENTS_REFUSED,
        DATA_LOST,
        QUORUM_LOST,
        RESETTING_QUORUM,
        QUORUM_RESET_FAILED,
        REPAIR_GIVEN_UP,
        INTERNAL_ERROR,
        IN_USE,
        NOT_IN_USE,
        PAUSED,
        NOT_PAUSED,
        STOPPED,
        NOT_STOPPED,
    ];
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The condition is met.
    True,
    /// The condition is not met.
    False,
    /// The status cannot be determined at present.
    Unknown,
}

impl Status {
    /// Returns the status as it is written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Sets the condition of type `type_` and returns whether anything changed. The last transition time changes only with
/// the status; a new condition is appended, so that the order is stable.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: impl Into<Status>,
    reason: &str,
    message: &str,
    observed_generation: i64,
    now: Timestamp,
) -> bool {
    // Whole seconds, as in the API: the value equals the one that is read back.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut new = Condition {
        last_transition_time: Time(now),
        message: bounded(message),
        observed_generation: Some(observed_generation),
        reason: reason.to_owned(),
        status: status.into().as_str().to_owned(),
        type_: type_.to_owned(),
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
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Reports whether the condition of this type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|c| c.status == Status::True.as_str())
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_transition_is_a_change_of_status_only() {
        let mut c = Vec::new();
        assert!(set(&mut c, types::READY, false, reasons::CREATING, "making it", 1, at(10)));
        assert!(set(&mut c, types::READY, Status::False, reasons::NODE_STARTING, "", 2, at(20)));
        let ready = get(&c, types::READY).unwrap();
        assert_eq!(
            (ready.last_transition_time.0, ready.observed_generation, ready.reason.as_str()),
            (at(10), Some(2), reasons::NODE_STARTING)
        );
        assert!(!is_true(&c, types::READY));

        assert!(set(&mut c, types::READY, true, reasons::READY, "", 2, at(30)));
        assert_eq!(get(&c, types::READY).unwrap().last_transition_time.0, at(30));
        assert!(is_true(&c, types::READY));
    }

    #[test]
    fn setting_the_same_changes_nothing() {
        let mut c = Vec::new();
        set(&mut c, types::READY, Status::Unknown, reasons::DOCKER_UNAVAILABLE, "gone", 1, at(1));
        let before = c.clone();
        assert!(!set(&mut c, types::READY, Status::Unknown, reasons::DOCKER_UNAVAILABLE, "gone", 1, at(99)));
        assert_eq!(c, before);
    }

    #[test]
    fn the_order_is_that_of_the_first_setting() {
        let mut c = Vec::new();
        for (n, type_) in [types::ACCEPTED, types::READY, types::ACCEPTED].into_iter().enumerate() {
            set(&mut c, type_, n == 2, reasons::PENDING, "", 1, at(0));
        }
        assert_eq!(c.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), [types::ACCEPTED, types::READY]);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let mut c = Vec::new();
        set(&mut c, types::READY, false, reasons::DOCKER_ERROR, &"é".repeat(4000), 1, at(0));
        let message = &c[0].message;
        assert!(message.len() <= MAX_MESSAGE && message.ends_with('…'), "{}", message.len());
    }

    #[test]
    fn reasons_are_distinct_camel_case_words() {
        // The pattern that the API server requires for `reason`.
        let word = |r: &str| {
            r.starts_with(|c: char| c.is_ascii_uppercase()) && r.chars().all(|c| c.is_ascii_alphanumeric())
        };
        assert!(reasons::ALL.iter().all(|r| word(r)));
        assert_eq!(reasons::ALL.iter().collect::<BTreeSet<_>>().len(), reasons::ALL.len());
    }
}
