//! What is read from Docker is used again until something may have changed.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use futures::{Stream, StreamExt};
use localcluster_operator::{
    controller::{files::Files, logs::Logs, pulls::Pulls, triggers},
    docker::{
        engine::{Engine, Event, Subject},
        remembered::Remembered,
    },
};
use support::fakes::engine::Fake;

use super::*;

const BALANCER: &str = "k3d-dev-serverlb";

/// A cluster, and an engine over the same fakes.
async fn cluster() -> (Rig, Remembered<Fake>) {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let fake = Fake { world: rig.world.clone(), faults: rig.faults.clone() };
    (rig, Remembered::new(fake))
}

/// Reads all that a look at the host reads, and returns the number of calls that took.
async fn look(rig: &Rig, engine: &impl Engine) -> usize {
    let before = rig.faults.calls(Side::Docker).len();
    engine.info().await.unwrap();
    engine.networks().await.unwrap();
    engine.volumes().await.unwrap();
    for container in engine.containers().await.unwrap() {
        engine.inspect(&container.id).await.unwrap();
    }
    rig.faults.calls(Side::Docker).len() - before
}

/// Reads the events that are there.
async fn drain<S: Stream + ?Sized>(events: &mut Pin<Box<S>>) {
    poll_fn(|ctx| {
        while events.poll_next_unpin(ctx).is_ready() {}
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn docker_is_asked_again_after_a_change_and_after_a_while() {
    let (rig, engine) = cluster().await;
    let all = look(&rig, &engine).await;
    assert!(all > 5);
    assert_eq!(look(&rig, &engine).await, all, "without events, nothing is known");

    let mut events = engine.events().await.unwrap();
    assert_eq!(look(&rig, &engine).await, all, "what was read before them is not known to be true");
    assert_eq!(look(&rig, &engine).await, 0);

    let containers = rig.world(|w| w.containers.len());
    let network = Subject::Network { id: "x".into(), name: "x".into(), container: None };
    for (subject, action, read) in [
        (Subject::Volume("x".into()), "create", 1),
        (Subject::Container("x".into()), "die", 1 + containers),
        (network, "connect", 2 + containers),
    ] {
        rig.faults.happened(subject, action);
        drain(&mut events).await;
        assert_eq!((look(&rig, &engine).await, look(&rig, &engine).await), (read, 0), "{action}");
    }
    rig.faults.happened(Subject::Container("x".into()), "exec_die");
    drain(&mut events).await;
    assert_eq!(look(&rig, &engine).await, 0, "it changes no object of Docker");

    engine.stop(BALANCER, 0).await.unwrap();
    assert_eq!(look(&rig, &engine).await, all);
    assert_eq!(look(&rig, &engine).await, 0);
    rig.faults.every(Some((&format!("start {BALANCER}"), Fault::Lost)));
    assert!(engine.start(BALANCER).await.is_err());
    assert_eq!(look(&rig, &engine).await, all, "a failed call may have had an effect");

    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(look(&rig, &engine).await, all, "an event may have been lost");
    drop(events);
    assert_eq!((look(&rig, &engine).await, look(&rig, &engine).await), (all, all));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_change_overtakes_is_not_remembered() {
    let (rig, engine) = cluster().await;
    let _events = engine.events().await.unwrap();
    look(&rig, &engine).await;
    let read = engine.containers().await.unwrap();
    engine.stop(BALANCER, 0).await.unwrap();
    assert_ne!(engine.containers().await.unwrap(), read);
}

/// While a server starts, nothing changes in Docker, and the cluster is looked at several times a second.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_server_asks_docker_for_nothing_but_its_kubeconfig_and_images() {
    let mut rig = Rig::new(lab::settings());
    let fake = Fake { world: rig.world.clone(), faults: rig.faults.clone() };
    let engine: Arc<dyn Engine> = Arc::new(Remembered::new(fake));
    let _events = engine.events().await.unwrap();
    let ctx = Arc::get_mut(&mut rig.ctx).unwrap();
    (ctx.pulls, ctx.engine) = (Pulls::new(engine.clone(), ctx.metrics.clone()), engine);
    put(&rig, "dev", json!({}), json!({}));
    for _ in 0..5 {
        rig.reconcile().await;
    }
    assert!(rig.world(|w| w.named("k3d-dev-server-0").is_some_and(Container::is_up)));
    tokio::time::advance(Duration::from_secs(5)).await;
    let looked = async |rig: &mut Rig| {
        let before = rig.faults.calls(Side::Docker).len();
        rig.reconcile().await;
        let new = rig.faults.calls(Side::Docker).split_off(before);
        new.into_iter()
            .map(|(call, _)| call)
            .filter(|call| call != "read file" && call != "image")
            .collect::<Vec<_>>()
    };
    let first = looked(&mut rig).await;
    assert!(first.len() > 5, "{first:?}");
    for _ in 0..9 {
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(looked(&mut rig).await, [""; 0]);
    }
}

/// The files that were read since the last call.
fn reads(rig: &Rig, before: &mut usize) -> usize {
    let calls = rig.faults.calls(Side::Docker);
    let new = calls[std::mem::replace(before, calls.len())..].iter();
    new.filter(|(call, _)| call.starts_with("read ")).count()
}

/// A file in a node changes by a command or a copy that Docker reports; only then it is read again soon.
#[tokio::test(start_paused = true)]
async fn files_are_read_again_when_docker_reports_a_command() {
    let mut rig = Rig::new(lab::settings());
    let engine = rig.ctx.engine.clone();
    Arc::get_mut(&mut rig.ctx).unwrap().files = Files::new(engine, Duration::from_secs(3600));
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    for _ in 0..4 {
        rig.round().await;
    }
    let mut seen = 0;
    reads(&rig, &mut seen);
    for _ in 0..20 {
        rig.round().await;
    }
    // The servers of the model write no token, which is looked for again.
    let read = reads(&rig, &mut seen);
    assert!(read <= 20, "nothing can have changed, and {read} files were read");
    rig.round().await;
    assert!(reads(&rig, &mut seen) <= 1);

    rig.world(|w| w.interfere(&Outside::Tamper(BALANCER.into())));
    let id = rig.world(|w| w.id(BALANCER).unwrap());
    let told = Event { subject: Subject::Container(id), action: "exec_die".into(), labels: BTreeMap::new() };
    triggers::event(&rig.ctx, told).await;
    rig.settle_after_a_round(ENOUGH).await;
    assert!(reads(&rig, &mut seen) > 1);
    let config = rig.world(|w| w.read(BALANCER, load_balancer::CONFIG_FILE).unwrap());
    assert_ne!(&*config, b"tampered");
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_again_when_it_can_have_changed() {
    let (rig, engine) = cluster().await;
    let logs = Logs::new(rig.ctx.engine.clone());
    let calls = || rig.faults.calls(Side::Docker).iter().filter(|(call, _)| call == "logs").count();
    let before = calls();
    let detail = async || engine.inspect(BALANCER).await.unwrap().unwrap();
    let running = detail().await;
    for (passed, read) in [(0, 1), (4, 1), (1, 2)] {
        tokio::time::advance(Duration::from_secs(passed)).await;
        logs.last(&running).await.unwrap();
        assert_eq!(calls() - before, read);
    }
    engine.stop(BALANCER, 0).await.unwrap();
    let ended = detail().await;
    for (passed, read) in [(0, 3), (30, 3), (30, 4)] {
        tokio::time::advance(Duration::from_secs(passed)).await;
        logs.last(&ended).await.unwrap();
        assert_eq!(calls() - before, read);
    }
}

/// Events of images are not watched, and whoever builds one applies the spec right after.
#[tokio::test(start_paused = true)]
async fn images_are_always_asked_for() {
    let (rig, engine) = cluster().await;
    let _events = engine.events().await.unwrap();
    for _ in 0..2 {
        let before = rig.faults.calls(Side::Docker).len();
        engine.image("rancher/k3s").await.unwrap();
        assert_eq!(rig.faults.calls(Side::Docker).len() - before, 1);
    }
}
