//! Pools of agents and directories of the host in nodes, against the model of Docker: what may not be, is not mounted, and
//! nodes that run go on meanwhile.

#[path = "pools/named.rs"]
mod named;
mod support;

use std::sync::Arc;

use localcluster_operator::{
    api::{
        condition::{self, ConditionType},
        names,
        node_host::HostVolume,
        reason::Reason,
    },
    docker::engine::State,
};
use support::model::{
    lab::{Lab, Object, spec},
    world::Volume,
};

const ENOUGH: usize = 60;
const LOOKER: &str = "k3d-dev-path";

fn volume(path: &str) -> Vec<HostVolume> {
    vec![HostVolume { host_path: Some(path.into()), mount_path: "/data".into(), ..HostVolume::default() }]
}

fn named(name: &str) -> Vec<HostVolume> {
    vec![HostVolume { volume_name: Some(name.into()), mount_path: "/data".into(), ..HostVolume::default() }]
}

/// A cluster with two agents, on a host with some directories and a link that leads out of what is allowed.
fn settled() -> Lab {
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec(2))], Vec::new());
    let directories = ["/srv", "/srv/data", "/srv/other", "/etc"].map(str::to_owned);
    lab.world.host_directories = Arc::new(directories.into());
    lab.world.host_links = Arc::new(["/srv/link".to_owned()].into());
    lab.settle(ENOUGH);
    lab
}

fn told(lab: &Lab, type_: ConditionType) -> (String, String) {
    let found = condition::get(&lab.clusters[0].status.conditions, type_).expect("it is there");
    (found.reason.clone(), found.message.clone())
}

/// What is mounted from the host, by node.
fn mounted(lab: &Lab) -> Vec<String> {
    let nodes = ["server-0", "agent-0", "agent-1"].map(|n| lab.world.named(&format!("k3d-dev-{n}")).unwrap());
    nodes.map(|n| n.binds.get("/data").cloned().unwrap_or_default()).into()
}

#[test]
fn an_allowed_directory_is_mounted_one_node_after_the_other() {
    let mut lab = settled();
    for path in ["/srv/data", "/srv/other", "/srv"] {
        lab.clusters[0].edit(|s| s.agents.volumes = volume(path));
        // That at most one agent is down at a time, the lab itself looks after.
        lab.settle(ENOUGH);
        assert_eq!(mounted(&lab), ["", path, path]);
        assert!(lab.world.named(LOOKER).is_none(), "what looked is gone");
    }
    lab.clusters[0].edit(|s| s.servers.volumes = volume("/srv/data"));
    lab.settle(ENOUGH);
    assert_eq!(mounted(&lab), ["/srv/data", "/srv", "/srv"]);
    lab.clusters[0].edit(|s| (s.servers.volumes, s.agents.volumes) = (Vec::new(), Vec::new()));
    lab.settle(ENOUGH);
    assert_eq!(mounted(&lab), ["", "", ""]);
}

#[test]
fn what_may_not_be_is_told_and_the_nodes_go_on() {
    for (path, type_, reason) in [
        ("/etc", ConditionType::Accepted, Reason::HostPathNotAllowed),
        ("/srvx", ConditionType::Accepted, Reason::HostPathNotAllowed),
        ("/srv/link", ConditionType::AgentsReady, Reason::HostPathNotAllowed),
        ("/srv/link/deep", ConditionType::AgentsReady, Reason::HostPathNotAllowed),
        ("/srv/none", ConditionType::AgentsReady, Reason::HostPathNotFound),
    ] {
        let mut lab = settled();
        let before: Vec<_> = lab.world.containers.keys().cloned().collect();
        lab.clusters[0].edit(|s| s.agents.volumes = volume(path));
        (0..6).for_each(|_| drop(lab.round()));
        let (said, message) = told(&lab, type_);
        assert_eq!(said, reason, "{path}: {message}");
        assert_eq!(told(&lab, ConditionType::Stalled).0, reason, "{path}");
        assert_eq!(mounted(&lab), ["", "", ""], "{path}");
        let kept = lab.world.containers.iter().filter(|(_, c)| c.name != LOOKER);
        assert_eq!(kept.map(|(id, _)| id.clone()).collect::<Vec<_>>(), before, "{path}");
        assert!(lab.world.containers.values().all(|c| c.name == LOOKER || c.state == State::Running));
        // Taken back, nothing is left of it.
        lab.clusters[0].edit(|s| s.agents.volumes = Vec::new());
        lab.settle(ENOUGH);
        assert_eq!(lab.world.containers.keys().cloned().collect::<Vec<_>>(), before, "{path}");
    }
}

#[test]
fn another_runtime_replaces_one_node_after_the_other_and_an_unknown_one_none() {
    let has = |lab: &Lab, node: &str| {
        let node = lab.world.named(&format!("k3d-dev-{node}")).unwrap();
        (node.isolation.runtime.clone().unwrap_or_default(), node.isolation.privileged == Some(true))
    };
    let by_default = ("runc".to_owned(), true);
    let mut lab = settled();
    assert_eq!(has(&lab, "agent-0"), by_default);
    let before: Vec<_> = lab.world.containers.keys().cloned().collect();
    for role in ["server", "agent"] {
        lab.clusters[0].edit(|s| {
            let pool = if role == "server" { &mut s.servers } else { &mut s.agents };
            pool.runtime = Some("kata".into());
        });
        (0..6).for_each(|_| drop(lab.round()));
        let type_ =
            if role == "server" { ConditionType::ControlPlaneReady } else { ConditionType::AgentsReady };
        let (reason, message) = told(&lab, type_);
        assert_eq!(reason, Reason::RuntimeNotFound, "{message}");
        assert_eq!(
            message,
            format!(
                "spec.{role}s.runtime: no node of the pool is created or replaced, since the Docker engine has no OCI \
                 runtime kata; install it on the Docker host and add it to the engine's daemon.json, or change the \
                 spec to one that it has: runc, sysbox-runc"
            )
        );
        assert_eq!(told(&lab, ConditionType::Stalled).0, Reason::RuntimeNotFound);
        assert_eq!(lab.world.containers.keys().cloned().collect::<Vec<_>>(), before, "{role}");
        assert!(lab.world.containers.values().all(|c| c.state == State::Running), "{role}");
        lab.clusters[0].edit(|s| (s.servers.runtime, s.agents.runtime) = (None, None));
        lab.settle(ENOUGH);
        assert_eq!(lab.world.containers.keys().cloned().collect::<Vec<_>>(), before, "{role}");
    }
    lab.clusters[0].edit(|s| {
        s.agents.runtime = Some("sysbox-runc".into());
        s.agents.privileged = Some(false);
    });
    // That at most one agent is down at a time, the lab itself looks after.
    lab.settle(ENOUGH);
    for (node, expected) in [
        ("server-0", by_default.clone()),
        ("agent-0", ("sysbox-runc".to_owned(), false)),
        ("agent-1", ("sysbox-runc".to_owned(), false)),
    ] {
        assert_eq!(has(&lab, node), expected, "{node}");
    }
    lab.clusters[0].edit(|s| (s.agents.runtime, s.agents.privileged) = (None, None));
    lab.settle(ENOUGH);
    assert_eq!(has(&lab, "agent-1"), by_default);
}

#[test]
fn a_file_is_mounted_and_what_is_neither_is_not() {
    let mut lab = settled();
    lab.world.host_files = Arc::new(["/srv/corp.pem".to_owned()].into());
    lab.clusters[0].edit(|s| s.agents.volumes = volume("/srv/corp.pem"));
    lab.settle(ENOUGH);
    assert_eq!(mounted(&lab), ["", "/srv/corp.pem", "/srv/corp.pem"]);
    lab.clusters[0].edit(|s| s.servers.volumes = volume("/srv/corp.pem/deep"));
    (0..6).for_each(|_| drop(lab.round()));
    let (reason, message) = told(&lab, ConditionType::ControlPlaneReady);
    assert_eq!(reason, Reason::HostPathNotFound, "{message}");
    assert!(message.contains("/srv/corp.pem on the Docker host is not a directory"), "{message}");
    assert_eq!(mounted(&lab), ["", "/srv/corp.pem", "/srv/corp.pem"]);
}

/// The volume is the user's: it must say that it may be used, and is as it was when the cluster is gone.
#[test]
fn a_volume_that_allows_it_is_mounted_and_no_other() {
    let labelled = |pairs: &[(&str, &str)]| Volume {
        labels: Arc::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        ..Volume::default()
    };
    let theirs = [(names::UID, "u"), (names::MANAGER, "m"), (names::ALLOW_NAMESPACES, "*")];
    let mut lab = settled();
    for (name, labels) in [
        ("silent", &[][..]),
        ("of-team-b", &[(names::ALLOW_NAMESPACES, "team-b")]),
        ("of-a-cluster", &theirs),
        ("cache", &[(names::ALLOW_NAMESPACES, "team-a, default")]),
    ] {
        lab.world.volumes.insert(name.into(), labelled(labels));
    }
    lab.settle(ENOUGH);
    let before = lab.world.clone();
    for name in ["silent", "of-team-b", "of-a-cluster", "missing", "k3d-dev-server-0-state"] {
        lab.clusters[0].edit(|s| s.agents.volumes = named(name));
        (0..6).for_each(|_| drop(lab.round()));
        let (reason, message) = told(&lab, ConditionType::AgentsReady);
        assert_eq!(reason, Reason::NotAllowed, "{message}");
        // Whether it exists, is no business of who may not use it.
        let expected = format!("no Docker volume {name} allows the namespace default; create one with");
        assert!(message.contains(&expected), "{message}");
        assert_eq!((&lab.world.containers, &lab.world.volumes), (&before.containers, &before.volumes));
    }
    let mounted = |lab: &Lab, node: &str| {
        lab.world.named(&format!("k3d-dev-{node}")).and_then(|n| n.mounts.get("/data").cloned())
    };
    lab.clusters[0].edit(|s| s.agents.volumes = named("cache"));
    lab.settle(ENOUGH);
    assert_eq!(mounted(&lab, "server-0"), None);
    assert_eq!(mounted(&lab, "agent-1").as_deref(), Some("cache"));

    // Removed with a node, it keeps that node from coming back, and no other from running.
    lab.world.remove_container("k3d-dev-agent-1").unwrap();
    let volume = lab.world.volumes.remove("cache").unwrap();
    (0..6).for_each(|_| drop(lab.round()));
    assert_eq!(told(&lab, ConditionType::AgentsReady).0, Reason::NotAllowed);
    assert!(lab.world.named("k3d-dev-agent-1").is_none() && !lab.world.volumes.contains_key("cache"));
    assert_eq!(lab.world.named("k3d-dev-agent-0").unwrap().state, State::Running);
    lab.world.volumes.insert("cache".into(), volume.clone());
    lab.settle(ENOUGH);
    assert_eq!(mounted(&lab, "agent-1").as_deref(), Some("cache"));

    lab.clusters[0].deleted = true;
    lab.settle(ENOUGH);
    assert_eq!(lab.world.volumes.get("cache"), Some(&volume));
}

#[test]
fn a_directory_that_is_made_later_is_taken() {
    let mut lab = settled();
    lab.clusters[0].edit(|s| s.agents.volumes = volume("/srv/later"));
    (0..6).for_each(|_| drop(lab.round()));
    assert!(told(&lab, ConditionType::AgentsReady).1.contains("mkdir -p /srv/later"));
    Arc::make_mut(&mut lab.world.host_directories).insert("/srv/later".into());
    lab.settle(ENOUGH);
    assert_eq!(mounted(&lab), ["", "/srv/later", "/srv/later"]);
}

/// In whatever pass and after whatever step the operator dies.
#[test]
fn it_goes_on_where_it_was_killed() {
    for passes in 0..5 {
        for cut in 0..8 {
            let mut lab = settled();
            lab.clusters[0].edit(|s| s.agents.volumes = volume("/srv/data"));
            (0..passes).for_each(|_| drop(lab.pass(0, usize::MAX)));
            lab.pass(0, cut);
            lab.settle(ENOUGH);
            assert_eq!(mounted(&lab), ["", "/srv/data", "/srv/data"], "{passes} passes, {cut} steps");
            assert!(lab.world.named(LOOKER).is_none(), "{passes} passes, {cut} steps");
        }
    }
}

#[test]
fn what_is_no_longer_allowed_stays_in_nodes_that_run() {
    let mut lab = settled();
    lab.clusters[0].edit(|s| s.agents.volumes = volume("/srv/data"));
    lab.settle(ENOUGH);
    lab.settings.allowed_host_paths.clear();
    let before = lab.world.clone();
    (0..3).for_each(|_| drop(lab.round()));
    assert_eq!(lab.world.containers, before.containers);
    let (reason, message) = told(&lab, ConditionType::Accepted);
    assert_eq!(reason, Reason::HostPathNotAllowed);
    assert!(message.starts_with("spec.agents.volumes: /srv/data"), "{message}");
}
