//! The load balancer follows the resolvers of the host.

use std::{sync::Arc, time::Duration};

use localcluster_operator::{controller::resolvers::Resolvers, docker::engine::State};

use super::*;

const BALANCER: &str = "k3d-dev-serverlb";
const HELPER: &str = "k3d-dev-serverlb-resolvers";
const RESYNC: Duration = Duration::from_secs(300);

fn observing(rig: &mut Rig) {
    let engine = rig.ctx.engine.clone();
    Arc::get_mut(&mut rig.ctx).unwrap().resolvers = Resolvers::new(engine, Some(RESYNC));
}

/// The resolvers that the load balancer was started with.
fn used(rig: &Rig) -> u8 {
    rig.world(|w| w.named(BALANCER).unwrap().resolvers)
}

/// When each container was started.
fn starts(rig: &Rig) -> BTreeMap<String, Option<i64>> {
    rig.world(|w| w.containers.values().map(|c| (c.name.clone(), c.started)).collect())
}

/// How often the host was asked since the last call.
fn looks(rig: &Rig) -> usize {
    let made = format!("Docker create container {HELPER}");
    rig.faults.take_writes().into_iter().filter(|call| *call == made).count()
}

async fn rounds(rig: &mut Rig, count: usize) {
    for _ in 0..count {
        rig.round().await;
    }
}

/// The rounds of a resync.
fn resync() -> usize {
    usize::try_from(RESYNC.as_secs()).unwrap() / usize::try_from(TICK).unwrap() + 2
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_host_restarts_the_load_balancer_and_nothing_else() {
    let mut rig = Rig::new(lab::settings());
    observing(&mut rig);
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    looks(&rig);
    rounds(&mut rig, 2 * resync()).await;
    let asked = looks(&rig);
    assert!((1..=2).contains(&asked), "the host was asked {asked} times in two resyncs");

    let before = starts(&rig);
    rig.world(|w| w.interfere(&Outside::ChangeResolvers));
    rounds(&mut rig, resync()).await;
    assert_eq!(used(&rig), 1);
    assert_eq!(
        rig.events("StartedContainer").last().map(String::as_str),
        Some("Started container k3d-dev-serverlb: the resolvers of the Docker host changed")
    );
    let after = starts(&rig);
    let changed: Vec<_> =
        after.iter().filter(|(name, at)| before.get(*name) != Some(at)).map(|(n, _)| n).collect();
    assert_eq!(changed, [BALANCER]);
    rig.settle(ENOUGH).await;

    // Once, and again when they change back.
    let before = starts(&rig);
    rounds(&mut rig, 2 * resync()).await;
    assert_eq!(starts(&rig), before);
    rig.world(|w| w.interfere(&Outside::ChangeResolvers));
    rounds(&mut rig, resync()).await;
    assert_eq!(used(&rig), 0);
    rig.settle(ENOUGH).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_host_does_not_tell_restarts_nothing() {
    let mut rig = Rig::new(lab::settings());
    observing(&mut rig);
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    rounds(&mut rig, 2).await;
    let before = starts(&rig);
    rig.faults.every(Some((&format!("create container {HELPER}"), Fault::Refused)));
    rig.world(|w| w.interfere(&Outside::ChangeResolvers));
    rounds(&mut rig, 2 * resync()).await;
    assert_eq!((starts(&rig), rig.told("Ready").0), (before, "True".to_owned()));
    rig.faults.every(None);
    rounds(&mut rig, resync()).await;
    assert_eq!(used(&rig), 1);

    // An operator that was killed left its container.
    let mut rig = rig.restart();
    observing(&mut rig);
    rig.world(|w| {
        let left = Container {
            name: HELPER.into(),
            state: State::Exited,
            loaded: None,
            ..w.named(BALANCER).unwrap().clone()
        };
        w.containers.insert("left".into(), left);
    });
    rounds(&mut rig, 2).await;
    assert!(rig.world(|w| w.named(HELPER).is_none()));
}
