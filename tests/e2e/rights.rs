//! The operator's Pod may do what it does, and nothing else. Its installation gives users no rights on the Docker
//! host.

use serde_json::{Value, json};

use crate::live::{DEPLOYMENT, Kubectl, SYSTEM, eventually, harness::Group, holds, install, scene::Scene};

pub const GROUP: Group = Group {
    name: "rights",
    setup: || {
        install();
        Scene::new("may")
    },
    tests: &[
        ("of_the_service_account", of_the_service_account),
        ("of_what_it_writes", of_what_it_writes),
        ("of_the_process", of_the_process),
        ("of_users", of_users),
    ],
};

/// All permissions in any namespace: resource, object names, verbs.
const EVERYWHERE: [&str; 10] = [
    "configmaps [] [get list watch]",
    "events.events.k8s.io [] [create patch]",
    "hostpolicies.localcluster.dev [] [get list watch]",
    "hostpolicies.localcluster.dev/status [] [patch]",
    "localclusters.localcluster.dev [] [get list watch patch delete]",
    "localclusters.localcluster.dev/status [] [patch]",
    "namespaces [] [get list watch]",
    "registries.localcluster.dev [] [get list watch patch create delete]",
    "registries.localcluster.dev/status [] [patch]",
    "secrets [] [get list watch create patch delete]",
];

/// Additional permissions in the operator's own namespace.
const AT_HOME: &str = "leases.coordination.k8s.io [] [get create update]";

fn of_the_service_account(scene: &Scene) {
    let account = format!("--as=system:serviceaccount:{SYSTEM}:localcluster-operator");
    let allowed = |namespace: &str| {
        let list = scene.k.run(&["-n", namespace, "auth", "can-i", "--list", "--no-headers", &account]);
        // Everyone may query their own permissions and read non-resource URLs: such lines begin with a blank.
        let own = list.lines().filter(|l| !l.starts_with([' ', '[']) && !l.starts_with("selfsubject"));
        let mut own: Vec<String> = own
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").replacen(" []", "", 1))
            .collect();
        own.sort();
        own
    };
    assert_eq!(allowed(&scene.namespace), EVERYWHERE);
    let mut at_home = EVERYWHERE.to_vec();
    at_home.insert(4, AT_HOME);
    assert_eq!(allowed(SYSTEM), at_home);
    // They are sufficient: no request in this run so far was forbidden.
    let log = scene.k.run(&["-n", SYSTEM, "logs", DEPLOYMENT]);
    let refused: Vec<&str> = log.lines().filter(|l| l.contains("is forbidden: User")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// The policies for what the operator writes. They are removed on drop.
struct Limited(Kubectl);

const LIMITED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/operator-admission/policies.yaml");

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.0.attempt(&["delete", "-f", LIMITED, "--ignore-not-found"]);
    }
}

/// With the policies for what it writes, the operator does all that it does, and its token nothing else.
fn of_what_it_writes(scene: &Scene) {
    let limited = Limited(Kubectl::management());
    limited.0.run(&["apply", "-f", LIMITED]);
    let account = format!("--as=system:serviceaccount:{SYSTEM}:localcluster-operator");
    let stolen = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": "stolen", "namespace": scene.namespace,
            "annotations": {"kubernetes.io/service-account.name": "default"},
        },
    });
    eventually(30, "a token of another ServiceAccount is refused", || {
        let create = ["create", "--dry-run=server", "-f", "-", &account];
        let told = scene.k.input(&create, &stolen.to_string()).err().unwrap_or_default();
        holds(told.contains("the operator writes no Secret of this type"), || told)
    });
    let spec = "{registries: {create: {storage: {retain: false}}}}";
    scene.apply("LocalCluster", "limited", spec);
    // Its token, its Registry, its kubeconfig, finalizers and status.
    scene.ready("lc/limited");
    scene.run(&["get", "secret", "limited-token", "limited-kubeconfig"]);
    let changed =
        "{\"registries\": {\"create\": {\"storage\": {\"retain\": false}, \"deleteEnabled\": true}}}";
    scene.patch("lc/limited", changed);
    eventually(60, "the change reaches its Registry", || {
        let registry = scene.try_get("lreg/limited-registry")?;
        holds(registry["spec"]["deleteEnabled"] == true, || registry["spec"].to_string())
    });
    scene.patch("lc/limited", "{\"registries\": {\"create\": null}}");
    eventually(60, "its Registry is deleted", || {
        let left = scene.run(&["get", "lreg", "-o", "name"]);
        holds(left.is_empty(), || left)
    });
    scene.run(&["delete", "lc/limited", "--timeout=120s"]);
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
    // The socket is its only access to the host.
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let paths: Vec<&Value> =
        volumes.iter().map(|v| &v["hostPath"]["path"]).filter(|p| !p.is_null()).collect();
    assert_eq!(paths, [&json!("/var/run/docker.sock")]);
}

/// Users with `edit` or `admin` of a namespace read objects there and create none: that would make them root on the
/// Docker host.
fn of_users(scene: &Scene) {
    let can = |who: &str, verb: &str, what: &str| {
        let who = format!("--as={who}");
        scene.attempt(&["auth", "can-i", verb, what, &who]).is_ok()
    };
    for role in ["view", "edit", "admin"] {
        let user = format!("{}-{role}", scene.namespace);
        let (role, subject) = (format!("--clusterrole={role}"), format!("--user={user}"));
        scene.run(&["create", "rolebinding", &user, &role, &subject]);
        // Through aggregation, by a controller.
        eventually(60, "objects can be read", || holds(can(&user, "list", "localclusters"), || user.clone()));
        for what in ["localclusters", "registries", "localclusters/scale"] {
            for verb in ["create", "update", "patch", "delete", "deletecollection"] {
                assert!(!can(&user, verb, what), "{user} may {verb} {what}");
            }
        }
    }
    // One binding grants it, and is sufficient for kubectl apply.
    let user = format!("{}-trusted", scene.namespace);
    let subject = format!("--user={user}");
    scene.run(&["create", "rolebinding", &user, "--clusterrole=localcluster-edit", &subject]);
    for verb in ["get", "create", "patch", "delete"] {
        assert!(can(&user, verb, "localclusters") && can(&user, verb, "registries"), "{verb}");
    }
    assert!(can(&user, "patch", "localclusters/scale") && !can(&user, "get", "secrets"));
    for name in ["view", "edit", "admin", "trusted"] {
        scene.run(&["delete", "rolebinding", &format!("{}-{name}", scene.namespace)]);
    }
}
