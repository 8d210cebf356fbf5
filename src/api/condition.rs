//! Condition types and reasons (they are API), and how a condition is set.
//!
//! Types have positive polarity and are there from the first status on, apart from the abnormal-true ones, which say
//! so. Who writes a status writes all of its conditions and `observedGeneration` in one patch, and writes none when
//! nothing changed: [`set`] leaves an unchanged condition byte for byte as it was.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message that a condition gets. Engines answer with whole pages of text at times, and a status is
/// copied to every watcher.
pub const MAX_MESSAGE: usize = 1024;

/// Condition types.
pub mod types {
    /// The sum: everything that was asked for is there and usable. Its reason and message are those of the first
    /// condition that fails.
    pub const READY: &str = "Ready";
    /// The spec is valid and can be had on this host.
    pub const ACCEPTED: &str = "Accepted";
    /// All objects that the spec refers to are there and usable.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// The Docker engine answers.
    pub const DOCKER_REACHABLE: &str = "DockerReachable";
    /// LocalCluster: its Docker network is there.
    pub const NETWORK_READY: &str = "NetworkReady";
    /// LocalCluster: all servers are Ready Nodes at the wanted version, and the API answers.
    pub const CONTROL_PLANE_READY: &str = "ControlPlaneReady";
    /// LocalCluster: all agents are Ready Nodes at the wanted version.
    pub const AGENTS_READY: &str = "AgentsReady";
    /// LocalCluster: the load balancer runs, with all published ports.
    pub const LOAD_BALANCER_READY: &str = "LoadBalancerReady";
    /// LocalCluster: all registries that it uses answer.
    pub const REGISTRIES_READY: &str = "RegistriesReady";
    /// LocalCluster: the images of `spec.preloadImages` are in all nodes.
    pub const IMAGES_READY: &str = "ImagesReady";
    /// LocalCluster: all objects of `spec.manifests` are in the cluster, and none that was taken out of them.
    pub const MANIFESTS_READY: &str = "ManifestsReady";
    /// LocalCluster: the kubeconfig Secret is there, and the cluster's API answers through it.
    pub const KUBECONFIG_READY: &str = "KubeconfigReady";
    /// Registry: its container runs.
    pub const CONTAINER_READY: &str = "ContainerReady";
    /// Registry: it answers requests.
    pub const REACHABLE: &str = "Reachable";
    /// Registry, neither good nor bad: LocalClusters use it, so it is not taken away yet when it is deleted.
    pub const IN_USE: &str = "InUse";
    /// Abnormal-true: the operator is at work, or waits for something that comes by itself. Never together with
    /// [`STALLED`].
    pub const RECONCILING: &str = "Reconciling";
    /// Abnormal-true: nothing goes on until a person changes something. Never together with [`RECONCILING`].
    pub const STALLED: &str = "Stalled";
    /// Abnormal-true: the annotation `localcluster.dev/paused` keeps the operator's hands off.
    pub const PAUSED: &str = "Paused";
    /// LocalCluster, neither good nor bad: it is stopped, as its spec wants it. There is no `Ready` then.
    pub const STOPPED: &str = "Stopped";
}

/// Condition reasons.
pub mod reasons {
    // Good news.

    /// What the condition is about is as the spec wants it.
    pub const READY: &str = "Ready";
    /// The spec is valid.
    pub const ACCEPTED: &str = "Accepted";
    /// All references lead somewhere.
    pub const RESOLVED: &str = "Resolved";
    /// It answers.
    pub const REACHABLE: &str = "Reachable";
    /// Nothing is left to do.
    pub const SETTLED: &str = "Settled";
    /// Nothing waits for a person.
    pub const NOT_STALLED: &str = "NotStalled";

    // On the way.

    /// It can't be judged yet, since something before it is not done.
    pub const PENDING: &str = "Pending";
    /// Other clusters start first.
    pub const QUEUED: &str = "Queued";
    /// The operator is at work.
    pub const PROGRESSING: &str = "Progressing";
    /// Something is being made.
    pub const CREATING: &str = "Creating";
    /// Containers are being replaced, since the spec changed.
    pub const UPDATING: &str = "Updating";
    /// Agents are being added or taken away.
    pub const SCALING: &str = "Scaling";
    /// Servers are being added or taken away.
    pub const SCALING_SERVERS: &str = "ScalingServers";
    /// A server becomes a voting member of etcd.
    pub const JOINING: &str = "Joining";
    /// Nodes are being replaced by ones of another image.
    pub const UPGRADING: &str = "Upgrading";
    /// The cluster's containers are being stopped.
    pub const STOPPING: &str = "Stopping";
    /// Pods are leaving a node that is to go.
    pub const DRAINING: &str = "Draining";
    /// The object is being deleted.
    pub const DELETING: &str = "Deleting";
    /// An image is being pulled.
    pub const IMAGE_PULLING: &str = "ImagePulling";
    /// An image of the Docker host is being put into a node.
    pub const IMAGE_IMPORTING: &str = "ImageImporting";
    /// A node's container runs; its Node is not ready yet.
    pub const NODE_STARTING: &str = "NodeStarting";
    /// A node has lost the password that its Node was registered with, and joins with another one.
    pub const NODE_PASSWORD_LOST: &str = "NodePasswordLost";
    /// The cluster can't make Pods yet: the service account `default` is missing.
    pub const SERVICE_ACCOUNT_MISSING: &str = "ServiceAccountMissing";

    // Trouble that can pass by itself.

    /// The Docker engine does not answer.
    pub const DOCKER_UNAVAILABLE: &str = "DockerUnavailable";
    /// The Docker engine refused a call.
    pub const DOCKER_ERROR: &str = "DockerError";
    /// The created cluster's API does not answer.
    pub const API_NOT_ANSWERING: &str = "APINotAnswering";
    /// The created cluster's API refused a call.
    pub const API_REFUSED: &str = "APIRefused";
    /// An image can't be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// An image of the Docker host does not get into a node.
    pub const IMAGE_IMPORT_FAILED: &str = "ImageImportFailed";
    /// A Node exists and is not Ready.
    pub const NODE_NOT_READY: &str = "NodeNotReady";
    /// A Node is Ready, and Kubernetes keeps new Pods from it.
    pub const NODE_PRESSURE: &str = "NodePressure";
    /// The Docker engine, or the cluster, says that it did something, and it is not done.
    pub const NO_EFFECT: &str = "NoEffect";
    /// A container is not there.
    pub const CONTAINER_MISSING: &str = "ContainerMissing";
    /// The registry is stopped for a moment, while what no image needs is removed.
    pub const GARBAGE_COLLECTING: &str = "GarbageCollecting";
    /// A container does not run.
    pub const CONTAINER_NOT_RUNNING: &str = "ContainerNotRunning";
    /// The registry does not answer.
    pub const NOT_ANSWERING: &str = "NotAnswering";
    /// K3s has not applied a manifest yet, or what it applied was deleted by somebody.
    pub const MANIFEST_NOT_APPLIED: &str = "ManifestNotApplied";
    /// A Registry of the list is not ready.
    pub const REGISTRY_NOT_READY: &str = "RegistryNotReady";

    // Trouble that a person has to end.

    /// The spec says something that can't be; the message tells what to write instead.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A container, network or volume of this name belongs to somebody else. It is not touched.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// A host port is taken.
    pub const PORT_CONFLICT: &str = "PortConflict";
    /// The subnet overlaps with another network's.
    pub const SUBNET_CONFLICT: &str = "SubnetConflict";
    /// The operator's pool has no free subnet, or the subnet no free address.
    pub const ADDRESS_POOL_EXHAUSTED: &str = "AddressPoolExhausted";
    /// A Secret that the spec names is not there.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A Secret is there without what is needed of it, or belongs to somebody else.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// A Registry that the spec names is not there.
    pub const REGISTRY_NOT_FOUND: &str = "RegistryNotFound";
    /// A ConfigMap that the spec names is not there.
    pub const CONFIG_MAP_NOT_FOUND: &str = "ConfigMapNotFound";
    /// A ConfigMap is there without what is needed of it.
    pub const CONFIG_MAP_INVALID: &str = "ConfigMapInvalid";
    /// What the spec names, a Registry of another namespace or somebody's volume or container, does not allow this
    /// namespace to use it.
    pub const NOT_ALLOWED: &str = "NotAllowed";
    /// A manifest can't be applied: it is no YAML, or an object in it lacks its name or kind.
    pub const MANIFEST_INVALID: &str = "ManifestInvalid";
    /// The user's registries file says something that K3s would ignore or choke on.
    pub const REGISTRIES_INVALID: &str = "RegistriesInvalid";
    /// The subnet that the spec names is in no range that specs may choose from.
    pub const SUBNET_NOT_ALLOWED: &str = "SubnetNotAllowed";
    /// The directory of the host that the spec names is not there.
    pub const HOST_PATH_NOT_FOUND: &str = "HostPathNotFound";
    /// The directory of the host that the spec names may not be mounted.
    pub const HOST_PATH_NOT_ALLOWED: &str = "HostPathNotAllowed";
    /// The Docker engine can't give a container the GPUs that the spec asks for.
    pub const GPU_UNAVAILABLE: &str = "GPUUnavailable";
    /// Nodes ask a proxy for a registry on their own network.
    pub const REGISTRY_BEHIND_PROXY: &str = "RegistryBehindProxy";
    /// The node image lacks something that a node needs.
    pub const NODE_IMAGE_INVALID: &str = "NodeImageInvalid";
    /// The registry's certificate does not let clusters trust it.
    pub const CERTIFICATE_INVALID: &str = "CertificateInvalid";
    /// The registry refuses the credentials that clusters are to log in with.
    pub const CREDENTIALS_REFUSED: &str = "CredentialsRefused";
    /// The version is below the one that runs.
    pub const DOWNGRADE_REFUSED: &str = "DowngradeRefused";
    /// The version is more than one minor version above the one that runs.
    pub const UPGRADE_REFUSED: &str = "UpgradeRefused";
    /// K3s does not start with the arguments of the spec.
    pub const ARGUMENTS_REFUSED: &str = "ArgumentsRefused";
    /// All of the servers' data is lost.
    pub const DATA_LOST: &str = "DataLost";
    /// Most of the servers' data is lost, so that etcd can't agree on anything.
    pub const QUORUM_LOST: &str = "QuorumLost";
    /// etcd is being reset, with one server as its only member.
    pub const RESETTING_QUORUM: &str = "ResettingQuorum";
    /// K3s did not reset etcd.
    pub const QUORUM_RESET_FAILED: &str = "QuorumResetFailed";
    /// A node was repaired several times, and its Node is still not Ready.
    pub const REPAIR_GIVEN_UP: &str = "RepairGivenUp";

    /// The operator itself failed on the object.
    pub const INTERNAL_ERROR: &str = "InternalError";

    // Of conditions that are neither good nor bad.

    /// LocalClusters use the Registry; the message names them.
    pub const IN_USE: &str = "InUse";
    /// No LocalCluster uses the Registry.
    pub const NOT_IN_USE: &str = "NotInUse";
    /// The object is paused.
    pub const PAUSED: &str = "Paused";
    /// The object is not paused.
    pub const NOT_PAUSED: &str = "NotPaused";
    /// The cluster is stopped, as its spec wants it.
    pub const STOPPED: &str = "Stopped";
    /// The cluster is to run.
    pub const NOT_STOPPED: &str = "NotStopped";

    /// All of them, for the documentation and for tests.
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

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell now.
    Unknown,
}

impl Status {
    /// As it is written.
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

/// Sets the condition of type `type_`, and only that. The time of its last transition changes only when its status
/// does; a condition that was not there is put at the end, so that the order is stable. Whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: impl Into<Status>,
    reason: &str,
    message: &str,
    observed_generation: i64,
    now: Timestamp,
) -> bool {
    // Whole seconds, as it is written: what was set is what will be read back.
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

/// The condition of this type.
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of this type is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|c| c.status == Status::True.as_str())
}

/// `message` within [`MAX_MESSAGE`] bytes.
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
        // The pattern that the API server wants of `reason`.
        let word = |r: &str| {
            r.starts_with(|c: char| c.is_ascii_uppercase()) && r.chars().all(|c| c.is_ascii_alphanumeric())
        };
        assert!(reasons::ALL.iter().all(|r| word(r)));
        assert_eq!(reasons::ALL.iter().collect::<BTreeSet<_>>().len(), reasons::ALL.len());
    }
}
