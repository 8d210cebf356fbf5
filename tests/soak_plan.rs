//! The plans of a soak: the same of the same seed, and nothing in them that a cluster is not promised to survive.

use std::collections::BTreeSet;

#[path = "soak/plan.rs"]
mod plan;

use plan::{Act, Plan, Spec, Step, Target};

/// Each step with the spec before it.
fn steps(seed: u64, many: usize) -> Vec<(Spec, Step)> {
    let mut plan = Plan::new(seed);
    (0..many).map(|_| (plan.spec.clone(), plan.next().expect("it has no end"))).collect()
}

#[test]
fn a_seed_is_a_plan() {
    for seed in 0..100 {
        assert_eq!(steps(seed, 200), steps(seed, 200));
    }
    assert_ne!(steps(1, 20), steps(2, 20));
    // A longer soak begins as a shorter one does.
    assert_eq!(steps(7, 200)[..50], steps(7, 50));
}

#[test]
fn pauses_are_of_5_to_40_seconds() {
    let seconds: BTreeSet<u64> =
        (0..50).flat_map(|seed| steps(seed, 100)).map(|(_, s)| s.pause.as_secs()).collect();
    assert_eq!(seconds, (5..=40).collect());
}

#[test]
fn only_what_is_elsewhere_too_is_lost() {
    for (spec, step) in (0..500).flat_map(|seed| steps(seed, 200)) {
        match step.act {
            Act::Lose(Target::Server(n)) => assert!(spec.running && spec.servers == 3 && n < 3),
            Act::Lose(Target::Agent(n)) => assert!(spec.running && n < spec.agents),
            Act::Lose(other) => panic!("{other} is the only one of its kind"),
            Act::Docker(verb, _) => assert!(!verb.contains(&"-v"), "{verb:?} takes volumes too"),
            _ => {}
        }
    }
}

#[test]
fn a_version_goes_up_once() {
    for seed in 0..500 {
        let ups = steps(seed, 500).iter().filter(|(_, s)| s.act == Act::Upgrade).count();
        assert!(ups <= 1, "seed {seed}: {ups}");
    }
}

#[test]
fn an_hour_has_some_of_everything() {
    // With the pauses alone an hour has 160 steps; with the waits before losses, about a hundred.
    let many = 20;
    let all: Vec<_> = (0..many).flat_map(|seed| steps(seed, 100)).map(|(_, s)| s.act.to_string()).collect();
    for word in ["stop", "kill", "rm -f", "pause", "disconnect", "volume rm", "edit", "kill -9", "restart"] {
        let seen = all.iter().filter(|act| act.contains(word)).count();
        assert!(seen >= many as usize, "{word}: {seen} in {many} hours");
    }
}
