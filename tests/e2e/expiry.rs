//! Clusters with a time to live are deleted automatically, unless they are on hold.

use std::time::Duration;

use crate::{
    live::{
        eventually,
        harness::Group,
        holds, install, pause,
        scene::{LIMIT, Scene},
    },
    trouble::idle_cluster,
};

pub const GROUP: Group = Group {
    name: "expiry",
    setup: || {
        install();
        Scene::new("ttl")
    },
    tests: &[("it_goes_with_everything", it_goes_with_everything), ("a_hold_keeps_it", a_hold_keeps_it)],
};

fn is_gone(scene: &Scene, object: &str) -> Result<(), String> {
    let names = scene.run(&["get", "lc", "-o", "name", "--ignore-not-found"]);
    holds(!names.contains(object), || format!("{names} is still there"))
}

fn age(scene: &Scene) -> u64 {
    let age = "{{.metadata.creationTimestamp}}";
    let created =
        scene.run(&["get", "lc", "-o", &format!("go-template={{{{range .items}}}}{age}{{{{end}}}}")]);
    let seconds = crate::live::command("date", &["-d", &created, "+%s"], "").expect("it is a time");
    let now = crate::live::command("date", &["+%s"], "").expect("there is a clock");
    now.parse::<u64>().expect("a number") - seconds.parse::<u64>().expect("a number")
}

fn it_goes_with_everything(scene: &Scene) {
    let since = crate::live::now();
    scene.apply("LocalCluster", "short", &idle_cluster("ttl: 40s"));
    eventually(30, "it is being made", || holds(scene.containers().len() == 2, || "not yet".to_owned()));
    let end = scene.get("lc/short")["status"]["expiresAt"].as_str().expect("it is in the status").to_owned();
    let table = scene.run(&["get", "lc"]);
    let (head, row) = table.split_once('\n').expect("a head and a row");
    assert!(head.contains("EXPIRES") && row.contains(&end), "{table}");
    eventually(10, "an Event reports it", || {
        let events = scene.events(&since);
        holds(events.iter().any(|e| e.starts_with("Expiring ") && e.contains(&end)), || format!("{events:?}"))
    });
    assert!(age(scene) < 40, "it went too early, or the machine is too slow");
    eventually(LIMIT, "the object is gone", || is_gone(scene, "short"));
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
    let events = scene.events(&since);
    assert!(events.iter().any(|e| e.starts_with("Expired ")), "{events:?}");
    eventually(60, "its Secrets are gone", || {
        let secrets = scene.run(&["get", "secrets", "-l", "app.kubernetes.io/managed-by", "-o", "name"]);
        holds(secrets.is_empty(), || secrets)
    });
}

fn a_hold_keeps_it(scene: &Scene) {
    scene.apply("LocalCluster", "held", &idle_cluster("ttl: 25s"));
    scene.run(&["annotate", "lc/held", "localcluster.dev/hold="]);
    eventually(30, "its end is no longer in the status", || {
        let status = &scene.try_get("lc/held")?["status"];
        holds(status["conditions"].is_array() && status["expiresAt"].is_null(), || status.to_string())
    });
    while age(scene) < 30 {
        pause(Duration::from_millis(500));
    }
    // Another reconcile, as after an edit, keeps it.
    scene.run(&["annotate", "lc/held", "e2e/look=1"]);
    eventually(60, "it has its containers", || holds(scene.containers().len() == 2, || "not yet".to_owned()));
    assert!(scene.get("lc/held")["metadata"]["deletionTimestamp"].is_null());
    scene.run(&["annotate", "lc/held", "localcluster.dev/hold-"]);
    eventually(60, "it is gone", || is_gone(scene, "held"));
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}
