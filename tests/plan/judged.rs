//! What is told of a settled cluster of a server and an agent of which one thing is seen differently, and what is done.

use std::sync::LazyLock;

use localcluster_operator::{
    child::state::{Child, ChildState, Node},
    docker::engine::State,
    plan::{observed::Observed, steps::Plan},
};

use super::*;

const SERVER: &str = "k3d-dev-server-0";
const AGENT: &str = "k3d-dev-agent-0";

fn state(observed: &mut Observed) -> &mut ChildState {
    match &mut observed.reached.child {
        Child::Reachable(state) => state,
        other => panic!("{other:?}"),
    }
}

fn node<'a>(observed: &'a mut Observed, name: &str) -> &'a mut Node {
    state(observed).nodes.get_mut(name).unwrap()
}

static SETTLED: LazyLock<Lab> = LazyLock::new(|| settled(support::model::lab::spec(1)));

/// What is planned when this is seen differently.
fn seen(change: impl FnOnce(&mut Observed)) -> Plan {
    let mut lab = SETTLED.clone();
    let mut observed = lab.look(0).observed;
    change(&mut observed);
    lab.look_at(0, observed).plan
}

/// Condition, reason and message of each problem.
fn problems(plan: &Plan) -> Vec<String> {
    plan.problems.iter().map(|p| format!("{} {}: {}", p.condition, p.reason, p.message)).collect()
}

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| format!("{} ({})", s.action, s.why)).collect()
}

#[test]
fn each_pressure_has_its_cure() {
    let free = "free disk space on the Docker host, or lower the kubelet's eviction thresholds";
    let memory = "free memory on the Docker host, or raise the memory of the pool";
    let processes = "stop processes in the node, or raise the PID limit of the Docker host";
    let plugin = "check the Pods of its network plugin";
    for (pressures, cure) in [
        (&["DiskPressure"][..], free),
        (&["MemoryPressure"], memory),
        (&["PIDPressure"], processes),
        (&["NetworkUnavailable"], plugin),
        (&["MemoryPressure", "DiskPressure"], memory),
    ] {
        for (name, condition) in [(SERVER, "ControlPlaneReady"), (AGENT, "AgentsReady")] {
            let plan = seen(|o| node(o, name).pressures = pressures.iter().map(|p| (*p).into()).collect());
            let all = pressures.join(", ");
            let message = format!(
                "{condition} NodePressure: {name} is Ready but reports {all}, so no new Pods are scheduled to it; {cure}"
            );
            assert_eq!((problems(&plan), steps(&plan)), (vec![message], vec![]));
        }
    }
    // Of one that is not Ready, that is told.
    let plan = seen(|o| {
        let node = node(o, AGENT);
        (node.pressures, node.ready, node.message) =
            (vec!["DiskPressure".into()], false, "it is full".into());
    });
    let told = problems(&plan);
    assert!(
        told.contains(&format!("AgentsReady NodeNotReady: {AGENT} is not Ready: it is full")),
        "{told:#?}"
    );
    assert!(!told.iter().any(|t| t.contains("NodePressure")), "{told:#?}");
}

#[test]
fn each_state_of_a_node_is_told_in_its_words() {
    type Change = fn(&mut Node);
    let rows: [(Change, &str); 4] = [
        (|n| (n.ready, n.message) = (false, "why".into()), "NodeNotReady: NAME is not Ready: why"),
        (|n| n.version = "v1.0.0".into(), "NodeNotReady: NAME runs v1.0.0 instead of v1.36.2+k3s1"),
        (|n| n.renewed = None, "NodeStarting: NAME has not reported since its container started"),
        (
            |n| n.addresses = vec!["192.0.2.7".parse().unwrap()],
            "NameConflict: the Node NAME belongs to another machine, which joined from 192.0.2.7, so NAME cannot join under \
             its name; stop K3s on that machine and delete the Node",
        ),
    ];
    for (change, message) in rows {
        for (name, condition) in [(SERVER, "ControlPlaneReady"), (AGENT, "AgentsReady")] {
            let plan = seen(|o| change(node(o, name)));
            let message = format!("{condition} {}", message.replace("NAME", name));
            assert!(problems(&plan).contains(&message), "{message}: {:#?}", problems(&plan));
        }
    }
    let plan = seen(|o| drop(state(o).nodes.remove(AGENT)));
    let message = format!("AgentsReady NodeStarting: waiting for {AGENT} to register as a Node");
    assert!(problems(&plan).contains(&message), "{:#?}", problems(&plan));
}

#[test]
fn a_node_that_differs_from_the_spec_is_corrected() {
    let plan =
        seen(|o| node(o, AGENT).configured.get_or_insert_default().taints = vec!["a=b:NoSchedule".into()]);
    assert_eq!(problems(&plan), [format!("AgentsReady Updating: updating labels and taints of {AGENT}")]);
    assert_eq!(steps(&plan), [format!("Configure {AGENT} (they differed from the spec)")]);
    let plan = seen(|o| {
        let now = node(o, SERVER).renewed;
        node(o, SERVER).draining_since = now;
    });
    assert!(
        problems(&plan).contains(&format!("ControlPlaneReady Updating: {SERVER} is cordoned; uncordoning"))
    );
    assert!(steps(&plan).contains(&format!("Uncordon {SERVER} (it is ready for Pods again)")));
}

#[test]
fn arguments_that_k3s_refuses_are_told_with_their_field() {
    for (name, condition, field) in
        [(SERVER, "ControlPlaneReady", "spec.servers"), (AGENT, "AgentsReady", "spec.agents")]
    {
        let plan = seen(|o| {
            let id = o.own_named(name).unwrap().container.id.clone();
            o.refused_arguments.insert(id, "flag provided but not defined: -x".into());
        });
        let message = format!(
            "{condition} ArgumentsRefused: {name} does not start: K3s rejects its arguments (flag provided but not defined: \
             -x); correct {field}.args"
        );
        assert_eq!(problems(&plan), [message]);
        assert!(plan.problems[0].stalled());
    }
}

#[test]
fn what_is_not_known_of_the_api_is_told() {
    let plan = seen(|o| state(o).pods_can_start = false);
    let message = "ControlPlaneReady ServiceAccountMissing: waiting for the service account default/default: Pods \
                   cannot be created without it";
    assert!(problems(&plan).iter().any(|told| told == message), "{:#?}", problems(&plan));
    let unknown = "AgentsReady APINotAnswering: the API of the cluster does not respond: the readiness of the agents \
                   is unknown";
    for (child, why) in [
        (Child::Unknown, "waiting for the servers to write a kubeconfig"),
        (Child::Unreachable("no route to host".into()), "no route to host"),
    ] {
        let plan = seen(|o| o.reached.child = child.clone());
        let told = problems(&plan);
        assert!(told.contains(&format!("ControlPlaneReady APINotAnswering: {why}")), "{told:#?}");
        assert!(told.iter().any(|t| t == unknown), "{told:#?}");
    }
    // A container that does not run is why.
    let plan = seen(|o| {
        o.reached.child = Child::Unreachable("no route to host".into());
        let server = o.reached.host.own.values_mut().find(|d| d.container.name == SERVER).unwrap();
        server.container.state = State::Paused;
    });
    let told = problems(&plan);
    assert!(told.iter().any(|t| t.starts_with("ControlPlaneReady ContainerNotRunning")), "{told:#?}");
    assert!(!told.iter().any(|t| t.contains("no route to host")), "{told:#?}");
}
