//! OCI runtimes, and nodes without privileges.

use localcluster_operator::docker::{engine::Engine, spec::ContainerSpec};
use serde_json::{Value, json};

use super::{World, docker};

/// One that every engine has beside the one that is its default.
const RUNTIME: &str = "io.containerd.runc.v2";

#[tokio::test]
async fn the_engine_tells_its_runtimes() {
    let info = World::new("runtimes-info").engine.info().await.unwrap();
    let told: Value = serde_json::from_str(&docker(&["info", "-f", "{{json .Runtimes}}"])).unwrap();
    let names: Vec<String> = told.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        (info.runtimes, info.default_runtime),
        (names, docker(&["info", "-f", "{{.DefaultRuntime}}"]))
    );
}

#[tokio::test]
async fn a_node_runs_with_a_runtime_and_without_privileges() {
    let world = World::new("runtimes");
    let (_, network) = world.network("net").await;
    let spec = |thing: &str, runtime: Option<&str>| ContainerSpec {
        runtime: runtime.map(str::to_owned),
        shares_mounts: true,
        ..world.spec(thing)
    };
    let id = world.engine.create_container(&spec("plain", Some(RUNTIME)), Some(&network)).await.unwrap();
    world.engine.start(&id).await.unwrap();
    let host: Value = serde_json::from_str(&docker(&["inspect", &id, "-f", "{{json .HostConfig}}"])).unwrap();
    assert_eq!((&host["Runtime"], &host["Privileged"]), (&json!(RUNTIME), &json!(false)));
    assert_eq!((&host["CapDrop"], &host["SecurityOpt"]), (&Value::Null, &Value::Null));
    let detail = world.engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!((detail.runtime.as_deref(), detail.privileged), (Some(RUNTIME), false));
    // Where a runtime gives no right to mount, its mounts are not shared, and the node runs.
    assert!(detail.started_at.is_some() && detail.container.state.is_up());
    let other = spec("default", None);
    let id =
        world.engine.create_container(&ContainerSpec { privileged: true, ..other }, Some(&network)).await;
    let detail = world.engine.inspect(&id.unwrap()).await.unwrap().unwrap();
    assert_eq!(detail.runtime.unwrap(), docker(&["info", "-f", "{{.DefaultRuntime}}"]));
    assert!(detail.privileged);
    // Which is why the operator looks before it removes the container that it replaces.
    let refused = world
        .engine
        .create_container(&spec("none", Some("no-such-runtime")), Some(&network))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("no-such-runtime"), "{refused}");
}
