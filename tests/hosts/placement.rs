//! Where clusters go: by labels, requests, quotas, priorities and topology, which all are those of their placeholder.

use serde_json::Value;

use crate::{
    live::{
        eventually, holds,
        scene::{LIMIT, Scene, condition},
    },
    rack::{self, IDLE, bound, host, hosts_with, idle, on, runs_not_on, runs_on},
    sampler::{Sampler, nothing_was_twice},
};

pub const GROUP: crate::live::harness::Group = crate::live::harness::Group {
    name: "placement",
    setup: || {
        rack::install();
        let scene = Scene::new("place").with(Sampler::begin());
        // The strictest standard admits placeholders, so every namespace does.
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        scene.k.run(&["label", "namespace", &scene.namespace, restricted]);
        scene
    },
    tests: &[
        ("a_node_selector_chooses_the_host", a_node_selector_chooses_the_host),
        ("requests_fill_a_host_and_then_another", requests_fill_a_host_and_then_another),
        ("spread_constraints_choose_different_hosts", spread_constraints_choose_different_hosts),
        ("a_quota_refuses_the_third", a_quota_refuses_the_third),
        ("a_cluster_of_higher_priority_takes_the_place", a_cluster_of_higher_priority_takes_the_place),
        ("a_registry_without_a_host_is_corrected", a_registry_without_a_host_is_corrected),
        ("nothing_was_twice", nothing_was_twice),
    ],
};

fn delete(scene: &Scene, clusters: &[&str]) {
    scene.run(&[&["delete", "lc", "--timeout=240s"], clusters].concat());
}

fn placeholder(scene: &Scene, cluster: &str) -> Value {
    scene.get(&format!("pod/{cluster}-host"))
}

fn a_node_selector_chooses_the_host(scene: &Scene) {
    for (cluster, number) in [("second", 2), ("third", 3)] {
        scene.apply("LocalCluster", cluster, &idle(&on(host(number), "")));
    }
    for (cluster, number) in [("second", 2), ("third", 3)] {
        let host = host(number);
        runs_on(scene, cluster, host, IDLE);
        let seen = scene.get(&format!("lc/{cluster}"));
        let status = &seen["status"];
        assert_eq!(
            (&status["host"], &status["hostIP"], &status["placeholder"]),
            (&host.node.as_str().into(), &host.address.as_str().into(), &format!("{cluster}-host").into()),
        );
        let scheduled = condition(&seen, "Scheduled").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scheduled["status"], "True", "{scheduled}");
        let reachable = condition(&seen, "HostReachable").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(reachable["status"], "True", "{reachable}");

        let pod = placeholder(scene, cluster);
        assert_eq!(pod["spec"]["nodeName"], host.node.as_str());
        // A drain without --force leaves Pods alone that nothing would make anew.
        assert_eq!(pod["metadata"]["ownerReferences"][0]["controller"], true);
        assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], cluster);
    }
    delete(scene, &["second", "third"]);
}

fn requests_fill_a_host_and_then_another(scene: &Scene) {
    // Two of them do not fit on a host.
    let large = idle("{resources: {requests: {cpu: 10m, memory: 4Gi}}}");
    let names = ["one", "two", "three"];
    names.iter().for_each(|name| {
        scene.apply("LocalCluster", name, &large);
    });
    let mut hosts: Vec<&str> =
        names.iter().map(|name| bound(scene, &format!("lc/{name}"), &[]).node.as_str()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, rack::all().iter().map(|h| h.node.as_str()).collect::<Vec<_>>());

    scene.apply("LocalCluster", "four", &large);
    let message = scene.reason("lc/four", "Scheduled", "Unschedulable");
    assert!(message.contains("Insufficient memory"), "{message}");
    assert!(hosts_with(scene, "four").is_empty());
    let freed = bound(scene, "lc/two", &[]);
    delete(scene, &["two"]);
    runs_on(scene, "four", freed, IDLE);
    delete(scene, &["one", "three", "four"]);
}

fn spread_constraints_choose_different_hosts(scene: &Scene) {
    let spread = "{labels: {group: spread}, topologySpreadConstraints: [{maxSkew: 1, \
                  topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, \
                  labelSelector: {matchLabels: {group: spread}}}]}";
    let names = ["north", "east", "south"];
    names.iter().for_each(|name| {
        scene.apply("LocalCluster", name, &idle(spread));
    });
    let mut hosts: Vec<&str> =
        names.iter().map(|name| bound(scene, &format!("lc/{name}"), &[]).node.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    assert_eq!(hosts.len(), 3, "{hosts:?}");
    delete(scene, &names);
}

/// A quota for two clusters, removed on drop.
struct Quota<'a>(&'a Scene);

impl Drop for Quota<'_> {
    fn drop(&mut self) {
        let _ = self.0.attempt(&["delete", "quota", "two", "--ignore-not-found"]);
    }
}

fn a_quota_refuses_the_third(scene: &Scene) {
    let _quota = Quota(scene);
    scene.run(&["create", "quota", "two", "--hard=requests.memory=2Gi"]);
    let spec = idle("{resources: {requests: {cpu: 10m, memory: 1Gi}}}");
    for name in ["first", "second"] {
        scene.apply("LocalCluster", name, &spec);
        bound(scene, &format!("lc/{name}"), &[]);
    }
    scene.apply("LocalCluster", "third", &spec);
    let message = scene.reason("lc/third", "Scheduled", "QuotaExceeded");
    assert!(message.contains("two") && message.contains("requests.memory"), "{message}");
    assert!(hosts_with(scene, "third").is_empty());
    // The user's next step needs no restart and no edit of the cluster.
    scene.run(&["patch", "quota", "two", "-p", r#"{"spec": {"hard": {"requests.memory": "3Gi"}}}"#]);
    let host = bound(scene, "lc/third", &[]);
    runs_on(scene, "third", host, IDLE);
    delete(scene, &["first", "second", "third"]);
}

/// The agent of the cluster writes its Registry, which no host takes yet.
fn a_registry_without_a_host_is_corrected(scene: &Scene) {
    let spec = idle(&on(host(2), ""));
    let spec = spec.replacen('{', "{registries: {create: {memory: 500Gi}}, ", 1);
    scene.apply("LocalCluster", "owner", &spec);
    let own = "registry/owner-registry";
    scene.reason(own, "Scheduled", "Unschedulable");
    scene.patch("lc/owner", r#"{"registries": {"create": {"memory": "64Mi"}}}"#);
    eventually(LIMIT, "the Registry is on the host of its cluster", || {
        let seen = scene.try_get(own)?;
        holds(seen["spec"]["memory"] == "64Mi", || format!("it was not written: {}", seen["spec"]))?;
        let ready = condition(&seen, "Ready")?;
        holds(ready["status"] == "True", || ready.to_string())?;
        holds(seen["status"]["dockerHost"] == host(2).node.as_str(), || seen["status"].to_string())
    });
    delete(scene, &["owner"]);
}

/// PriorityClasses, removed on drop.
struct Priorities<'a>(&'a Scene, [String; 2]);

impl<'a> Priorities<'a> {
    fn create(scene: &'a Scene) -> Self {
        let names = ["low", "high"].map(|name| format!("{}-{name}", scene.namespace));
        for (name, value) in names.iter().zip(["--value=100", "--value=1000"]) {
            scene.k.run(&["create", "priorityclass", name, value]);
        }
        Self(scene, names)
    }
}

impl Drop for Priorities<'_> {
    fn drop(&mut self) {
        let [low, high] = &self.1;
        let _ = self.0.k.attempt(&["delete", "priorityclass", low, high]);
    }
}

fn a_cluster_of_higher_priority_takes_the_place(scene: &Scene) {
    let priorities = Priorities::create(scene);
    let [low, high] = &priorities.1;
    let place = host(2);
    let spec = |class: &str| {
        let rest =
            format!(", priorityClassName: {class}, resources: {{requests: {{cpu: 10m, memory: 5Gi}}}}");
        idle(&on(place, &rest))
    };
    scene.apply("LocalCluster", "low", &spec(low));
    runs_on(scene, "low", place, IDLE);
    let uid = placeholder(scene, "low")["metadata"]["uid"].clone();

    scene.apply("LocalCluster", "high", &spec(high));
    runs_on(scene, "high", place, IDLE);
    runs_not_on(scene, "low", place);
    let message = scene.reason("lc/low", "Scheduled", "Unschedulable");
    assert!(!message.is_empty());
    assert_ne!(placeholder(scene, "low")["metadata"]["uid"], uid, "the preempted Pod is gone");

    delete(scene, &["high"]);
    eventually(LIMIT, "the preempted cluster is placed again", || {
        let seen = scene.try_get("lc/low")?;
        let scheduled = condition(&seen, "Scheduled")?;
        holds(scheduled["status"] == "True", || scheduled.to_string())
    });
    runs_on(scene, "low", place, IDLE);
    delete(scene, &["low"]);
}
