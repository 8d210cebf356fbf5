//! Images that change on the Docker host.

use localcluster_operator::{
    controller::triggers,
    docker::engine::{Event, Subject},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn an_image_on_the_host_concerns_those_that_want_it() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "with", json!({}), json!({"preloadImages": ["app:1"]}));
    put(&rig, "other", json!({}), json!({"preloadImages": ["registry.example/other:1"]}));
    put(&rig, "without", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    for (action, references, concerned) in [
        ("tag", ["sha256:1", "app:1"], &["with"][..]),
        ("tag", ["sha256:1", "docker.io/library/app:1"], &["with"]),
        ("tag", ["sha256:1", "app:2"], &[]),
        ("pull", ["registry.example/other:1", "registry.example/other"], &["other"]),
        // An archive may have any.
        ("load", ["sha256:1", "sha256:1"], &["other", "with"]),
    ] {
        rig.triggered();
        let subject = Subject::Image(references.map(str::to_owned).into());
        triggers::event(&rig.ctx, Event { subject, action: action.into(), labels: BTreeMap::new() }).await;
        let mut triggered = rig.triggered();
        triggered.sort();
        triggered.dedup();
        assert_eq!(triggered, concerned, "{action} {references:?}");
    }
}
