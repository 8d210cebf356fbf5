//! The cluster that nodes are planned for.

use super::health::NodeHealth;
use crate::{
    child::state::{ChildState, Node},
    docker::engine::ContainerDetail,
    plan::{containers::Site, desired::Desired, inputs::Inputs},
};

/// A cluster, desired and observed, as all plans of its nodes see it.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// Desired state of the cluster.
    pub desired: &'a Desired,
    /// Inputs besides the desired state.
    pub inputs: &'a Inputs<'a>,
    /// Context of its containers.
    pub site: &'a Site<'a>,
}

impl<'a> Cluster<'a> {
    /// Returns the managed container with this name.
    pub fn own(&self, name: &str) -> Option<&'a ContainerDetail> {
        self.inputs.observed.own_named(name)
    }

    /// Returns the Node with this name.
    pub fn node(&self, name: &str) -> Option<&'a Node> {
        self.inputs.observed.node(name)
    }

    /// Returns the state of the cluster if its API responds.
    pub fn state(&self) -> Option<&'a ChildState> {
        self.inputs.observed.child.state()
    }

    /// Reports whether the API of the cluster responds.
    pub fn is_reachable(&self) -> bool {
        self.state().is_some()
    }

    /// Returns the health of a node with a container.
    pub fn health(&self, name: &str) -> Option<NodeHealth<'a>> {
        self.own(name).map(|detail| NodeHealth::of(detail, self.inputs.observed))
    }

    /// Reports whether a node is ready.
    pub fn is_ready(&self, name: &str) -> bool {
        self.health(name).is_some_and(|health| health.is_ready())
    }
}
