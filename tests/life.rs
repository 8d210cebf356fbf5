//! What happens to clusters in the course of their lives, by the reconciles over fakes of Docker and Kubernetes.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::{
    docker::spec::PortBinding,
    k3s::{kube_proxy::Told, load_balancer},
    plan::{management::Management, settings::Settings},
};
use serde_json::{Value, json};
use support::{
    fakes::{
        api::{path, secret},
        faults::{Fault, Side},
        rig::{Rig, condition, message},
    },
    model::{
        interfere::Outside,
        lab,
        world::{BRIDGE, Container, TICK, World},
    },
};

const ENOUGH: usize = 40;

fn put(rig: &Rig, name: &str, annotations: Value, more: Value) {
    let mut spec = json!({"servers": {"count": 1}, "agents": {"count": 0}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = json!({"name": name, "annotations": annotations});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": metadata, "spec": spec,
    });
    rig.api.put(&path("localclusters", name), object);
}

fn object(rig: &Rig) -> Option<Value> {
    rig.api.get(&path("localclusters", "dev"))
}

fn expires(rig: &Rig) -> Value {
    object(rig).unwrap()["status"]["expiresAt"].clone()
}

/// Rounds until something asks for the cluster to be looked at; how many seconds that took.
async fn until_triggered(rig: &mut Rig) -> i64 {
    let began = rig.world(|w| w.clock);
    for _ in 0..3600 {
        // As time goes by, with nobody looking.
        rig.pass().await;
        if !rig.triggered().is_empty() {
            return rig.world(|w| w.clock) - began;
        }
    }
    panic!("nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_when_its_time_is_over() {
    let mut rig = Rig::new(lab::settings());
    let begin = rig.world(|w| w.clock);
    put(&rig, "dev", json!({}), json!({"ttl": "1h"}));
    let uid = object(&rig).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    rig.settle(ENOUGH).await;
    assert!(rig.world(|w| w.owned_by(&uid)));
    assert_eq!(expires(&rig), "2023-11-14T23:13:20Z");
    assert_eq!(rig.events("Expiring"), [] as [String; 0]);
    rig.triggered();

    // A tenth of an hour before, people are told, once.
    until_triggered(&mut rig).await;
    let left = begin + 3600 - rig.world(|w| w.clock);
    assert!((360 - TICK..=360).contains(&left), "{left} s are left");
    rig.round().await;
    rig.round().await;
    let told = rig.events("Expiring");
    assert!(
        told.len() == 1 && told[0].contains("2023-11-14T23:13:20Z") && told[0].contains("hold"),
        "{told:?}"
    );
    assert!(rig.settled());
    rig.triggered();

    until_triggered(&mut rig).await;
    let over = rig.world(|w| w.clock) - begin - 3600;
    assert!((0..=TICK).contains(&over), "{over} s too late");
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(object(&rig), None);
    assert!(!rig.world(|w| w.owned_by(&uid)));
    assert_eq!((rig.events("Expired").len(), rig.api.sins().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hold_keeps_a_cluster_and_its_end_keeps_it_no_longer() {
    let mut rig = Rig::new(lab::settings());
    let ttl = || json!({"ttl": "10m"});
    put(&rig, "dev", json!({"localcluster.dev/hold": "until friday"}), ttl());
    rig.settle(ENOUGH).await;
    assert_eq!(expires(&rig), Value::Null);
    rig.triggered();
    for _ in 0..2 * 600 / TICK {
        rig.round().await;
    }
    assert!(rig.settled() && rig.triggered().is_empty());
    assert_eq!(rig.events("Expiring"), [] as [String; 0]);

    put(&rig, "dev", json!({"localcluster.dev/hold": "false"}), ttl());
    rig.round().await;
    assert!(!object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_edit_moves_the_end() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.settle(ENOUGH).await;
    assert_eq!(expires(&rig), "2023-11-14T22:18:20Z");
    put(&rig, "dev", json!({}), json!({"ttl": "2h"}));
    rig.round().await;
    assert_eq!(expires(&rig), "2023-11-15T00:13:20Z");
    rig.triggered();
    // The first end has no more say.
    let waited = until_triggered(&mut rig).await;
    assert!(waited > 6000, "{waited}");
    put(&rig, "dev", json!({}), json!({}));
    rig.round().await;
    assert_eq!(expires(&rig), Value::Null);
    rig.triggered();
    for _ in 0..2 * 7200 / TICK {
        rig.pass().await;
    }
    assert_eq!(rig.triggered(), [] as [String; 0]);
    rig.round().await;
    assert!(rig.settled());
}

#[tokio::test(start_paused = true)]
async fn a_paused_cluster_does_not_go() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.settle(ENOUGH).await;
    put(&rig, "dev", json!({"localcluster.dev/paused": "true"}), json!({"ttl": "5m"}));
    for _ in 0..600 / TICK {
        rig.round().await;
    }
    assert!(object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.round().await;
    assert!(!object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_overtake_a_hold() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.settle(ENOUGH).await;
    for _ in 0..600 / TICK {
        rig.pass().await;
    }
    // What a look saw before the hold was set must not be carried out after it.
    rig.look_at_then("dev", |rig| {
        put(rig, "dev", json!({"localcluster.dev/hold": "true"}), json!({"ttl": "5m"}));
    })
    .await;
    rig.round().await;
    assert!(object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
    assert!(rig.settled());
}

fn ports(names: &[(&str, i32)]) -> Value {
    let ports: Vec<_> = names
        .iter()
        .map(|(name, host_port)| json!({"name": name, "port": 80, "hostPort": host_port}))
        .collect();
    json!({"ports": ports})
}

/// The host ports of the load balancer, while it runs.
fn published(rig: &Rig) -> Vec<u16> {
    rig.world(|w| {
        let Some(balancer) = w.named("k3d-dev-serverlb").filter(|c| c.is_up()) else { return Vec::new() };
        balancer.wanted_ports.iter().map(|p| p.host_port).collect()
    })
}

fn problem(rig: &Rig, name: &str) -> Value {
    let status = object(rig).unwrap()["status"].clone();
    let ports = status["ports"].as_array().cloned().unwrap_or_default();
    ports.into_iter().find(|p| p["name"] == name).unwrap()["problem"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_port_of_another_container_is_left_out_without_a_try() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), ports(&[("web", 8080)]));
    rig.settle(ENOUGH).await;
    let other = PortBinding { host_ip: "0.0.0.0".into(), host_port: 9090, port: 1, protocol: "tcp".into() };
    rig.world(|w| w.foreign("other", std::slice::from_ref(&other)));
    put(&rig, "dev", json!({}), ports(&[("web", 8080), ("more", 8081), ("held", 9090)]));
    for _ in 0..3 {
        rig.round().await;
        let published = published(&rig);
        assert!(published.contains(&8080) && !published.contains(&9090), "{published:?}");
    }
    assert!(published(&rig).contains(&8081));
    assert_eq!(rig.told("LoadBalancerReady"), ("False".into(), "PortConflict".into()));
    assert_eq!(rig.told("Stalled").0, "True");
    let held = problem(&rig, "held").to_string();
    assert!(held.contains("9090") && held.contains("other"), "{held}");
    assert_eq!(problem(&rig, "more"), Value::Null);

    rig.world(|w| w.strangers_leave());
    rig.settle(ENOUGH).await;
    assert!(published(&rig).contains(&9090));
    assert_eq!(problem(&rig, "held"), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_port_of_a_process_is_left_out_and_taken_back_without_risk() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(9090));
    put(&rig, "dev", json!({}), ports(&[("web", 8080), ("held", 9090)]));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("LoadBalancerReady"), ("False".into(), "PortConflict".into()));
    assert_eq!(rig.told("KubeconfigReady").0, "True");
    assert_eq!(rig.told("ControlPlaneReady").0, "True");
    assert!(problem(&rig, "held").to_string().contains("9090"));

    // It is tried again, for ever, by another container than the load balancer, after a restart too.
    let balancer = |rig: &Rig| {
        rig.world(|w| w.containers.iter().find(|(_, c)| c.name == "k3d-dev-serverlb").unwrap().0.clone())
    };
    let before = balancer(&rig);
    let mut rig = rig.restart();
    for _ in 0..ENOUGH {
        rig.round().await;
        assert_eq!(published(&rig).len(), 2);
    }
    assert_eq!(balancer(&rig), before);
    assert!(rig.world(|w| w.named("k3d-dev-serverlb-ports").is_none()));

    // One that nobody wants any more is not tried.
    put(&rig, "dev", json!({}), ports(&[("web", 8080)]));
    rig.settle(ENOUGH).await;
    rig.faults.take_writes();
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    let writes = rig.faults.take_writes();
    assert!(!writes.iter().any(|w| w.starts_with("Docker")), "{writes:?}");

    put(&rig, "dev", json!({}), ports(&[("web", 8080), ("held", 9090)]));
    rig.round().await;
    rig.round().await;
    assert_eq!(published(&rig).len(), 2);
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    assert!(published(&rig).contains(&9090));
}

#[tokio::test(start_paused = true)]
async fn an_api_whose_port_is_held_is_reached_by_the_network() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(6550));
    let mut spec = ports(&[("web", 8080)]);
    spec["api"] = json!({"hostPort": 6550});
    put(&rig, "dev", json!({}), spec);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(published(&rig), [8080]);
    assert_eq!(rig.told("ControlPlaneReady").0, "True");
    assert_eq!(rig.told("Ready"), ("False".into(), "PortConflict".into()));
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    assert_eq!(published(&rig), [6550, 8080]);
}

#[tokio::test(start_paused = true)]
async fn ranges_are_published_but_for_what_is_held() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(9002));
    let range = |first: i32| json!({"name": format!("r{first}"), "port": 8000, "endPort": 8003, "hostPort": first, "protocol": "UDP"});
    put(&rig, "dev", json!({}), json!({"ports": [range(9000), range(9100)]}));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    let udp = |rig: &Rig| {
        rig.world(|w| {
            let balancer = w.named("k3d-dev-serverlb").unwrap();
            let udp = balancer.wanted_ports.iter().filter(|p| p.protocol == "udp");
            udp.map(|p| (p.host_port, p.port)).collect::<BTreeMap<_, _>>()
        })
    };
    let mut want: BTreeMap<u16, u16> =
        (0..4).flat_map(|i| [(9000 + i, 8000 + i), (9100 + i, 9100 + i)]).collect();
    want.remove(&9002);
    assert_eq!(udp(&rig), want);
    let held = "127.0.0.1:9002 is in use by another process on the Docker host";
    assert_eq!(problem(&rig, "r9000"), held);
    assert_eq!(problem(&rig, "r9100"), Value::Null);
    assert_eq!(
        message(&rig, "LoadBalancerReady"),
        format!(
            "port range r9000 is published without 9002: {held}; free it, or change its hostPort. All other ports are \
             published"
        )
    );
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    want.insert(9002, 8002);
    assert_eq!(udp(&rig), want);
}

fn set_token(rig: &Rig, token: &str) {
    let data = json!({"token": BASE64_STANDARD.encode(token)});
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": data});
    rig.api.put(&secret("mine"), object);
}

fn joined_by(rig: &Rig) -> String {
    let token = rig.world(|w| w.clusters.values().next().unwrap().token.clone().unwrap());
    String::from_utf8_lossy(&token).into_owned()
}

/// The tokens that the nodes have in their files.
fn tokens(rig: &Rig) -> BTreeSet<String> {
    rig.world(|w| {
        let nodes =
            w.containers.values().filter(|c| c.name.contains("-server-") || c.name.contains("-agent-"));
        let names: Vec<String> = nodes.map(|c| c.name.clone()).collect();
        let read = names.iter().map(|n| w.read(n, "/etc/rancher/k3s/token").unwrap());
        read.map(|t| String::from_utf8_lossy(&t).into_owned()).collect()
    })
}

fn with_token() -> Value {
    json!({"token": {"secretName": "mine"}, "agents": {"count": 2}})
}

#[tokio::test(start_paused = true)]
async fn another_token_takes_the_place_of_the_first() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    let ids = |rig: &Rig| {
        rig.world(|w| w.containers.iter().map(|(id, c)| (c.name.clone(), id.clone())).collect::<Vec<_>>())
    };
    let before = ids(&rig);
    set_token(&rig, "second");
    rig.round().await;
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert!(rig.settled(), "{:?}", rig.told("Ready"));
    assert_eq!((joined_by(&rig), tokens(&rig)), ("second".into(), ["second".to_owned()].into()));
    // Each node is another container by now, and the load balancer is not.
    let same: Vec<_> = ids(&rig).into_iter().filter(|c| before.contains(c)).map(|(name, _)| name).collect();
    assert_eq!(same, ["k3d-dev-serverlb"]);

    // What joins later joins by the new one, and nothing is left of the way there.
    let mut more = with_token();
    more["agents"] = json!({"count": 3});
    put(&rig, "dev", json!({}), more);
    rig.settle(ENOUGH).await;
    let left = rig.world(|w| w.read("k3d-dev-server-0", "/etc/rancher/k3s/token.new"));
    assert!(left.is_none_or(|l| l.is_empty()));
    let told = serde_json::to_string(&(object(&rig), rig.api.all("events"))).unwrap();
    assert!(!told.contains("second") && !told.contains("first"));
}

/// It waits: there is no server that could exchange it, and a stopped cluster is at rest all the same.
#[tokio::test(start_paused = true)]
async fn another_token_does_not_keep_a_cluster_from_being_stopped() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    let mut stopped = with_token();
    stopped["state"] = json!("Stopped");
    set_token(&rig, "second");
    put(&rig, "dev", json!({}), stopped);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("Stopped"), ("True".into(), "Stopped".into()));
    put(&rig, "dev", json!({}), with_token());
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!((joined_by(&rig), tokens(&rig)), ("second".into(), ["second".to_owned()].into()));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_exchanged_whatever_fails_on_the_way() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    let ends = |run: &Rig, what: &str| {
        assert_eq!((joined_by(run), tokens(run)), ("second".into(), ["second".to_owned()].into()), "{what}");
    };
    let mut clean = rig.copy();
    set_token(&clean, "second");
    clean.settle_after_a_round(2 * ENOUGH).await;
    ends(&clean, "without a fault");
    let calls = clean.faults.calls(Side::Docker);
    let writes: Vec<usize> = (0..calls.len()).filter(|i| calls[*i].1).collect();
    assert!(calls.iter().any(|(call, _)| call.starts_with("exec")) && writes.len() > 10, "{calls:?}");
    for number in writes {
        for fault in [Fault::Lost, Fault::Refused] {
            let mut run = rig.copy();
            set_token(&run, "second");
            run.faults.plan(Side::Docker, number, fault);
            for _ in 0..2 {
                run.round().await;
            }
            // A new process goes on.
            let mut run = run.restart();
            run.settle_after_a_round(2 * ENOUGH).await;
            ends(&run, &format!("{fault:?} of {}", calls[number].0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_k3s_might_misread_is_refused() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    set_token(&rig, "a b$(c)");
    rig.round().await;
    assert_eq!(rig.told("ResolvedRefs"), ("False".into(), "SecretInvalid".into()));
    assert_eq!(joined_by(&rig), "first");
    set_token(&rig, "first");
    rig.settle(ENOUGH).await;
}

fn ready(rig: &Rig, name: &str) -> bool {
    condition(&rig.api.get(&path("localclusters", name)).unwrap(), "Ready").0 == "True"
}

/// How many of these have a server that runs, and does not work yet.
fn starting(rig: &Rig, clusters: &[String]) -> usize {
    let up = |name: &str| rig.world(|w| w.named(name).is_some_and(|c| c.state.is_up()));
    let works = |name: &str| {
        condition(&rig.api.get(&path("localclusters", name)).unwrap(), "ControlPlaneReady").0 == "True"
    };
    let starts = |name: &&String| up(&format!("k3d-{name}-server-0")) && !works(name);
    clusters.iter().filter(starts).count()
}

/// Has them come up, looked at together, of which two may start at a time: so many cores the model's engine has. Answers
/// those that waited. `meanwhile` is told after each round.
async fn come_up_in_turns(
    rig: &mut Rig,
    names: &[String],
    most: usize,
    mut meanwhile: impl FnMut(&Rig),
) -> BTreeSet<String> {
    let (mut rounds, mut queued) = (0, BTreeSet::new());
    while !names.iter().all(|name| ready(rig, name)) {
        rig.reconcile_together().await;
        rig.pass().await;
        assert!(starting(rig, names) <= 2, "{} clusters start at once", starting(rig, names));
        let of = |name: &String| condition(&rig.api.get(&path("localclusters", name)).unwrap(), "Ready").1;
        queued.extend(names.iter().filter(|name| of(name) == "Queued").cloned());
        meanwhile(rig);
        rounds += 1;
        assert!(rounds <= most, "not all are Ready after {rounds} rounds");
    }
    queued
}

#[tokio::test(start_paused = true)]
async fn twenty_at_once_come_up_without_meeting() {
    const MANY: usize = 20;
    let mut rig = Rig::new(lab::settings());
    let name = |i: usize| format!("many-{i}");
    for i in 0..MANY {
        put(&rig, &name(i), json!({}), json!({"ports": [{"name": "web", "port": 80}]}));
    }
    // One that never gets anywhere is among them.
    put(&rig, "slow", json!({}), json!({"image": "localhost/none:1"}));
    rig.world(|w| w.unknown_images.insert("localhost/none:1".into()));
    let names: Vec<String> = (0..MANY).map(name).collect();
    let queued = come_up_in_turns(&mut rig, &names, ENOUGH, |_| ()).await;
    assert!(!ready(&rig, "slow"));
    assert!(queued.len() >= MANY - 4, "{queued:?}");
    let objects: Vec<Value> =
        (0..MANY).map(|i| rig.api.get(&path("localclusters", &name(i))).unwrap()).collect();
    let distinct = |of: &dyn Fn(&Value) -> Vec<Value>| {
        let all: Vec<String> = objects.iter().flat_map(of).map(|v| v.to_string()).collect();
        assert!(all.iter().all(|v| v != "null"), "{all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
        all.len()
    };
    assert_eq!(distinct(&|o| vec![o["status"]["network"]["subnet"].clone()]), MANY);
    let ports = |o: &Value| {
        vec![o["status"]["apiPort"]["hostPort"].clone(), o["status"]["ports"][0]["hostPort"].clone()]
    };
    assert_eq!(distinct(&ports), 2 * MANY);
    assert_eq!(distinct(&|o| vec![o["status"]["nodes"][0]["name"].clone()]), MANY);
    assert_eq!(rig.api.sins(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn those_that_run_again_at_once_have_their_turns_and_one_that_died_has_no_need_of_one() {
    let mut rig = Rig::new(lab::settings());
    let names: Vec<String> = (0..8).map(|i| format!("many-{i}")).collect();
    put(&rig, "dev", json!({}), json!({}));
    names.iter().for_each(|name| put(&rig, name, json!({}), json!({})));
    rig.settle(4 * ENOUGH).await;
    names.iter().for_each(|name| put(&rig, name, json!({}), json!({"state": "Stopped"})));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    for name in &names {
        let object = rig.api.get(&path("localclusters", name)).unwrap();
        assert_eq!(condition(&object, "Stopped").0, "True");
        put(&rig, name, json!({}), json!({"state": "Running"}));
    }
    let mut died = false;
    let queued = come_up_in_turns(&mut rig, &names, 2 * ENOUGH, |rig| {
        let up = rig.world(|w| w.named("k3d-dev-server-0").is_some_and(|c| c.state.is_up()));
        assert!(up, "a server that died waits for its turn");
        if !died && starting(rig, &names) == 2 {
            rig.world(|w| assert!(w.interfere(&Outside::Stop("k3d-dev-server-0".into()))));
            died = true;
        }
    })
    .await;
    assert!(died && queued.len() >= names.len() - 4, "{queued:?}");
    rig.settle(ENOUGH).await;
    assert!(ready(&rig, "dev"));
}

/// A certificate with this end, as a kubeconfig has it, and with nothing else.
fn certificate(end: &str) -> String {
    let part = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let validity = [part(0x17, b"230101000000Z"), part(0x17, end.as_bytes())].concat();
    let before = [part(2, &[1]), part(0x30, &[]), part(0x30, &[])].concat();
    let certificate = part(0x30, &part(0x30, &[before, part(0x30, &validity)].concat()));
    let body = BASE64_STANDARD.encode(certificate);
    BASE64_STANDARD.encode(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_certificate_is_told_and_a_newer_one_is_taken() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(rig.events("CertificateExpiring"), [] as [String; 0]);
    // By the clock of the model it is November 2023: the first ends in twelve days, the second in ten years.
    for end in ["231126000000Z", "331126000000Z"] {
        rig.world(|w| w.certificate = certificate(end).into());
        rig.world(|w| assert!(w.interfere(&Outside::Stop("k3d-dev-server-0".into()))));
        rig.settle_after_a_round(ENOUGH).await;
        rig.round().await;
        let told = rig.events("CertificateExpiring");
        assert!(told.len() == 1 && told[0].contains("2023-11-26T00:00:00Z"), "{told:?}");
        assert!(told[0].contains("docker restart k3d-dev-server-0"), "{told:?}");
        let kept = rig.api.get(&secret("dev-kubeconfig")).unwrap()["data"]["kubeconfig"].clone();
        let kept = String::from_utf8(BASE64_STANDARD.decode(kept.as_str().unwrap()).unwrap()).unwrap();
        assert!(kept.contains(&certificate(end)), "{end}: {kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hosts_file_that_was_changed_is_put_right_without_a_restart() {
    const NODE: &str = "k3d-dev-server-0";
    let mut rig = Rig::new(lab::settings());
    put(
        &rig,
        "dev",
        json!({}),
        json!({"hostAliases": [{"ip": "10.0.0.5", "hostnames": ["db.internal"]}], "agents": {"count": 1}}),
    );
    rig.settle(ENOUGH).await;
    let state = |rig: &Rig| {
        rig.world(|w| w.containers.values().map(|c| (c.name.clone(), c.started)).collect::<BTreeSet<_>>())
    };
    let before = state(&rig);
    rig.faults.take_writes();
    // By hand, or by something in the cluster that adds what it needs.
    rig.world(|w| w.write(NODE, "/etc/hosts", b"9.9.9.9 db.internal\n10.1.1.1 theirs\n")).unwrap();
    for _ in 0..=600 / TICK {
        rig.round().await;
    }
    let hosts = rig.world(|w| String::from_utf8(w.read(NODE, "/etc/hosts").unwrap().to_vec()).unwrap());
    let lines: BTreeSet<String> = hosts.lines().map(|l| l.replace('\t', " ")).collect();
    let wanted = [
        "10.0.0.5 db.internal",
        "10.1.1.1 theirs",
        "127.0.0.1 localhost",
        "172.31.0.1 host.k3d.internal",
        "172.31.0.10 k3d-dev-server-0",
    ];
    assert_eq!(lines, wanted.map(String::from).into());
    assert_eq!((state(&rig), rig.settled()), (before, true));
    let docker: Vec<_> = rig.faults.take_writes().into_iter().filter(|w| w.starts_with("Docker")).collect();
    assert_eq!(docker.len(), 1, "once: {docker:?}");
    assert!(docker[0].contains("exec"), "{docker:?}");
}

/// The API's URL of a key of the kubeconfig Secret.
fn server(rig: &Rig, key: &str) -> String {
    let data = rig.api.get(&secret("dev-kubeconfig")).unwrap()["data"][key].clone();
    let text = String::from_utf8(BASE64_STANDARD.decode(data.as_str().unwrap()).unwrap()).unwrap();
    localcluster_operator::k3s::kubeconfig::server(&text).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_management_cluster_is_told_an_address_that_its_pods_reach() {
    const BALANCER: &str = "k3d-dev-serverlb";
    let place = |w: &mut World, name: &str, ip: [u8; 4]| {
        assert!(w.foreign(name, &[]));
        w.container(name).unwrap().networks.get_mut(BRIDGE).unwrap().ip = Some(ip.into());
    };
    // A machine of its own: nothing but the address on the cluster's network is known.
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(server(&rig, "value"), "https://172.31.0.2:6443");

    // A container of the same engine, which is on another network.
    let mut rig = Rig::new(Settings { management: Management::Named("mgmt".into()), ..lab::settings() });
    rig.world(|w| place(w, "mgmt", [172, 17, 0, 9]));
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let host = server(&rig, "kubeconfig");
    assert_eq!(server(&rig, "value"), "https://172.17.0.2:6443");

    // Made anew it gets another address there, and the Secret follows. Until then it stays as it was.
    rig.world(|w| w.remove_container(BALANCER).unwrap());
    rig.world(|w| place(w, "other", [172, 17, 0, 2]));
    let mut told = Vec::new();
    for _ in 0..ENOUGH {
        rig.round().await;
        told.push(server(&rig, "value"));
    }
    told.dedup();
    assert!(told.ends_with(&["https://172.17.0.3:6443".to_owned()]), "{told:?}");
    assert!(told[..told.len() - 1].iter().all(|url| url == "https://172.17.0.2:6443"), "{told:?}");
    assert_eq!(server(&rig, "kubeconfig"), host);
    assert!(rig.settled());
    // Another operator process changes nothing.
    let mut rig = rig.restart();
    rig.faults.take_writes();
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}

/// The nodes that published ports lead to, by what the load balancer has loaded.
fn led_to(rig: &Rig) -> BTreeSet<String> {
    rig.world(|w| {
        let Some(file) = w.named("k3d-dev-serverlb").and_then(|b| b.loaded.clone()) else {
            return BTreeSet::new();
        };
        let placed = load_balancer::placed(&String::from_utf8_lossy(&file));
        let here =
            |c: &&Container| c.networks.values().any(|p| p.pinned.is_some_and(|ip| placed.contains(&ip)));
        w.containers.values().filter(here).map(|c| c.name.clone()).collect()
    })
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|short| format!("k3d-dev-{short}")).collect()
}

fn with_agents(count: i32) -> Value {
    json!({"agents": {"count": count}, "ports": [{"name": "dns", "port": 30053, "hostPort": 5353, "protocol": "UDP"}]})
}

#[tokio::test(start_paused = true)]
async fn published_ports_lead_to_nodes_that_answer() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), with_agents(0));
    rig.settle(ENOUGH).await;
    assert_eq!(led_to(&rig), names(&["server-0"]));
    for count in [2, 1, 3, 0] {
        put(&rig, "dev", json!({}), with_agents(count));
        for _ in 0..ENOUGH {
            rig.reconcile().await;
            // As it is at the moment, before anything else happens.
            for node in led_to(&rig) {
                assert_eq!(
                    rig.world(|w| w.kube_proxy(&node)),
                    Told::Answers,
                    "{node}, on the way to {count}"
                );
            }
            assert!(led_to(&rig).contains("k3d-dev-server-0"));
            // Ready means that all of them are led to.
            let wanted =
                (0..count).map(|i| format!("k3d-dev-agent-{i}")).chain(names(&["server-0"])).collect();
            assert!(!rig.settled() || led_to(&rig) == wanted, "{:?} of {count}", led_to(&rig));
            rig.pass().await;
        }
        assert!(rig.settled(), "{count}");
    }
}

#[tokio::test(start_paused = true)]
async fn published_ports_lead_where_they_led_while_the_api_is_away() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), with_agents(2));
    rig.settle(ENOUGH).await;
    let all = names(&["server-0", "agent-0", "agent-1"]);
    assert_eq!(led_to(&rig), all);
    rig.faults.unreachable.store(true, Ordering::Relaxed);
    // Another operator remembers it too.
    let mut rig = rig.restart();
    rig.faults.take_writes();
    for _ in 0..4 {
        rig.round().await;
        assert_eq!(led_to(&rig), all);
    }
    let docker: Vec<_> = rig.faults.take_writes().into_iter().filter(|w| w.starts_with("Docker")).collect();
    assert_eq!(docker, [] as [String; 0]);
    // What Docker says of a node is known all the same.
    rig.world(|w| w.end("k3d-dev-agent-1", 1).unwrap());
    rig.reconcile().await;
    assert_eq!(led_to(&rig), names(&["server-0", "agent-0"]));
    rig.faults.unreachable.store(false, Ordering::Relaxed);
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(led_to(&rig), all);
    // A load balancer that is lost is made with all that answer.
    rig.world(|w| w.remove_container("k3d-dev-serverlb").unwrap());
    rig.reconcile().await;
    assert_eq!(led_to(&rig), all);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_whom_no_published_port_leads_to() {
    let mut rig = Rig::new(lab::settings());
    let ports = json!([{"name": "web", "port": 80, "nodes": "Agents"}]);
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}, "ports": ports}));
    rig.settle(ENOUGH).await;
    assert_eq!(led_to(&rig), names(&["agent-0"]));
    rig.faults.take_writes();
    for _ in 0..2 * ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}
