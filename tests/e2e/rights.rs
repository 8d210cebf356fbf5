//! The operator's Pod may do what it does, and nothing else: what it is granted is used. Its installation gives users no rights on the Docker
//! host.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    claims,
    live::{
        DEPLOYMENT, Kubectl, SYSTEM, docker, eventually,
        harness::Group,
        holds, install,
        scene::{LIMIT, Scene},
        world,
    },
    trouble::{delete, idle_cluster},
};

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
        // Before the last one: it uses what is granted for pools.
        ("a_claim_takes_a_ready_cluster", claims::a_claim_takes_a_ready_cluster),
        ("what_is_granted_is_used", what_is_granted_is_used),
    ],
};

/// All permissions in any namespace: resource, object names, verbs.
const EVERYWHERE: [&str; 16] = [
    "configmaps [] [get list watch]",
    "endpointslices.discovery.k8s.io [] [get create patch delete]",
    "events.events.k8s.io [] [create patch]",
    "hostpolicies.localcluster.dev [] [list watch]",
    "hostpolicies.localcluster.dev/status [] [patch]",
    "localclusterclaims.localcluster.dev [] [list watch delete]",
    "localclusterclaims.localcluster.dev/status [] [patch]",
    "localclusterpools.localcluster.dev [] [list watch]",
    "localclusterpools.localcluster.dev/status [] [patch]",
    "localclusters.localcluster.dev [] [list watch patch get create delete]",
    "localclusters.localcluster.dev/status [] [patch]",
    "namespaces [] [get list watch]",
    "registries.localcluster.dev [] [list watch patch create delete]",
    "registries.localcluster.dev/status [] [patch]",
    "secrets [] [get list watch create patch delete]",
    "services [] [get create patch delete]",
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
    at_home.insert(5, AT_HOME);
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
    let spec = "{registries: {create: {storage: {retain: false}}}, api: {service: ClusterIP}}";
    scene.apply("LocalCluster", "limited", spec);
    // Its token, its Registry, its kubeconfig, its Service, finalizers and status.
    scene.ready("lc/limited");
    scene.run(&["get", "service/limited", "endpointslice/limited"]);
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
        for what in
            ["localclusters", "registries", "localclusters/scale", "localclusterpools", "localclusterclaims"]
        {
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
    assert!(can(&user, "create", "localclusterpools") && can(&user, "create", "localclusterclaims"));
    // Who may claim creates nothing else.
    let user = format!("{}-claims", scene.namespace);
    let subject = format!("--user={user}");
    scene.run(&["create", "rolebinding", &user, "--clusterrole=localcluster-claim", &subject]);
    assert!(can(&user, "create", "localclusterclaims") && can(&user, "get", "localclusters"));
    for verb in ["create", "update", "patch", "delete"] {
        assert!(!can(&user, verb, "localclusters") && !can(&user, verb, "localclusterpools"), "{verb}");
    }
    for name in ["view", "edit", "admin", "trusted", "claims"] {
        scene.run(&["delete", "rolebinding", &format!("{}-{name}", scene.namespace)]);
    }
}

/// Permissions that no life of objects needs, and what they are for.
const UNUSED: [(&str, &str); 1] = [(
    "localcluster.dev/registries create",
    "an apply is a patch in the log; of what does not exist, it needs this too",
)];

/// Returns the permissions of a role as `group/resource verb`.
fn granted(role: &[&str]) -> BTreeSet<String> {
    let role = Kubectl::management().json(role).expect("it is installed");
    let list = |rule: &Value, key: &str| -> Vec<String> {
        let all = rule[key].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().expect("it has rules") {
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                all.extend(list(rule, "verbs").iter().map(|verb| format!("{group}/{resource} {verb}")));
            }
        }
    }
    all
}

/// Returns the permissions that the operator has used since the management cluster was created, by the audit log of its API
/// server.
fn used() -> BTreeSet<String> {
    let log = docker(&["exec", &world("MGMT_NODE"), "sh", "-c", "cat /var/log/audit*.log"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let requests = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let allowed = requests.filter(|r| r["annotations"]["authorization.k8s.io/decision"] == "allow");
    let permission = |request: Value| {
        let of = &request["objectRef"];
        let sub = of["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
        format!("{}/{}{sub} {}", text(&of["apiGroup"]), text(&of["resource"]), text(&request["verb"]))
    };
    allowed.map(permission).collect()
}

/// Objects of each kind are created, changed and deleted, in every way that has requests of its own.
fn what_is_granted_is_used(scene: &Scene) {
    scene.config_map("hubs", &[("registries.yaml", "mirrors: {}")]);
    let more = "registries: {create: {}, config: {configMapName: hubs}}, api: {service: ClusterIP}";
    scene.apply("LocalCluster", "used", &format!("{{servers: {{count: 1}}, agents: {{count: 0}}, {more}}}"));
    scene.ready("lc/used");
    // It puts them right at its next look.
    for object in ["service/used", "endpointslice/used"] {
        scene.run(&["label", object, "app.kubernetes.io/managed-by-"]);
    }
    scene.patch("lc/used", "{\"registries\": {\"create\": {\"deleteEnabled\": true}}}");
    scene.ready("lreg/used-registry");
    scene.ready("lc/used");
    scene.patch("lc/used", "{\"kubeconfig\": {\"access\": \"None\"}, \"api\": {\"service\": \"None\"}}");
    eventually(LIMIT, "its kubeconfig and its Service are deleted", || {
        let there = |object: &str| scene.attempt(&["get", object]).is_ok();
        let gone = !["secret/used-kubeconfig", "service/used", "endpointslice/used"].into_iter().any(there);
        holds(gone, || "it exists".into())
    });
    scene.patch("lc/used", "{\"registries\": null}");
    eventually(LIMIT, "its registry is deleted", || {
        let registries = scene.run(&["get", "lreg", "-o", "name"]);
        holds(registries.is_empty(), || registries)
    });
    scene.apply("LocalCluster", "short", &idle_cluster("ttl: 1s"));
    eventually(LIMIT, "its time is over", || {
        holds(scene.try_get("lc/short").is_err(), || "it exists".into())
    });
    delete(scene, "lc/used");

    let roles = [
        &["clusterrole/localcluster-operator-objects"][..],
        &["clusterrole/localcluster-operator"],
        &["-n", SYSTEM, "role/localcluster-operator"],
    ];
    let granted: BTreeSet<String> = roles.into_iter().flat_map(granted).collect();
    let mut unused = Vec::new();
    eventually(60, "the audit log has all requests", || {
        let used = used();
        unused = granted.difference(&used).cloned().collect();
        let wanted = UNUSED.map(|(permission, _)| permission);
        unused.retain(|permission| !wanted.contains(&permission.as_str()));
        holds(unused.is_empty(), || format!("granted and never used: {unused:#?}; used: {used:#?}"))
    });
}
