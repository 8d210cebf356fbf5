//! Claims of a pool of two clusters, one after the other, from before `kubectl apply` until `kubectl wait` ends, next to the
//! same two commands for an object that is Ready at once: the difference is the operator's. The pool is full before each.

use crate::{
    Scale,
    clock::timed,
    figures::Report,
    live::{
        eventually, holds,
        scene::{LIMIT, Scene},
    },
    small_cluster,
};

/// Clusters of the pool.
const REPLICAS: usize = 2;

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::new("pool");
    let spec = small_cluster(0, "");
    scene.apply("LocalClusterPool", "ci", &format!("{{replicas: {REPLICAS}, template: {{spec: {spec}}}}}"));
    scene.ready("lcpool/ci");
    // The pool itself is Ready, and is applied without a change.
    let commands: Vec<f64> = (0..scale.claims.min(10))
        .map(|_| {
            timed(|| {
                scene.apply(
                    "LocalClusterPool",
                    "ci",
                    &format!("{{replicas: {REPLICAS}, template: {{spec: {spec}}}}}"),
                );
                scene.ready("lcpool/ci");
            })
        })
        .collect();
    report.seconds("kubectl apply and wait", &commands);
    for (case, more) in
        [("claim: Ready", ""), ("claim with a port: Ready", ", ports: [{name: http, port: 80}]")]
    {
        let claims: Vec<f64> = (0..scale.claims).map(|index| claim(&scene, index, more)).collect();
        report.compared(case, &claims, "kubectl apply and wait");
    }
    scene.run(&["delete", "lcclaim,lcpool", "--all"]);
    scene.end();
}

/// Returns how long a claim takes, and deletes it. A machine that makes another cluster at the same time is not measured.
fn claim(scene: &Scene, index: usize, more: &str) -> f64 {
    eventually(LIMIT, "the pool is full", || {
        let pool = scene.try_get("lcpool/ci")?;
        holds(pool["status"]["readyReplicas"] == REPLICAS, || pool["status"].to_string())
    });
    let name = format!("c{index}");
    let seconds = timed(|| {
        scene.apply("LocalClusterClaim", &name, &format!("{{poolName: ci{more}}}"));
        scene.ready(&format!("lcclaim/{name}"));
    });
    scene.run(&["delete", &format!("lcclaim/{name}")]);
    seconds
}
