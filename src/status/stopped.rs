//! Status of a LocalCluster with the desired state Stopped.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Moment, cluster::CLUSTER, judge_each, pools, sum_up, surroundings};
use crate::{
    api::{
        LocalClusterStatus,
        condition::{self, ConditionType, Status},
        local_cluster::{NodePhase, NodeRole, NodeStatus, PortStatus},
        names::{ClusterNames, Pool},
        reason::Reason,
    },
    docker::engine::{ContainerDetail, State},
    plan::{
        desired::PoolSpec,
        observed::Host,
        owner::{Owner, short},
        steps::Problem,
        validate::{Handout, Valid},
    },
};

/// Inputs of the status of a stopped LocalCluster.
#[derive(Clone, Copy)]
pub struct StoppedView<'a> {
    /// The valid spec.
    pub valid: &'a Valid,
    /// Owner labels of the cluster.
    pub owner: &'a Owner,
    /// The observed state.
    pub observed: &'a Host,
    /// Problems of the plan and of failed steps.
    pub problems: &'a [Problem],
    /// Why its policy or its placement stops it; `None` if its spec says so.
    pub cause: Option<(Reason, &'a str)>,
}

/// Returns the status of a cluster that is stopped or stopping. Conditions that are not observed while it is stopped
/// are Unknown, and their last known values in the status are kept until it runs again.
pub fn stopped(previous: &LocalClusterStatus, view: StoppedView<'_>, moment: Moment) -> LocalClusterStatus {
    let StoppedView { valid, owner: _, observed, problems, cause } = view;
    let nodes = nodes(previous, &valid.names, observed);
    let wanted: BTreeMap<Pool, PoolSpec> =
        valid.pools().map(|(pool, valid)| (pool, PoolSpec::of(valid))).collect();
    let pool = |role| Some(pools::of_role(&wanted, role, &nodes, |_| false));
    let mut next = LocalClusterStatus {
        observed_generation: Some(moment.generation),
        // It is only known when the cluster runs again which of them are free.
        ports: previous.ports.iter().map(|p| PortStatus { problem: None, ..p.clone() }).collect(),
        servers: pool(NodeRole::Server),
        agents: pool(NodeRole::Agent),
        agent_pools: pools::named(&wanted, &nodes, |_| false),
        replicas: Some(pools::scaled(&nodes)),
        selector: Some(pools::selector(&valid.names)),
        nodes,
        ..previous.clone()
    };
    let mut all = problems.to_vec();
    let rests = !observed.own.values().any(|d| d.container.state.is_up());
    let told = Told::new(cause, rests);
    all.extend(unseen(previous, &view, &told));
    judge_each(&mut next.conditions, &CLUSTER, &all, None, moment);
    for type_ in surroundings::TYPES {
        let unknown = (Status::Unknown, Reason::Stopped, told.unseen.as_str());
        condition::set(&mut next.conditions, type_, unknown, moment);
    }
    if rests && cause.is_none() {
        set_stopped(&mut next.conditions, &told.message, moment);
    } else {
        sum_up(&mut next.conditions, &CLUSTER, &all, moment);
        let reason = cause.map_or(Reason::Stopping, |(reason, _)| reason);
        condition::set(&mut next.conditions, ConditionType::Stopped, (rests, reason, &told.message), moment);
    }
    next
}

/// What the conditions tell.
struct Told {
    reason: Reason,
    message: String,
    unseen: String,
}

impl Told {
    fn new(cause: Option<(Reason, &str)>, rests: bool) -> Self {
        // What its policy says is told as a problem of its own.
        let placement = cause.map(|(reason, _)| reason).filter(|reason| reason.is_of_placement());
        let cause = cause.map_or("spec.state is Stopped", |(_, why)| why);
        let (reason, message) = match rests {
            true => (placement.unwrap_or(Reason::Stopped), format!("the cluster is stopped: {cause}")),
            false => (Reason::Stopping, format!("stopping the containers: {cause}")),
        };
        Self { reason, message, unseen: format!("not observed while {cause}") }
    }
}

/// Returns the problems of conditions that are not observed while the cluster is stopped.
fn unseen(previous: &LocalClusterStatus, view: &StoppedView<'_>, told: &Told) -> Vec<Problem> {
    let StoppedView { valid, owner, observed, .. } = *view;
    let Told { reason, message, unseen } = told;
    let mut all: Vec<Problem> =
        [ConditionType::LoadBalancerReady, ConditionType::ControlPlaneReady, ConditionType::AgentsReady]
            .map(|type_| Problem::waits(type_, *reason, message))
            .into();
    let unknown = [
        ConditionType::ResolvedRefs,
        ConditionType::RegistriesReady,
        ConditionType::ImagesReady,
        ConditionType::ManifestsReady,
    ];
    all.extend(unknown.map(|type_| Problem::unknown(type_, Reason::Stopped, unseen)));
    if !observed.networks.iter().any(|n| owner.owns_network(n)) {
        let message = "the network does not exist: it is created when the cluster runs";
        all.push(Problem::waits(ConditionType::NetworkReady, Reason::Stopped, message));
    }
    all.push(match &previous.kubeconfig_secret {
        None if valid.kubeconfig != Handout::Nothing => {
            let message = "the kubeconfig does not exist: it is written when the cluster has run";
            Problem::waits(ConditionType::KubeconfigReady, Reason::Stopped, message)
        }
        Some(_) | None => Problem::unknown(ConditionType::KubeconfigReady, Reason::Stopped, unseen),
    });
    all
}

/// Sets the conditions of a stopped cluster. There is no `Ready` then: clients that wait for it continue to wait, and
/// clients that check whether the object is settled, such as kstatus, find nothing to the contrary.
fn set_stopped(conditions: &mut Vec<Condition>, message: &str, moment: Moment) {
    conditions.retain(|c| c.type_ != ConditionType::Ready);
    let settled = [
        (ConditionType::Reconciling, false, Reason::Settled, ""),
        (ConditionType::Stalled, false, Reason::NotStalled, ""),
        (ConditionType::Paused, false, Reason::NotPaused, ""),
        (ConditionType::Stopped, true, Reason::Stopped, message),
    ];
    for (type_, status, reason, message) in settled {
        condition::set(conditions, type_, (status, reason, message), moment);
    }
}

fn nodes(previous: &LocalClusterStatus, names: &ClusterNames, observed: &Host) -> Vec<NodeStatus> {
    let mut found: Vec<(Pool, usize, &ContainerDetail)> = observed
        .own
        .values()
        .filter_map(|d| names.parse_node(&d.container.name).map(|(pool, index)| (pool, index, d)))
        .collect();
    found.sort_by(|(pool, index, _), (other, of, _)| (pool, index).cmp(&(other, of)));
    let status = |(pool, _, detail): (Pool, usize, &ContainerDetail)| {
        let known = previous.nodes.iter().find(|n| n.name == detail.container.name);
        let up = detail.container.state == State::Running;
        let phase = known.map(|n| n.phase).filter(|_| up).unwrap_or(NodePhase::NotRunning);
        let ip = detail.container.networks.values().find_map(|place| place.pinned);
        NodeStatus {
            name: detail.container.name.clone(),
            role: pool.role(),
            pool: pool.name().map(str::to_owned),
            phase,
            ip: ip.map(|ip| ip.to_string()),
            version: known.and_then(|n| n.version.clone()),
            container: Some(short(&detail.container.id).to_owned()),
            repairs: None,
        }
    };
    found.into_iter().map(status).collect()
}
