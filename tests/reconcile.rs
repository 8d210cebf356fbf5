//! The reconciles themselves, over fakes of Docker, of the created clusters and of the management cluster's API:
//! whatever call fails in whatever way, the end is the same.

#[path = "reconcile/bad_luck.rs"]
mod bad_luck;
#[path = "reconcile/consent.rs"]
mod consent;
#[path = "reconcile/default_registries.rs"]
mod default_registries;
#[path = "reconcile/hanging.rs"]
mod hanging;
#[path = "reconcile/hosts.rs"]
mod hosts;
#[path = "reconcile/many_hosts.rs"]
mod many_hosts;
#[path = "reconcile/secrets.rs"]
mod secrets;
mod support;

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::{
    api::reason::Reason,
    controller::triggers,
    docker::engine::{Event, State, Subject},
};
use serde_json::json;
use support::{
    fakes::{
        api::{path, secret},
        faults::{FAULTS, Fault, SIDES, Side},
        rig::{Rig, condition, message},
    },
    model::{
        check,
        interfere::Outside,
        lab,
        scenario::{
            ENOUGH, SCENARIOS, Scenario, applied, delete, end, published, put, put_registry,
            put_registry_with, put_secret, put_secrets, secured,
        },
        world::TICK,
    },
};

/// A call that goes wrong.
type Wrong = (Side, usize, Fault);

/// Runs a scenario with one call going wrong; the end, and the calls that each side got.
async fn run(scenario: Scenario, mut rig: Rig, wrong: Option<Wrong>) -> (BTreeMap<String, String>, Calls) {
    if let Some((side, number, fault)) = wrong {
        rig.faults.plan(side, number, fault);
    }
    scenario.act(&rig);
    rig.settle(ENOUGH).await;
    // A call may have gone wrong after all was Ready.
    rig.settle(ENOUGH).await;
    check::world(&rig.world.lock().unwrap());
    (end(&rig), SIDES.map(|s| rig.faults.calls(s)))
}

type Calls = [Vec<(String, bool)>; 3];

/// How a call goes wrong: with FAULTS=all in the environment in every way, else in one way, each in its turn.
fn faults(number: usize, writes: bool) -> Vec<Fault> {
    let all = std::env::var("FAULTS").is_ok_and(|f| f == "all");
    // Of what only reads, a lost reply is no reply.
    let possible: Vec<_> = FAULTS.into_iter().filter(|f| writes || *f != Fault::Lost).collect();
    let turn = number % possible.len();
    possible.into_iter().enumerate().filter(|(i, _)| all || *i == turn).map(|(_, f)| f).collect()
}

async fn every_call_may_fail(scenario: Scenario) {
    let before = scenario.before().await;
    let (clean, calls) = run(scenario, before.copy(), None).await;
    let mut runs = 0;
    for side in SIDES {
        for (number, (call, writes)) in calls[side as usize].iter().enumerate() {
            for fault in faults(number, *writes) {
                let (end, _) = run(scenario, before.copy(), Some((side, number, fault))).await;
                let differences = check::differences(&clean, &end);
                assert!(
                    differences.is_empty(),
                    "{scenario:?} {side:?} {number} {call} {fault:?}: {}",
                    differences.join("\n")
                );
                runs += 1;
            }
        }
    }
    println!("{scenario:?}: {runs} runs, calls {:?}", calls.map(|c| c.len()));
}

macro_rules! faults {
    ($($name:ident: $scenario:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            every_call_may_fail($scenario).await;
        }
    )*};
}

mod faults_in {
    use super::{Scenario, every_call_may_fail};

    faults! {
        create: Scenario::Create;
        scale_up: Scenario::ScaleUp;
        scale_down: Scenario::ScaleDown;
        arguments: Scenario::Arguments;
        ports: Scenario::Ports;
        repair: Scenario::Repair;
        secure: Scenario::Secure;
        users: Scenario::Users;
        collect: Scenario::Collect;
        fill: Scenario::Fill;
        refill: Scenario::Refill;
        delete: Scenario::Delete;
        delete_half_made: Scenario::DeleteHalfMade;
    }
}

/// Nobody knows of such a bug, but that none is left can't be known either.
#[tokio::test(start_paused = true)]
async fn a_panic_is_told_of_its_object_alone_and_ends_with_its_cause() {
    let mut rig = applied(0);
    rig.settle(ENOUGH).await;
    let seen = |rig: &Rig| rig.faults.calls(Side::Docker).len();
    let ready = |rig: &Rig| condition(&rig.api.get(&path("registries", "images")).unwrap(), "Ready").0;

    // The registry is looked after all the same.
    rig.faults.panic_at(Some("observe"));
    rig.world(|w| w.interfere(&Outside::Kill("k3d-images".into())));
    rig.round().await;
    rig.round().await;
    assert_eq!(rig.told("Ready"), ("False".into(), "InternalError".into()));
    assert_eq!((rig.told("Stalled").0, rig.told("Reconciling").0), ("True".into(), "False".into()));
    assert_eq!(ready(&rig), "True");

    // It is left alone for five minutes, unless its spec changes.
    rig.faults.panic_at(None);
    rig.reconcile().await;
    assert_eq!(rig.told("Ready").1, "InternalError");
    put(&rig, 1, |_| {});
    rig.settle(ENOUGH).await;
    rig.faults.panic_at(Some("observe"));
    rig.round().await;
    rig.faults.panic_at(None);
    let before = seen(&rig);
    for _ in 0..(300 / TICK) {
        rig.round().await;
    }
    rig.settle(ENOUGH).await;
    assert!(seen(&rig) > before);
}

#[tokio::test(start_paused = true)]
async fn scenarios_end_as_they_should() {
    for scenario in SCENARIOS {
        let (end, _) = run(scenario, scenario.before().await, None).await;
        let containers = end.keys().filter(|k| k.starts_with("container k3d-")).count();
        let wanted = match scenario {
            Scenario::Create | Scenario::ScaleDown | Scenario::Ports | Scenario::Repair => 4,
            Scenario::Secure | Scenario::Users | Scenario::Collect => 4,
            Scenario::Fill | Scenario::Refill => 4,
            Scenario::ScaleUp | Scenario::Arguments => 5,
            Scenario::Delete | Scenario::DeleteHalfMade => 0,
        };
        assert_eq!(containers, wanted, "{scenario:?}");
        if matches!(scenario, Scenario::Refill) {
            for node in ["images k3d-dev-server-0", "images k3d-dev-agent-0"] {
                assert_eq!(
                    end[node], r#"{"docker.io/library/app:1": Held { id: "sha256:app:1-1", own: true }}"#,
                    "{node}"
                );
            }
            let left = &end["applied"];
            assert_eq!(left.matches("name: ").count(), 1, "{left}");
        }
        assert!(end.contains_key("container stranger") && end.contains_key("volume strange"));
    }
}

/// A process that dies and comes back with an empty memory after every round of every scenario.
#[tokio::test(start_paused = true)]
async fn restarts_change_nothing() {
    for scenario in SCENARIOS {
        let (clean, _) = run(scenario, scenario.before().await, None).await;
        let mut rig = scenario.before().await;
        scenario.act(&rig);
        for _ in 0..ENOUGH {
            rig = rig.restart();
            rig.round().await;
        }
        let differences = check::differences(&clean, &end(&rig));
        assert!(differences.is_empty(), "{scenario:?}: {}", differences.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn idle_means_idle() {
    let mut rig = applied(2);
    rig.settle(ENOUGH).await;
    rig.round().await;
    rig.faults.take_writes();
    let versions: Vec<_> = rig.api.all("").iter().map(|o| o["metadata"]["resourceVersion"].clone()).collect();
    let events = rig.api.all("events").len();
    for _ in 0..10 {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
    assert_eq!(rig.api.all("events").len(), events);
    let after: Vec<_> = rig.api.all("").iter().map(|o| o["metadata"]["resourceVersion"].clone()).collect();
    assert_eq!(versions, after);
    // The same again is no change either.
    put(&rig, 2, |_| {});
    rig.round().await;
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}
