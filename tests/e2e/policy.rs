//! HostPolicies: one namespace is limited and another is not.

use crate::{
    live::{
        eventually,
        harness::Group,
        holds, install,
        scene::{LIMIT, Scene, condition},
    },
    trouble::{becomes_true, idle_cluster},
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
    ],
};

/// Applies the policy of the namespace, above the one of the world that allows everything. It is removed on drop.
struct Policy<'a>(&'a Scene);

impl<'a> Policy<'a> {
    fn new(scene: &'a Scene, rules: &str) -> Self {
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
