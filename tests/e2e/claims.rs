//! A pool of real clusters, and claims that take them.

use std::time::Instant;

use serde_json::Value;

use crate::live::{
    eventually, holds,
    scene::{LIMIT, Scene, condition, is_ready},
};

/// A claim takes the cluster that is ready, with its kubeconfig; the pool makes another one; a claim ends with its lifetime
/// and tells when its cluster is gone; nothing is left.
pub fn a_claim_takes_a_ready_cluster(scene: &Scene) {
    let servers = "{args: [\"--disable=traefik,metrics-server,servicelb\"]}";
    let pool = format!("{{replicas: 1, template: {{spec: {{servers: {servers}, agents: {{count: 0}}}}}}}}");
    scene.apply("LocalClusterPool", "ci", &pool);
    scene.ready("lcpool/ci");
    let began = Instant::now();
    scene.apply("LocalClusterClaim", "one", "{poolName: ci, ports: [{name: http, port: 80}]}");
    scene.ready("lcclaim/one");
    let took = began.elapsed();
    let claim = scene.get("lcclaim/one");
    let name = claim["status"]["clusterName"].as_str().expect("it has a cluster").to_owned();
    assert_eq!(claim["status"]["ports"][0]["name"], "http", "{claim}");
    let nodes = scene.child(&name).run(&["get", "nodes", "-o", "name"]);
    assert_eq!(nodes.lines().count(), 1, "{nodes}");
    println!("        a claim was Ready after {took:?}");
    // What was claimed can go before its claim, which tells it.
    scene.run(&["delete", &format!("lc/{name}"), "--wait=false"]);
    scene.reason("lcclaim/one", "Ready", "ClusterGone");
    // The pool has made another one, which goes with its claim.
    scene.apply("LocalClusterClaim", "two", "{poolName: ci, lifetime: 1s}");
    eventually(LIMIT, "its lifetime is over", || {
        holds(scene.try_get("lcclaim/two").is_err(), || scene.run(&["get", "lcclaim,lcpool,lc"]))
    });
    scene.run(&["scale", "lcpool/ci", "--replicas=0"]);
    eventually(LIMIT, "the pool is empty", || {
        let clusters = scene.run(&["get", "lc", "-o", "name"]);
        holds(clusters.is_empty(), || clusters)
    });
    eventually(60, "the pool says so", || {
        let pool: Value = scene.try_get("lcpool/ci")?;
        holds(pool["status"]["replicas"] == 0, || pool["status"].to_string())?;
        condition(&pool, "Ready").and_then(|_| is_ready(&pool))
    });
    scene.run(&["delete", "lcclaim,lcpool", "--all"]);
    scene.is_gone(&[]).unwrap_or_else(|left| panic!("{left}"));
}
