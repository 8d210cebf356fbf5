//! Loss of the data of all servers of a cluster. Only the user knows whether that is final or the volumes can be
//! restored, so `spec.onDataLoss` decides.

use crate::{
    api::{
        condition::ConditionType,
        local_cluster::{DataLoss, NodeRole},
        names,
        reason::Reason,
    },
    docker::engine::{Container, Volume},
    k3s::STATE_VOLUME,
    plan::{
        desired::Desired,
        inputs::Inputs,
        observed::Host,
        servers,
        steps::{Action, Plan, Target},
    },
};

/// Event message for a cluster that is recreated.
pub const RECREATED: &str =
    "the data of the cluster is lost: creating a new, empty cluster because spec.onDataLoss is Recreate";

/// Plans the nodes of a cluster that lost its data; returns `false` for a cluster that has it.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) -> bool {
    if !is_lost(desired, inputs) {
        return false;
    }
    match desired.on_data_loss {
        DataLoss::Stop => {
            plan.stalls(ConditionType::ControlPlaneReady, Reason::DataLost, message(desired, inputs));
            if !desired.agents.is_empty() {
                let message = "the data of the cluster is lost: the readiness of the agents is unknown";
                plan.unknown(ConditionType::AgentsReady, Reason::DataLost, message);
            }
        }
        DataLoss::Recreate => {
            let message = "the data of the cluster is lost: removing its remaining containers and volumes before recreating it";
            for type_ in [ConditionType::ControlPlaneReady, ConditionType::AgentsReady] {
                plan.waits(type_, Reason::Creating, message);
            }
            // Nodes have certificates of a CA that no longer exists, and must not connect to the new one.
            remove_nodes(plan, desired, inputs);
            plan.forgets = plan.steps.iter().all(|step| !removes_node(&step.action, desired));
        }
    }
    true
}

/// Reports whether there was data and no server has any.
fn is_lost(desired: &Desired, inputs: &Inputs<'_>) -> bool {
    let Inputs { owner, observed, holders, .. } = *inputs;
    let servers = servers::existing(&desired.names, owner, observed, holders);
    if servers.values().any(|server| server.data) {
        return false;
    }
    // The volumes of agents are created after those of the first server.
    let agent =
        |name: &str| desired.names.parse_node(name).is_some_and(|(pool, _)| pool.role() == NodeRole::Agent);
    let orphans = servers.is_empty()
        && (containers(desired, observed).any(|c| agent(&c.name))
            || volumes(desired, inputs).any(|(node, _)| agent(node)));
    // K3s writes the password of a node after its data.
    let joined = observed.kept.values().any(|kept| kept.password);
    !holders.is_empty() || orphans || joined
}

fn message(desired: &Desired, inputs: &Inputs<'_>) -> String {
    let first = vec![desired.names.node(NodeRole::Server, 0)];
    let servers = if inputs.holders.is_empty() { &first } else { inputs.holders };
    let volumes: Vec<String> = servers.iter().map(|server| names::volume(server, STATE_VOLUME)).collect();
    let (subject, verb) = if volumes.len() == 1 { ("volume", "is") } else { ("volumes", "are") };
    format!(
        "the data of the cluster is lost: the Docker {subject} {} {verb} missing or empty; restore content and \
         labels, or set spec.onDataLoss to Recreate to create a new, empty cluster",
        volumes.join(", ")
    )
}

/// Returns the node containers of the cluster.
fn containers<'a>(desired: &'a Desired, observed: &'a Host) -> impl Iterator<Item = &'a Container> {
    let own = observed.own.values().map(|d| &d.container);
    own.filter(|c| desired.names.parse_node(&c.name).is_some())
}

/// Returns the node volumes of the cluster, each with the name of the node.
fn volumes<'a>(desired: &'a Desired, inputs: &Inputs<'a>) -> impl Iterator<Item = (&'a str, &'a Volume)> {
    let owner = inputs.owner;
    let own = inputs.observed.volumes.iter().filter(move |v| owner.owns(&v.labels));
    let node = |v: &'a Volume| Some((v.name.rsplit_once('-')?.0, v));
    own.filter_map(node).filter(|(node, _)| desired.names.parse_node(node).is_some())
}

fn remove_nodes(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    let why = "the data of the cluster is lost and spec.onDataLoss is Recreate";
    let mut removed = Vec::new();
    for container in containers(desired, inputs.observed) {
        let remove = Action::RemoveContainer { container: Target::of(container) };
        removed.push(plan.step(remove, &[], why));
    }
    for (_, volume) in volumes(desired, inputs) {
        plan.step(Action::RemoveVolume { name: volume.name.clone() }, &removed, why);
    }
}

fn removes_node(action: &Action, desired: &Desired) -> bool {
    match action {
        Action::RemoveContainer { container } => desired.names.parse_node(&container.name).is_some(),
        Action::RemoveVolume { .. } => true,
        _ => false,
    }
}
