//! The operator's Pod may do what it does, and nothing else.

use serde_json::{Value, json};

use crate::{
    live::{DEPLOYMENT, Kubectl, SYSTEM, install},
    live_harness::Group,
    live_scene::Scene,
};

pub const GROUP: Group = Group {
    name: "rights",
    setup: || {
        install();
        Scene::new("may")
    },
    tests: &[("of_the_service_account", of_the_service_account), ("of_the_process", of_the_process)],
};

/// All that is allowed in any namespace: resource, names of objects, verbs.
const EVERYWHERE: [&str; 8] = [
    "configmaps [] [get list watch]",
    "events.events.k8s.io [] [create patch]",
    "localclusters.localcluster.dev [] [get list watch patch delete]",
    "localclusters.localcluster.dev/status [] [patch]",
    "namespaces [kube-system] [get]",
    "registries.localcluster.dev [] [get list watch patch create delete]",
    "registries.localcluster.dev/status [] [patch]",
    "secrets [] [get list watch create patch]",
];

/// What is allowed in the operator's own namespace besides.
const AT_HOME: &str = "leases.coordination.k8s.io [] [get create update]";

fn of_the_service_account(scene: &Scene) {
    let account = format!("--as=system:serviceaccount:{SYSTEM}:localcluster-operator");
    let allowed = |namespace: &str| {
        let list = scene.k.run(&["-n", namespace, "auth", "can-i", "--list", "--no-headers", &account]);
        // Everybody may ask what they may do, and read what names no resource: such lines begin with a blank.
        let own = list.lines().filter(|l| !l.starts_with([' ', '[']) && !l.starts_with("selfsubject"));
        let mut own: Vec<String> = own
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").replacen(" []", "", 1))
            .collect();
        own.sort();
        own
    };
    assert_eq!(allowed(&scene.namespace), EVERYWHERE);
    let mut at_home = EVERYWHERE.to_vec();
    at_home.insert(2, AT_HOME);
    assert_eq!(allowed(SYSTEM), at_home);
    // And it is enough: whatever was tried in this run so far was allowed.
    let log = scene.k.run(&["-n", SYSTEM, "logs", DEPLOYMENT]);
    let refused: Vec<&str> = log.lines().filter(|l| l.contains("is forbidden: User")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

fn of_the_process(_: &Scene) {
    let k = Kubectl::management();
    let pods = k.json(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=localcluster-operator"]).unwrap();
    let spec = &pods["items"][0]["spec"];
    let pod = &spec["securityContext"];
    assert_eq!(
        (&pod["runAsNonRoot"], &pod["seccompProfile"]["type"]),
        (&json!(true), &json!("RuntimeDefault"))
    );
    assert_eq!(spec["containers"].as_array().map(Vec::len), Some(1));
    let container = &spec["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
    for (key, value) in [("privileged", container), ("hostNetwork", spec), ("hostPID", spec)] {
        assert_ne!(value[key], Value::Bool(true), "{key}");
    }
    // Of the host it has the one socket.
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let paths: Vec<&Value> =
        volumes.iter().map(|v| &v["hostPath"]["path"]).filter(|p| !p.is_null()).collect();
    assert_eq!(paths, [&json!("/var/run/docker.sock")]);
}
