//! Without a change of the spec or the host, nothing is done.

use std::time::Duration;

use crate::{
    cluster::{objects, settle},
    live::{
        docker, now, pause,
        scene::{Scene, name},
    },
};

/// Time for which nothing happens.
const IDLE: Duration = Duration::from_secs(120);

/// Returns what must not change: each object of the namespace with its resourceVersion.
fn versions(scene: &Scene) -> String {
    let columns = "custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion";
    scene.run(&["get", "lc,lreg,secrets", "-o", columns])
}

pub fn second_apply_writes_nothing(scene: &Scene) {
    settle(scene);
    let (objects_before, containers_before) = (versions(scene), scene.picture());
    // kubectl may print "configured", since it compares lists whose entries have defaults. The API server does not
    // change the object.
    scene.k.apply(&objects(&scene.namespace));
    scene.ready("lc/c");
    settle(scene);
    assert_eq!(versions(scene), objects_before);
    assert_eq!(scene.picture(), containers_before);
}

pub fn two_idle_minutes(scene: &Scene) {
    settle(scene);
    let (objects_before, containers_before) = (versions(scene), scene.picture());
    let ids: Vec<String> = scene.containers().iter().map(|c| name(c).to_owned()).collect();
    let since = now();
    pause(IDLE); // the one place where time itself is what is tested
    let until = now();
    assert_eq!(versions(scene), objects_before, "the operator wrote");
    assert_eq!(scene.picture(), containers_before, "a container changed");
    let format = "{{.Type}} {{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}";
    let happened = docker(&["events", "--since", &since, "--until", &until, "--format", format]);
    let network = scene.network("c");
    let ours = |line: &&str| line.contains(&network) || ids.iter().any(|id| line.contains(id.as_str()));
    // Reading a file emits an event, and changes nothing; nor does the container that reads the host's resolvers, or a
    // check of the registry through Docker.
    let looks = |line: &&str| {
        ["archive-path", "-serverlb-resolvers", "container exec_"].iter().any(|look| line.contains(look))
    };
    let changed: Vec<&str> = happened.lines().filter(ours).filter(|l| !looks(l)).collect();
    assert!(changed.is_empty(), "the operator changed Docker objects: {changed:#?}");
}
