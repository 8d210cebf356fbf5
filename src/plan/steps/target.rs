//! Containers as the targets of steps.

use crate::docker::{engine::Container, spec::ContainerSpec};

/// A container to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the container.
    pub name: String,
    /// ID of the container; `None` for one that an earlier step of the plan creates.
    pub id: Option<String>,
}

impl Target {
    /// Returns the target for a container that the plan creates.
    pub fn new(spec: &ContainerSpec) -> Self {
        Self { name: spec.name.clone(), id: None }
    }

    /// Returns the target for an existing container.
    pub fn of(container: &Container) -> Self {
        Self { name: container.name.clone(), id: Some(container.id.clone()) }
    }
}
