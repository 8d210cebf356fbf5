//! A policy whose mode is Audit: it reports, and refuses nothing.

use super::*;
use support::fakes::rig::message;

/// Rules that every spec of these tests violates.
fn rules(mode: &str) -> Value {
    team(json!({
        "mode": mode, "quota": {"clusters": 1}, "nodes": {"images": ["registry.invalid/**"]},
        "defaults": {"pids": 4096}, "onViolation": "Stop", "grace": "1h",
    }))
}

fn ids(rig: &Rig) -> BTreeSet<String> {
    rig.world(|w| w.containers.keys().cloned().collect())
}

fn metric(rig: &Rig) -> Vec<String> {
    let text = rig.ctx.metrics.encode().unwrap();
    text.lines().filter(|l| l.starts_with("localcluster_policy_violations{")).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn violations_are_reported_and_nothing_is_refused() {
    let mut rig = strict();
    policy(&rig, "teams", rules("Audit"));
    put(&rig, "dev", json!({}));
    put(&rig, "other", json!({}));
    rig.settle(ENOUGH).await;
    for name in ["dev", "other"] {
        assert_eq!(told(&rig, name, "Accepted"), is("True", "Accepted"));
        assert_eq!(told(&rig, name, "PolicyViolation"), is("True", "PolicyAudited"));
    }
    let why = message(&rig, "PolicyViolation");
    assert!(
        why.starts_with("only audited, nothing is refused: the HostPolicy teams does not allow"),
        "{why}"
    );
    let events = rig.events("PolicyAudited");
    assert!(events.len() == 2 && rig.events("PolicyViolation").is_empty(), "{events:?}");
    let limits = rig.world(|w| w.named("k3d-dev-server-0").unwrap().limits);
    assert_eq!(limits.pids, Some(4096), "defaults apply");
    let field = |field: &str, n: u8| {
        format!("localcluster_policy_violations{{policy=\"teams\",field=\"{field}\"}} {n}")
    };
    let mut seen = metric(&rig);
    seen.sort();
    assert_eq!(seen, [field("nodes.images", 2), field("quota.clusters", 1)]);
    let mut followed = Followed::new(&rig.ctx);
    followed.follow(&rig.ctx).await;
    let written = rig.api.get("/apis/localcluster.dev/v1alpha1/hostpolicies/teams").unwrap();
    assert_eq!(written["status"]["violations"], json!(["default/dev", "default/other"]));
    let ready =
        written["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    assert!(
        ready["message"].as_str().unwrap().starts_with("mode Audit, nothing is refused: 2 objects"),
        "{ready}"
    );
    // It is neither frozen nor stopped.
    days(&rig, 2);
    put(&rig, "dev", json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    assert!(rig.world(|w| w.named("k3d-dev-agent-0").is_some()));
    let status = rig.api.get(&cluster("dev")).unwrap()["status"].clone();
    assert_eq!(status["violation"], Value::Null);
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-agent-0".into())));
    rig.settle_after_a_round(ENOUGH).await;
    assert!(rig.world(|w| w.named("k3d-dev-agent-0").is_some()));
    // It is deleted as before.
    rig.api.delete(&cluster("other"));
    rig.settle(ENOUGH).await;
    assert_eq!(metric(&rig).len(), 2, "until the next judgement");
    rig.round().await;
    assert_eq!(metric(&rig), [field("nodes.images", 1)]);
}

#[tokio::test(start_paused = true)]
async fn enforcing_freezes_what_violates_and_auditing_again_thaws_it() {
    let mut rig = strict();
    policy(&rig, "teams", rules("Audit"));
    put(&rig, "dev", json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    let before = ids(&rig);
    // The operator is started again: it knows of what is audited by its status alone.
    let mut rig = rig.restart();
    rig.round().await;
    let mut followed = Followed::new(&rig.ctx);
    policy(&rig, "teams", rules("Enforce"));
    rig.reconcile().await;
    rig.triggered();
    followed.follow(&rig.ctx).await;
    assert!(rig.triggered().contains(&"dev".to_owned()), "the change triggers what it concerns");
    rig.round().await;
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("True", "PolicyViolation"));
    assert_eq!(told(&rig, "dev", "Ready"), is("True", "Ready"), "what runs is as it was");
    assert_eq!(rig.events("PolicyViolation").len(), 1);
    put(&rig, "dev", json!({"agents": {"count": 2}}));
    for _ in 0..3 {
        rig.round().await;
    }
    assert_eq!(told(&rig, "dev", "Ready"), is("False", "PolicyViolation"));
    assert_eq!(ids(&rig), before);
    // The time until it would be stopped began, and ends with the mode.
    let violation = |rig: &Rig| rig.api.get(&cluster("dev")).unwrap()["status"]["violation"].clone();
    assert!(violation(&rig)["stopsAt"].is_string());
    policy(&rig, "teams", rules("Audit"));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(violation(&rig), Value::Null);
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("True", "PolicyAudited"));
    assert!(ids(&rig).is_superset(&before) && ids(&rig).len() == before.len() + 1);
    // Nothing to report any more.
    policy(&rig, "teams", team(json!({"mode": "Audit"})));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("False", "Accepted"));
}

/// A cluster that its policy stopped runs again when the policy only audits.
#[tokio::test(start_paused = true)]
async fn auditing_starts_what_was_stopped() {
    let mut rig = strict();
    policy(&rig, "teams", rules("Audit"));
    put(&rig, "dev", json!({}));
    rig.settle(ENOUGH).await;
    policy(&rig, "teams", rules("Enforce"));
    rig.round().await;
    rig.world(|w| w.clock += 3600);
    for _ in 0..4 {
        rig.pass().await;
        rig.round().await;
    }
    assert_eq!(told(&rig, "dev", "Stopped"), is("True", "PolicyViolation"));
    policy(&rig, "teams", rules("Audit"));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(told(&rig, "dev", "Ready"), is("True", "Ready"));
}

#[test]
fn a_check_of_files_reports_and_succeeds() {
    let policy = "{kind: HostPolicy, apiVersion: localcluster.dev/v1alpha1, metadata: {name: p}, spec: {namespaceSelector: {}, \
                  mode: Audit, quota: {clusters: 1}}}";
    let object = |name: &str| {
        format!(
            "{{apiVersion: localcluster.dev/v1alpha1, kind: LocalCluster, metadata: {{name: {name}}}, spec: {{}}}}"
        )
    };
    let objects = [("a".to_owned(), object("a")), ("b".to_owned(), object("b"))];
    let checked = check::files(("p", policy), &objects, "team-a", &lab::settings()).unwrap();
    assert_eq!(checked.refused, [""; 0]);
    assert_eq!(
        checked.audited,
        ["LocalCluster team-a/b: 2 LocalClusters in namespace team-a (quota.clusters: at most 1)"]
    );
}
