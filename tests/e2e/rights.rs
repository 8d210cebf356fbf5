//! The operator's Pod may do what it does, and nothing else.

use serde_json::{Value, json};

use crate::{
    live::{Kubectl, SYSTEM, install},
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

/// Every verb that there is, on what matters. Allowed are those named here, and no other.
const TABLE: [(&str, &str, &[&str]); 16] = [
    ("", "localclusters.localcluster.dev", &["get", "list", "watch", "patch"]),
    ("", "registries.localcluster.dev", &["get", "list", "watch", "patch"]),
    ("", "localclusters.localcluster.dev/status", &["patch"]),
    ("", "registries.localcluster.dev/status", &["patch"]),
    ("", "localclusters.localcluster.dev/scale", &[]),
    ("", "secrets", &["get", "list", "watch", "create", "patch"]),
    ("", "events.events.k8s.io", &["create", "patch"]),
    ("", "configmaps", &[]),
    ("", "pods", &[]),
    ("", "pods/exec", &[]),
    ("", "nodes", &[]),
    ("", "serviceaccounts/token", &[]),
    ("", "clusterrolebindings.rbac.authorization.k8s.io", &[]),
    ("", "leases.coordination.k8s.io", &[]),
    (SYSTEM, "leases.coordination.k8s.io", &["get", "create", "update"]),
    (SYSTEM, "pods", &[]),
];

const VERBS: [&str; 9] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate"];

fn of_the_service_account(scene: &Scene) {
    let account = format!("--as=system:serviceaccount:{SYSTEM}:localcluster-operator");
    for (namespace, resource, allowed) in TABLE {
        let namespace = if namespace.is_empty() { &scene.namespace } else { namespace };
        for verb in VERBS {
            // What is behind a slash would be taken for an object's name.
            let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
            let part = format!("--subresource={part}");
            // It answers by its exit code too.
            let answer =
                scene.k.attempt(&["-n", namespace, "auth", "can-i", verb, resource, &part, &account]);
            assert_eq!(
                answer.is_ok(),
                allowed.contains(&verb),
                "{verb} {resource} {part} in {namespace}: {answer:?}"
            );
        }
    }
    let get = |name: &str| {
        scene.k.attempt(&["auth", "can-i", "get", &format!("namespaces/{name}"), &account]).is_ok()
    };
    assert!(get("kube-system") && !get("default"));
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
