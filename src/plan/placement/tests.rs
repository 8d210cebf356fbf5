use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

use super::{
    duty::{Duty, duty},
    heartbeat::{self, Heartbeats},
    hosts::{Host, Hosts},
    judge::{Act, Decision, Refusal, Seen, judge},
    *,
};
use crate::{
    api::{names, reason::Reason},
    docker::engine::{Container, Network, State as ContainerState, Volume},
    plan::{self, owner::Owner, steps::Plan},
};

/// A host: `ready`, `cordoned`, `silent` (its agent), `notready` and silent, `partly` (its kubelet only), `off`, `gone`.
fn node(name: &str, state: &str) -> Option<Node> {
    let ready = !matches!(state, "notready" | "partly" | "off");
    let beats = matches!(state, "ready" | "cordoned" | "partly");
    let taint = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": format!("{name}.local")}},
        "spec": {"unschedulable": state == "cordoned", "taints": if state == "off" { taint } else { json!([]) }},
        "status": {
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "Unknown" }}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        },
    });
    if beats {
        node["metadata"]["labels"]["localcluster.dev/docker"] = json!("ready");
    }
    (state != "gone").then(|| serde_json::from_value(node).unwrap())
}

fn hosts(a: &str) -> Hosts {
    let all = [node("a", a), node("b", "ready")];
    Hosts(all.into_iter().flatten().map(|n| (n.metadata.name.clone().unwrap(), Host::of(&n))).collect())
}

/// An object: words of `sticky`, `wait` and `recreate` (both Ephemeral), with its host.
fn object(kind: &str, host: Option<&str>) -> Object {
    let (data, host_loss) = match kind {
        "sticky" => (Data::Sticky, HostLoss::Wait),
        "wait" => (Data::Ephemeral, HostLoss::Wait),
        "recreate" => (Data::Ephemeral, HostLoss::Recreate),
        other => panic!("{other}"),
    };
    Object {
        kind: Kind::LocalCluster,
        namespace: "team".into(),
        name: "dev".into(),
        uid: "u".into(),
        deleting: false,
        paused: false,
        held: true,
        placement: Placement { data, host_loss, ..Placement::default() },
        requests: Ok(BTreeMap::from([("cpu".to_owned(), Amount(json!("1")))])),
        host: host.map(str::to_owned),
        near: Vec::new(),
    }
}

/// The placeholder of an object as it would be made, in a state: `pending`, `gated`, `new`, `creating`, `running`, `evicted`,
/// `ending`, and `foreign` for one of somebody else.
fn placeholder(object: &Object, state: &str, on: &str) -> Option<Pod> {
    if state == "none" {
        return None;
    }
    let requests = object.requests.clone().unwrap_or_default();
    let mut value = pod::desired(object, &requests, &hosts("ready"), "operator:1");
    let condition = |reason: &str| json!([{"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/2 nodes"}]);
    let bound = |value: &mut Value, phase: &str| {
        value["spec"]["nodeName"] = json!(on);
        value["status"] = json!({"phase": phase});
    };
    match state {
        "new" => {}
        "pending" => value["status"] = json!({"phase": "Pending", "conditions": condition("Unschedulable")}),
        "gated" => value["status"] = json!({"phase": "Pending", "conditions": condition("SchedulingGated")}),
        "creating" => bound(&mut value, "Pending"),
        "running" => bound(&mut value, "Running"),
        "evicted" => {
            bound(&mut value, "Failed");
            value["status"]["message"] = json!("the node was low on memory");
        }
        "ending" => {
            bound(&mut value, "Running");
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        "ending-unbound" => value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        "foreign" => value["metadata"]["ownerReferences"] = json!([]),
        other => panic!("{other}"),
    }
    Some(serde_json::from_value(value).unwrap())
}

fn decide(object: &Object, pod: Option<&Pod>, hosts: &Hosts) -> Decision {
    judge(Seen { object, pod, hosts, refused: None })
}

/// What becomes of an object: its kind, the host in its status, the state of host a, its placeholder and where it is; then
/// the change, the host from then on, and the conditions.
#[test]
fn each_event_has_one_answer() {
    type Row<'a> =
        (&'a str, Option<&'a str>, &'a str, &'a str, &'a str, &'a str, Option<&'a str>, &'a str, &'a str);
    let rows: &[Row<'_>] = &[
        // A new object.
        ("sticky", None, "ready", "none", "", "Create", None, "Scheduling", "-"),
        ("sticky", None, "ready", "new", "", "-", None, "Scheduling", "-"),
        ("sticky", None, "ready", "pending", "", "-", None, "Unschedulable", "-"),
        ("sticky", None, "ready", "gated", "", "-", None, "SchedulingGated", "-"),
        ("sticky", None, "ready", "creating", "a", "-", Some("a"), "Scheduled", "Reachable"),
        ("sticky", None, "ready", "foreign", "", "-", None, "NameConflict", "-"),
        ("sticky", Some("a"), "ready", "running", "a", "-", Some("a"), "Scheduled", "Reachable"),
        // Drained, evicted, preempted, or deleted by hand: its agent lets the placeholder go.
        ("sticky", Some("a"), "cordoned", "ending", "a", "-", Some("a"), "Evicted", "Reachable"),
        ("sticky", Some("a"), "cordoned", "none", "", "Create", Some("a"), "Scheduling", "Reachable"),
        ("sticky", Some("a"), "cordoned", "pending", "", "-", Some("a"), "HostCordoned", "Reachable"),
        ("sticky", Some("a"), "ready", "pending", "", "-", Some("a"), "Unschedulable", "Reachable"),
        ("sticky", Some("a"), "ready", "evicted", "a", "Delete", Some("a"), "Evicted", "Reachable"),
        ("sticky", Some("a"), "ready", "running", "b", "Delete", Some("a"), "Evicted", "Reachable"),
        ("wait", Some("a"), "cordoned", "ending", "a", "-", Some("a"), "Evicted", "Reachable"),
        ("wait", Some("a"), "cordoned", "none", "", "-", None, "Scheduling", "-"),
        ("wait", None, "cordoned", "none", "", "Create", None, "Scheduling", "-"),
        ("recreate", Some("a"), "ready", "evicted", "a", "Delete", Some("a"), "Evicted", "Reachable"),
        // Deleted before it was bound: no agent lets it go.
        ("sticky", None, "ready", "ending-unbound", "", "Release", None, "Evicted", "-"),
        // Its host is not ready: nothing is made elsewhere.
        ("sticky", Some("a"), "notready", "running", "a", "-", Some("a"), "Scheduled", "HostLost"),
        ("recreate", Some("a"), "notready", "running", "a", "-", Some("a"), "Scheduled", "HostLost"),
        ("recreate", Some("a"), "notready", "ending", "a", "-", Some("a"), "Evicted", "HostLost"),
        ("recreate", Some("a"), "notready", "none", "", "-", Some("a"), "HostLost", "HostLost"),
        ("sticky", Some("a"), "notready", "pending", "", "-", Some("a"), "HostLost", "HostLost"),
        ("sticky", Some("a"), "notready", "none", "", "Create", Some("a"), "Scheduling", "HostLost"),
        // A user says that it is off, or deletes the Node.
        ("recreate", Some("a"), "off", "running", "a", "Delete", Some("a"), "HostLost", "HostLost"),
        ("recreate", Some("a"), "off", "ending", "a", "Release", Some("a"), "Evicted", "HostLost"),
        ("recreate", Some("a"), "off", "none", "", "-", None, "Scheduling", "-"),
        ("recreate", Some("a"), "gone", "none", "", "-", None, "Scheduling", "-"),
        ("wait", Some("a"), "off", "ending", "a", "Release", Some("a"), "Evicted", "HostLost"),
        ("wait", Some("a"), "off", "none", "", "-", Some("a"), "HostGone", "HostLost"),
        ("sticky", Some("a"), "gone", "ending", "a", "Release", Some("a"), "Evicted", "HostLost"),
        ("sticky", Some("a"), "gone", "none", "", "-", Some("a"), "HostGone", "HostLost"),
        ("sticky", Some("a"), "gone", "pending", "", "Delete", Some("a"), "HostGone", "HostLost"),
        // It returns.
        ("sticky", Some("a"), "ready", "none", "", "Create", Some("a"), "Scheduling", "Reachable"),
        // Its agent is down: what runs runs on.
        ("sticky", Some("a"), "silent", "running", "a", "-", Some("a"), "Scheduled", "AgentDown"),
        ("sticky", Some("a"), "silent", "pending", "", "-", Some("a"), "AgentDown", "AgentDown"),
        ("recreate", Some("a"), "silent", "ending", "a", "-", Some("a"), "Evicted", "AgentDown"),
    ];
    for row in rows {
        let (kind, host, state, found, on, act, then, scheduled, reachable) = *row;
        let object = object(kind, host);
        let pod = placeholder(&object, found, on);
        let decision = decide(&object, pod.as_ref(), &hosts(state));
        let told = |told: &Option<super::judge::Told>| {
            told.as_ref().map_or("-".to_owned(), |told| {
                assert_eq!(told.met, matches!(told.reason, Reason::Scheduled | Reason::Reachable));
                assert_eq!(told.met, told.message.is_empty(), "{row:?}: {told:?}");
                told.reason.to_string()
            })
        };
        let acted = decision.act.as_ref().map_or("-".to_owned(), |act| format!("{act:?}"));
        let is =
            (acted.as_str(), decision.host.as_deref(), told(&decision.scheduled), told(&decision.reachable));
        assert_eq!(is, (act, then, scheduled.to_owned(), reachable.to_owned()), "{row:?}");
    }
}

#[test]
fn nothing_is_made_elsewhere_while_an_agent_may_run_it() {
    // In every state of the host but the one in which a user says that it is off, a placeholder that is being deleted stays.
    for state in ["ready", "cordoned", "silent", "notready", "partly"] {
        for kind in ["sticky", "wait", "recreate"] {
            let object = object(kind, Some("a"));
            for found in ["ending", "running", "creating"] {
                let pod = placeholder(&object, found, "a");
                let decision = decide(&object, pod.as_ref(), &hosts(state));
                assert_eq!(
                    (decision.act, decision.host.as_deref()),
                    (None, Some("a")),
                    "{kind} {found} {state}"
                );
            }
        }
    }
}

#[test]
fn what_no_agent_tells_is_told_by_the_controller() {
    let unattended = |kind: &str, host: Option<&str>, state: &str, found: &str| {
        let object = object(kind, host);
        let pod = placeholder(&object, found, "a");
        let hosts = hosts(state);
        decide(&object, pod.as_ref(), &hosts).unattended(&hosts).map(|told| told.reason)
    };
    assert_eq!(unattended("sticky", None, "ready", "pending"), Some(Reason::Unschedulable));
    assert_eq!(unattended("sticky", Some("a"), "ready", "running"), None);
    assert_eq!(
        unattended("sticky", Some("a"), "cordoned", "pending"),
        None,
        "its agent says that it is stopped"
    );
    assert_eq!(unattended("sticky", Some("a"), "silent", "running"), None, "it runs on");
    assert_eq!(unattended("sticky", Some("a"), "partly", "running"), None, "its agent reports");
    assert_eq!(unattended("sticky", Some("a"), "notready", "running"), Some(Reason::HostLost));
    assert_eq!(unattended("sticky", Some("a"), "gone", "none"), Some(Reason::HostGone));
}

#[test]
fn refusals_are_told() {
    let object = object("sticky", None);
    let told = |code, message: &str| {
        let refused = Refusal { code, message: message.into() };
        let hosts = hosts("ready");
        let decision = judge(Seen { object: &object, pod: None, hosts: &hosts, refused: Some(&refused) });
        assert_eq!(decision.act, Some(Act::Create), "it is tried again");
        decision.scheduled.unwrap()
    };
    let quota = told(403, "pods \"dev-host\" is forbidden: exceeded quota: small, requested: memory=4Gi");
    assert_eq!(quota.reason, Reason::QuotaExceeded);
    assert!(quota.message.contains("requested: memory=4Gi"));
    assert_eq!(told(422, "Pod is invalid: spec.tolerations").reason, Reason::PlaceholderRefused);
    assert_eq!(told(403, "violates PodSecurity").reason, Reason::PlaceholderRefused);
}

#[test]
fn an_invalid_spec_makes_no_placeholder_and_keeps_the_one_that_is_there() {
    let invalid =
        |host| Object { requests: Err("servers.count: must be 1".into()), ..object("sticky", host) };
    let decision = decide(&invalid(None), None, &hosts("ready"));
    assert_eq!((decision.act, decision.scheduled.unwrap().reason), (None, Reason::InvalidSpec));
    let pod = placeholder(&object("sticky", Some("a")), "running", "a");
    let decision = decide(&invalid(Some("a")), pod.as_ref(), &hosts("ready"));
    assert_eq!((decision.act, decision.scheduled.unwrap().reason), (None, Reason::Scheduled));
}

#[test]
fn a_changed_spec_replaces_only_what_is_not_bound() {
    let before = object("sticky", Some("a"));
    let mut after = before.clone();
    after.placement.node_selector.insert("disk".into(), "fast".into());
    let running = placeholder(&before, "running", "a");
    let decision = decide(&after, running.as_ref(), &hosts("ready"));
    let told = decision.scheduled.unwrap();
    assert_eq!((decision.act, told.met), (None, true));
    assert!(told.message.contains("delete the Pod dev-host"), "{}", told.message);
    let pending = placeholder(&before, "pending", "");
    assert_eq!(decide(&after, pending.as_ref(), &hosts("ready")).act, Some(Act::Delete));
    // One that was made before its object was bound is not outdated.
    let first = placeholder(&object("sticky", None), "running", "a");
    let told = decide(&before, first.as_ref(), &hosts("ready")).scheduled.unwrap();
    assert_eq!(told.message, "");
}

#[test]
fn a_deleted_object_goes_when_nothing_of_it_is_left_or_nobody_can_look() {
    let deleting = |host| Object { deleting: true, ..object("sticky", host) };
    let act = |host, state: &str, found: &str| {
        let object = deleting(host);
        decide(&object, placeholder(&object, found, "a").as_ref(), &hosts(state)).act
    };
    assert_eq!(act(None, "ready", "pending"), Some(Act::LetGo { left: None }));
    assert_eq!(act(None, "ready", "none"), Some(Act::LetGo { left: None }));
    for state in ["ready", "cordoned", "silent", "notready", "partly"] {
        assert_eq!(act(Some("a"), state, "running"), None, "its agent removes it: {state}");
    }
    for state in ["off", "gone"] {
        let Some(Act::LetGo { left: Some(left) }) = act(Some("a"), state, "none") else { panic!("{state}") };
        assert!(left.contains("nothing was removed there"), "{left}");
    }
    let done = Object { held: false, ..deleting(None) };
    assert_eq!(
        decide(&done, placeholder(&done, "ending-unbound", "").as_ref(), &hosts("ready")).act,
        Some(Act::Release)
    );
}

#[test]
fn a_paused_object_stays_as_it_is() {
    let paused = Object { paused: true, ..object("sticky", Some("a")) };
    for found in ["none", "running", "evicted", "pending"] {
        let decision = decide(&paused, placeholder(&paused, found, "a").as_ref(), &hosts("ready"));
        assert_eq!(
            (decision.act, decision.scheduled, decision.host.as_deref()),
            (None, None, Some("a")),
            "{found}"
        );
    }
}

#[test]
fn an_agent_runs_only_what_both_its_status_and_its_placeholder_bind_to_its_host() {
    let on = |host, found: &str| {
        let object = object("sticky", host);
        duty(&object, "a", placeholder(&object, found, "a").as_ref())
    };
    assert_eq!(on(Some("a"), "running"), Duty::Run);
    for found in ["ending", "evicted", "creating", "none"] {
        assert!(matches!(on(Some("a"), found), Duty::Rest(_)), "{found}");
    }
    for found in ["running", "ending", "creating", "none"] {
        assert_eq!(on(None, found), Duty::Unbound, "{found}");
        assert_eq!(on(Some("b"), found), Duty::Elsewhere { keeps_data: true }, "{found}");
    }
    let ephemeral = object("wait", Some("b"));
    assert_eq!(duty(&ephemeral, "a", None), Duty::Elsewhere { keeps_data: false });
    let deleting = Object { deleting: true, ..object("sticky", Some("a")) };
    assert_eq!(duty(&deleting, "a", None), Duty::Delete { last: true });
    assert_eq!(duty(&deleting, "b", None), Duty::Delete { last: false });
}

#[test]
fn the_placeholder_is_restricted_and_requests_what_the_spec_says() {
    let mut object = object("sticky", Some("a"));
    object.placement.node_selector.insert("disk".into(), "fast".into());
    object.placement.labels.insert("kueue.x-k8s.io/queue-name".into(), "ci".into());
    object.placement.labels.insert("localcluster.dev/uid".into(), "of another".into());
    let pod = placeholder(&object, "new", "").unwrap();
    let spec = pod.spec.clone().unwrap();
    let selector = spec.node_selector.unwrap();
    let selector: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(selector, ["disk=fast", "kubernetes.io/hostname=a.local", "localcluster.dev/docker=ready"]);
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["localcluster.dev/uid"], "u");
    assert_eq!(pod.metadata.name.as_deref(), Some("dev-host"));
    assert_eq!((spec.automount_service_account_token, spec.volumes), (Some(false), None));
    let container = &spec.containers[0];
    assert_eq!(container.resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0, "1");
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.allow_privilege_escalation, security.privileged), (Some(false), None));
    assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
    assert_eq!(pod::owner(&pod).map(|(kind, ..)| kind), Some(Kind::LocalCluster));
}

#[test]
fn a_cluster_runs_on_the_host_of_its_registries() {
    let mut object = object("sticky", None);
    object.near = vec![Near { kind: Kind::Registry, namespace: "shared".into(), name: "images".into() }];
    let given =
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}});
    object.placement.affinity = Some(crate::api::placement::PodField(given));
    let pod = placeholder(&object, "new", "").unwrap();
    let affinity = pod.spec.unwrap().affinity.unwrap().pod_affinity.unwrap();
    let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap();
    assert_eq!(
        terms.iter().map(|t| t.topology_key.as_str()).collect::<Vec<_>>(),
        ["zone", "kubernetes.io/hostname"]
    );
    assert_eq!(terms[1].namespaces.as_deref(), Some(&["shared".to_owned()][..]));
}

#[test]
fn no_two_placeholders_have_one_name() {
    let names: BTreeSet<String> = ["a", "a-host", "a-registry", "a.registry", "a.registry-host"]
        .iter()
        .flat_map(|name| {
            let cluster = (!name.contains('.')).then(|| Kind::LocalCluster.placeholder(name));
            cluster.into_iter().chain([Kind::Registry.placeholder(name)])
        })
        .collect();
    assert_eq!(names.len(), 8);
}

#[test]
fn requests_are_the_limits_of_all_nodes() {
    let spec = json!({
        "servers": {"count": 1, "memory": "2Gi", "cpus": "1.5"},
        "agents": {"count": 3, "memory": "512Mi"},
        "placement": {"resources": {"requests": {"example.com/licences": 1, "cpu": 4}}},
    });
    let spec: crate::api::LocalClusterSpec = serde_json::from_value(spec).unwrap();
    let valid = crate::plan::validate::local_cluster("default", "dev", &spec).unwrap();
    let told = |placement: &Placement| {
        let all = cluster_requests(&valid, placement);
        all.into_iter().map(|(k, v)| format!("{k}={}", v.0)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told(&Placement::default()), r#"cpu="1510m" memory="3648Mi""#);
    assert_eq!(told(&spec.placement.unwrap()), r#"cpu=4 example.com/licences=1 memory="3648Mi""#);
}

#[test]
fn an_agent_is_silent_when_its_heartbeat_stays_the_same() {
    let mut beats = Heartbeats::default();
    let at = |seconds| Duration::from_secs(seconds);
    let node = |time: &str| {
        let mut node = node("a", "ready").unwrap();
        let beat = heartbeat::beat(time.parse().unwrap(), "28.0.1");
        node.metadata.annotations = serde_json::from_value(beat["metadata"]["annotations"].clone()).unwrap();
        node
    };
    let (first, second) = (node("2026-01-01T00:00:00Z"), node("2026-01-01T00:00:15Z"));
    assert_eq!(beats.silent([&first].into_iter(), at(1000)), [""; 0], "the controller has just started");
    assert_eq!(beats.silent([&first].into_iter(), at(1059)), [""; 0]);
    assert_eq!(beats.silent([&second].into_iter(), at(1059)), [""; 0]);
    assert_eq!(beats.silent([&second].into_iter(), at(1118)), [""; 0]);
    assert_eq!(beats.silent([&second].into_iter(), at(1119)), ["a"]);
    // It is taken away once, and the clock of the agent counts for nothing.
    assert_eq!(beats.silent([super::tests::node("a", "silent").unwrap()].iter(), at(2000)), [""; 0]);
    assert_eq!(beats.silent([&second].into_iter(), at(3000)), [""; 0]);
}

#[test]
fn a_placeholder_is_let_go_without_an_agent_only_while_it_is_deleted_and_nobody_else_can() {
    let object = object("sticky", Some("a"));
    for state in ["ready", "cordoned", "silent", "notready", "partly", "off", "gone"] {
        for (found, is_deleted, on) in [
            ("running", false, true),
            ("pending", false, false),
            ("ending", true, true),
            ("ending-unbound", true, false),
        ] {
            let mut pod = placeholder(&object, found, "a").unwrap();
            let lost = !on || matches!(state, "off" | "gone");
            let is_unattended = |pod: &Pod| super::judge::is_unattended(pod, &hosts(state));
            assert_eq!(is_unattended(&pod), is_deleted && lost, "{state} {found}");
            pod.metadata.finalizers = None;
            assert!(!is_unattended(&pod), "nothing keeps it: {state} {found}");
        }
    }
}

#[test]
fn a_changed_spec_is_told_of_what_was_bound_before_and_is_valid() {
    let mut after = object("sticky", Some("a"));
    after.placement.node_selector.insert("disk".into(), "fast".into());
    let running = placeholder(&object("sticky", Some("a")), "running", "a");
    let message = |object: &Object| {
        let told = decide(object, running.as_ref(), &hosts("ready")).scheduled.unwrap();
        assert!(told.met);
        told.message
    };
    assert!(message(&after).contains("spec.placement or the limits of the nodes changed"));
    assert_eq!(message(&Object { host: None, ..after.clone() }), "", "it was bound a moment ago");
    assert_eq!(message(&Object { requests: Err("servers.count".into()), ..after }), "");
}

#[test]
fn an_agent_says_why_an_object_rests() {
    let object = object("sticky", Some("a"));
    for (found, why) in [
        ("ending", "its placeholder Pod dev-host is being deleted"),
        ("evicted", "its placeholder Pod dev-host has ended"),
        ("creating", "its placeholder Pod dev-host does not run yet"),
        ("none", "it has no placeholder Pod dev-host on this host; the cluster starts again with one"),
    ] {
        let duty = duty(&object, "a", placeholder(&object, found, "a").as_ref());
        assert_eq!(duty, Duty::Rest(why.into()), "{found}");
    }
}

#[test]
fn the_agent_of_the_host_in_the_status_writes_the_status() {
    for (duty, is_here) in [
        (Duty::Run, true),
        (Duty::Rest(String::new()), true),
        (Duty::Delete { last: true }, true),
        (Duty::Delete { last: false }, false),
        (Duty::Elsewhere { keeps_data: true }, false),
        (Duty::Unbound, false),
    ] {
        assert_eq!(duty.is_here(), is_here, "{duty:?}");
    }
}

#[test]
fn only_the_finalizer_of_the_operator_keeps_an_object() {
    let held = |all: &[&str]| is_held(&all.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
    assert!(held(&[FINALIZER]) && held(&["foregroundDeletion", FINALIZER]));
    assert!(!held(&[]) && !held(&["foregroundDeletion"]));
}

#[test]
fn a_registry_requests_its_memory_and_a_little_more() {
    let told = |memory| {
        let all = registry_requests(memory, &Placement::default());
        all.into_iter().map(|(k, v)| format!("{k}={}", v.0)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told(None), r#"cpu="10m" memory="64Mi""#);
    assert_eq!(told(Some(1 << 20)), r#"cpu="10m" memory="65Mi""#);
    assert_eq!(told(Some((1 << 20) + 1)), r#"cpu="10m" memory="66Mi""#, "it is rounded up");
}

#[test]
fn a_silent_agent_loses_its_mark_and_nothing_else() {
    assert_eq!(heartbeat::silent(), json!({"metadata": {"labels": {"localcluster.dev/docker": null}}}));
}

#[test]
fn a_host_has_the_address_in_its_network_and_the_label_by_which_it_is_selected() {
    let mut node = node("a", "ready").unwrap();
    let addresses = json!([
        {"type": "Hostname", "address": "a"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "InternalIP", "address": "192.0.2.1"},
    ]);
    node.status.as_mut().unwrap().addresses = serde_json::from_value(addresses).unwrap();
    let host = Host::of(&node);
    assert_eq!(host.ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(host.hostname.as_deref(), Some("a.local"));
}

#[test]
fn what_is_left_on_another_host_stops_before_it_goes_and_sticky_data_stays() {
    let owner = Owner { uid: "u".into(), manager: "m".into(), object: "team/dev".into() };
    let other = Owner { uid: "v".into(), ..owner.clone() };
    let container = |name: &str, of: &Owner, state| Container {
        id: name.into(),
        name: name.into(),
        labels: of.labels(),
        state,
        ..Container::default()
    };
    let volume = |name: &str, more: Option<&str>| {
        let mut labels = owner.labels();
        labels.extend(more.map(|key| (key.to_owned(), "images".to_owned())));
        Volume { name: name.into(), labels }
    };
    let mut host = plan::observed::Host {
        containers: vec![
            container("runs", &owner, ContainerState::Running),
            container("paused", &owner, ContainerState::Paused),
            container("exited", &owner, ContainerState::Exited),
            container("others", &other, ContainerState::Running),
        ],
        networks: vec![Network { name: "net".into(), labels: owner.labels(), ..Network::default() }],
        volumes: vec![volume("state", None), volume("images", Some(names::VOLUME_OF))],
        ..plan::observed::Host::default()
    };
    let steps = |host: &plan::observed::Host, keeps_data| {
        let mut plan = Plan::default();
        leftovers::remove(&mut plan, &owner, host, keeps_data);
        plan.steps.iter().map(|step| step.action.to_string()).collect::<Vec<_>>()
    };
    for keeps_data in [false, true] {
        assert_eq!(steps(&host, keeps_data), ["Stop runs", "Stop paused"]);
    }
    for container in &mut host.containers[..2] {
        container.state = ContainerState::Exited;
    }
    let stays =
        ["RemoveContainer exited", "RemoveContainer paused", "RemoveContainer runs", "RemoveNetwork net"];
    let sorted = |keeps_data| {
        let mut steps = steps(&host, keeps_data);
        steps.sort();
        steps
    };
    assert_eq!(sorted(true), stays);
    // Images of a Registry may be kept on purpose.
    assert_eq!(sorted(false), [&stays[..], &["RemoveVolume state"]].concat());
}

#[test]
fn the_scheduler_says_why_by_one_condition_only() {
    let object = object("sticky", None);
    let mut pod = placeholder(&object, "pending", "").unwrap();
    let reason = |pod: &Pod| pod::unscheduled(pod).map(|c| c.reason.clone().unwrap_or_default());
    assert_eq!(reason(&pod).as_deref(), Some("Unschedulable"));
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions[0].status = "True".into();
    conditions.push(PodCondition {
        type_: "Ready".into(),
        status: "False".into(),
        ..PodCondition::default()
    });
    assert_eq!(reason(&pod), None);
}

#[test]
fn a_placeholder_is_spread_as_the_spec_says_and_its_budget_refuses_its_eviction() {
    let mut object = object("sticky", None);
    let constraints =
        |object: &Object| placeholder(object, "new", "").unwrap().spec.unwrap().topology_spread_constraints;
    assert_eq!(constraints(&object), None);
    let given = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    object.placement.topology_spread_constraints = vec![crate::api::placement::PodField(given)];
    let spread = constraints(&object).unwrap();
    assert_eq!((spread.len(), spread[0].topology_key.as_str()), (1, "zone"));

    let budget = pod::budget(&object);
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"localcluster.dev/uid": "u"}}});
    assert_eq!(budget["spec"], spec);
    let metadata = &budget["metadata"];
    assert_eq!(
        (&metadata["name"], &metadata["ownerReferences"][0]["uid"]),
        (&json!("dev-host"), &json!("u"))
    );
    assert!(metadata["finalizers"].is_null(), "it goes with its object");
}
