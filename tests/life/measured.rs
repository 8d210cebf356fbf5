//! What metrics show of the life of an object.

use super::*;

/// The value of a series.
fn value(rig: &Rig, series: &str) -> Option<f64> {
    let text = rig.ctx.metrics.encode().unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))?;
    line.parse().ok()
}

fn repairs(rig: &Rig) -> Vec<String> {
    let text = rig.ctx.metrics.encode().unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("localcluster_repairs_total"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_series_of_an_object_begin_and_end_with_it() {
    let mut rig = Rig::new(lab::settings());
    rig.ctx.serve_series(1000);
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}}));
    // The watches of the fakes go on as long as there is an object.
    put(&rig, "other", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    rig.round().await;
    let of = "kind=\"LocalCluster\",namespace=\"default\",name=\"dev\"";
    let ready = format!("localcluster_status_condition{{{of},type=\"Ready\",status=\"true\"}}");
    assert_eq!(value(&rig, &ready), Some(1.0));
    assert_eq!(
        value(&rig, "localcluster_nodes_ready{namespace=\"default\",name=\"dev\",role=\"agent\"}"),
        Some(1.0)
    );
    let took = |condition: &str, what: &str| {
        let labels = format!("kind=\"LocalCluster\",condition=\"{condition}\"");
        value(&rig, &format!("localcluster_provisioning_duration_seconds_{what}{{{labels}}}"))
    };
    for condition in ["Accepted", "NetworkReady", "ControlPlaneReady", "AgentsReady", "Ready"] {
        assert_eq!(took(condition, "count"), Some(2.0), "{condition}");
    }
    let (first, last) = (took("Accepted", "sum").unwrap(), took("Ready", "sum").unwrap());
    assert!(first < last && last < 3600.0, "{first} and {last}");
    assert_eq!(repairs(&rig), [] as [String; 0], "creating is no repair");

    // It is not measured again.
    rig.world(|w| assert!(w.interfere(&Outside::Stop("k3d-dev-agent-0".into()))));
    rig.settle_after_a_round(ENOUGH).await;
    let labels = "kind=\"LocalCluster\",condition=\"Ready\"";
    assert_eq!(
        value(&rig, &format!("localcluster_provisioning_duration_seconds_count{{{labels}}}")),
        Some(2.0)
    );

    rig.api.delete(&path("localclusters", "dev"));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    let text = rig.ctx.metrics.encode().unwrap();
    assert!(!text.contains("name=\"dev\""), "{text}");
    assert_eq!(value(&rig, "localcluster_objects{kind=\"LocalCluster\"}"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn repairs_are_counted_and_changes_for_the_user_are_not() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    let one = |repair: &str, n: u8| format!("{{kind=\"LocalCluster\",repair=\"{repair}\"}} {n}");
    rig.world(|w| assert!(w.interfere(&Outside::Stop("k3d-dev-agent-0".into()))));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(repairs(&rig), [one("Start", 1)]);
    rig.world(|w| w.remove_container("k3d-dev-agent-0").unwrap());
    rig.settle_after_a_round(ENOUGH).await;
    rig.world(|w| w.remove_container("k3d-dev-serverlb").unwrap());
    rig.settle_after_a_round(ENOUGH).await;
    let mut seen = repairs(&rig);
    seen.sort();
    assert_eq!(seen, [one("Recreate", 2), one("Start", 1)]);
    // More agents, a cluster that is stopped and started, and one that is made from another image.
    for change in [
        json!({"agents": {"count": 2}}),
        json!({"agents": {"count": 2}, "state": "Stopped"}),
        json!({"agents": {"count": 2}}),
        json!({"agents": {"count": 1, "shmSize": "128Mi"}}),
    ] {
        let stopped = change["state"] == "Stopped";
        put(&rig, "dev", json!({}), change);
        if stopped {
            for _ in 0..ENOUGH {
                rig.round().await;
            }
        } else {
            rig.settle_after_a_round(ENOUGH).await;
        }
    }
    let mut after = repairs(&rig);
    after.sort();
    assert_eq!(after, seen);
}
