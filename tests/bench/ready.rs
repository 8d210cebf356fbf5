//! From nothing to the first Pod, by the phases that minikube's `time-to-k8s` measures for several tools. Each tool makes a
//! cluster of one node; the images are on the Docker host before. `localcluster` begins once without a hub (cold: `up` makes
//! it), and once with one (warm). The Pod waits for its image, which each tool brings into the cluster in its own way.

use crate::{
    Scale,
    clock::{clock, promptly},
    figures::Report,
    live::{holds, hub::Hub, world},
    tools::{self, Made, Other},
};

/// How long each phase may take, in seconds.
const LIMIT: u64 = 180;
/// The phases, each from the beginning.
const PHASES: [&str; 5] =
    ["command", "API answers", "default service account", "Pod runs", "DNS answers in a Pod"];
/// What all others are compared with.
const BASE: &str = "docker run";

/// The moments at which the phases of a cluster ended.
type Ends = [f64; 5];

/// What was measured of a case: for each round, seconds from the beginning.
struct Case {
    name: String,
    rounds: Vec<Ends>,
}

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let others = Other::given();
    let name = format!("ready-{:x}", std::process::id());
    let mut cases: Vec<Case> = Vec::new();
    let mut ups = [Vec::new(), Vec::new()];
    for round in 1..=scale.rounds.unwrap_or(3) {
        println!("round {round}: {}", tools::machine());
        let mut add = |case: &str, began: f64, ends: Ends| {
            let seconds = ends.map(|end| end - began);
            match cases.iter_mut().find(|known| known.name == case) {
                Some(known) => known.rounds.push(seconds),
                None => cases.push(Case { name: case.to_owned(), rounds: vec![seconds] }),
            }
        };
        let began = clock();
        let ends = measured(|| tools::docker_run(&name));
        add(BASE, began, ends);
        for other in &others {
            let began = clock();
            let ends = measured(|| other.make(&name));
            add(other.name, began, ends);
        }
        let hub = Hub::new(&format!("{name}-hub"));
        for (state, ups) in ["cold", "warm"].iter().zip(&mut ups) {
            let began = clock();
            hub.up();
            let is_up = clock();
            ups.push(is_up - began);
            let ends = measured(|| tools::create(&hub, &name, false));
            add(&format!("{state} up + create"), began, ends);
            if *state == "warm" {
                add("create", is_up, ends);
            }
        }
        let began = clock();
        let ends = measured(|| tools::create(&hub, &name, true));
        add("create, Ephemeral", began, ends);
        hub.run(&["down"]).unwrap_or_else(|e| panic!("{e}"));
    }
    for (state, ups) in ["cold", "warm"].iter().zip(&ups) {
        report.seconds(&format!("{state} up"), ups);
    }
    for case in &cases {
        tell(report, case);
    }
}

/// Adds the figures of a case.
fn tell(report: &mut Report, case: &Case) {
    for (index, phase) in PHASES.iter().enumerate() {
        let values: Vec<f64> = case.rounds.iter().map(|ends| ends[index]).collect();
        let name = format!("{}: {phase}", case.name);
        if case.name == BASE {
            report.seconds(&name, &values);
        } else {
            report.compared(&name, &values, &format!("{BASE}: {phase}"));
        }
    }
}

/// Makes a cluster, and returns when each phase of it ended. The cluster is removed then.
fn measured<'a>(make: impl FnOnce() -> Made<'a>) -> Ends {
    let made = make();
    let command = clock();
    let kubectl = |args: &[&str]| made.kubectl.attempt(args);
    promptly(LIMIT, PHASES[1], || kubectl(&["get", "--raw", "/readyz"]));
    let api = clock();
    // Without it no Pod can be created.
    promptly(LIMIT, PHASES[2], || kubectl(&["get", "serviceaccount", "default"]));
    let account = clock();
    (made.bring)(&world("BUSYBOX_IMAGE"));
    made.kubectl.apply(&pod(&world("BUSYBOX_IMAGE")));
    promptly(LIMIT, PHASES[3], || {
        let phase = kubectl(&["get", "pod/ready", "-o", "jsonpath={.status.phase}"])?;
        holds(phase == "Running", || phase.clone())
    });
    let pod = clock();
    promptly(LIMIT, PHASES[4], || {
        kubectl(&["exec", "ready", "--", "nslookup", "kubernetes.default.svc.cluster.local"])
    });
    [command, api, account, pod, clock()]
}

/// A Pod that does nothing, and ends at once when it is told to.
fn pod(image: &str) -> String {
    let command = r#"["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]"#;
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: ready}}, spec: {{containers: [{{name: ready, image: \"{image}\", \
         imagePullPolicy: IfNotPresent, command: {command}}}]}}}}"
    )
}
