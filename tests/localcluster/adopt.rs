//! `adopt`: what is on the Docker Engine without an object.

use localcluster_operator::plan::record;
use serde_json::{Value, json};

use super::{DEV, Desk, condition, docker::Docker, ready};

const GROUP: &str = "/apis/localcluster.dev/v1alpha1/namespaces";
const ADOPTS: &str = "localcluster.dev/adopts";

/// Containers of a lost cluster with its registry, of another registry, and of a cluster that lives.
async fn desk() -> (Desk, Docker) {
    let (desk, docker) = (Desk::new().await, Docker::start());
    let system = json!({"metadata": {"name": "kube-system", "uid": "new-hub"}});
    desk.api.put("/api/v1/namespaces/kube-system", system);
    let alive = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "alive", "namespace": "default", "uid": "u-alive", "generation": 1}, "spec": {}});
    desk.api.put(&format!("{GROUP}/default/localclusters/alive"), alive);
    for (name, object, uid, role) in [
        ("k3d-dev-server-0", "default/dev", "u-dev", "server"),
        ("k3d-dev-serverlb", "default/dev", "u-dev", "loadbalancer"),
        ("k3d-dev-registry", "default/dev-registry", "u-own", "registry"),
        ("k3d-images", "default/images", "u-images", "registry"),
        ("k3d-alive-server-0", "default/alive", "u-alive", "server"),
        ("k3d-old-server-0", "team/old", "u-old", "server"),
    ] {
        docker.add(name, uid, role, "running");
        let more = [("localcluster.dev/manager", "lost-hub"), ("localcluster.dev/owner", object)];
        docker.set(|state| {
            let labels = &mut state.containers.last_mut().unwrap()["Config"]["Labels"];
            more.iter().for_each(|(key, value)| labels[key] = json!(value));
        });
    }
    let spec = json!({"agents": {"count": 0}, "registries": {"create": {}, "use": [{"name": "images"}]}});
    keep(&docker, "k3d-dev-serverlb", "LocalCluster", "dev", spec);
    keep(&docker, "k3d-dev-registry", "Registry", "dev-registry", json!({}));
    keep(&docker, "k3d-images", "Registry", "images", json!({"deleteEnabled": true}));
    (desk, docker)
}

fn keep(docker: &Docker, container: &str, kind: &str, name: &str, spec: Value) {
    let object = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "default", "labels": {"team": "a"}}, "spec": spec});
    let file = (format!("id-{container}"), record::FILE.to_owned(), object.to_string().into_bytes());
    docker.set(|state| state.files.push(file));
}

#[tokio::test]
async fn without_arguments_it_lists_and_changes_nothing() {
    let (desk, docker) = desk().await;
    let (code, out, said) = desk.run(&["adopt", &docker.host()]).await;
    assert_eq!(code, 0, "{said}");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    let expected = [
        ["NAMESPACE", "NAME", "KIND", "CONTAINERS", "MANAGEMENT CLUSTER", "ADOPTION"],
        ["default", "dev", "LocalCluster", "2", "lost-hub", "the object is created again from its record"],
        [
            "team",
            "old",
            "LocalCluster",
            "1",
            "lost-hub",
            "not without a file: the container with its record is gone",
        ],
        ["default", "dev-registry", "Registry", "1", "lost-hub", "with the LocalCluster dev"],
        ["default", "images", "Registry", "1", "lost-hub", "the object is created again from its record"],
    ];
    assert_eq!(rows, expected);
    assert!(said.contains("warning: something is from the management cluster lost-hub"), "{said}");
    assert!(said.ends_with("next: localcluster adopt --all, or localcluster adopt NAME\n"), "{said}");
    let (_, out, _) = desk.run(&["adopt", &docker.host(), "-n", "team"]).await;
    assert_eq!(out.lines().count(), 2, "{out}");
    let (code, _, said) = desk.run(&["adopt", &docker.host(), "-n", "none"]).await;
    assert!(code == 0 && said.starts_with("nothing to adopt of the namespace none: "), "{said}");
    let (code, _, said) = desk.run(&["adopt", "alive", &docker.host()]).await;
    assert!(code == 1 && said.starts_with("error: no alive to adopt of the namespace default"), "{said}");
    let (code, out, _) = desk.run(&["adopt", "dev", &docker.host(), "--dry-run=client"]).await;
    assert!(code == 0 && out.contains("localcluster.dev/adopts: u-dev@lost-hub,u-own@lost-hub"), "{out}");
    assert_eq!(desk.api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn everything_is_made_again_and_what_cannot_be_is_told() {
    let (desk, docker) = desk().await;
    // Nobody knows which of two is lost.
    docker.add("k3d-third-server-0", "u-third", "server", "running");
    docker.set(|state| {
        let labels = &mut state.containers.last_mut().unwrap()["Config"]["Labels"];
        labels["localcluster.dev/manager"] = json!("third-hub");
        labels["localcluster.dev/owner"] = json!("default/third");
    });
    let host = docker.host();
    let (code, _, said) = desk.run(&["adopt", "--all", &host]).await;
    let told = said.contains("several other management clusters, lost-hub and third-hub; name");
    assert!(code == 1 && told && desk.api.take_writes().is_empty(), "{said}");
    let args = ["adopt", "--all", "--from=lost-hub", "--wait=false", "-v", &host];
    let (code, _, said) = desk.run(&args).await;
    assert_eq!(code, 1, "{said}");
    for words in [
        "LocalCluster default/dev adopts k3d-dev-server-0, k3d-dev-serverlb, k3d-dev-registry",
        "Registry default/images adopts k3d-images",
        "error: cannot adopt the LocalCluster team/old: the container with its record is gone; give its spec with \
         `localcluster adopt old -n team -f FILE`",
        "localcluster.dev/adopts=u-old@lost-hub",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let dev = desk.api.get(DEV).unwrap();
    assert_eq!(dev["metadata"]["annotations"], json!({ADOPTS: "u-dev@lost-hub,u-own@lost-hub"}));
    assert_eq!(
        (&dev["metadata"]["labels"]["team"], &dev["spec"]["agents"]["count"]),
        (&json!("a"), &json!(0))
    );
    let images = desk.api.get(&format!("{GROUP}/default/registries/images")).unwrap();
    assert_eq!(images["metadata"]["annotations"], json!({ADOPTS: "u-images@lost-hub"}));
    assert_eq!(images["spec"]["deleteEnabled"], true);
    assert_eq!(
        desk.api.get(&format!("{GROUP}/default/registries/dev-registry")),
        None,
        "the operator makes it"
    );
    // Registries come first.
    let writes = desk.api.take_writes();
    let at = |name: &str| writes.iter().position(|call| call.contains(name)).unwrap();
    assert!(at("registries/images") < at("localclusters/dev"), "{writes:?}");
    let (_, out, _) = desk.run(&["adopt", &host]).await;
    let left: Vec<&str> = out.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(left, ["third", "old"], "{out}");

    // A hub that runs loses nothing.
    docker.set(|state| {
        state.containers.push(json!({"Id": "id-hub", "Name": "/third-hub", "State": {"Status": "running"},
            "Config": {"Image": "k3s:1", "Labels": {"localcluster.dev/hub": "third"}}}));
        state.run = Some(|command, _| {
            assert_eq!(command[..4], ["k3s", "kubectl", "--request-timeout=20s", "get"]);
            ("third-hub".into(), String::new(), 0)
        });
    });
    let (_, out, said) = desk.run(&["adopt", &host]).await;
    assert!(
        !out.contains("third") && said.contains("left out: what the hub in the container third-hub"),
        "{out}{said}"
    );
}

/// GitOps has made the object already.
#[tokio::test]
async fn an_object_that_exists_is_annotated_and_waited_for() {
    let (desk, docker) = desk().await;
    let mut dev = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "dev", "namespace": "default", "uid": "u-new", "generation": 9,
            "annotations": {ADOPTS: "earlier@hub"}},
        "spec": {"registries": {"create": {}}}});
    dev["status"] = ready();
    desk.api.put(DEV, dev);
    desk.secret("https://127.0.0.1:24067");
    let (code, _, said) = desk.run(&["adopt", "dev", &docker.host()]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("LocalCluster default/dev annotated\n") && said.contains("dev is as desired"),
        "{said}"
    );
    let annotations = desk.api.get(DEV).unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations, json!({ADOPTS: "earlier@hub,u-dev@lost-hub,u-own@lost-hub"}));
    // All that speaks to containers of clusters finds them by it.
    docker.set(|state| state.log = ("of the node\n".into(), String::new()));
    assert_eq!(desk.run(&["logs", "dev", &docker.host()]).await.1, "of the node\n");
    assert!(desk.kubeconfig()["contexts"].to_string().contains("k3d-dev"));
    assert_eq!(desk.kubeconfig()["current-context"], "work");
}

#[tokio::test]
async fn a_file_stands_for_a_record_and_problems_are_told() {
    let (desk, docker) = desk().await;
    let file = docker.dir().join("old.yaml");
    let text = "{apiVersion: localcluster.dev/v1alpha1, kind: LocalCluster, metadata: {name: old, namespace: team}, \
                spec: {servers: {count: 3}}}";
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let (code, _, said) = desk.run(&["adopt", "-f", &file, "--wait=false", &docker.host()]).await;
    assert_eq!(code, 0, "{said}");
    let old = desk.api.get(&format!("{GROUP}/team/localclusters/old")).unwrap();
    assert_eq!(
        (&old["spec"]["servers"]["count"], &old["metadata"]["annotations"]),
        (&json!(3), &json!({ADOPTS: "u-old@lost-hub"}))
    );

    // Who is root in a container writes its record.
    docker.set(|state| state.files.clear());
    keep(&docker, "k3d-dev-serverlb", "LocalCluster", "alive", json!({}));
    let (code, _, said) = desk.run(&["adopt", "dev", &docker.host()]).await;
    assert!(code == 1 && said.contains("its record is of another object"), "{said}");

    let refuses =
        condition("Ready", "False", "PolicyViolation", "the HostPolicy teams does not allow to adopt");
    keep(&docker, "k3d-images", "Registry", "images", json!({}));
    let images = format!("{GROUP}/default/registries/images");
    let stalled = async {
        loop {
            if let Some(mut object) = desk.api.get(&images) {
                object["status"] =
                    json!({"observedGeneration": object["metadata"]["generation"], "conditions": [refuses]});
                return desk.api.put(&images, object);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let host = docker.host();
    let args = ["adopt", "images", "--timeout=2s", &host];
    let ((code, _, said), ()) = tokio::join!(desk.run(&args), stalled);
    assert!(code == 3 && said.contains("PolicyViolation: the HostPolicy teams does not allow"), "{said}");
}
