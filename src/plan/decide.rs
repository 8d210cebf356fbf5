//! The decision about a LocalCluster in the order of a reconciliation: allocation, desired state, plan. It is pure:
//! all inputs are arguments.

use std::collections::BTreeSet;

use super::{
    cluster::{self, Basis},
    desired::{Allocation, Binding, Desired},
    failures::{self, Consequence},
    host_images,
    inputs::{Inputs, Request},
    kubeconfig, local_cluster,
    nodes::repair,
    observed::{Host, Observed, Reached},
    ports, record,
    refused::Refused,
    servers, service,
    steps::{Action, Plan, Problem, Record, Step},
    subject::Subject,
    turns,
};
use crate::{
    api::{
        LocalClusterStatus,
        condition::{self, ConditionType},
        reason::{Class, Reason},
    },
    docker::error::Error,
};

/// Allocation of a LocalCluster and its problems.
pub struct Allocated {
    /// The allocation.
    pub allocation: Allocation,
    problems: Vec<Problem>,
}

/// Desired state of a LocalCluster and its problems.
pub struct Wanted {
    /// The desired state.
    pub desired: Desired,
    problems: Vec<Problem>,
}

/// The decision about a LocalCluster.
pub struct Decision {
    /// Steps, and reasons why the object is not as desired.
    pub plan: Plan,
    /// True if the steps start a cluster, which requires a turn.
    pub begins: bool,
    /// True if an earlier start is complete, which frees its turn.
    pub started: bool,
    /// What the kubeconfig Secret hands out.
    pub kubeconfig: kubeconfig::Handed,
    /// Name of the Service that leads to the API if the status refers to it.
    pub service: Option<String>,
    /// Warning about a client certificate that expires soon.
    pub certificate: Option<String>,
    /// Repairs in the last status.
    repairs: Record,
}

impl Subject<'_> {
    /// Plans the steps by which Docker chooses the subnet of a new cluster.
    pub fn choose_subnet(&self, observed: &Host, refused: &Refused) -> Plan {
        let mut plan = Plan::default();
        cluster::choose(&mut plan, self, observed, &refused.subnets);
        plan
    }

    /// Plans the removal of the networks from which the subnet that Docker chooses is read.
    pub fn give_back_choices(&self, observed: &Host) -> Plan {
        let mut plan = Plan::default();
        cluster::give_back(&mut plan, self, observed);
        plan
    }

    /// Allocates what the spec leaves open, or returns the problems that prevent it.
    pub fn allocate(&self, observed: &Host, refused: &Refused) -> Result<Allocated, Vec<Problem>> {
        let mut plan = Plan::default();
        match cluster::allocate(&mut plan, self, observed, refused) {
            Some(allocation) => Ok(Allocated { allocation, problems: plan.problems }),
            None => Err(plan.problems),
        }
    }

    /// Marks the host ports that are in use: those of other containers, and those that the engine failed to bind.
    pub fn leave_out(&self, allocated: &mut Allocated, observed: &Host, refused: &BTreeSet<Binding>) {
        let mut plan = Plan::default();
        ports::judge(&mut plan, self, &mut allocated.allocation, observed, refused);
        allocated.problems.append(&mut plan.problems);
    }

    /// Computes the desired state.
    pub fn desire(&self, allocated: &Allocated, observed: &Reached) -> Wanted {
        let mut plan = Plan::default();
        let basis = Basis { subject: self, allocation: &allocated.allocation, observed };
        let desired = cluster::desired(&mut plan, basis);
        Wanted { desired, problems: plan.problems }
    }

    /// Plans the transition from the observed to the desired state.
    pub fn decide(&self, allocated: &Allocated, wanted: &Wanted, observed: &Observed) -> Decision {
        let repairs = repair::remembered(self.previous, self.generation);
        let inputs = Inputs {
            owner: self.owner,
            observed,
            refs: self.refs,
            frozen: self.frozen,
            management: &self.settings.management,
            holders: &servers::holders(self.previous, &self.valid.names),
            reset: self.reset(),
            repairs: &repairs,
            repair_after: self.settings.node_repair_after,
            now: self.now,
        };
        let problems = [&self.refs.problems, &allocated.problems, &wanted.problems];
        let problems = problems.into_iter().flatten().cloned().collect();
        let mut plan = Plan { problems, warnings: self.refs.warnings.clone(), ..Plan::default() };
        local_cluster::plan(&mut plan, &wanted.desired, &inputs);
        host_images::plan(&mut plan, &wanted.desired, observed, &self.previous.conditions);
        let (allocation, desired) = (&allocated.allocation, &wanted.desired);
        let service = service::plan(&mut plan, self, desired, observed);
        let kubeconfig = kubeconfig::plan(&mut plan, self, allocation, desired, observed);
        let begins = turns::begins(&plan, &wanted.desired, observed, &self.previous.conditions);
        Decision {
            plan,
            begins,
            started: turns::works(observed),
            certificate: kubeconfig::ends_soon(observed, self.now, desired),
            kubeconfig,
            service,
            repairs,
        }
    }

    /// Returns the consequence of a failed Docker step. `previous` is the last written status.
    pub fn docker_failed(
        &self,
        (action, error): (&Action, &Error),
        allocation: &Allocation,
        previous: &LocalClusterStatus,
        refused: &mut Refused,
    ) -> Consequence {
        if refused.of_cluster((action, error), self.valid, allocation, previous) {
            return Consequence::ChosenAgain;
        }
        let held = ports::refused(error, self.valid, allocation);
        if !held.is_empty() {
            return Consequence::PortsHeld(held);
        }
        let problem = failures::docker(action, error, Some(&self.valid.names));
        problem.map_or(Consequence::OutOfDate, Consequence::Problem)
    }

    /// Returns the reset of etcd that the annotation requests.
    fn reset(&self) -> Request<'_> {
        Request { asked: self.reset_quorum, done: self.previous.quorum_reset.as_deref() }
    }

    /// Returns the reset of etcd to record in the status after a decision.
    pub fn quorum_reset(&self, decision: &Decision) -> Option<&str> {
        self.reset().recorded(&decision.plan)
    }
}

impl Decision {
    /// Reports whether the status is written before the steps are executed. A repair is counted first, since an
    /// operator that is killed by it would forget it. So would it forget a Service that its status does not name. Nobody
    /// waits for a record of what is Ready, but one that fails is not Ready in between.
    pub fn is_written_first(&self, subject: &Subject<'_>) -> bool {
        let LocalClusterStatus { observed_generation, conditions, api_service, .. } = subject.previous;
        let outdated = self.plan.outdates(subject.generation, *observed_generation, conditions);
        let counted = self.plan.repairs != self.repairs;
        let named = self.service.is_some() && api_service.is_none();
        let ready = condition::get(conditions, ConditionType::Ready);
        let failed = ready.and_then(|c| Reason::parse(&c.reason)).is_some_and(|r| r.class() == Class::Retry);
        let records = self.plan.steps.iter().all(|step| record::is_one(step) && !failed);
        outdated || counted || named || self.plan.forgets || records
    }

    /// Reports whether a status that is written first may be written while the steps are executed: they only record the
    /// object, or start again what is not running, so that the status has been untrue since before. A repair need not wait
    /// for it.
    pub fn is_written_along(&self, subject: &Subject<'_>) -> bool {
        let starts = |step: &Step| {
            matches!(step.action, Action::Start { .. } | Action::Unpause { .. }) || record::is_one(step)
        };
        let known = subject.previous.observed_generation == Some(subject.generation);
        let steps = &self.plan.steps;
        let counted = self.plan.repairs != self.repairs;
        known && !counted && !self.plan.forgets && !steps.is_empty() && steps.iter().all(starts)
    }
}
