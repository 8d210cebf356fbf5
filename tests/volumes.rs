//! Nodes whose volumes are lost, all or some of them, at any moment: nobody goes on with less than it had, and only a
//! person begins a cluster once more.

mod support;

use localcluster_operator::{
    api::{
        condition::{self, ConditionType},
        local_cluster::DataLoss,
    },
    docker::engine::State,
    plan::steps::Step,
};
use proptest::{prelude::*, test_runner::Config};
use serde_json::json;
use support::{
    fakes::{api::path, rig::Rig},
    model::{
        interfere::Outside,
        lab::{Lab, Object, spec},
        script::{self, happen},
        world::{TICK, Volume, World},
    },
};

const ENOUGH: usize = 60;
const AGENT: &str = "k3d-dev-agent-0";
const SERVER: &str = "k3d-dev-server-0";
const LAST: &str = "k3d-dev-server-2";

fn settled(servers: i32, agents: i32, on_data_loss: DataLoss) -> Lab {
    let mut spec = spec(agents);
    (spec.servers.count, spec.on_data_loss) = (servers, on_data_loss);
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec)], Vec::new());
    lab.settle(ENOUGH);
    lab
}

fn told(lab: &Lab, type_: ConditionType) -> (String, String) {
    let found = condition::get(&lab.clusters[0].status.conditions, type_).expect("it is there");
    (found.reason.clone(), found.message.clone())
}

fn volume(node: &str, kind: &str) -> String {
    format!("{node}-{kind}")
}

/// Somebody removes a container, and then one of its volumes.
fn lose(world: &mut World, node: &str, kind: &str) {
    assert!(world.interfere(&Outside::Remove(node.into())));
    assert!(world.interfere(&Outside::RemoveVolume(volume(node, kind))));
}

/// Makes an empty volume in a lost one's place, as `docker create` does, with its labels.
fn replace_volume(world: &mut World, node: &str, kind: &str) {
    let labels = world.volumes[&volume(node, "log")].labels.clone();
    world.volumes.insert(volume(node, kind), Volume { labels, ..Volume::default() });
}

fn acts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|s| s.action.to_string()).collect()
}

/// Whether K3s was ever started in this container.
fn started(lab: &Lab, node: &str) -> bool {
    lab.world.named(node).is_some_and(|c| c.started.is_some())
}

fn incarnations(lab: &Lab) -> Vec<u8> {
    lab.world.clusters.keys().copied().collect()
}

#[test]
fn a_server_of_three_is_not_started_on_an_empty_volume_in_its_datas_place() {
    let mut lab = settled(3, 0, DataLoss::Stop);
    lose(&mut lab.world, LAST, "state");
    replace_volume(&mut lab.world, LAST, "state");
    let done = lab.round();
    assert!(!started(&lab, LAST), "{:?}", acts(&done));
    // Its member goes with its Node, and then it joins as a new one.
    let done = acts(&lab.round());
    assert!(done.contains(&format!("DeleteNode {LAST}")), "{done:?}");
    assert!(!started(&lab, LAST));
    assert!(lab.settle(ENOUGH) <= 8);
    assert_eq!(incarnations(&lab), [0]);
    assert!(lab.world.clusters[&0].members[LAST]);
}

/// What the operator saw is gone one after the other while it acts.
#[test]
fn volumes_that_go_while_a_server_is_made_again_are_missed() {
    for servers in [1, 3] {
        for kinds in [&["etc", "state"][..], &["state", "etc"], &["state"], &["etc"]] {
            let mut lab = settled(servers, 0, DataLoss::Stop);
            let name = format!("k3d-dev-server-{}", servers - 1);
            lab.world.interfere(&Outside::Remove(name.clone()));
            let look = lab.look(0);
            // `docker volume rm` of several takes them one by one, and more than a second.
            for kind in kinds {
                assert!(lab.world.interfere(&Outside::RemoveVolume(volume(&name, kind))));
            }
            lab.carry_out(&look.plan.steps);
            let lost = kinds.contains(&"state");
            assert!(!lost || !started(&lab, &name), "{name} was started without {kinds:?}");
            if servers == 1 && lost {
                for _ in 0..10 {
                    lab.round();
                    assert!(!started(&lab, &name));
                }
                assert_eq!(told(&lab, ConditionType::ControlPlaneReady).0, "DataLost", "{kinds:?}");
                continue;
            }
            assert!(lab.settle(ENOUGH) <= 10, "{servers} servers without {kinds:?}");
            assert_eq!(incarnations(&lab), [0]);
        }
    }
}

#[test]
fn an_agent_that_has_lost_its_password_is_let_in_within_a_minute() {
    // Seen as gone, gone while it is made again, and gone behind the back of a container that runs.
    for moment in 0..3 {
        let mut lab = settled(1, 1, DataLoss::Stop);
        match moment {
            0 => lose(&mut lab.world, AGENT, "etc"),
            1 => {
                lab.world.interfere(&Outside::Remove(AGENT.into()));
                let look = lab.look(0);
                lab.world.interfere(&Outside::RemoveVolume(volume(AGENT, "etc")));
                lab.carry_out(&look.plan.steps);
                assert!(!started(&lab, AGENT));
            }
            _ => {
                lab.world.interfere(&Outside::Kill(AGENT.into()));
                lab.world.volumes.get_mut(&volume(AGENT, "etc")).unwrap().password = None;
            }
        }
        let mut named = false;
        let mut rounds = 0;
        while !lab.settled() {
            lab.round();
            named |= told(&lab, ConditionType::AgentsReady).0 == "NodePasswordLost";
            rounds += 1;
            assert!(rounds < ENOUGH);
        }
        assert!(named, "{moment}: nobody was told");
        // It is refused at first where nothing showed before, and takes one tick to register and one to report.
        assert!(i64::try_from(rounds).unwrap() * TICK <= 60 + 3 * TICK, "{moment}: {rounds} rounds");
    }
}

/// A server that Docker starts again and again under the name of an old member, by whatever way it got there.
#[test]
fn a_server_that_ends_again_and_again_is_taken_out_and_joins_as_a_new_one() {
    let mut lab = settled(3, 0, DataLoss::Stop);
    lab.world.volumes.get_mut(&volume(LAST, "state")).unwrap().incarnation = None;
    lab.world.interfere(&Outside::Kill(LAST.into()));
    lab.world
        .containers
        .values_mut()
        .filter(|c| c.name == LAST)
        .for_each(|c| c.created = Some(lab.world.clock - 600));
    let mut rounds = 0;
    while !lab.settled() {
        // Docker starts it again each time, and it ends by itself.
        let clock = lab.world.clock;
        for c in lab.world.containers.values_mut().filter(|c| c.name == LAST && c.state == State::Exited) {
            (c.state, c.started, c.started_again) = (State::Restarting, Some(clock + 1), c.started_again + 1);
        }
        lab.round();
        rounds += 1;
        assert!(rounds < 30, "{}", lab.world.brief());
    }
    assert_eq!(incarnations(&lab), [0]);
}

#[test]
fn a_cluster_that_has_lost_its_data_waits_for_a_person() {
    for (servers, agents) in [(1, 1), (1, 0), (3, 1)] {
        let mut lab = settled(servers, agents, DataLoss::Stop);
        for index in 0..servers {
            lab.world.interfere(&Outside::RemoveWithVolumes(format!("k3d-dev-server-{index}")));
        }
        let before = lab.world.clone();
        for _ in 0..20 {
            assert_eq!(acts(&lab.round()), [] as [&str; 0]);
        }
        let (reason, message) = told(&lab, ConditionType::ControlPlaneReady);
        assert!(reason == "DataLost" && message.contains(&volume(SERVER, "state")), "{message}");
        assert!(message.contains("spec.onDataLoss"), "{message}");
        let conditions = &lab.clusters[0].status.conditions;
        assert!(condition::is_true(conditions, ConditionType::Stalled));
        let agents_ready = condition::get(conditions, ConditionType::AgentsReady).unwrap();
        assert_eq!(agents_ready.status, if agents > 0 { "Unknown" } else { "True" });
        assert_eq!(lab.world.volumes, before.volumes);

        lab.clusters[0].edit(|s| s.on_data_loss = DataLoss::Recreate);
        lab.settle(ENOUGH);
        assert_eq!(incarnations(&lab).len(), 1);
        // It has data again.
        lab.clusters[0].edit(|s| s.on_data_loss = DataLoss::Stop);
        lab.settle(ENOUGH);
    }
}

/// Even if nothing is remembered of the cluster.
#[test]
fn agents_and_passwords_tell_of_data_that_was_there() {
    for kind in ["agents", "password"] {
        let mut lab = settled(1, i32::from(kind == "agents"), DataLoss::Stop);
        match kind {
            "agents" => drop(lab.world.interfere(&Outside::RemoveWithVolumes(SERVER.into()))),
            _ => {
                lose(&mut lab.world, SERVER, "state");
                lab.world.interfere(&Outside::RemoveVolume(volume(SERVER, "state")));
            }
        }
        lab.clusters[0].forget();
        for _ in 0..10 {
            lab.round();
            assert!(!started(&lab, SERVER));
        }
        assert_eq!(told(&lab, ConditionType::ControlPlaneReady).0, "DataLost", "{kind}");
        lab.clusters[0].edit(|s| s.on_data_loss = DataLoss::Recreate);
        lab.settle(ENOUGH);
    }
}

#[test]
fn data_that_is_brought_back_is_gone_on_with() {
    let mut lab = settled(1, 1, DataLoss::Stop);
    let kept: Vec<(String, Volume)> = lab
        .world
        .volumes
        .iter()
        .filter(|(n, _)| n.starts_with(SERVER))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    lab.world.interfere(&Outside::RemoveWithVolumes(SERVER.into()));
    for _ in 0..5 {
        lab.round();
    }
    assert_eq!(told(&lab, ConditionType::ControlPlaneReady).0, "DataLost");
    let node = lab.world.clusters.values().next().cloned();
    lab.world.volumes.extend(kept);
    // The model drops clusters that no volume holds.
    lab.world.clusters.extend(node.map(|cluster| (0, cluster)));
    lab.settle(ENOUGH);
    assert_eq!(incarnations(&lab), [0]);
}

/// An operator that is killed while it makes a cluster, at any step.
#[test]
fn a_cluster_that_is_only_half_made_has_lost_nothing() {
    for limit in 1..24 {
        let mut spec = spec(2);
        spec.on_data_loss = DataLoss::Stop;
        for chance in 0..8 {
            let mut lab = Lab::new(vec![Object::new("default", "dev", spec.clone())], Vec::new());
            lab.chance.0 = chance;
            lab.pass(0, 1);
            lab.pass(0, limit);
            lab.clusters[0].forget();
            assert!(lab.settle(ENOUGH) <= 12, "killed after {limit} steps");
        }
    }
}

fn cases(n: u32) -> Config {
    let asked = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { Config { cases: n, ..asked } }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn lives_in_which_volumes_go_one_by_one_end_well(
        servers in prop::sample::select(vec![1, 3]),
        agents in 0..3,
        events in script::events(),
        chance in any::<u64>(),
    ) {
        let mut spec = spec(agents);
        spec.servers.count = servers;
        let mut lab = script::lab(spec, chance);
        lab.loses_volumes = true;
        events.iter().for_each(|event| happen(&mut lab, event));
        lab.loses_volumes = false;
        lab.world.strangers_leave();
        lab.settle(2 * ENOUGH);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_begins_once_more_says_so() {
    let mut rig = Rig::new(support::model::lab::settings());
    let put = |rig: &Rig, policy: &str| {
        let spec = json!({"servers": {"count": 1}, "agents": {"count": 1}, "onDataLoss": policy});
        let object = json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": {"name": "dev"}, "spec": spec,
        });
        rig.api.put(&path("localclusters", "dev"), object);
    };
    put(&rig, "Stop");
    rig.settle(ENOUGH).await;
    rig.world(|w| w.interfere(&Outside::RemoveWithVolumes(SERVER.into())));
    rig.round().await;
    rig.faults.take_writes();
    for _ in 0..=(120 / TICK) {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
    assert_eq!(rig.told("Ready"), ("False".into(), "DataLost".into()));
    assert_eq!(rig.told("Stalled").0, "True");
    assert_eq!(rig.events("DataLost").len(), 1, "people are told");
    put(&rig, "Recreate");
    rig.settle_after_a_round(ENOUGH).await;
    let told = rig.events("DataLost");
    assert!(told.iter().any(|note| note.contains("creating a new, empty cluster")), "{told:?}");
    assert!(matches!(rig.world(|w| w.named(SERVER).map(|c| c.state)), Some(State::Running)));
}
