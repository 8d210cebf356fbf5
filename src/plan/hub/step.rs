//! One step towards a hub, with everything that its execution needs.

use std::fmt;

use crate::docker::spec::{ContainerSpec, FileSpec, NetworkSpec, VolumeSpec};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Execute this step, and observe again.
    Step(Step),
    /// Something takes its time: observe again until it has happened.
    Wait(String),
    /// Everything is as wanted.
    Done,
    /// A user has to decide something first.
    Refused(String),
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Pulls an image.
    Pull(String),
    /// Creates the network.
    CreateNetwork(NetworkSpec),
    /// Creates the volume.
    CreateVolume(VolumeSpec),
    /// Creates a container on the network with this ID.
    CreateContainer {
        /// Container.
        spec: Box<ContainerSpec>,
        /// ID of the network.
        network: String,
    },
    /// Writes a file into a container.
    WriteFile {
        /// ID of the container.
        container: String,
        /// File.
        file: FileSpec,
    },
    /// Starts a container.
    Start(Target),
    /// Unpauses a container.
    Unpause(Target),
    /// Removes a container.
    RemoveContainer {
        /// Container.
        target: Target,
        /// Whether it is stopped first, since its data stays.
        stop: bool,
        /// Reason.
        why: String,
    },
    /// Applies objects in the API of the hub.
    Apply {
        /// ID of the hub's container.
        hub: String,
        /// What it applies, as words.
        what: &'static str,
        /// The objects, as a JSON list.
        manifest: String,
    },
    /// Deletes all LocalClusters and Registries in the API of the hub, without waiting until they are gone.
    DeleteObjects {
        /// ID of the hub's container.
        hub: String,
        /// Number of objects.
        number: usize,
    },
    /// Removes a network.
    RemoveNetwork {
        /// ID.
        id: String,
        /// Name.
        name: String,
    },
    /// Removes a volume.
    RemoveVolume(String),
}

/// A container of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// ID.
    pub id: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Step {
    /// Formats the step as a line of progress.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull(image) => write!(f, "pulling {image}"),
            Self::CreateNetwork(spec) => write!(f, "creating network {}", spec.name),
            Self::CreateVolume(spec) => write!(f, "creating volume {}", spec.name),
            Self::CreateContainer { spec, .. } => {
                write!(f, "creating container {} from {}", spec.name, spec.image)
            }
            Self::WriteFile { file, .. } => write!(f, "writing {}", file.path),
            Self::Start(target) => write!(f, "starting container {}", target.name),
            Self::Unpause(target) => write!(f, "unpausing container {}", target.name),
            Self::RemoveContainer { target, why, .. } => {
                write!(f, "removing container {}: {why}", target.name)
            }
            Self::Apply { what, .. } => write!(f, "applying {what}"),
            Self::DeleteObjects { number, .. } => write!(f, "deleting {number} LocalClusters and Registries"),
            Self::RemoveNetwork { name, .. } => write!(f, "removing network {name}"),
            Self::RemoveVolume(name) => write!(f, "removing volume {name}"),
        }
    }
}
