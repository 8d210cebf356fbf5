//! Context in which containers are planned.

use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    docker::{
        engine::{Container, ContainerDetail},
        error::Error,
        spec::{ContainerSpec, EndpointSettings, Role},
    },
    plan::{
        observed::{ImageState, Observed},
        owner::Owner,
        policy::access,
        queue::Wait,
        steps::{Plan, Problem},
    },
};

/// Context in which a container is planned.
pub struct Site<'a> {
    /// Owner of all planned resources.
    pub owner: &'a Owner,
    /// The observed state.
    pub observed: &'a Observed,
    /// ID of the network that containers are created on; `None` for helpers, which need none.
    pub network: Option<&'a str>,
    /// Additional networks by ID, which containers are connected to before they start.
    pub further: &'a [(String, EndpointSettings)],
}

impl Site<'_> {
    /// Returns the managed container with this name.
    pub fn own(&self, name: &str) -> Option<&ContainerDetail> {
        self.observed.own_named(name)
    }

    /// Reports whether a container is connected to its network.
    pub fn is_placed(&self, detail: &ContainerDetail) -> bool {
        self.network.is_none_or(|n| detail.container.networks.contains_key(n))
    }

    /// Returns an unmanaged container with this name.
    pub fn foreign(&self, name: &str) -> Option<&Container> {
        self.observed.containers.iter().find(|c| c.name == name && !self.owner.owns(&c.labels))
    }

    /// Reports whether the image is present and may be used. If not, requests a pull or a proof, and adds a problem.
    pub fn has_image(&self, plan: &mut Plan, spec: &ContainerSpec) -> bool {
        let condition = condition_of(spec.role);
        // A failed pull is requested too: the puller decides when to retry.
        let wanted = match self.observed.images.get(&spec.image) {
            Some(ImageState::Failed(_) | ImageState::Absent | ImageState::Queued(_)) | None => {
                !plan.pulls.contains(&spec.image)
            }
            Some(ImageState::Present | ImageState::Unproven(_) | ImageState::Pulling) => false,
        };
        if wanted {
            plan.pulls.push(spec.image.clone());
        }
        match self.observed.images.get(&spec.image) {
            Some(ImageState::Present) => return true,
            // Its image is always one of the operator.
            Some(ImageState::Unproven(_)) if spec.role == Role::LoadBalancer => return true,
            Some(ImageState::Unproven(unproven)) => access::prove(plan, condition, &spec.image, unproven),
            Some(ImageState::Failed(error)) => plan.problems.push(pull_failed(condition, &spec.image, error)),
            Some(ImageState::Pulling | ImageState::Absent) | None => {
                plan.waits(condition, Reason::ImagePulling, format!("pulling {}", spec.image));
            }
            Some(ImageState::Queued(why)) => {
                plan.waits(condition, Reason::ImagePulling, pull_queued(&spec.image, *why));
            }
        }
        false
    }
}

/// Returns the condition that covers containers of a role.
pub fn condition_of(role: Role) -> ConditionType {
    match role {
        Role::Node(NodeRole::Server) | Role::NodeHelper => ConditionType::ControlPlaneReady,
        Role::Node(NodeRole::Agent) => ConditionType::AgentsReady,
        Role::LoadBalancer => ConditionType::LoadBalancerReady,
        // Objects have no hub.
        Role::Registry | Role::RegistryHelper | Role::Hub => ConditionType::ContainerReady,
    }
}

/// Returns the message about a pull that waits for others.
pub fn pull_queued(image: &str, why: Wait) -> String {
    match why {
        Wait::Host | Wait::Others => {
            format!("queued to pull {image}: as many images as possible at a time are already being pulled")
        }
        Wait::Namespace(most) => format!(
            "queued to pull {image}: the namespace already pulls as many images at a time as it may ({most}); an \
             administrator may change quota.concurrentPulls of its HostPolicy"
        ),
    }
}

/// Returns the problem of a failed pull. An image that a registry denies needs user intervention, even if a later
/// push may fix it.
pub fn pull_failed(condition: ConditionType, image: &str, error: &Error) -> Problem {
    let reason = Reason::ImagePullFailed;
    if error.is_refusal() {
        let cure = "correct the image name, or provide credentials for the registry";
        Problem::stalls(condition, reason, format!("cannot pull {image}: {error}; {cure}"))
    } else {
        Problem::waits(condition, reason, format!("failed to pull {image}: {error}; retrying"))
    }
}
