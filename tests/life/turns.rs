//! Clusters that come up at the same time.

use super::*;

pub(super) fn ready(rig: &Rig, name: &str) -> bool {
    condition(&rig.api.get(&path("localclusters", name)).unwrap(), "Ready").0 == "True"
}

/// How many of these have a server that runs, and does not work yet.
pub(super) fn starting(rig: &Rig, clusters: &[String]) -> usize {
    let up = |name: &str| rig.world(|w| w.named(name).is_some_and(|c| c.state.is_up()));
    let works = |name: &str| {
        condition(&rig.api.get(&path("localclusters", name)).unwrap(), "ControlPlaneReady").0 == "True"
    };
    let starts = |name: &&String| up(&format!("k3d-{name}-server-0")) && !works(name);
    clusters.iter().filter(starts).count()
}

/// Has them come up, looked at together, of which two may start at a time: so many cores the model's engine has. Answers
/// those that waited. `meanwhile` is told after each round.
pub(super) async fn come_up_in_turns(
    rig: &mut Rig,
    names: &[String],
    most: usize,
    mut meanwhile: impl FnMut(&Rig),
) -> BTreeSet<String> {
    let (mut rounds, mut queued) = (0, BTreeSet::new());
    while !names.iter().all(|name| ready(rig, name)) {
        rig.reconcile_together().await;
        rig.pass().await;
        assert!(starting(rig, names) <= 2, "{} clusters start at once", starting(rig, names));
        let of = |name: &String| condition(&rig.api.get(&path("localclusters", name)).unwrap(), "Ready").1;
        queued.extend(names.iter().filter(|name| of(name) == "Queued").cloned());
        meanwhile(rig);
        rounds += 1;
        assert!(rounds <= most, "not all are Ready after {rounds} rounds");
    }
    queued
}

#[tokio::test(start_paused = true)]
async fn twenty_at_once_come_up_without_meeting() {
    const MANY: usize = 20;
    let mut rig = Rig::new(lab::settings());
    let name = |i: usize| format!("many-{i}");
    for i in 0..MANY {
        put(&rig, &name(i), json!({}), json!({"ports": [{"name": "web", "port": 80}]}));
    }
    // One that never gets anywhere is among them.
    put(&rig, "slow", json!({}), json!({"image": "localhost/none:1"}));
    rig.world(|w| w.unknown_images.insert("localhost/none:1".into()));
    let names: Vec<String> = (0..MANY).map(name).collect();
    let queued = come_up_in_turns(&mut rig, &names, ENOUGH, |_| ()).await;
    assert!(!ready(&rig, "slow"));
    assert!(queued.len() >= MANY - 4, "{queued:?}");
    let objects: Vec<Value> =
        (0..MANY).map(|i| rig.api.get(&path("localclusters", &name(i))).unwrap()).collect();
    let distinct = |of: &dyn Fn(&Value) -> Vec<Value>| {
        let all: Vec<String> = objects.iter().flat_map(of).map(|v| v.to_string()).collect();
        assert!(all.iter().all(|v| v != "null"), "{all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
        all.len()
    };
    assert_eq!(distinct(&|o| vec![o["status"]["network"]["subnet"].clone()]), MANY);
    let ports = |o: &Value| {
        vec![o["status"]["apiPort"]["hostPort"].clone(), o["status"]["ports"][0]["hostPort"].clone()]
    };
    assert_eq!(distinct(&ports), 2 * MANY);
    assert_eq!(distinct(&|o| vec![o["status"]["nodes"][0]["name"].clone()]), MANY);
    assert_eq!(rig.api.sins(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn those_that_run_again_at_once_have_their_turns_and_one_that_died_has_no_need_of_one() {
    let mut rig = Rig::new(lab::settings());
    let names: Vec<String> = (0..8).map(|i| format!("many-{i}")).collect();
    put(&rig, "dev", json!({}), json!({}));
    names.iter().for_each(|name| put(&rig, name, json!({}), json!({})));
    rig.settle(4 * ENOUGH).await;
    names.iter().for_each(|name| put(&rig, name, json!({}), json!({"state": "Stopped"})));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    for name in &names {
        let object = rig.api.get(&path("localclusters", name)).unwrap();
        assert_eq!(condition(&object, "Stopped").0, "True");
        put(&rig, name, json!({}), json!({"state": "Running"}));
    }
    let mut died = false;
    let queued = come_up_in_turns(&mut rig, &names, 2 * ENOUGH, |rig| {
        let up = rig.world(|w| w.named("k3d-dev-server-0").is_some_and(|c| c.state.is_up()));
        assert!(up, "a server that died waits for its turn");
        if !died && starting(rig, &names) == 2 {
            rig.world(|w| assert!(w.interfere(&Outside::Stop("k3d-dev-server-0".into()))));
            died = true;
        }
    })
    .await;
    assert!(died && queued.len() >= names.len() - 4, "{queued:?}");
    rig.settle(ENOUGH).await;
    assert!(ready(&rig, "dev"));
}
