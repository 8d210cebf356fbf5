//! Registries that require a login.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    live::{
        eventually, holds, pause,
        pulls::{fails, pulls},
        registries::{FIRST, SECOND, push},
        scene::{LIMIT, Scene, condition},
    },
    registries::{SAFE, Stage, cluster, login, push_plain},
};

/// Pushes to the registry that requires a password, and returns the image's name without the registry.
fn push_safe(scene: &Scene, name: &str) -> String {
    let safe = &scene.stage::<Stage>().safe;
    let path = format!("e2e/{name}:1");
    let image = format!("{}/{path}", safe.host());
    push(&image, None).expect_err("a push needs a login");
    push(&image, Some(&FIRST)).unwrap_or_else(|e| panic!("{e}"));
    path
}

pub fn each_kind_of_secret_logs_in(scene: &Scene) {
    let path = push_safe(scene, "private");
    let (child, [server, agent]) = cluster(scene);
    for name in SAFE {
        pulls(&child, &format!("{name}.test:5000/{path}"), &server);
    }
    // An identity token, which is sent to a token server.
    let path = push_plain(scene, "identity");
    pulls(&child, &format!("token.test/{path}"), &agent);
    let Stage { tokens, tokened, .. } = scene.stage();
    let asked = tokens.log();
    assert!(asked.lines().any(|l| l.contains("known=true") && l.contains("identity")), "{asked}");
    assert!(tokened.requests(&["/e2e/identity/manifests/"]) > 0, "the image came from elsewhere");
}

pub fn a_wrong_password_is_reported(scene: &Scene) {
    let path = push_safe(scene, "hidden");
    let (child, [server, _]) = cluster(scene);
    let why = fails(&child, &format!("wrong.test:5000/{path}"), &server);
    assert!(why.contains("401"), "{why}");
}

/// A changed password takes effect in nodes when K3s starts: they restart one after the other, and the status reports
/// it.
pub fn changed_passwords_roll_the_nodes(scene: &Scene) {
    let path = push_safe(scene, "rotated");
    let (child, nodes) = cluster(scene);
    let nodes: BTreeSet<String> = nodes.into();
    let before = scene.picture();
    let safe = &scene.stage::<Stage>().safe;
    let ended = AtomicBool::new(false);
    let (most, reasons) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut most, mut reasons) = (0, BTreeSet::new());
            while !ended.load(Ordering::Relaxed) {
                let picture = scene.picture();
                most = most.max(nodes.iter().filter(|n| !picture.get(*n).is_some_and(|s| s.running)).count());
                if let Ok(ready) = scene.try_get("lc/c").and_then(|lc| condition(&lc, "Ready")) {
                    reasons.insert(format!("{}: {}", ready["reason"], ready["message"]));
                }
                pause(Duration::from_millis(100));
            }
            (most, reasons)
        });
        let rolled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            safe.admit(&[SECOND]);
            login(scene, "user", SECOND);
            eventually(LIMIT, "both nodes were restarted", || {
                let picture = scene.picture();
                let same = |n: &&String| picture.get(*n).is_none_or(|s| s.started == before[*n].started);
                let left: Vec<_> = nodes.iter().filter(same).collect();
                holds(left.is_empty(), || format!("not yet: {left:?}"))
            });
            scene.ready("lc/c");
        }));
        ended.store(true, Ordering::Relaxed);
        let seen = looking.join().expect("the thread does not panic");
        rolled.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen
    });
    assert!(most <= 1, "{most} nodes were down at once");
    let updating =
        reasons.iter().any(|t| nodes.iter().any(|n| t.contains(n.as_str())) || t.contains("Updating"));
    assert!(updating, "the status does not report it: {reasons:#?}");
    for node in &nodes {
        pulls(&child, &format!("user.test:5000/{path}"), node);
    }
    let after = scene.picture();
    for (name, was) in &before {
        assert_eq!(after[name].networks, was.networks, "{name} has other addresses");
    }
    safe.admit(&[FIRST, SECOND]);
}
