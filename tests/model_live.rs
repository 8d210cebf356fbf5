//! The model of Docker against the real engine: random calls get the same answers from both, so that no bug hides in a
//! model that is kinder than the engine.
//!
//! `SEQUENCES=` sets their number, `SEED=` the first. The tests fail where there is no Docker; they never skip.

#[path = "support/live/docker.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod live;
#[path = "model_live/run.rs"]
mod run;
mod support;

use std::env;

use run::{Call, calls, run};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Sequences that the model once answered otherwise than Docker.
fn known() -> Vec<(&'static str, Vec<Call>)> {
    use Call::*;
    vec![
        (
            "a missing volume is made with the container",
            vec![CreateContainer(0, 0b0010_0001), RemoveVolume(0)],
        ),
        (
            "a stopped container keeps its place",
            vec![CreateNetwork(0), CreateContainer(0, 1), RemoveNetwork(0), Start(0)],
        ),
    ]
}

#[tokio::test]
async fn the_model_answers_as_docker_does() {
    let (first, many) = (number("SEED").unwrap_or(1), number("SEQUENCES").unwrap_or(6));
    let mut differing = Vec::new();
    for (name, calls) in known() {
        differing.extend(run(0, &calls).await.map(|how| format!("{name}: {how}")));
    }
    for seed in first..first + many {
        let calls = calls(seed);
        differing.extend(run(seed, &calls).await.map(|how| format!("SEED={seed}: {how}")));
    }
    println!("{many} sequences, {} differ", differing.len());
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}
