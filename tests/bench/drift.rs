//! Repairs, from the death of a container by `docker kill` until the operator has started it again: of an agent, which
//! is a large container, and of the load balancer, which is a small one, next to `docker start` right after the kill.
//! All times are the engine's, from its events.

use std::time::Duration;

use crate::{
    Scale,
    figures::Report,
    listen::Events,
    live::{
        cluster::container,
        docker, eventually, holds, pause,
        scene::{Scene, is_ready},
    },
    own_time::{Action, Event},
    small_cluster,
};

/// How long a repair may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Number of starts that show how long the engine takes.
const ENGINE: usize = 20;
/// How long the operator has to write nothing to be idle.
const QUIET: Duration = Duration::from_secs(1);

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::new("drift");
    scene.apply("LocalCluster", "c", &small_cluster(1, ""));
    scene.ready("lc/c");
    for short in ["agent-0", "serverlb"] {
        // As people break one thing at a time. An agent takes some seconds until it is Ready.
        scene.run(&["annotate", "lc/c", "localcluster.dev/paused=true"]);
        scene.reason("lc/c", "Paused", "Paused");
        let start = |name: &str| drop(docker(&["start", name]));
        let engine = format!("{short}, by docker start");
        report.seconds(&engine, &starts(&scene, short, scale.kills.min(ENGINE), start, || ()));
        scene.run(&["annotate", "lc/c", "localcluster.dev/paused-"]);
        idle(&scene);
        let seconds = starts(&scene, short, scale.kills, |_| (), || idle(&scene));
        report.compared(short, &seconds, &engine);
    }
    // The next kill comes as soon as the container runs.
    let seconds = starts(&scene, "serverlb", scale.kills, |_| (), || ());
    report.compared("serverlb, no rest between kills", &seconds, "serverlb");
    // Whether many deaths in a row make it wait longer.
    let (first, second) = seconds.split_at(seconds.len() / 2);
    if !first.is_empty() {
        report.seconds("serverlb, no rest, first half", first);
        report.compared("serverlb, no rest, second half", second, "serverlb, no rest, first half");
    }
    scene.end();
}

/// Kills a container this often, each time when it was started again, by `start` or the operator, and has rested;
/// returns the seconds from each death to the next start.
fn starts(scene: &Scene, short: &str, kills: usize, start: impl Fn(&str), rest: impl Fn()) -> Vec<f64> {
    let name = container(scene, short);
    let events = Events::listen();
    for kill in 1..=kills {
        docker(&["kill", &name]);
        start(&name);
        events.started(&name, kill, LIMIT);
        rest();
    }
    let all: Vec<Event> = events.up_to_now(scene).into_iter().filter(|e| e.container == name).collect();
    let mut died = None;
    let mut seconds = Vec::new();
    for event in all {
        match event.action {
            Action::Died => died = Some(event.at),
            Action::Started => seconds.extend(died.take().map(|died| event.at - died)),
            Action::Signalled => {}
        }
    }
    seconds
}

/// Waits until the operator has nothing to do: it writes no status then.
fn idle(scene: &Scene) {
    eventually(LIMIT.as_secs(), "the operator has nothing to do", || {
        let before = scene.try_get("lc/c")?;
        is_ready(&before)?;
        pause(QUIET);
        let after = scene.try_get("lc/c")?;
        holds(after == before, || "the status changes".to_owned())
    });
}
