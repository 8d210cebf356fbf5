//! Reasons of conditions. They are API, and the class of each decides how an object is retried and whether an Event
//! reports it.

use super::text_enum::string_enum;

string_enum! {
    /// A reason of a condition.
    pub enum Reason {
        // Success.

        /// The subject of the condition matches the spec.
        Ready = "Ready",
        /// The spec is valid.
        Accepted = "Accepted",
        /// All references are resolved.
        Resolved = "Resolved",
        /// The engine, API or registry responds.
        Reachable = "Reachable",
        /// The observed state matches the desired state.
        Settled = "Settled",
        /// Nothing needs user intervention.
        NotStalled = "NotStalled",

        // Progress.

        /// Not evaluated yet: an earlier condition is not met.
        Pending = "Pending",
        /// Waiting for other clusters to start.
        Queued = "Queued",
        /// Reconciliation is in progress.
        Progressing = "Progressing",
        /// Resources are being created.
        Creating = "Creating",
        /// Containers are being replaced because the spec changed.
        Updating = "Updating",
        /// Agents are being added or removed.
        Scaling = "Scaling",
        /// Servers are being added or removed.
        ScalingServers = "ScalingServers",
        /// A server is joining etcd as a voter.
        Joining = "Joining",
        /// Nodes are being replaced with another image.
        Upgrading = "Upgrading",
        /// The containers of the cluster are being stopped.
        Stopping = "Stopping",
        /// A node is being drained before its removal.
        Draining = "Draining",
        /// The object is being deleted.
        Deleting = "Deleting",
        /// An image is being pulled.
        ImagePulling = "ImagePulling",
        /// An image of the Docker host is being imported on a node.
        ImageImporting = "ImageImporting",
        /// The container of a node is running; the Node is not Ready yet.
        NodeStarting = "NodeStarting",
        /// A node lost the password that its Node was registered with, and joins with a new one.
        NodePasswordLost = "NodePasswordLost",
        /// The cluster cannot create Pods yet: the service account `default` is missing.
        ServiceAccountMissing = "ServiceAccountMissing",

        // Failures that can resolve without intervention.

        /// The Docker engine does not respond.
        DockerUnavailable = "DockerUnavailable",
        /// The Docker engine rejected a request.
        DockerError = "DockerError",
        /// The API of the created cluster does not respond.
        ApiNotAnswering = "APINotAnswering",
        /// The API of the created cluster rejected a request.
        ApiRefused = "APIRefused",
        /// An image cannot be pulled.
        ImagePullFailed = "ImagePullFailed",
        /// An image of the Docker host cannot be imported on a node.
        ImageImportFailed = "ImageImportFailed",
        /// A Node exists but is not Ready.
        NodeNotReady = "NodeNotReady",
        /// A Node is Ready but under pressure, so Kubernetes does not schedule new Pods to it.
        NodePressure = "NodePressure",
        /// The Docker engine or the cluster reported success, but the change had no effect.
        NoEffect = "NoEffect",
        /// A container does not exist.
        ContainerMissing = "ContainerMissing",
        /// The registry is stopped while unreferenced blobs are removed.
        GarbageCollecting = "GarbageCollecting",
        /// A container is not running.
        ContainerNotRunning = "ContainerNotRunning",
        /// The registry does not respond.
        NotAnswering = "NotAnswering",
        /// K3s has not applied a manifest yet, or objects that it applied were deleted.
        ManifestNotApplied = "ManifestNotApplied",
        /// A referenced Registry is not ready.
        RegistryNotReady = "RegistryNotReady",

        // Failures that need user intervention.

        /// The spec is invalid; the message says what to change.
        InvalidSpec = "InvalidSpec",
        /// A container, network or volume with this name exists and is not managed by this object. It is left unchanged.
        NameConflict = "NameConflict",
        /// A host port is in use.
        PortConflict = "PortConflict",
        /// The subnet overlaps another network.
        SubnetConflict = "SubnetConflict",
        /// The network pool of the operator has no free subnet, or the subnet has no free address.
        AddressPoolExhausted = "AddressPoolExhausted",
        /// A Secret that the spec references does not exist.
        SecretNotFound = "SecretNotFound",
        /// A Secret lacks required data, or is not managed by this object.
        SecretInvalid = "SecretInvalid",
        /// A Registry that the spec references does not exist.
        RegistryNotFound = "RegistryNotFound",
        /// A ConfigMap that the spec references does not exist.
        ConfigMapNotFound = "ConfigMapNotFound",
        /// A ConfigMap lacks required data.
        ConfigMapInvalid = "ConfigMapInvalid",
        /// A Registry in another namespace, or an unmanaged volume or container, does not allow this namespace to use it.
        NotAllowed = "NotAllowed",
        /// A manifest cannot be applied: it is not valid YAML, or an object lacks its name or kind.
        ManifestInvalid = "ManifestInvalid",
        /// The registries file contains settings that K3s would ignore or fail on.
        RegistriesInvalid = "RegistriesInvalid",
        /// The subnet of the spec is outside the ranges that the operator allows.
        SubnetNotAllowed = "SubnetNotAllowed",
        /// The host directory of the spec does not exist.
        HostPathNotFound = "HostPathNotFound",
        /// The operator does not allow mounting the host directory of the spec.
        HostPathNotAllowed = "HostPathNotAllowed",
        /// The Docker engine cannot provide the GPUs of the spec to a container.
        GpuUnavailable = "GPUUnavailable",
        /// Nodes send requests for a registry on their own network to a proxy.
        RegistryBehindProxy = "RegistryBehindProxy",
        /// The node image lacks a required component.
        NodeImageInvalid = "NodeImageInvalid",
        /// Clusters cannot verify the certificate of the registry.
        CertificateInvalid = "CertificateInvalid",
        /// The registry rejects the credentials that clusters log in with.
        CredentialsRefused = "CredentialsRefused",
        /// The desired version is lower than the running version.
        DowngradeRefused = "DowngradeRefused",
        /// The desired version is more than one minor version above the running version.
        UpgradeRefused = "UpgradeRefused",
        /// K3s does not start with the arguments in the spec.
        ArgumentsRefused = "ArgumentsRefused",
        /// The data of all servers is lost.
        DataLost = "DataLost",
        /// The data of most servers is lost, so etcd has no quorum.
        QuorumLost = "QuorumLost",
        /// etcd is being reset to a single member.
        ResettingQuorum = "ResettingQuorum",
        /// K3s failed to reset etcd.
        QuorumResetFailed = "QuorumResetFailed",
        /// A node was repaired several times, but its Node is still not Ready.
        RepairGivenUp = "RepairGivenUp",
        /// The operator failed to process the object.
        InternalError = "InternalError",

        // Reasons of neutral conditions.

        /// LocalClusters use the Registry; the message lists them.
        InUse = "InUse",
        /// No LocalCluster uses the Registry.
        NotInUse = "NotInUse",
        /// Reconciliation is paused.
        Paused = "Paused",
        /// Reconciliation is not paused.
        NotPaused = "NotPaused",
        /// The cluster is stopped, as desired.
        Stopped = "Stopped",
        /// The desired state of the cluster is Running.
        NotStopped = "NotStopped",
    }
}

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

impl Reason {
    /// Returns the class of the reason. Every reason is listed: a new one does not compile without a class.
    pub const fn class(self) -> Class {
        match self {
            Self::Ready
            | Self::Accepted
            | Self::Resolved
            | Self::Reachable
            | Self::Settled
            | Self::NotStalled => Class::Success,
            Self::Pending
            | Self::Queued
            | Self::Progressing
            | Self::Creating
            | Self::Updating
            | Self::Scaling
            | Self::ScalingServers
            | Self::Joining
            | Self::Upgrading
            | Self::Stopping
            | Self::Draining
            | Self::Deleting
            | Self::ImagePulling
            | Self::ImageImporting
            | Self::NodeStarting
            | Self::NodePasswordLost
            | Self::ServiceAccountMissing
            | Self::ApiNotAnswering
            | Self::ApiRefused
            | Self::ImageImportFailed
            | Self::NodeNotReady
            | Self::NodePressure
            | Self::NoEffect
            | Self::ContainerMissing
            | Self::GarbageCollecting
            | Self::ContainerNotRunning
            | Self::NotAnswering
            | Self::ManifestNotApplied
            | Self::RegistryNotReady
            | Self::ResettingQuorum => Class::Progress,
            Self::DockerUnavailable
            | Self::DockerError
            | Self::ImagePullFailed
            | Self::SecretNotFound
            | Self::RegistryNotFound => Class::Retry,
            Self::InvalidSpec
            | Self::NameConflict
            | Self::PortConflict
            | Self::SubnetConflict
            | Self::AddressPoolExhausted
            | Self::SecretInvalid
            | Self::ConfigMapNotFound
            | Self::ConfigMapInvalid
            | Self::NotAllowed
            | Self::ManifestInvalid
            | Self::RegistriesInvalid
            | Self::SubnetNotAllowed
            | Self::HostPathNotFound
            | Self::HostPathNotAllowed
            | Self::GpuUnavailable
            | Self::RegistryBehindProxy
            | Self::NodeImageInvalid
            | Self::CertificateInvalid
            | Self::CredentialsRefused
            | Self::DowngradeRefused
            | Self::UpgradeRefused
            | Self::ArgumentsRefused
            | Self::DataLost
            | Self::QuorumLost
            | Self::QuorumResetFailed
            | Self::RepairGivenUp
            | Self::InternalError => Class::NeedsUser,
            Self::InUse
            | Self::NotInUse
            | Self::Paused
            | Self::NotPaused
            | Self::Stopped
            | Self::NotStopped => Class::Neutral,
        }
    }
}
