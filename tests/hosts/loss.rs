//! Hosts are lost, and come back. Nothing is made elsewhere unless the user says that the host is gone for good.

use crate::{
    live::{
        eventually, holds,
        scene::{LIMIT, Scene, condition},
    },
    rack::{self, Host, IDLE, Marked, bound, host, idle, is_nowhere_else, on, picture, runs_on},
    sampler::{Sampler, nothing_was_twice},
};

pub const GROUP: crate::live::harness::Group = crate::live::harness::Group {
    name: "loss",
    setup: || {
        rack::install();
        let scene = Scene::new("loss").with(Sampler::begin());
        scene.apply("LocalCluster", "sticky", &idle(&on(lost(), "")));
        runs_on(&scene, "sticky", lost(), IDLE);
        scene
    },
    tests: &[
        ("a_killed_engine_is_waited_for", a_killed_engine_is_waited_for),
        ("a_killed_node_changes_nothing", a_killed_node_changes_nothing),
        ("out_of_service_recreates_what_is_ephemeral", out_of_service_recreates_what_is_ephemeral),
        ("an_old_copy_is_removed_when_the_host_returns", an_old_copy_is_removed_when_the_host_returns),
        ("nothing_was_twice", nothing_was_twice),
    ],
};

/// The host that is lost.
fn lost() -> &'static Host {
    host(3)
}

fn is_reachable(scene: &Scene, cluster: &str) {
    eventually(LIMIT, &format!("the host of {cluster} is reachable"), || {
        let reachable = condition(&scene.try_get(&format!("lc/{cluster}"))?, "HostReachable")?;
        holds(reachable["status"] == "True", || reachable.to_string())
    });
}

/// Creates a cluster on the host that will be lost, which may be made anew on any other.
fn ephemeral(scene: &Scene, cluster: &str) {
    let _others: Vec<Marked> = rack::all().iter().filter(|h| *h != lost()).map(Marked::cordon).collect();
    scene.apply("LocalCluster", cluster, &idle("{data: Ephemeral, hostLoss: Recreate}"));
    runs_on(scene, cluster, lost(), IDLE);
}

fn a_killed_engine_is_waited_for(scene: &Scene) {
    let suffering = lost().suffers("host", "kill");
    let message = scene.reason("lc/sticky", "HostReachable", "AgentDown");
    assert!(message.contains(&lost().node), "{message}");
    is_nowhere_else(scene, "sticky", lost());
    suffering.heal();
    runs_on(scene, "sticky", lost(), IDLE);
    is_reachable(scene, "sticky");
}

fn a_killed_node_changes_nothing(scene: &Scene) {
    let before = picture(scene, "sticky", lost());
    let suffering = lost().suffers("node", "kill");
    lost().is_not_ready();
    let message = scene.reason("lc/sticky", "HostReachable", "HostLost");
    assert!(message.contains(&lost().node), "{message}");
    // The engine still answers this test.
    assert_eq!(picture(scene, "sticky", lost()), before);
    is_nowhere_else(scene, "sticky", lost());
    suffering.heal();
    runs_on(scene, "sticky", lost(), IDLE);
    is_reachable(scene, "sticky");
}

fn out_of_service_recreates_what_is_ephemeral(scene: &Scene) {
    ephemeral(scene, "roaming");
    let suffering = lost().suffers("host", "cut");
    lost().is_not_ready();
    for cluster in ["sticky", "roaming"] {
        scene.reason(&format!("lc/{cluster}"), "HostReachable", "HostLost");
        is_nowhere_else(scene, cluster, lost());
        assert_eq!(scene.get(&format!("lc/{cluster}"))["status"]["host"], lost().node.as_str());
    }

    let word = Marked::out_of_service(lost());
    let new = bound(scene, "lc/roaming", &[lost()]);
    runs_on(scene, "roaming", new, IDLE);
    let message = scene.reason("lc/sticky", "Scheduled", "HostGone");
    assert!(message.contains("; "), "it names a way out: {message}");
    assert_eq!(scene.get("lc/sticky")["status"]["host"], lost().node.as_str());
    is_nowhere_else(scene, "sticky", lost());
    let kept = picture(scene, "roaming", new);

    // The user's word goes last, as Kubernetes says.
    drop(suffering);
    drop(word);
    lost().is_offered();
    runs_on(scene, "sticky", lost(), IDLE);
    is_reachable(scene, "sticky");
    runs_on(scene, "roaming", new, IDLE);
    assert_eq!(picture(scene, "roaming", new), kept);
    scene.run(&["delete", "lc", "roaming", "--timeout=240s"]);
}

fn an_old_copy_is_removed_when_the_host_returns(scene: &Scene) {
    ephemeral(scene, "copied");
    // The host runs on, and only its network is gone, so that what the user says about it is wrong.
    let _excuse = scene.stage::<Sampler>().excuse(scene.network("copied"));
    let suffering = lost().suffers("host", "unplug");
    lost().is_not_ready();
    scene.reason("lc/copied", "HostReachable", "HostLost");
    let word = Marked::out_of_service(lost());
    let new = bound(scene, "lc/copied", &[lost()]);
    eventually(LIMIT, "it is made anew", || {
        let there = picture(scene, "copied", new);
        let running = there.values().filter(|(_, _, running)| *running).count();
        holds(running == IDLE, || format!("{there:#?}"))
    });
    assert!(!picture(scene, "copied", lost()).is_empty(), "there is no old copy");
    let kept = picture(scene, "copied", new);

    drop(suffering);
    drop(word);
    lost().is_offered();
    runs_on(scene, "copied", new, IDLE);
    assert_eq!(picture(scene, "copied", new), kept);
    let prefix = scene.network("copied");
    eventually(LIMIT, "nothing of it is left", || {
        let left = scene.in_docker_at(&lost().engine);
        holds(!left.iter().any(|l| l.contains(&prefix)), || format!("{left:?}"))
    });
    runs_on(scene, "sticky", lost(), IDLE);
    scene.run(&["delete", "lc", "copied", "--timeout=240s"]);
}
