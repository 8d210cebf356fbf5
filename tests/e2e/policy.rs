//! HostPolicies: one namespace is limited and another is not.

use serde_json::{Value, json};

use crate::{
    live::{
        command, docker, eventually,
        harness::Group,
        holds, idle_image, inspect, install,
        scene::{LIMIT, Scene, condition},
        scratch, world,
    },
    trouble::{becomes_true, delete, idle_cluster},
};

pub const GROUP: Group = Group {
    name: "policy",
    setup: || {
        install();
        Scene::new("limited").with_guest(Scene::new("free"))
    },
    tests: &[
        ("a_limited_namespace_gets_what_its_policy_allows", a_limited_namespace_gets_what_its_policy_allows),
        ("a_stricter_policy_stops_nothing", a_stricter_policy_stops_nothing),
        ("defaults_are_those_of_new_nodes", defaults_are_those_of_new_nodes),
        ("nodes_have_the_runtime_of_the_policy", nodes_have_the_runtime_of_the_policy),
        ("starts_of_a_namespace_take_turns", starts_of_a_namespace_take_turns),
        ("a_violation_stops_a_cluster_after_its_grace", a_violation_stops_a_cluster_after_its_grace),
        ("a_violation_is_refused_at_apply", a_violation_is_refused_at_apply),
        ("a_policy_that_audits_refuses_nothing", a_policy_that_audits_refuses_nothing),
        ("an_image_of_the_host_needs_a_proof", an_image_of_the_host_needs_a_proof),
        ("two_teams_under_one_policy", two_teams_under_one_policy),
    ],
};

/// Applies the policy of the namespace, above the one of the world that allows everything. It is removed on drop.
pub struct Policy<'a>(&'a Scene);

impl<'a> Policy<'a> {
    pub fn new(scene: &'a Scene, rules: &str) -> Self {
        let policy = Self(scene);
        policy.apply(rules);
        policy
    }

    fn name(&self) -> String {
        format!("policy-{}", self.0.namespace)
    }

    fn apply(&self, rules: &str) {
        let namespace = &self.0.namespace;
        self.0.k.apply(&format!(
            "{{apiVersion: localcluster.dev/v1alpha1, kind: HostPolicy, metadata: {{name: {}}}, spec: {{priority: 100, \
             namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}, {rules}}}}}",
            self.name()
        ));
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        let _ = self.0.k.attempt(&["delete", "lhp", &self.name(), "--ignore-not-found"]);
    }
}

fn a_limited_namespace_gets_what_its_policy_allows(scene: &Scene) {
    let rules =
        "quota: {clusters: 1}, nodes: {argsDeny: ['--kube-apiserver-arg=*']}, registry: {volumes: []}";
    let policy = Policy::new(scene, rules);
    // Its status shows that the operator knows it.
    eventually(30, "the policy is Ready", || {
        let object = scene.k.json(&["lhp", &policy.name()])?;
        let ready = condition(&object, "Ready")?;
        holds(ready["status"] == "True" && object["status"]["namespaces"] == 1, || {
            object["status"].to_string()
        })
    });
    scene.apply("Registry", "images", "{storage: {volumeName: pgdata}}");
    let told = scene.reason("lreg/images", "Accepted", "PolicyViolation");
    assert!(told.contains(&policy.name()) && told.contains("spec.storage.volumeName pgdata"), "{told}");
    scene.apply("LocalCluster", "denied", "{servers: {args: [--kube-apiserver-arg=audit-log-path=/x]}}");
    let told = scene.reason("lc/denied", "Accepted", "PolicyViolation");
    assert!(told.contains("nodes.argsDeny"), "{told}");
    scene.run(&["delete", "lc/denied", "lreg/images"]);
    scene.apply("LocalCluster", "one", &idle_cluster(""));
    // Of objects of the same second, the UIDs decide.
    becomes_true(scene, "lc/one", "Accepted");
    for name in ["two", "three"] {
        scene.apply("LocalCluster", name, &idle_cluster(""));
    }
    scene.guest().apply("LocalCluster", "other", &idle_cluster(""));
    for name in ["two", "three"] {
        let told = scene.reason(&format!("lc/{name}"), "Accepted", "PolicyViolation");
        assert!(told.contains("quota.clusters: at most 1"), "{told}");
    }
    let made = |scene: &Scene| holds(scene.containers().len() == 2, || format!("{:?}", scene.containers()));
    eventually(LIMIT, "one is made here", || made(scene));
    eventually(LIMIT, "one is made there", || made(scene.guest()));
    // A policy that allows more takes effect at once.
    policy.apply("quota: {clusters: 3}");
    eventually(LIMIT, "all are made", || {
        holds(scene.containers().len() == 6, || format!("{:?}", scene.containers()))
    });
    scene.run(&["delete", "lc", "--all", "--timeout=120s"]);
    scene.guest().run(&["delete", "lc", "--all", "--timeout=120s"]);
}

fn defaults_are_those_of_new_nodes(scene: &Scene) {
    let policy = Policy::new(scene, "defaults: {memory: 512Mi, pids: 2048}, perNode: {maxMemory: 2Gi}");
    scene.apply("LocalCluster", "limited", &idle_cluster(""));
    let node = format!("{}-server-0", scene.network("limited"));
    let limits = |memory: i64| {
        eventually(LIMIT, &format!("the node has {memory} bytes"), || {
            let host = inspect(&node).ok_or("it does not exist")?["HostConfig"].clone();
            holds(host["Memory"] == memory && host["PidsLimit"] == 2048, || host["Memory"].to_string())
        });
        inspect(&node).expect("it exists")["Id"].clone()
    };
    let effective = |memory: &str| {
        eventually(LIMIT, "the status shows the limits", || {
            let seen = scene.try_get("lc/limited")?["status"]["effective"]["servers"].clone();
            holds(seen == json!({"memory": memory, "pids": 2048}), || seen.to_string())
        });
    };
    let id = limits(512 << 20);
    effective("512Mi");
    policy.apply("defaults: {memory: 1Gi, pids: 2048}, perNode: {maxMemory: 2Gi}");
    // An edit that replaces nothing is done under the new policy.
    scene.patch("lc/limited", r#"{"servers": {"labels": {"a": "b"}}}"#);
    becomes_true(scene, "lc/limited", "Accepted");
    assert_eq!(limits(512 << 20), id);
    docker(&["rm", "-f", &node]);
    assert_ne!(limits(1 << 30), id);
    effective("1Gi");
    delete(scene, "lc/limited");
}

/// A runtime that every engine has beside its default one. It is runc, in which an unprivileged K3s does not start; this image
/// does nothing.
const RUNTIME: &str = "io.containerd.runc.v2";

fn nodes_have_the_runtime_of_the_policy(scene: &Scene) {
    let rules = format!(
        "nodes: {{runtimes: ['{RUNTIME}'], privileged: false}}, defaults: {{runtime: {RUNTIME}, privileged: false}}"
    );
    let policy = Policy::new(scene, &rules);
    scene.apply("LocalCluster", "plain", &idle_cluster(""));
    let name = format!("{}-server-0", scene.network("plain"));
    let node = || inspect(&name).unwrap_or_default();
    eventually(LIMIT, "the node runs as the policy says", || {
        let (node, host) = (node(), node()["HostConfig"].clone());
        let made = host["Runtime"] == RUNTIME && host["Privileged"] == false && host["CapDrop"].is_null();
        holds(made && node["State"]["Running"] == true, || host.to_string())
    });
    eventually(LIMIT, "the status shows it", || {
        let seen = scene.try_get("lc/plain")?["status"]["effective"]["servers"].clone();
        holds(seen == json!({"runtime": RUNTIME, "privileged": false}), || seen.to_string())
    });
    let id = node()["Id"].clone();
    scene.patch("lc/plain", r#"{"servers": {"privileged": true}}"#);
    let told = scene.reason("lc/plain", "PolicyViolation", "PolicyViolation");
    assert!(told.contains("privileged nodes of spec.servers (nodes.privileged: "), "{told}");
    // In this order: the new policy allows what was refused.
    scene.patch("lc/plain", r#"{"servers": {"privileged": null, "runtime": "no-such-runtime"}}"#);
    policy.apply("mode: Enforce");
    let told = scene.reason("lc/plain", "ControlPlaneReady", "RuntimeNotFound");
    assert!(told.contains("has no OCI runtime no-such-runtime") && told.contains(RUNTIME), "{told}");
    assert_eq!(node()["Id"], id, "it is not replaced");
    assert_eq!(node()["State"]["Running"], true);
    delete(scene, "lc/plain");
}

fn starts_of_a_namespace_take_turns(scene: &Scene) {
    let _policy = Policy::new(scene, "quota: {concurrentStarts: 1, concurrentPulls: 1}");
    let runs = |scene: &Scene, name: &str| {
        let node = format!("{}-server-0", scene.network(name));
        let running = inspect(&node).is_some_and(|node| node["State"]["Running"] == true);
        holds(running, || format!("{node} does not run"))
    };
    // It never works, so it has its turn until it is deleted, or for 90 seconds.
    scene.apply("LocalCluster", "first", &idle_cluster(""));
    eventually(LIMIT, "the first starts", || runs(scene, "first"));
    scene.apply("LocalCluster", "second", &idle_cluster(""));
    let told = scene.reason("lc/second", "ControlPlaneReady", "Queued");
    assert!(told.contains("quota.concurrentStarts: 1"), "{told}");
    assert!(runs(scene, "second").is_err(), "both start at a time");
    delete(scene, "lc/first");
    eventually(LIMIT, "the second starts", || runs(scene, "second"));
    delete(scene, "lc/second");
}

/// Waits for a container that runs, or that does not. Returns its ID.
fn is_running(name: &str, running: bool) -> Value {
    eventually(LIMIT, &format!("{name} runs: {running}"), || {
        let state = inspect(name).ok_or("it does not exist")?["State"].clone();
        holds(state["Running"] == running, || state.to_string())
    });
    inspect(name).expect("it exists")["Id"].clone()
}

fn a_violation_stops_a_cluster_after_its_grace(scene: &Scene) {
    scene.apply("LocalCluster", "stopped", &idle_cluster(""));
    becomes_true(scene, "lc/stopped", "Accepted");
    let node = format!("{}-server-0", scene.network("stopped"));
    let runs = |running| is_running(&node, running);
    let id = runs(true);
    let policy =
        Policy::new(scene, "onViolation: Stop, grace: 10s, nodes: {images: ['registry.invalid/**']}");
    let told = scene.reason("lc/stopped", "PolicyViolation", "PolicyViolation");
    assert!(told.contains("the cluster is stopped from"), "{told}");
    assert_eq!(runs(false), id);
    scene.reason("lc/stopped", "Stopped", "PolicyViolation");
    drop(policy);
    assert_eq!(runs(true), id);
    delete(scene, "lc/stopped");
}

/// The installed ValidatingAdmissionPolicies with a binding to a policy. They are removed on drop.
struct Admission<'a>(&'a Scene);

/// The file with them.
const ADMISSION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/admission/policies.yaml");

impl<'a> Admission<'a> {
    fn new(scene: &'a Scene, policy: &Policy<'_>) -> Self {
        let admission = Self(scene);
        scene.k.run(&["apply", "-f", ADMISSION]);
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": scene.namespace},
            "spec": {
                "policyName": "localclusters.localcluster.dev", "validationActions": ["Deny"],
                "paramRef": {"name": policy.name(), "parameterNotFoundAction": "Allow"},
                "matchResources": {"namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": scene.namespace},
                }},
            },
        });
        scene.k.apply(&binding.to_string());
        admission
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let binding = format!("validatingadmissionpolicybinding/{}", self.0.namespace);
        let _ = self.0.k.attempt(&["delete", &binding, "--ignore-not-found"]);
        let _ = self.0.k.attempt(&["delete", "-f", ADMISSION, "--ignore-not-found"]);
    }
}

fn a_violation_is_refused_at_apply(scene: &Scene) {
    let policy = Policy::new(scene, "network: {explicitSubnet: false}");
    let _admission = Admission::new(scene, &policy);
    // The subnet of an existing cluster is immutable anyway.
    let create = |scene: &Scene| {
        let object = json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
            "metadata": {"name": "early", "namespace": scene.namespace},
            "spec": {"network": {"subnet": "172.31.250.0/24"}},
        });
        scene.k.input(&["create", "--dry-run=server", "-f", "-"], &object.to_string())
    };
    eventually(30, "the API server refuses it", || {
        let told = create(scene).err().unwrap_or_default();
        let refused = told.contains("(network.explicitSubnet: must not be set)");
        holds(refused && told.contains(&policy.name()), || told)
    });
    create(scene.guest()).unwrap_or_else(|told| panic!("in another namespace: {told}"));
}

fn a_policy_that_audits_refuses_nothing(scene: &Scene) {
    let rules = "quota: {clusters: 0}, perNode: {maxMemory: 1Gi}";
    let policy = Policy::new(scene, &format!("mode: Audit, {rules}"));
    let _admission = Admission::new(scene, &policy);
    scene.apply("LocalCluster", "audited", &idle_cluster(""));
    becomes_true(scene, "lc/audited", "Accepted");
    let told = scene.reason("lc/audited", "PolicyViolation", "PolicyAudited");
    assert!(told.contains("perNode.maxMemory") && told.contains("quota.clusters"), "{told}");
    let node = format!("{}-server-0", scene.network("audited"));
    // A container that was only created would not be started by then: nothing new runs outside of a policy.
    let id = is_running(&node, true);
    eventually(30, "an Event tells it", || {
        let events = scene.run(&["get", "events", "--field-selector=reason=PolicyAudited", "-o", "name"]);
        holds(!events.is_empty(), || events)
    });
    // Enforced, it is frozen and runs on.
    policy.apply(rules);
    scene.reason("lc/audited", "PolicyViolation", "PolicyViolation");
    assert_eq!(is_running(&node, true), id);
    delete(scene, "lc/audited");
}

fn an_image_of_the_host_needs_a_proof(scene: &Scene) {
    scene.apply("Registry", "images", "{storage: {retain: false}}");
    scene.ready("lreg/images");
    let _policy = Policy::new(scene, "images: {proveAccess: true}");
    // It was built on the host.
    scene.apply("LocalCluster", "proven", &idle_cluster(""));
    let told = scene.reason("lc/proven", "Stalled", "ImageAccessNotProven");
    assert!(told.contains("it is of no registry") && told.contains("images.shared"), "{told}");
    let node = format!("{}-server-0", scene.network("proven"));
    assert!(inspect(&node).is_none(), "it was created");
    let image =
        format!("{}/idle:1", scene.get("lreg/images")["status"]["host"].as_str().expect("an address"));
    docker(&["tag", idle_image(), &image]);
    let pushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        docker(&["push", "-q", &image]);
        // The registry has this content, and shows it to everyone.
        scene.patch("lc/proven", &json!({"image": image}).to_string());
        let runs = || is_running(&node, true);
        let id = runs();
        // Its content is another one than that of the name in the registry.
        let other = format!("{image}-other");
        docker(&["tag", &world("LB_IMAGE"), &other]);
        scene.apply("LocalCluster", "other", &format!("{{image: \"{other}\", agents: {{count: 0}}}}"));
        scene.reason("lc/other", "Stalled", "ImageAccessNotProven");
        docker(&["rmi", &other]);
        delete(scene, "lc/other");
        docker(&["kill", &node]);
        assert_eq!(runs(), id, "it is started again");
        delete(scene, "lc/proven");
    }));
    docker(&["rmi", &image]);
    pushed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    delete(scene, "lreg/images");
}

/// The demo of the sample, with the images of this world.
struct Demo {
    env: Vec<String>,
}

impl Demo {
    fn new(scene: &Scene) -> Self {
        let sample = include_str!("../../deploy/samples/tenancy/policy.yaml");
        let policy = sample
            .replace("docker.io/rancher/k3s:*", &format!("**{}:*", world("NODE_IMAGE_REPOSITORY")))
            .replace("docker.io/library/registry:*", &format!("**{}", world("REGISTRY_IMAGE")));
        let file = scratch(&format!("{}-policy.yaml", scene.namespace));
        std::fs::write(&file, policy).expect("the directory exists");
        let env = [
            format!("KUBECONFIG={}", world("KUBECONFIG")),
            format!("POLICY={}", file.display()),
            format!("TEAM_A={}-a", scene.namespace),
            format!("TEAM_B={}-b", scene.namespace),
        ];
        Self { env: env.into() }
    }

    fn run(&self, what: &str) -> Result<String, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples/tenancy/demo.sh");
        let args: Vec<&str> = self.env.iter().map(String::as_str).chain([script, what]).collect();
        command("env", &args, "")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.run("down");
    }
}

fn two_teams_under_one_policy(scene: &Scene) {
    let demo = Demo::new(scene);
    let told = demo.run("up").unwrap_or_else(|told| panic!("{told}"));
    for words in ["perNode.maxMemory: at most 4Gi", "registry.volumes: none", "Nothing of"] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    demo.run("down").unwrap_or_else(|told| panic!("{told}"));
    for team in ["a", "b"] {
        let namespace = format!("{}-{team}", scene.namespace);
        let left = docker(&["ps", "-aq", "--filter", &format!("name=k3d-{namespace}-")]);
        assert_eq!(left, "", "containers of {namespace}");
    }
}

fn a_stricter_policy_stops_nothing(scene: &Scene) {
    scene.apply("Registry", "images", "{storage: {retain: false}}");
    scene.ready("lreg/images");
    let before = scene.picture();
    let policy = Policy::new(scene, "registry: {images: ['registry.invalid/**']}");
    scene.reason("lreg/images", "PolicyViolation", "PolicyViolation");
    scene.ready("lreg/images");
    scene.run(&["patch", "lreg/images", "--type=merge", "-p", "{\"spec\": {\"deleteEnabled\": true}}"]);
    scene.reason("lreg/images", "Ready", "PolicyViolation");
    assert_eq!(scene.picture(), before);
    drop(policy);
    scene.ready("lreg/images");
    assert_ne!(scene.picture(), before);
    scene.run(&["delete", "lreg/images"]);
}
