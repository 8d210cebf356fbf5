//! Steps without effect. Whatever call is said to be done and is not, or fails and tells of it so that the object is looked
//! at again at once: it is not made again and again, the object says so, and all is well once it does as it says.

mod support;

use std::{collections::BTreeMap, time::Duration};

use localcluster_operator::{api::reason::Reason, docker::engine::State};
use serde_json::{Value, json};
use support::{
    fakes::{
        faults::{Fault, SIDES, Side},
        rig::{Rig, condition},
    },
    model::{
        check,
        interfere::Outside,
        scenario::{ENOUGH, Scenario, applied, end, put, put_secret},
    },
};

/// How many looks follow each other, as they do when every one of them leads to an event.
const LOOKS: u32 = 16;
/// How far those are apart.
const APART: Duration = Duration::from_millis(250);
/// How many such series there are, half a minute apart.
const SERIES: u32 = 4;
/// How often a call may be made in all: at 0, 0.5, 1.5 and 3.5 s of a series, and at its end. That is nine times a minute.
const MOST: usize = 5 * SERIES as usize;
/// How often a status, a Secret or the like may be written meanwhile. Each half minute something new may be known.
const WRITES: usize = 12 + 4 * SERIES as usize;

/// Which calls go wrong in which case, by their beginnings: each one of its sort.
const CALLS: [(&str, &[&str]); 21] = [
    (
        "Create",
        &[
            "pull",
            "create network",
            "create container",
            "create volume k3d-images",
            "create volume k3d-dev-server-0-state",
            "create volume k3d-dev-agent-0-etc",
            "upload",
            "connect",
            "start",
            "set config",
            "POST /api/v1/namespaces/default/secrets",
            "PATCH /api/v1/namespaces/default/secrets/dev-kubeconfig",
        ],
    ),
    (
        "ScaleDown",
        &["drain", "delete node", "remove container", "remove volume k3d-dev-agent-1-state", "stop"],
    ),
    (
        "Arguments",
        &[
            "drain k3d-dev-agent-0",
            "stop k3d-dev-agent-0",
            "remove container k3d-dev-agent-0",
            "create container k3d-dev-agent-0",
            "start k3d-dev-agent-0",
            "uncordon k3d-dev-agent-0",
        ],
    ),
    ("Ports", &["remove container", "create container", "start"]),
    (
        "Repair",
        &["start k3d-dev-serverlb", "delete node", "create container", "create volume k3d-dev-agent-0-state"],
    ),
    ("Secure", &["upload", "start", "stop", "remove container"]),
    ("Users", &["upload"]),
    ("Collect", &["create container", "start", "stop"]),
    ("Fill", &["pull", "pipe image", "upload"]),
    (
        "Refill",
        &["pipe image", "upload", "delete object", "exec k3d-dev-agent-0", "exec k3d-dev-server-0~0 rm"],
    ),
    (
        "Delete",
        &[
            "remove container",
            "remove network",
            "remove volume k3d-images",
            "remove volume k3d-dev-server-0-state",
            "disconnect",
        ],
    ),
    ("Stop", &["stop"]),
    ("Labels", &["configure"]),
    ("Pause", &["unpause"]),
    ("Token", &["exec", "upload"]),
    ("Access", &["grant", "revoke", "issue", "PATCH /api/v1/namespaces/default/secrets/dev-kubeconfig"]),
    ("Withhold", &["revoke", "DELETE /api/v1/namespaces/default/secrets/dev-kubeconfig"]),
    ("MoreServers", &["signal", "create container", "upload k3d-dev-serverlb"]),
    ("FewerServers", &["update", "leave etcd", "delete node", "remove container"]),
    ("PasswordLost", &["forget password"]),
    ("MemberLeft", &["remove member", "delete node"]),
];

/// The beginnings of the calls for all that a plan can ask for, and for what is done in the background.
const KINDS: [&str; 29] = [
    "pull",
    "pipe image",
    "create network",
    "remove network",
    "create volume",
    "remove volume",
    "create container",
    "remove container",
    "upload",
    "connect",
    "disconnect",
    "start",
    "stop",
    "unpause",
    "signal",
    "update",
    "exec",
    "drain",
    "uncordon",
    "configure",
    "delete node",
    "forget password",
    "leave etcd",
    "remove member",
    "set config",
    "delete object",
    "grant",
    "revoke",
    "issue",
];

/// Of these it is said that they have no effect. Others show by what does not come of them.
const TOLD: [&str; 6] = ["start", "unpause", "connect", "remove network", "set config", "configure"];

/// What happens to a rig, and which calls go wrong in it: those that begin so.
struct Case {
    name: String,
    before: Rig,
    act: Box<dyn Fn(&Rig)>,
}

impl Case {
    async fn scenario(scenario: Scenario) -> Self {
        let act = Box::new(move |rig: &Rig| scenario.act(rig));
        Self { name: scenario.name(), before: scenario.before().await, act }
    }

    /// Of a cluster with this spec.
    async fn spec(name: &str, spec: fn(&mut Value), act: impl Fn(&Rig) + 'static) -> Self {
        let mut before = applied(1);
        put_secret(&before, "mine", &[("token", "first")]);
        put(&before, 1, spec);
        before.settle(2 * ENOUGH).await;
        Self { name: name.into(), before, act: Box::new(act) }
    }

    /// How every one of the calls goes wrong, what comes of it, and that it is well in the end.
    async fn run(self) {
        let mut clean = self.before.copy();
        let begin = count(&clean);
        (self.act)(&clean);
        rest(&mut clean).await;
        let wanted = end(&clean);
        let mut calls: Vec<String> = made(&clean, begin).into_keys().collect();
        let chosen = CALLS.iter().find(|(name, _)| *name == self.name).expect("the case has its calls").1;
        calls.retain(|call| chosen.iter().any(|beginning| call.starts_with(beginning)));
        for beginning in chosen {
            assert!(calls.iter().any(|c| c.starts_with(beginning)), "{}: no {beginning}", self.name);
        }
        for call in &calls {
            // An API server does what it says.
            let faults =
                [Fault::Void, Fault::Refused].into_iter().filter(|f| *f != Fault::Void || !is_kube(call));
            for fault in faults {
                self.storm(call, fault, &wanted).await;
            }
        }
        println!("{}: {} calls", self.name, calls.len());
    }

    async fn storm(&self, call: &str, fault: Fault, wanted: &BTreeMap<String, String>) {
        let what = format!("{}: {fault:?} {call}", self.name);
        let mut rig = self.before.copy();
        rig.faults.every(Some((call, fault)));
        (self.act)(&rig);
        let begin = count(&rig);
        for _ in 0..SERIES {
            for _ in 0..LOOKS {
                rig.reconcile().await;
                tokio::time::advance(APART).await;
            }
            rig.pass().await;
        }
        rig.reconcile().await;
        let often: Vec<_> = made(&rig, begin).into_iter().filter(|(_, times)| *times > MOST).collect();
        assert!(often.is_empty(), "{what}: {often:?}");
        let writes: Vec<_> =
            rig.faults.calls(Side::Kube)[begin[2]..].iter().filter(|(_, writes)| *writes).cloned().collect();
        assert!(writes.len() <= WRITES, "{what}: {} {writes:#?}", writes.len());
        if !quiet(&rig) {
            let told = ["localclusters", "registries"].map(|kind| {
                rig.api.all(kind).iter().map(|object| condition(object, "Ready").1).collect::<String>()
            });
            let direct = fault == Fault::Void && TOLD.iter().any(|kind| call.starts_with(kind));
            assert!(
                !direct || told.iter().any(|t| t.contains(Reason::NoEffect.as_str())),
                "{what}: {told:?}"
            );
            println!("{what}: {told:?}");
        }
        rig.faults.every(None);
        rest(&mut rig).await;
        check::world(&rig.world.lock().unwrap());
        let mut differences = check::differences(wanted, &end(&rig));
        // Of a cluster at rest, what its Nodes were last is chance.
        differences.retain(|d| rig.told("Stopped").0 != "True" || !d.starts_with("node "));
        assert!(differences.is_empty(), "{what}: {}", differences.join("\n"));
    }
}

/// Whether every object is Ready, Stopped or gone.
fn quiet(rig: &Rig) -> bool {
    rig.settled() || rig.told("Stopped").0 == "True"
}

async fn rest(rig: &mut Rig) {
    for _ in 0..2 {
        rig.round().await;
        for _ in 0..2 * ENOUGH {
            if quiet(rig) {
                break;
            }
            rig.round().await;
        }
    }
    assert!(quiet(rig), "{:?} {}", rig.told("Ready"), rig.world(|w| w.brief()));
}

/// Whether a call is one to the management cluster.
fn is_kube(call: &str) -> bool {
    call.contains(" /api")
}

/// The calls that change something, those for the status and the finalizers of objects excepted, with how often they were made.
fn made(rig: &Rig, since: [usize; 3]) -> BTreeMap<String, usize> {
    let mut made = BTreeMap::new();
    for side in SIDES {
        let calls = rig.faults.calls(side);
        let step = |call: &str| !is_kube(call) || call.contains("/secrets");
        for (call, _) in calls[since[side as usize]..].iter().filter(|(call, writes)| *writes && step(call)) {
            *made.entry(call.clone()).or_default() += 1;
        }
    }
    made
}

fn count(rig: &Rig) -> [usize; 3] {
    SIDES.map(|side| rig.faults.calls(side).len())
}

fn outside(acts: fn() -> Vec<Outside>) -> impl Fn(&Rig) {
    move |rig| rig.world(|w| acts().iter().for_each(|act| assert!(w.interfere(act))))
}

fn three(spec: &mut Value) {
    spec["servers"]["count"] = json!(3);
}

#[test]
fn every_kind_of_call_goes_wrong_somewhere() {
    let all: Vec<&str> = CALLS.iter().flat_map(|(_, calls)| calls.iter().copied()).collect();
    let missing: Vec<&&str> = KINDS.iter().filter(|k| !all.iter().any(|call| call.starts_with(*k))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn making() {
    Case::scenario(Scenario::Create).await.run().await;
}

#[tokio::test(start_paused = true)]
async fn changes() {
    for scenario in [Scenario::ScaleDown, Scenario::Arguments, Scenario::Ports, Scenario::Repair] {
        Case::scenario(scenario).await.run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn registries() {
    for scenario in [Scenario::Secure, Scenario::Users, Scenario::Collect] {
        Case::scenario(scenario).await.run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn contents() {
    for scenario in [Scenario::Fill, Scenario::Refill] {
        Case::scenario(scenario).await.run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn endings() {
    Case::scenario(Scenario::Delete).await.run().await;
    let stopped = |rig: &Rig| put(rig, 1, |s| s["state"] = json!("Stopped"));
    Case::spec("Stop", |_| {}, stopped).await.run().await;
}

#[tokio::test(start_paused = true)]
async fn nodes() {
    let labels = |rig: &Rig| put(rig, 1, |s| s["agents"]["labels"] = json!({"disk": "fast"}));
    Case::spec("Labels", |_| {}, labels).await.run().await;
    let paused = outside(|| vec![Outside::Pause("k3d-dev-agent-0".into())]);
    Case::spec("Pause", |_| {}, paused).await.run().await;
    let token = |rig: &Rig| put_secret(rig, "mine", &[("token", "second")]);
    let with_token = |spec: &mut Value| spec["token"] = json!({"secretName": "mine"});
    Case::spec("Token", with_token, token).await.run().await;
}

#[tokio::test(start_paused = true)]
async fn kubeconfigs() {
    let view = |spec: &mut Value| spec["kubeconfig"] = json!({"access": "View"});
    let edit = |rig: &Rig| put(rig, 1, |s| s["kubeconfig"] = json!({"access": "Edit"}));
    Case::spec("Access", view, edit).await.run().await;
    let none = |rig: &Rig| put(rig, 1, |s| s["kubeconfig"] = json!({"access": "None"}));
    Case::spec("Withhold", view, none).await.run().await;
}

#[tokio::test(start_paused = true)]
async fn servers() {
    Case::spec("MoreServers", |_| {}, |rig| put(rig, 1, three)).await.run().await;
    Case::spec("FewerServers", three, |rig| put(rig, 1, |_| {})).await.run().await;
    let lost = outside(|| {
        let name = "k3d-dev-server-1";
        vec![Outside::Remove(name.into()), Outside::RemoveVolume(format!("{name}-etc"))]
    });
    Case::spec("PasswordLost", three, lost).await.run().await;
    // A server that became a voter, and was gone before its kubelet had registered it.
    let left = |rig: &Rig| {
        rig.world(|w| {
            for cluster in w.clusters.values_mut() {
                cluster.members.insert("k3d-dev-server-3".into(), true);
            }
        });
    };
    Case::spec("MemberLeft", three, left).await.run().await;
}

/// Docker answers that it takes a container off a network which waits for its next start, and does not.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_between_two_starts_is_left_alone() {
    let mut rig = Scenario::ScaleUp.before().await;
    let restarts = |rig: &Rig, state| rig.world(|w| w.container("k3d-images").unwrap().state = state);
    restarts(&rig, State::Restarting);
    put(&rig, 1, |s| s["registries"] = json!({}));
    rig.faults.take_writes();
    for _ in 0..LOOKS {
        rig.reconcile().await;
        tokio::time::advance(APART).await;
    }
    let off = |writes: Vec<String>| writes.into_iter().filter(|w| w.contains("connect")).collect::<Vec<_>>();
    assert_eq!(off(rig.faults.take_writes()), [] as [String; 0]);
    restarts(&rig, State::Running);
    rig.reconcile().await;
    assert_eq!(off(rig.faults.take_writes()), ["Docker disconnect k3d-dev~0 k3d-images~0"]);
}
