//! The decision about a Registry in the order of a reconciliation: desired state, plan. It is pure.

use super::{Desired, Inputs, Subject, desired, plan};
use crate::{
    api::{RegistryStatus, registry::GarbageCollectionStatus},
    docker::error::Error,
    plan::{
        failures::{self, Consequence},
        observed::Host,
        refused::Refused,
        steps::{Action, Plan, Problem},
    },
};

/// Desired state of a Registry and its problems.
pub struct Wanted {
    /// The desired state.
    pub desired: Desired,
    problems: Vec<Problem>,
}

/// The decision about a Registry.
pub struct Decision {
    /// Steps, and reasons why the object is not as desired.
    pub plan: Plan,
    /// Result of a garbage collection, which is written before the steps remove its container.
    pub collected: Option<GarbageCollectionStatus>,
}

impl Subject<'_> {
    /// Computes the desired state, or returns the problems that prevent it.
    pub fn desire(&self, host: &Host) -> Result<Wanted, Vec<Problem>> {
        let mut plan = Plan::default();
        match desired(&mut plan, self, host) {
            Some(desired) => Ok(Wanted { desired, problems: plan.problems }),
            None => Err(plan.problems),
        }
    }
}

impl Inputs<'_> {
    /// Plans the transition from the observed to the desired state.
    pub fn decide(&self, wanted: &Wanted) -> Decision {
        let mut decided = Plan { problems: wanted.problems.clone(), ..Plan::default() };
        let collected = plan(&mut decided, &wanted.desired, self);
        Decision { plan: decided, collected }
    }

    /// Returns the consequence of a failed Docker step. `previous` is the last written status.
    pub fn docker_failed(
        &self,
        (action, error): (&Action, &Error),
        desired: &Desired,
        previous: &RegistryStatus,
        refused: &mut Refused,
    ) -> Consequence {
        if refused.of_registry((action, error), self.subject.valid, desired.host_port, previous) {
            return Consequence::ChosenAgain;
        }
        failures::docker(action, error, None).map_or(Consequence::OutOfDate, Consequence::Problem)
    }
}

impl Decision {
    /// Reports whether the status is written before the steps are executed. The result of a garbage collection is
    /// recorded first, since the steps remove its container.
    pub fn is_written_first(&self, previous: &RegistryStatus, generation: i64) -> bool {
        let RegistryStatus { observed_generation, conditions, .. } = previous;
        self.plan.outdates(generation, *observed_generation, conditions) || self.collected.is_some()
    }
}
