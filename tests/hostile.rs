//! Whatever a created cluster, its users or the engine tell: there is a plan and a status, and no panic.

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use localcluster_operator::{
    child::state::{Child, ChildState, Held, INVENTORY, KEYS, Node},
    docker::{engine::State, spec::RestartPolicy},
    k3s::manifests::{self, ObjectRef},
    plan::{manifests::asked, observed::Observed},
};
use proptest::{prelude::*, test_runner::Config};
use support::model::{
    interfere::Outside,
    lab::{Chance, Lab},
    script::{self, happen, specs},
};

/// A moment: the ends of time, near ones, and any other.
fn moment(chance: &mut Chance, now: Timestamp) -> Timestamp {
    let near = i64::try_from(chance.below(1200)).unwrap() - 600;
    match chance.below(5) {
        0 => Timestamp::MIN,
        1 => Timestamp::MAX,
        2 => Timestamp::MAX - SignedDuration::from_secs(i64::try_from(chance.below(400)).unwrap()),
        3 => Timestamp::from_second(i64::try_from(chance.below(1 << 31)).unwrap() * 10).unwrap(),
        _ => Timestamp::from_second(now.as_second() + near).unwrap(),
    }
}

fn maybe<T>(chance: &mut Chance, value: T) -> Option<T> {
    (chance.below(4) > 0).then_some(value)
}

fn coin(chance: &mut Chance) -> bool {
    chance.below(2) == 0
}

fn node(chance: &mut Chance, node: &mut Node, now: Timestamp) {
    node.ready = coin(chance);
    let at = |chance: &mut Chance| {
        let at = moment(chance, now);
        maybe(chance, at)
    };
    node.since = at(chance);
    node.renewed = at(chance);
    node.api_renewed = at(chance);
    node.draining_since = at(chance);
    node.schedulable = coin(chance);
    node.pods_to_evict = [0, 1, usize::MAX][chance.below(3)];
    let voter = coin(chance);
    node.voter = maybe(chance, voter);
    (node.leaving, node.left) = (chance.below(5) == 0, chance.below(5) == 0);
    node.version = ["", "v1.36.2+k3s1", "é", "v999999999999999999999.0.0+k3s1"][chance.below(4)].into();
}

/// Changes what was seen, here and there, into anything that can be seen.
fn scramble(chance: &mut Chance, observed: &mut Observed, now: Timestamp) {
    const STATES: [State; 7] = [
        State::Created,
        State::Running,
        State::Paused,
        State::Restarting,
        State::Exited,
        State::Removing,
        State::Dead,
    ];
    for detail in observed.reached.host.own.values_mut() {
        if coin(chance) {
            detail.container.state = STATES[chance.below(STATES.len())];
            let (created, started) = (moment(chance, now), moment(chance, now));
            (detail.created_at, detail.started_at) = (maybe(chance, created), maybe(chance, started));
            detail.started_again = [0, 1, u32::MAX][chance.below(3)];
            detail.exit_code = [None, Some(0), Some(i64::MIN), Some(i64::MAX)][chance.below(4)];
            detail.error = [None, Some("é".repeat(2000))][chance.below(2)].clone();
            if coin(chance) {
                observed.log_errors.insert(detail.container.id.clone(), "é".repeat(2000));
            }
            detail.restart_policy =
                if coin(chance) { RestartPolicy::UnlessStopped } else { RestartPolicy::No };
        }
        if chance.below(4) == 0 {
            detail.container.networks.clear();
        }
    }
    let keep: Vec<bool> = observed.volumes.iter().map(|_| chance.below(5) > 0).collect();
    let mut keep = keep.into_iter();
    observed.reached.host.volumes.retain(|_| keep.next().unwrap());
    if chance.below(6) == 0 {
        observed.reached.host.networks.clear();
    }
    let names: Vec<String> = observed.own.values().map(|d| d.container.name.clone()).collect();
    observed.reached.child = match chance.below(4) {
        0 => Child::Unknown,
        1 => Child::Unreachable("\u{1}é\n".repeat(chance.below(800))),
        _ => {
            let mut state = match std::mem::take(&mut observed.reached.child) {
                Child::Reachable(state) => state,
                Child::Unknown | Child::Unreachable(_) => ChildState::default(),
            };
            for name in names.iter().map(String::as_str).chain(["k3d-dev-server-9", "k3d-dev-agent-40", ""]) {
                if coin(chance) {
                    node(chance, state.nodes.entry(name.to_owned()).or_default(), now);
                }
            }
            state.pods_can_start = coin(chance);
            for key in KEYS {
                let at = moment(chance, now);
                let objects = r#"[{"apiVersion":"v1","kind":"ConfigMap","name":"x"}]"#;
                let content = match chance.below(5) {
                    0 => String::new(),
                    1 => "{".repeat(300),
                    2 => format!(r#"{{"dropping":"{at}","objects":[]}}"#),
                    _ => format!(r#"{{"dropping":"{at}","objects":{objects}}}"#),
                };
                if coin(chance) {
                    state.config.insert(key, Held { content, ours: coin(chance), written: None });
                }
            }
            assert!(KEYS.contains(&INVENTORY));
            Child::Reachable(state)
        }
    };
    let ids: Vec<String> = observed.own.keys().cloned().collect();
    for id in ids {
        let at = moment(chance, now);
        let head = format!("# Written by localcluster-operator: {} times, at last {at}\n---\n", u32::MAX);
        let mut content = [String::new(), "\u{0}".into(), head][chance.below(3)].clone().into_bytes();
        if coin(chance) {
            let text = manifests::Written { text: "a: b\n", times: u32::MAX, at: Some(at) };
            content = manifests::render(&text);
        }
        if coin(chance) {
            observed.manifests.files.insert(id, BTreeMap::from([(manifests::path("m"), content)]));
        }
    }
    for name in names {
        if chance.below(6) == 0 {
            observed.reached.hung.insert(name, moment(chance, now));
        }
    }
}

/// As many cases as fit into seconds, or as many as PROPTEST_CASES says.
fn cases(n: u32) -> Config {
    let asked = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { Config { cases: n, ..asked } }
}

/// Looks at the cluster as it is told, plans and tells.
fn look(lab: &mut Lab, chance: &mut Chance) {
    let mut observed = lab.look(0).observed;
    let now = lab.world.now();
    scramble(chance, &mut observed, now);
    let look = lab.look_at(0, observed);
    lab.tell(0, &look, &look.plan.problems);
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn there_is_a_plan_for_whatever_is_told(
        spec in specs(),
        events in script::events(),
        seed in any::<u64>(),
        patience in prop::sample::select(vec![None, Some(1), Some(300), Some(i64::MAX)]),
    ) {
        let mut lab = script::lab(spec, seed);
        lab.settings.node_repair_after = patience.map(SignedDuration::from_secs);
        events.iter().for_each(|event| happen(&mut lab, event));
        let mut chance = Chance(seed);
        for _ in 0..20 {
            look(&mut lab, &mut chance);
        }
    }
}

/// A user of the created cluster writes a ConfigMap there.
#[test]
fn a_list_of_manifests_that_ends_with_time_is_one_like_any_other() {
    let mut lab = script::lab(support::model::lab::spec(1), 1);
    lab.settle(60);
    let content = r#"{"dropping":"9999-12-30T22:00:00Z","objects":[]}"#.to_owned();
    for cluster in lab.world.clusters.values_mut() {
        cluster.config.insert(INVENTORY, Held { content: content.clone(), ours: false, written: None });
    }
    lab.settle(60);
    assert!(!lab.world.interfere(&Outside::Kill("nobody".into())));
}

/// Each of them costs a request.
#[test]
fn a_long_list_of_manifests_is_looked_for_in_parts() {
    let mut lab = script::lab(support::model::lab::spec(1), 1);
    lab.settle(60);
    let object = |i: usize| ObjectRef {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: None,
        name: format!("u{i:04}"),
    };
    let objects: Vec<ObjectRef> = (0..2500).map(object).collect();
    let content = serde_json::json!({ "objects": objects }).to_string();
    for cluster in lab.world.clusters.values_mut() {
        cluster.config.insert(INVENTORY, Held { content: content.clone(), ours: false, written: None });
        cluster.objects.extend([object(1), object(2400)]);
    }
    assert_eq!(asked(&[], &lab.look(0).observed).len(), 1000);
    lab.settle(200);
    for cluster in lab.world.clusters.values() {
        assert!(cluster.objects.is_empty(), "{:?}", cluster.objects);
        let held = cluster.config.get(&INVENTORY).map(|held| held.content.as_str());
        assert!(held.is_none_or(str::is_empty), "{held:?}");
    }
}
