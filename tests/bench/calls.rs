//! How many calls of Docker and requests to Kubernetes APIs the operator makes for a cluster of one server and one agent:
//! in each phase of its life, and while nothing happens.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Scale,
    figures::Report,
    live::{DEPLOYMENT, Kubectl, SYSTEM, cluster::container, docker, eventually, holds, pause, scene::Scene},
    small_cluster,
};

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::new("calls");
    let mut before = calls();
    let mut phase = |name: &str, report: &mut Report| {
        let now = calls();
        add(report, name, &before, &now, 1);
        before = now;
    };
    scene.apply("LocalCluster", "c", &small_cluster(1, ""));
    scene.ready("lc/c");
    phase("create", report);
    scene.patch("lc/c", r#"{"agents": {"count": 2}}"#);
    scene.ready("lc/c");
    phase("agents 1 to 2", report);
    let agent = container(&scene, "agent-1");
    let started = || docker(&["inspect", "-f", "{{.State.StartedAt}}", &agent]);
    let first = started();
    docker(&["kill", &agent]);
    eventually(60, "it runs again", || holds(started() != first, started));
    scene.ready("lc/c");
    phase("an agent that is killed", report);
    scene.patch("lc/c", r#"{"agents": {"count": 1}}"#);
    scene.ready("lc/c");
    // What follows from a change, such as the second write for CoreDNS, is not idle.
    pause(Duration::from_secs(60));
    let before = calls();
    pause(Duration::from_secs(60 * scale.idle));
    add(report, "an idle hour", &before, &calls(), 60 / scale.idle);
    scene.end();
}

/// What is counted: the metric up to the value of the label of the operation, and its name in a report.
const COUNTED: [(&str, &str); 3] = [
    ("localcluster_docker_calls_total{operation=\"", "calls of Docker"),
    ("localcluster_api_requests_total{api=\"management\",verb=\"", "requests to the management API"),
    ("localcluster_api_requests_total{api=\"cluster\",verb=\"", "requests to the API of the cluster"),
];

/// Numbers by what is counted and by operation.
type Calls = BTreeMap<(&'static str, String), usize>;

/// Adds the sums of a phase, and each operation of which there are several.
fn add(report: &mut Report, name: &str, before: &Calls, now: &Calls, times: u64) {
    let times = usize::try_from(times).expect("it is small");
    let new = |(key, count): (&(&'static str, String), &usize)| {
        (key.clone(), (count - before.get(key).copied().unwrap_or_default()) * times)
    };
    let calls: Calls = now.iter().map(new).filter(|(_, count)| *count > 0).collect();
    for (_, what) in COUNTED {
        let of = calls.iter().filter(|((of, _), _)| *of == what);
        report.count(&format!("{name}: {what}"), of.clone().map(|(_, count)| count).sum());
        for ((_, operation), count) in of.filter(|(_, count)| **count > 1) {
            report.count(&format!("{name}: {what}: {operation}"), *count);
        }
    }
}

/// Returns the numbers so far.
fn calls() -> Calls {
    let k = Kubectl::management();
    let pod = k.run(&[
        "-n",
        SYSTEM,
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=localcluster-operator",
        "-o",
        "name",
    ]);
    let pod =
        pod.lines().next().unwrap_or_else(|| panic!("{DEPLOYMENT} has no Pod")).trim_start_matches("pod/");
    let metrics =
        k.run(&["get", "--raw", &format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics")]);
    let mut calls = Calls::new();
    for (metric, what) in COUNTED {
        for line in metrics.lines().filter_map(|l| l.strip_prefix(metric)) {
            let (operation, rest) = line.split_once('"').expect("it is a label");
            let count = rest.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
            *calls.entry((what, operation.to_owned())).or_default() += count.expect("it has a number");
        }
    }
    calls
}
