//! When the data of a cluster counts as lost, and what is removed then: never anything while some of it is left.

use localcluster_operator::{
    api::{condition::ConditionType, local_cluster::DataLoss},
    child::state::Child,
    docker::engine,
    plan::{
        observed::{Kept, Observed},
        servers::data_loss,
        steps::Plan,
    },
};

use super::*;

const SERVER: &str = "k3d-dev-server-0";
const AGENT: &str = "k3d-dev-agent-0";

/// What is planned about lost data of a cluster of a server and an agent, which is seen with this change.
fn planned(policy: DataLoss, holders: &[&str], change: impl FnOnce(&mut Observed)) -> Option<Plan> {
    let mut lab = settled(support::model::lab::spec(1));
    let look = lab.look(0);
    let whole = look.whole.unwrap();
    let (mut desired, mut observed) = (whole.desired, look.observed);
    desired.on_data_loss = policy;
    observed.reached.child = Child::Unreachable("timeout".into());
    change(&mut observed);
    let holders: Vec<String> = holders.iter().map(|holder| (*holder).to_owned()).collect();
    let inputs = quorum::inputs(&look.owner, &observed, &whole.refs, &holders, lab.world.now());
    let mut plan = Plan::default();
    let is_lost = data_loss::plan(&mut plan, &desired, &inputs);
    if !is_lost {
        assert!(plan.steps.is_empty() && plan.problems.is_empty() && !plan.forgets, "{plan:#?}");
    }
    is_lost.then_some(plan)
}

fn without_container(observed: &mut Observed, name: &str) {
    observed.reached.host.own.retain(|_, d| d.container.name != name);
}

fn without(observed: &mut Observed, name: &str) {
    without_container(observed, name);
    observed.reached.host.volumes.retain(|v| !v.name.starts_with(name));
}

#[test]
fn data_is_lost_when_there_was_some_and_no_server_has_any() {
    let lost = |holders: &[&str], change: &dyn Fn(&mut Observed)| {
        [DataLoss::Stop, DataLoss::Recreate].map(|policy| planned(policy, holders, change).is_some())
    };
    assert_eq!(lost(&[SERVER], &|_| ()), [false; 2]);
    assert_eq!(lost(&[SERVER], &|o| without_container(o, SERVER)), [false; 2], "its volume is there");
    assert_eq!(lost(&[SERVER], &|o| without(o, SERVER)), [true; 2]);
    // Of a cluster whose API never responded, only what comes after the data of the first server shows that there was some.
    assert_eq!(lost(&[], &|o| without(o, SERVER)), [true; 2]);
    assert_eq!(lost(&[], &|o| (without(o, SERVER), without_container(o, AGENT)).1), [true; 2]);
    let agents_volumes = |o: &mut Observed| o.reached.host.volumes.retain(|v| !v.name.starts_with(AGENT));
    assert_eq!(lost(&[], &|o| (without(o, SERVER), agents_volumes(o)).1), [true; 2]);
    assert_eq!(lost(&[], &|o| (without(o, SERVER), without(o, AGENT)).1), [false; 2]);
    assert_eq!(lost(&[SERVER], &|o| (without(o, SERVER), without(o, AGENT)).1), [true; 2]);
    // One that was made anew, and never started: its volumes tell.
    for (kept, is_lost) in [
        (Kept { data: true, password: true }, false),
        (Kept { data: false, password: true }, true),
        (Kept { data: false, password: false }, false),
    ] {
        let made = |o: &mut Observed| {
            let detail = o.reached.host.own.values_mut().find(|d| d.container.name == SERVER).unwrap();
            detail.started_at = None;
            let id = detail.container.id.clone();
            o.reached.kept.insert(id, kept);
            without(o, AGENT);
        };
        assert_eq!(lost(&[], &made), [is_lost; 2], "{kept:?}");
    }
}

#[test]
fn lost_data_stalls_the_cluster_and_nothing_is_removed() {
    let message = |holders: &[&str]| {
        let plan = planned(DataLoss::Stop, holders, |o| without(o, SERVER)).unwrap();
        assert!(plan.steps.is_empty() && !plan.forgets, "{plan:#?}");
        let [problem, agents] = &plan.problems[..] else { panic!("{plan:#?}") };
        assert!(problem.stalled() && problem.condition == ConditionType::ControlPlaneReady);
        assert_eq!((agents.condition, agents.reason), (ConditionType::AgentsReady, Reason::DataLost));
        assert!(!agents.stalled());
        problem.message.split_once("; restore").unwrap().0.to_owned()
    };
    let one = "the data of the cluster is lost: the Docker volume k3d-dev-server-0-state is missing or empty";
    assert_eq!(message(&[SERVER]), one);
    assert_eq!(message(&[]), one, "it is that of the first server");
    assert_eq!(
        message(&[SERVER, "k3d-dev-server-1"]),
        "the data of the cluster is lost: the Docker volumes k3d-dev-server-0-state, k3d-dev-server-1-state are \
         missing or empty"
    );
}

#[test]
fn a_cluster_is_made_anew_when_all_that_is_left_of_its_nodes_is_removed() {
    let foreign = engine::Volume { name: format!("{AGENT}-mine"), ..engine::Volume::default() };
    let plan = planned(DataLoss::Recreate, &[SERVER], |o| {
        without(o, SERVER);
        o.reached.host.volumes.push(foreign);
    });
    let plan = plan.unwrap();
    let steps: Vec<String> = plan.steps.iter().map(|s| s.action.to_string()).collect();
    assert_eq!(steps[0], format!("RemoveContainer {AGENT}"), "not the load balancer");
    assert!(steps.len() > 2);
    for (text, step) in steps.iter().zip(&plan.steps).skip(1) {
        assert!(text.starts_with(&format!("RemoveVolume {AGENT}-")) && !text.ends_with("-mine"), "{text}");
        assert_eq!(step.after, [0], "a volume is removed after what has it");
    }
    let reasons: Vec<_> = plan.problems.iter().map(|p| (p.condition, p.reason)).collect();
    let both = [ConditionType::ControlPlaneReady, ConditionType::AgentsReady];
    assert_eq!(reasons, both.map(|condition| (condition, Reason::Creating)));
    assert!(!plan.forgets, "what is left of the old cluster has to go first");

    let plan = planned(DataLoss::Recreate, &[SERVER], |o| (without(o, SERVER), without(o, AGENT)).1);
    let plan = plan.unwrap();
    assert!(plan.forgets && plan.steps.is_empty(), "{plan:#?}");
}
