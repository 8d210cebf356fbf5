//! HostPolicies: nothing is made that one does not allow, whatever happens, and what runs is left alone.

#[path = "policy/access.rs"]
mod access;
#[path = "policy/audit.rs"]
mod audit;
#[path = "policy/rows.rs"]
mod rows;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::{
    api::reason::Reason,
    controller::policy_status::Followed,
    docker::spec::Limits,
    k3s::kubeconfig,
    plan::{
        policy::{admission, check},
        settings::{Settings, WithoutPolicy},
    },
};
use proptest::{prelude::*, test_runner::Config};
use serde_json::{Value, json};
use support::{
    fakes::rig::{Rig, condition},
    model::{
        interfere::Outside,
        lab::{self, Lab, Object},
        script::{self, events, happen, specs},
    },
};

const ENOUGH: usize = 60;

/// Policies that some of the specs of random lives violate.
const POLICIES: [&str; 10] = [
    "priority: 1",
    "nodes: {images: ['docker.io/rancher/k3s:*']}",
    "nodes: {argsDeny: ['--kubelet-arg=*']}, ports: {ranges: [{from: 20000, to: 20099}]}",
    "hostPaths: [{path: /srv/other}], images: {preload: []}",
    "perNode: {maxMemory: 1Gi}",
    "nodes: {requireDigest: true}",
    "defaults: {memory: 1Gi, cpus: '1', pids: 4096}, perNode: {maxMemory: 2Gi, maxCpus: '2', maxPids: 8192}",
    "network: {pools: [10.9.0.0/16]}, ports: {ranges: [{from: 30000, to: 30099}, {from: 8080, to: 8080}]}",
    "nodes: {runtimes: ['sysbox-*'], privileged: false}, defaults: {runtime: sysbox-runc, privileged: false}",
    "kubeconfig: {access: [View], maxTTL: 24h}",
];

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    /// The policy changes again and again. `Lab` checks every plan; in the end, without a policy, everything is made.
    #[test]
    fn no_life_has_a_step_outside_its_policy(
        spec in specs(),
        lives in prop::collection::vec((events(), 0..POLICIES.len()), 1..4),
        chance in any::<u64>(),
    ) {
        let mut lab = script::lab(spec, chance);
        for (events, policy) in lives {
            lab.set_policy(POLICIES[policy]);
            events.iter().for_each(|event| happen(&mut lab, event));
            (0..3).for_each(|_| drop(lab.round()));
        }
        lab.policy = None;
        lab.world.strangers_leave();
        lab.settle(ENOUGH);
    }
}

/// A stricter policy stops nothing, and what it forbids is not begun: a node is not taken away that could not come back.
#[test]
fn a_stricter_policy_leaves_what_runs() {
    for policy in POLICIES.iter().skip(1) {
        let mut lab = script::lab(lab::spec(2), 1);
        lab.clusters[0].spec.agents.args = vec!["--kubelet-arg=max-pods=50".into()];
        lab.clusters[0].spec.image = Some("example/k3s:v1.36.2-k3s1".into());
        lab.settle(ENOUGH);
        let containers = |lab: &Lab| -> BTreeMap<String, String> {
            lab.world.containers.iter().map(|(id, c)| (id.clone(), format!("{:?}", c.state))).collect()
        };
        let before = containers(&lab);
        lab.set_policy(policy);
        (0..4).for_each(|_| assert_eq!(lab.round(), [], "{policy}"));
        assert!(lab.settled(), "{policy}: {:#?}", lab.look(0).plan.problems);
        assert_eq!(containers(&lab), before, "{policy}");
        // It is started as before, and not made anew.
        assert!(lab.world.interfere(&Outside::Kill("k3d-dev-agent-0".into())));
        (0..9).for_each(|_| drop(lab.round()));
        assert_eq!(containers(&lab), before, "{policy}");
        // An edit is held back as a whole, also the drain before a replacement.
        if lab.standing(&lab.clusters[0]).problem.is_some() {
            lab.clusters[0].edit(|s| {
                s.agents.env.push(localcluster_operator::api::registry::EnvVar {
                    name: "A".into(),
                    value: "b".into(),
                })
            });
            (0..9).for_each(|_| drop(lab.round()));
            assert_eq!(containers(&lab), before, "{policy}");
            assert!(lab.world.clusters.values().all(|c| c.nodes.values().all(|n| n.draining.is_none())));
            let problems = lab.look(0).plan.problems;
            assert!(problems.iter().any(|p| p.reason == Reason::PolicyViolation), "{policy}: {problems:?}");
            // Fewer agents are fewer all the same.
            lab.clusters[0].edit(|s| s.agents.count = 1);
            (0..9).for_each(|_| drop(lab.round()));
            assert!(lab.world.named("k3d-dev-agent-1").is_none(), "{policy}");
        }
        lab.clusters[0].deleted = true;
        lab.registries[0].deleted = true;
        (0..4).for_each(|_| drop(lab.round()));
        assert!(lab.world.containers.is_empty() && lab.world.volumes.is_empty(), "{policy}");
    }
}

#[test]
fn subnets_and_ports_are_allocated_where_the_policy_allows_them() {
    let mut lab = Lab::new(vec![Object::new("team-a", "dev", lab::spec(1))], Vec::new());
    lab.set_policy(POLICIES[7]);
    lab.settle(ENOUGH);
    let network = lab.world.networks.values().find(|n| n.name.starts_with("k3d-")).unwrap();
    assert!(network.subnet.to_string().starts_with("10.9."), "{}", network.subnet);
    let ports = lab.world.containers.values().flat_map(|c| c.wanted_ports.iter().map(|p| p.host_port));
    assert!(ports.clone().count() > 0 && ports.clone().all(|p| (30000..=30099).contains(&p)));
}

/// The policies for admission have the same words, see `tests/crds/admission.rs`.
#[test]
fn the_operator_judges_as_the_policies_for_admission_do() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows::ROWS {
        let (rules, kind, spec, field) = *row;
        let policy = format!(
            "{{kind: HostPolicy, apiVersion: localcluster.dev/v1alpha1, metadata: {{name: p}}, spec: {{namespaceSelector: {{}}, {rules}}}}}"
        );
        let objects = [("o".to_owned(), rows::object(row, "team-a"))];
        let settings = Settings { registry_image: "registry:3".into(), ..lab::settings() };
        let checked = check::files(("p", &policy), &objects, "team-a", &settings).unwrap();
        let told = checked.refused.iter().any(|r| r.contains(&format!("({field}: ")));
        assert!(checked.refused.is_empty() == field.is_empty(), "{rules}: {kind} {spec}: {checked:?}");
        assert!(field.is_empty() || told, "{rules}: {kind} {spec}: {checked:?}");
        *seen.entry(field).or_default() += 1;
    }
    for (field, rules) in admission::fields() {
        assert!(seen.contains_key(field), "no row for {field}, of {rules} rules");
    }
}

#[test]
fn a_file_with_values_of_another_type_is_refused() {
    let policy = "{kind: HostPolicy, apiVersion: localcluster.dev/v1alpha1, metadata: {name: p}, spec: {namespaceSelector: {}}}";
    for spec in ["{servers: three}", "three"] {
        let object = format!(
            "{{kind: LocalCluster, apiVersion: localcluster.dev/v1alpha1, metadata: {{name: c}}, spec: {spec}}}"
        );
        let objects = [("o".to_owned(), object)];
        let told = check::files(("p", policy), &objects, "team-a", &lab::settings()).unwrap_err();
        assert!(told.starts_with("o: LocalCluster team-a/c: invalid type"), "{told}");
    }
}

#[test]
fn the_file_with_the_policies_for_admission_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/admission/policies.yaml");
    let text = admission::file().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let same = std::fs::read_to_string(path).unwrap_or_default() == text;
    assert!(same, "{path} is out of date: UPDATE=1 cargo test --test policy file");
}

fn namespace(rig: &Rig, labels: Value) {
    let object =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": labels}});
    rig.api.put_cluster("/api/v1/namespaces/default", object);
}

fn policy(rig: &Rig, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "HostPolicy", "metadata": {"name": name}, "spec": spec,
    });
    rig.api.put_cluster(&format!("/apis/localcluster.dev/v1alpha1/hostpolicies/{name}"), object);
}

fn put(rig: &Rig, name: &str, spec: Value) {
    let mut whole = json!({"servers": {"count": 1}, "agents": {"count": 0}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": {"name": name}, "spec": whole,
    });
    rig.api.put(&cluster(name), object);
}

fn cluster(name: &str) -> String {
    support::fakes::api::path("localclusters", name)
}

fn told(rig: &Rig, name: &str, type_: &str) -> (String, String) {
    condition(&rig.api.get(&cluster(name)).unwrap(), type_)
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

fn strict() -> Rig {
    let rig = Rig::new(Settings { without_policy: WithoutPolicy::Refuse, ..lab::settings() });
    namespace(&rig, json!({"tier": "team"}));
    rig
}

fn team(rules: Value) -> Value {
    let mut spec = json!({"namespaceSelector": {"matchLabels": {"tier": "team"}}});
    spec.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    spec
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_nothing_is_made_and_with_one_it_is() {
    let mut rig = strict();
    put(&rig, "dev", json!({}));
    for _ in 0..4 {
        rig.round().await;
    }
    assert_eq!(rig.world(|w| (w.containers.len(), w.networks.len())), (0, 1), "Docker's own bridge");
    assert_eq!(told(&rig, "dev", "Accepted"), is("False", "NoPolicy"));
    assert_eq!(told(&rig, "dev", "Stalled"), is("True", "NoPolicy"));
    assert_eq!(rig.api.all("secrets"), [] as [Value; 0]);
    policy(&rig, "teams", team(json!({})));
    rig.settle(ENOUGH).await;
    // Gone again, and the cluster goes on; only a new one is refused.
    rig.api.remove("/apis/localcluster.dev/v1alpha1/hostpolicies/teams");
    put(&rig, "other", json!({}));
    for _ in 0..4 {
        rig.round().await;
    }
    assert_eq!(told(&rig, "dev", "Ready"), is("True", "Ready"));
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("True", "NoPolicy"));
    assert_eq!(told(&rig, "other", "Accepted"), is("False", "NoPolicy"));
    rig.api.delete(&cluster("dev"));
    rig.api.delete(&cluster("other"));
    rig.settle(ENOUGH).await;
    assert!(rig.world(|w| w.containers.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn of_twenty_at_once_no_more_are_made_than_the_quota_has() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({"quota": {"clusters": 3}})));
    for i in 0..20 {
        put(&rig, &format!("n{i:02}"), json!({}));
    }
    for _ in 0..3 {
        rig.reconcile_together().await;
        rig.pass().await;
    }
    let networks =
        |rig: &Rig| rig.world(|w| w.networks.values().filter(|n| n.name.starts_with("k3d-")).count());
    let refused = |rig: &Rig| {
        let all = rig.api.all("localclusters");
        all.iter().filter(|o| condition(o, "Accepted") == is("False", "PolicyViolation")).count()
    };
    assert_eq!((networks(&rig), refused(&rig)), (3, 17));
    // One of them goes, and one that waits follows.
    let first = rig.api.all("localclusters");
    let made = first.iter().find(|o| condition(o, "Accepted").0 == "True").unwrap();
    let mut followed = Followed::new(&rig.ctx);
    followed.follow(&rig.ctx).await;
    rig.triggered();
    rig.api.delete(&cluster(made["metadata"]["name"].as_str().unwrap()));
    for _ in 0..4 {
        rig.round().await;
    }
    followed.follow(&rig.ctx).await;
    assert!(!rig.triggered().is_empty(), "nobody was told of the room");
    for _ in 0..12 {
        rig.round().await;
    }
    assert_eq!((networks(&rig), refused(&rig)), (3, 16));
}

#[tokio::test(start_paused = true)]
async fn a_running_cluster_that_violates_stays_ready_until_it_wants_more() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    policy(&rig, "teams", team(json!({"perNode": {"maxMemory": "1Gi"}})));
    for _ in 0..3 {
        rig.round().await;
    }
    assert_eq!(told(&rig, "dev", "Ready"), is("True", "Ready"));
    assert_eq!(told(&rig, "dev", "Accepted"), is("True", "Accepted"));
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("True", "PolicyViolation"));
    assert_eq!(rig.events("PolicyViolation").len(), 1);
    // The status of the policy says so.
    let mut followed = Followed::new(&rig.ctx);
    assert!(followed.follow(&rig.ctx).await);
    let written =
        rig.api.get("/apis/localcluster.dev/v1alpha1/hostpolicies/teams").unwrap()["status"].clone();
    assert_eq!((&written["violations"], &written["namespaces"]), (&json!(["default/dev"]), &json!(1)));
    assert_eq!((&written["usage"]["clusters"], &written["usage"]["nodes"]), (&json!(1), &json!(2)));
    put(&rig, "dev", json!({"agents": {"count": 2}}));
    for _ in 0..3 {
        rig.round().await;
    }
    assert_eq!(told(&rig, "dev", "Ready"), is("False", "PolicyViolation"));
    assert_eq!(rig.world(|w| w.containers.len()), 3);
    policy(&rig, "teams", team(json!({"perNode": {"maxGpus": 0}})));
    // The change triggers the cluster, and what is as it was does not.
    rig.reconcile().await;
    rig.triggered();
    assert!(followed.follow(&rig.ctx).await);
    let triggered = rig.triggered();
    assert!(!triggered.is_empty() && triggered.iter().all(|name| name == "dev"), "{triggered:?}");
    assert!(followed.follow(&rig.ctx).await);
    assert_eq!(rig.triggered(), [""; 0]);
    rig.settle(ENOUGH).await;
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("False", "Accepted"));
    assert_eq!(rig.world(|w| w.containers.len()), 4);
}

/// The limits that Docker has for a node.
fn limits(rig: &Rig, node: &str) -> Limits {
    rig.world(|w| w.named(&format!("k3d-dev-{node}")).unwrap().limits)
}

fn limit(memory: i64, pids: i64) -> Limits {
    Limits { memory: Some(memory << 30), nano_cpus: None, pids: Some(pids) }
}

fn effective(rig: &Rig) -> Value {
    rig.api.get(&cluster("dev")).unwrap()["status"]["effective"].clone()
}

#[tokio::test(start_paused = true)]
async fn defaults_are_those_of_new_nodes_and_what_runs_keeps_its_own() {
    let mut rig = strict();
    let with = |memory: &str| {
        team(json!({"defaults": {"memory": memory, "pids": 4096}, "quota": {"memory": "8Gi"}}))
    };
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({"agents": {"count": 1, "pids": 2048}}));
    rig.settle(ENOUGH).await;
    assert_eq!((limits(&rig, "server-0"), effective(&rig)), (Limits::default(), Value::Null));
    let ids = |rig: &Rig| rig.world(|w| w.containers.keys().cloned().collect::<BTreeSet<_>>());
    let before = ids(&rig);
    // It does nothing to what runs.
    policy(&rig, "teams", with("1Gi"));
    rig.settle(ENOUGH).await;
    assert_eq!((ids(&rig), effective(&rig)), (before.clone(), Value::Null));
    put(&rig, "dev", json!({"agents": {"count": 2, "pids": 2048}}));
    rig.settle(ENOUGH).await;
    assert!(ids(&rig).is_superset(&before));
    assert_eq!(limits(&rig, "agent-1"), limit(1, 2048));
    assert_eq!(effective(&rig), json!({"agents": {"memory": "1Gi"}}));
    let spec = rig.api.get(&cluster("dev")).unwrap()["spec"].clone();
    assert_eq!(spec["agents"], json!({"count": 2, "pids": 2048}), "nothing is written into it");
    // All are made anew for another reason.
    put(
        &rig,
        "dev",
        json!({"agents": {"count": 2, "pids": 1024}, "servers": {"count": 1, "args": ["--debug"]}}),
    );
    rig.settle(ENOUGH).await;
    assert_eq!((limits(&rig, "server-0"), limits(&rig, "agent-0")), (limit(1, 4096), limit(1, 1024)));
    let all = ids(&rig);
    policy(&rig, "teams", with("2Gi"));
    rig.settle(ENOUGH).await;
    let both = json!({"servers": {"memory": "1Gi", "pids": 4096}, "agents": {"memory": "1Gi"}});
    assert_eq!((ids(&rig), effective(&rig)), (all, both));
    // Docker does not have it any more, and the new one has what applies now.
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-agent-0".into())));
    rig.settle(ENOUGH).await;
    assert_eq!((limits(&rig, "agent-0"), limits(&rig, "agent-1")), (limit(2, 1024), limit(1, 1024)));
    assert_eq!(effective(&rig)["agents"], json!({"memory": "2Gi"}), "the highest");
    // They count: two more would be 10Gi.
    put(
        &rig,
        "dev",
        json!({"agents": {"count": 4, "pids": 1024}, "servers": {"count": 1, "args": ["--debug"]}}),
    );
    rig.pass().await;
    rig.round().await;
    assert_eq!(told(&rig, "dev", "Ready"), is("False", "PolicyViolation"));
    let (_, why) = told(&rig, "dev", "PolicyViolation");
    assert_eq!(why, "PolicyViolation");
}

#[tokio::test(start_paused = true)]
async fn a_default_runtime_is_that_of_new_nodes() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    let has = |rig: &Rig, node: &str| {
        rig.world(|w| {
            let isolation = &w.named(&format!("k3d-dev-{node}")).unwrap().isolation;
            (isolation.runtime.clone().unwrap(), isolation.privileged)
        })
    };
    let (before, sysbox) = (("runc".to_owned(), Some(true)), ("sysbox-runc".to_owned(), Some(false)));
    let rules = json!({
        "nodes": {"runtimes": ["sysbox-runc"], "privileged": false},
        "defaults": {"runtime": "sysbox-runc", "privileged": false},
    });
    policy(&rig, "teams", team(rules));
    rig.settle(ENOUGH).await;
    assert_eq!((has(&rig, "server-0"), effective(&rig)), (before.clone(), Value::Null));
    put(&rig, "dev", json!({"agents": {"count": 2}}));
    rig.settle(ENOUGH).await;
    assert_eq!((has(&rig, "agent-0"), has(&rig, "agent-1")), (before, sysbox.clone()));
    assert_eq!(effective(&rig), Value::Null, "the nodes differ");
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-agent-0".into())));
    rig.settle(ENOUGH).await;
    assert_eq!(has(&rig, "agent-0"), sysbox);
    let shown = json!({"agents": {"runtime": "sysbox-runc", "privileged": false}});
    assert_eq!(effective(&rig), shown);
    // Of nodes that exist it is shown as long as they have it.
    policy(&rig, "teams", team(json!({})));
    rig.settle(ENOUGH).await;
    assert_eq!(effective(&rig), shown);
    // One that the engine lacks makes nothing.
    policy(&rig, "teams", team(json!({"defaults": {"runtime": "kata"}})));
    put(&rig, "dev", json!({"agents": {"count": 3}}));
    rig.pass().await;
    rig.round().await;
    let (_, why) = told(&rig, "dev", "AgentsReady");
    assert_eq!(why, "RuntimeNotFound");
    assert!(rig.world(|w| w.named("k3d-dev-agent-2").is_none()));
}

/// Whether the kubeconfig has a token, and its text.
fn handed_out(rig: &Rig) -> (bool, String) {
    let secret = rig.api.get(&support::fakes::api::secret("dev-kubeconfig")).unwrap();
    let data = secret["data"]["kubeconfig"].as_str().unwrap().to_owned();
    let text = String::from_utf8(BASE64_STANDARD.decode(&data).unwrap()).unwrap();
    (kubeconfig::token(&text).is_some(), text)
}

/// Without it, a certificate would be handed out that nobody can revoke.
#[tokio::test(start_paused = true)]
async fn a_default_life_of_tokens_stays_while_no_rules_are_known() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({}));
    rig.settle(ENOUGH).await;
    assert!(!handed_out(&rig).0);
    let limited = json!({"kubeconfig": {"maxTTL": "8h"}, "defaults": {"kubeconfigTTL": "8h"}});
    policy(&rig, "teams", team(limited));
    rig.settle(ENOUGH).await;
    let token = handed_out(&rig);
    assert!(token.0, "it applies to what runs");
    assert_eq!(effective(&rig), json!({"kubeconfigTTL": "8h"}));
    policy(&rig, "teams", team(json!({"quota": {"memory": "much"}})));
    for _ in 0..3 {
        rig.pass().await;
        rig.round().await;
    }
    assert_eq!((handed_out(&rig), effective(&rig)), (token.clone(), json!({"kubeconfigTTL": "8h"})));
    rig.api.remove("/apis/localcluster.dev/v1alpha1/hostpolicies/teams");
    for _ in 0..3 {
        rig.pass().await;
        rig.round().await;
    }
    assert_eq!(told(&rig, "dev", "PolicyViolation").1, "NoPolicy");
    assert_eq!((handed_out(&rig), effective(&rig)), (token, json!({"kubeconfigTTL": "8h"})));
    // With a policy that has none it ends.
    policy(&rig, "teams", team(json!({})));
    rig.settle(ENOUGH).await;
    assert!(!handed_out(&rig).0);
    assert_eq!(effective(&rig), Value::Null);
}

/// What the Secret has is kept, and nothing that the policy does not allow is written to it.
#[tokio::test(start_paused = true)]
async fn a_kubeconfig_that_violates_the_policy_freezes_the_cluster() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({}));
    rig.settle(ENOUGH).await;
    let before = handed_out(&rig);
    policy(&rig, "teams", team(json!({"kubeconfig": {"access": ["View"]}})));
    rig.settle(ENOUGH).await;
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("True", "PolicyViolation"));
    assert_eq!(told(&rig, "dev", "Ready").0, "True");
    assert_eq!(handed_out(&rig), before);
    put(&rig, "dev", json!({"kubeconfig": {"access": "Edit"}}));
    for _ in 0..3 {
        rig.pass().await;
        rig.round().await;
    }
    assert_eq!(handed_out(&rig), before);
    put(&rig, "dev", json!({"kubeconfig": {"access": "View"}}));
    rig.settle(ENOUGH).await;
    assert!(handed_out(&rig).0);
    assert_eq!(told(&rig, "dev", "PolicyViolation").0, "False");
}

/// Days of the fake clock.
fn days(rig: &Rig, days: i64) {
    rig.world(|w| w.clock += days * 24 * 3600);
}

#[tokio::test(start_paused = true)]
async fn a_default_time_to_live_does_not_end_what_is_older_at_once() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({}));
    rig.settle(ENOUGH).await;
    days(&rig, 30);
    let left = |rig: &Rig| {
        let status = rig.api.get(&cluster("dev")).unwrap()["status"].clone();
        let end =
            status["expiresAt"].as_str().map(|time| time.parse::<jiff::Timestamp>().unwrap().as_second());
        end.map(|end| (end - rig.world(|w| w.clock) + 1800) / 3600)
    };
    policy(&rig, "teams", team(json!({"defaults": {"ttl": "72h"}})));
    rig.pass().await;
    rig.round().await;
    rig.round().await;
    assert_eq!((left(&rig), effective(&rig)["ttl"].as_str()), (Some(72), Some("72h")));
    // One that is new has its time from its creation.
    put(&rig, "other", json!({}));
    rig.round().await;
    let other = rig.api.get(&cluster("other")).unwrap();
    assert_eq!(other["status"]["effective"]["ttlSince"], other["metadata"]["creationTimestamp"]);
    rig.api.delete(&cluster("other"));
    // Unknown: nothing ends, and nothing is forgotten.
    days(&rig, 4);
    policy(&rig, "teams", team(json!({"quota": {"memory": "much"}})));
    rig.pass().await;
    rig.round().await;
    assert_eq!(effective(&rig)["ttl"], "72h");
    // A shorter one is announced, and then it ends.
    policy(&rig, "teams", team(json!({"defaults": {"ttl": "720h"}})));
    rig.pass().await;
    rig.round().await;
    rig.round().await;
    assert_eq!(left(&rig), Some(720 - 96));
    policy(&rig, "teams", team(json!({"defaults": {"ttl": "1h"}})));
    rig.pass().await;
    rig.round().await;
    rig.round().await;
    assert_eq!((left(&rig), rig.events("Expiring").len()), (Some(1), 0));
    rig.world(|w| w.clock += 3400);
    rig.round().await;
    rig.round().await;
    let told = rig.events("Expiring");
    assert!(told.len() == 1 && told[0].contains("1h, the default of the HostPolicy teams"), "{told:?}");
    rig.world(|w| w.clock += 300);
    for _ in 0..6 {
        rig.round().await;
    }
    assert_eq!(rig.api.get(&cluster("dev")), None);
}

/// A policy that stops clusters with agents of any name.
fn stops(grace: &str) -> Value {
    team(json!({"onViolation": "Stop", "grace": grace, "nodes": {"images": []}}))
}

/// Whether containers run.
fn runs(rig: &Rig) -> Vec<bool> {
    rig.world(|w| w.containers.values().map(|c| c.is_up()).collect())
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_violates_is_stopped_after_the_grace_and_runs_again_when_it_may() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    put(&rig, "dev", json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    let ids = |rig: &Rig| rig.world(|w| w.containers.keys().cloned().collect::<BTreeSet<_>>());
    let before = ids(&rig);
    policy(&rig, "teams", team(json!({"nodes": {"images": []}})));
    rig.round().await;
    assert_eq!(rig.api.get(&cluster("dev")).unwrap()["status"]["violation"], Value::Null);
    policy(&rig, "teams", stops("1h"));
    rig.round().await;
    let events = rig.events("PolicyViolation");
    assert!(events.len() == 2 && events[1].contains("the cluster is stopped from"), "{events:?}");
    let status = rig.api.get(&cluster("dev")).unwrap()["status"].clone();
    let stops_at = status["violation"]["stopsAt"].as_str().unwrap().to_owned();
    let violation = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "PolicyViolation");
    let message = violation.unwrap()["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("the cluster is stopped from {stops_at} on; nothing")), "{message}");
    assert_eq!((told(&rig, "dev", "Ready"), runs(&rig)), (is("True", "Ready"), vec![true; 3]));
    let text = rig.ctx.metrics.encode().unwrap();
    let line = r#"localcluster_policy_violations{policy="teams",field="nodes.images"} 1"#;
    assert!(text.lines().any(|l| l == line), "{text}");
    // One that is loosened in time cancels it.
    rig.world(|w| w.clock += 3000);
    policy(&rig, "teams", team(json!({})));
    rig.pass().await;
    rig.round().await;
    assert_eq!(rig.api.get(&cluster("dev")).unwrap()["status"]["violation"], Value::Null);
    assert!(!rig.ctx.metrics.encode().unwrap().contains("policy_violations{"));
    // Something wakes it when the time is over.
    policy(&rig, "teams", stops("20m"));
    rig.round().await;
    for _ in 0..38 {
        rig.pass().await;
    }
    rig.triggered();
    for _ in 0..3 {
        rig.pass().await;
    }
    assert!(!rig.triggered().is_empty(), "nobody asked for it");
    // What is unknown stops nothing.
    let mut unknown = stops("20m");
    unknown["quota"] = json!({"memory": "much"});
    policy(&rig, "teams", unknown.clone());
    rig.round().await;
    assert_eq!(
        (runs(&rig), told(&rig, "dev", "PolicyViolation")),
        (vec![true; 3], is("True", "PolicyInvalid"))
    );
    policy(&rig, "teams", stops("20m"));
    for _ in 0..4 {
        rig.round().await;
    }
    assert_eq!((runs(&rig), ids(&rig)), (vec![false; 3], before.clone()));
    for (type_, condition) in [
        ("Ready", is("False", "PolicyViolation")),
        ("Stopped", is("True", "PolicyViolation")),
        ("Stalled", is("True", "PolicyViolation")),
        ("PolicyViolation", is("True", "PolicyViolation")),
    ] {
        assert_eq!(told(&rig, "dev", type_), condition, "{type_}");
    }
    // It stays so while the policy is unknown, and after a restart of the operator.
    policy(&rig, "teams", unknown);
    let mut rig = rig.restart();
    for _ in 0..4 {
        rig.round().await;
    }
    assert_eq!((runs(&rig), told(&rig, "dev", "Stopped")), (vec![false; 3], is("True", "PolicyViolation")));
    policy(&rig, "teams", team(json!({})));
    rig.settle(ENOUGH).await;
    assert_eq!((runs(&rig), ids(&rig)), (vec![true; 3], before));
    assert_eq!(told(&rig, "dev", "Stopped"), is("False", "NotStopped"));
    // One that is being deleted begins nothing.
    let name = "/apis/localcluster.dev/v1alpha1/hostpolicies/teams";
    policy(&rig, "teams", stops("20m"));
    let mut going = rig.api.get(name).unwrap();
    going["metadata"]["deletionTimestamp"] = json!("2023-11-15T00:00:00Z");
    going["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    rig.api.put_cluster(name, going);
    rig.round().await;
    assert_eq!(told(&rig, "dev", "PolicyViolation"), is("True", "PolicyViolation"));
    assert_eq!(rig.api.get(&cluster("dev")).unwrap()["status"]["violation"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_refuses() {
    let mut rig = strict();
    for (rules, reason) in [
        (json!({"quota": {"memory": "much"}}), "PolicyInvalid"),
        (json!({"quotas": {"clusters": 9}}), "PolicyInvalid"),
        (json!({"namespaceSelector": {"matchLabels": {"tier": "other"}}}), "NoPolicy"),
    ] {
        policy(&rig, "teams", team(rules));
        put(&rig, "dev", json!({}));
        for _ in 0..2 {
            rig.round().await;
        }
        assert_eq!(told(&rig, "dev", "Accepted"), is("False", reason));
        assert!(rig.world(|w| w.containers.is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_clusters_of_a_namespace_start_at_a_time_as_its_policy_says() {
    const MANY: usize = 5;
    let mut rig = strict();
    policy(&rig, "teams", team(json!({"quota": {"concurrentStarts": 1}})));
    let names: Vec<String> = (0..MANY).map(|i| format!("n{i}")).collect();
    names.iter().for_each(|name| put(&rig, name, json!({})));
    let mut told_why = false;
    for _ in 0..ENOUGH * MANY {
        rig.reconcile_together().await;
        rig.pass().await;
        let starts = |name: &&String| {
            let up = rig.world(|w| w.named(&format!("k3d-{name}-server-0")).is_some_and(|c| c.state.is_up()));
            up && told(&rig, name, "ControlPlaneReady").0 != "True"
        };
        let starting: Vec<&String> = names.iter().filter(starts).collect();
        assert!(starting.len() <= 1, "{starting:?} start at once");
        for name in &names {
            if told(&rig, name, "ControlPlaneReady").1 == "Queued" {
                let object = rig.api.get(&cluster(name)).unwrap().to_string();
                told_why |= object.contains("already starting (quota.concurrentStarts: 1)");
            }
        }
        if names.iter().all(|name| told(&rig, name, "Ready").0 == "True") {
            break;
        }
    }
    assert!(told_why);
    let ready = names.iter().filter(|name| told(&rig, name, "Ready").0 == "True").count();
    assert_eq!(ready, MANY);
}
