//! Reasons of conditions. They are API, and the class of each decides how an object is retried and whether an Event
//! reports it.

use super::text_enum::string_enum;

/// Class of a reason, which decides how the object is retried and whether an Event reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The condition is met.
    Success,
    /// The operator, Docker or K3s is in progress, or the failure is temporary or being repaired. No Event reports it.
    Progress,
    /// A dependency fails, and the operator retries. A Warning reports it.
    Retry,
    /// Only a user can resolve it. A Warning reports it.
    NeedsUser,
    /// Neutral.
    Neutral,
}

/// Defines [`Reason`] with the class of each reason: a new one does not compile without.
macro_rules! reasons {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $reason:ident: $class:ident = $text:literal,)* }) => {
        string_enum! {
            $(#[$meta])*
            pub enum $name {
                $($(#[$doc])* $reason = $text,)*
            }
        }

        impl $name {
            /// Returns the class of the reason.
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$reason => Class::$class,)*
                }
            }
        }
    };
}

reasons! {
    /// A reason of a condition.
    pub enum Reason {
        // Success.

        /// The subject of the condition matches the spec.
        Ready: Success = "Ready",
        /// The spec is valid.
        Accepted: Success = "Accepted",
        /// All references are resolved.
        Resolved: Success = "Resolved",
        /// The engine, API or registry responds.
        Reachable: Success = "Reachable",
        /// The observed state matches the desired state.
        Settled: Success = "Settled",
        /// Nothing needs user intervention.
        NotStalled: Success = "NotStalled",

        /// The claim has its cluster.
        Bound: Success = "Bound",

        // Progress.

        /// Not evaluated yet: an earlier condition is not met.
        Pending: Progress = "Pending",
        /// Waiting for other clusters to start.
        Queued: Progress = "Queued",
        /// Reconciliation is in progress.
        Progressing: Progress = "Progressing",
        /// Resources are being created.
        Creating: Progress = "Creating",
        /// Containers are being replaced because the spec changed.
        Updating: Progress = "Updating",
        /// Agents are being added or removed.
        Scaling: Progress = "Scaling",
        /// Servers are being added or removed.
        ScalingServers: Progress = "ScalingServers",
        /// A server is joining etcd as a voter.
        Joining: Progress = "Joining",
        /// Nodes are being replaced with another image.
        Upgrading: Progress = "Upgrading",
        /// The containers of the cluster are being stopped.
        Stopping: Progress = "Stopping",
        /// A node is being drained before its removal.
        Draining: Progress = "Draining",
        /// The object is being deleted.
        Deleting: Progress = "Deleting",
        /// An image is being pulled.
        ImagePulling: Progress = "ImagePulling",
        /// A registry is asked whether the namespace has access to an image of the Docker host.
        CheckingImageAccess: Progress = "CheckingImageAccess",
        /// An image of the Docker host is being imported on a node.
        ImageImporting: Progress = "ImageImporting",
        /// Nodes cannot ask for images of the Docker host: nobody listens for them in the load balancer.
        HostImagesUnavailable: Progress = "HostImagesUnavailable",
        /// The container of a node is running; the Node is not Ready yet.
        NodeStarting: Progress = "NodeStarting",
        /// A node lost the password that its Node was registered with, and joins with a new one.
        NodePasswordLost: Progress = "NodePasswordLost",
        /// The cluster cannot create Pods yet: the service account `default` is missing.
        ServiceAccountMissing: Progress = "ServiceAccountMissing",

        /// Clusters of the pool start.
        Filling: Progress = "Filling",
        /// The claim waits until a cluster of the pool is ready.
        WaitingForCluster: Progress = "WaitingForCluster",
        /// The claim is taking a cluster.
        Binding: Progress = "Binding",

        // Failures that can resolve without intervention.

        /// The pool of the claim does not exist.
        PoolNotFound: Retry = "PoolNotFound",

        /// The Docker engine does not respond.
        DockerUnavailable: Retry = "DockerUnavailable",
        /// The Docker engine rejected a request.
        DockerError: Retry = "DockerError",
        /// A reconciliation took too long and was ended.
        DeadlineExceeded: Retry = "DeadlineExceeded",
        /// The API of the created cluster does not respond.
        ApiNotAnswering: Progress = "APINotAnswering",
        /// Most servers do not run or do not reach each other, so etcd has no leader. Their data is not known to be lost.
        NoQuorum: Progress = "NoQuorum",
        /// The API of the created cluster rejected a request.
        ApiRefused: Progress = "APIRefused",
        /// An image cannot be pulled.
        ImagePullFailed: Retry = "ImagePullFailed",
        /// The namespace has not shown access to an image of the Docker host, which its HostPolicy requires.
        ImageAccessNotProven: Retry = "ImageAccessNotProven",
        /// An image of the Docker host cannot be imported on a node.
        ImageImportFailed: Progress = "ImageImportFailed",
        /// A Node exists but is not Ready.
        NodeNotReady: Progress = "NodeNotReady",
        /// A Node is Ready but under pressure, so Kubernetes does not schedule new Pods to it.
        NodePressure: Progress = "NodePressure",
        /// The Docker engine or the cluster reported success, but the change had no effect.
        NoEffect: Progress = "NoEffect",
        /// A container does not exist.
        ContainerMissing: Progress = "ContainerMissing",
        /// The registry is stopped while unreferenced blobs are removed.
        GarbageCollecting: Progress = "GarbageCollecting",
        /// A container is not running.
        ContainerNotRunning: Progress = "ContainerNotRunning",
        /// The registry does not respond.
        NotAnswering: Progress = "NotAnswering",
        /// K3s has not applied a manifest yet, or objects that it applied were deleted.
        ManifestNotApplied: Progress = "ManifestNotApplied",
        /// A referenced Registry is not ready.
        RegistryNotReady: Progress = "RegistryNotReady",

        // Failures that need user intervention.

        /// The spec is invalid; the message says what to change.
        InvalidSpec: NeedsUser = "InvalidSpec",
        /// A container, network or volume with this name exists and is not managed by this object. It is left unchanged.
        NameConflict: NeedsUser = "NameConflict",
        /// A host port is in use.
        PortConflict: NeedsUser = "PortConflict",
        /// The subnet overlaps another network.
        SubnetConflict: NeedsUser = "SubnetConflict",
        /// The network pool of the operator or Docker has no free subnet, or the subnet has no free address.
        AddressPoolExhausted: NeedsUser = "AddressPoolExhausted",
        /// A Secret that the spec references does not exist.
        SecretNotFound: Retry = "SecretNotFound",
        /// A Secret lacks required data, or is not managed by this object.
        SecretInvalid: NeedsUser = "SecretInvalid",
        /// A Registry that the spec references does not exist.
        RegistryNotFound: Retry = "RegistryNotFound",
        /// A ConfigMap that the spec references does not exist.
        ConfigMapNotFound: NeedsUser = "ConfigMapNotFound",
        /// A ConfigMap lacks required data.
        ConfigMapInvalid: NeedsUser = "ConfigMapInvalid",
        /// A Registry in another namespace, or an unmanaged volume or container, does not allow this namespace to use it.
        NotAllowed: NeedsUser = "NotAllowed",
        /// The HostPolicy of the namespace does not allow the spec.
        PolicyViolation: NeedsUser = "PolicyViolation",
        /// The HostPolicy of the namespace does not allow the spec, and only reports it.
        PolicyAudited: Neutral = "PolicyAudited",
        /// No HostPolicy selects the namespace.
        NoPolicy: NeedsUser = "NoPolicy",
        /// The HostPolicy of the namespace is invalid, so it allows nothing.
        PolicyInvalid: NeedsUser = "PolicyInvalid",
        /// A manifest cannot be applied: it is not valid YAML, or an object lacks its name or kind.
        ManifestInvalid: NeedsUser = "ManifestInvalid",
        /// The registries file contains settings that K3s would ignore or fail on.
        RegistriesInvalid: NeedsUser = "RegistriesInvalid",
        /// The subnet of the spec is outside the ranges that the operator allows.
        SubnetNotAllowed: NeedsUser = "SubnetNotAllowed",
        /// The host directory or file of the spec does not exist.
        HostPathNotFound: NeedsUser = "HostPathNotFound",
        /// The operator does not allow mounting the host directory or file of the spec.
        HostPathNotAllowed: NeedsUser = "HostPathNotAllowed",
        /// The Docker engine has no OCI runtime with the name in the spec or in the HostPolicy.
        RuntimeNotFound: NeedsUser = "RuntimeNotFound",
        /// The Docker engine cannot provide the GPUs of the spec to a container.
        GpuUnavailable: NeedsUser = "GPUUnavailable",
        /// Nodes send requests for a registry on their own network to a proxy.
        RegistryBehindProxy: NeedsUser = "RegistryBehindProxy",
        /// Nodes of this cluster cannot ask for images of the Docker host.
        HostImagesUnsupported: NeedsUser = "HostImagesUnsupported",
        /// The node image lacks a required component.
        NodeImageInvalid: NeedsUser = "NodeImageInvalid",
        /// Clusters cannot verify the certificate of the registry.
        CertificateInvalid: NeedsUser = "CertificateInvalid",
        /// The registry rejects the credentials that clusters log in with.
        CredentialsRefused: NeedsUser = "CredentialsRefused",
        /// The desired version is lower than the running version.
        DowngradeRefused: NeedsUser = "DowngradeRefused",
        /// The desired version is more than one minor version above the running version.
        UpgradeRefused: NeedsUser = "UpgradeRefused",
        /// K3s does not start with the arguments in the spec.
        ArgumentsRefused: NeedsUser = "ArgumentsRefused",
        /// The data of all servers is lost.
        DataLost: NeedsUser = "DataLost",
        /// The data of most servers is lost, so etcd has no quorum.
        QuorumLost: NeedsUser = "QuorumLost",
        /// etcd is being reset to a single member.
        ResettingQuorum: Progress = "ResettingQuorum",
        /// K3s failed to reset etcd.
        QuorumResetFailed: NeedsUser = "QuorumResetFailed",
        /// A node was repaired several times, but its Node is still not Ready.
        RepairGivenUp: NeedsUser = "RepairGivenUp",
        /// The operator failed to process the object.
        InternalError: NeedsUser = "InternalError",

        // Reasons of pools and claims.

        /// A cluster of the pool needs the user.
        ClusterStalled: NeedsUser = "ClusterStalled",
        /// The API server does not admit the clusters of the pool.
        ClusterRefused: NeedsUser = "ClusterRefused",
        /// The API server does not admit what the claim asks of its cluster.
        ClaimRefused: NeedsUser = "ClaimRefused",
        /// The cluster of the claim is deleted.
        ClusterGone: NeedsUser = "ClusterGone",

        // Reasons of the placement on one of several Docker hosts.

        /// The placeholder Pod has a host.
        Scheduled: Success = "Scheduled",
        /// The placeholder Pod was created, and the scheduler has not decided yet.
        Scheduling: Progress = "Scheduling",
        /// The placeholder Pod is being deleted, so the object is stopped in order.
        Evicted: Retry = "Evicted",
        /// The scheduler finds no host for the placeholder Pod.
        Unschedulable: Retry = "Unschedulable",
        /// A scheduling gate holds the placeholder Pod back.
        SchedulingGated: Retry = "SchedulingGated",
        /// A ResourceQuota does not admit the placeholder Pod.
        QuotaExceeded: Retry = "QuotaExceeded",
        /// The API server refuses the placeholder Pod.
        PlaceholderRefused: NeedsUser = "PlaceholderRefused",
        /// The host that the object is bound to is cordoned.
        HostCordoned: Retry = "HostCordoned",
        /// The host is not ready, or gone.
        HostLost: Retry = "HostLost",
        /// The host is gone for good, and the object is bound to it.
        HostGone: NeedsUser = "HostGone",
        /// The agent of the host, or its Docker Engine, does not respond.
        AgentDown: Retry = "AgentDown",
        /// The operator runs for a single Docker host.
        PlacementIgnored: Neutral = "PlacementIgnored",

        // Reasons of neutral conditions.

        /// The kernel of the Docker host has no memory cgroup.
        MemoryCgroupDisabled: Neutral = "MemoryCgroupDisabled",
        /// The Docker host permits too few inotify instances for its nodes.
        InotifyLimitLow: Neutral = "InotifyLimitLow",
        /// The disk of the Docker host is almost full.
        DiskSpaceLow: Neutral = "DiskSpaceLow",
        /// Pods have no route to the API.
        NoRoute: Neutral = "NoRoute",
        /// The operator does not run as a Pod, so its own routes do not show those of Pods.
        NotAPod: Neutral = "NotAPod",

        /// Several HostPolicies with the same priority select a namespace.
        SamePriority: Neutral = "SamePriority",
        /// No other HostPolicy has the same priority and selects the same namespace.
        Unique: Neutral = "Unique",

        /// The storage of the registry is below 90 % of its maximum size.
        BelowMaxSize: Neutral = "BelowMaxSize",
        /// The storage of the registry has reached 90 % of its maximum size.
        NearMaxSize: Neutral = "NearMaxSize",
        /// The storage of the registry has reached its maximum size.
        MaxSizeExceeded: Neutral = "MaxSizeExceeded",
        /// The upstream registry of a cache does not answer.
        UpstreamUnreachable: Neutral = "UpstreamUnreachable",
        /// The upstream registry of a cache limits the rate of pulls.
        RateLimited: Neutral = "RateLimited",

        /// LocalClusters use the Registry; the message lists them.
        InUse: Neutral = "InUse",
        /// No LocalCluster uses the Registry.
        NotInUse: Neutral = "NotInUse",
        /// Reconciliation is paused.
        Paused: Neutral = "Paused",
        /// Reconciliation is not paused.
        NotPaused: Neutral = "NotPaused",
        /// The cluster is stopped, as desired.
        Stopped: Neutral = "Stopped",
        /// The desired state of the cluster is Running.
        NotStopped: Neutral = "NotStopped",
    }
}

impl Reason {
    /// Reports whether this is a reason why an object has no Docker host, or one that is lost.
    pub fn is_of_placement(self) -> bool {
        matches!(
            self,
            Self::Scheduling
                | Self::Evicted
                | Self::Unschedulable
                | Self::SchedulingGated
                | Self::QuotaExceeded
                | Self::PlaceholderRefused
                | Self::HostCordoned
                | Self::HostLost
                | Self::HostGone
                | Self::AgentDown
        )
    }
}
