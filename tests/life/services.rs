//! The Service in the management cluster that leads to the API of a cluster.

use support::fakes::api::{endpoint_slice, service};

use super::*;

const BALANCER: &str = "k3d-dev-serverlb";
const URL: &str = "https://dev.default.svc";

fn spec(service: &str) -> Value {
    json!({"api": {"service": service}})
}

async fn made(settings: Settings, service: &str) -> Rig {
    let mut rig = Rig::new(settings);
    put(&rig, "dev", json!({}), spec(service));
    rig.settle(ENOUGH).await;
    rig
}

/// The Service and its EndpointSlice.
fn found(rig: &Rig) -> [Option<Value>; 2] {
    [service("dev"), endpoint_slice("dev")].map(|at| rig.api.get(&at))
}

/// Where the Service leads.
fn leads_to(rig: &Rig) -> Vec<String> {
    let slice = rig.api.get(&endpoint_slice("dev")).expect("there is one");
    let port = &slice["ports"][0]["port"];
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    let addresses = endpoints.flat_map(|endpoint| endpoint["addresses"].as_array().unwrap());
    addresses.map(|ip| format!("{}:{port}", ip.as_str().unwrap())).collect()
}

fn status(rig: &Rig) -> Value {
    object(rig).unwrap()["status"]["apiService"].clone()
}

/// How often the servers' certificate is made for the name.
fn sans(rig: &Rig) -> usize {
    rig.world(|w| {
        let command = w.container("k3d-dev-server-0").unwrap().command.clone();
        command.iter().filter(|arg| *arg == "--tls-san=dev.default.svc").count()
    })
}

async fn idle(rig: &mut Rig) {
    rig.faults.take_writes();
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}

fn foreign(kind: &str) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "dev"}});
    if kind == "Service" {
        object["spec"] = json!({"selector": {"app": "theirs"}});
    } else {
        object["apiVersion"] = json!("discovery.k8s.io/v1");
        object["endpoints"] = json!([{"addresses": ["10.1.2.3"]}]);
    }
    object
}

#[tokio::test(start_paused = true)]
async fn it_leads_to_the_api_and_is_what_the_kubeconfig_names() {
    let mut rig = made(lab::settings(), "ClusterIP").await;
    let [made, slice] = found(&rig).map(Option::unwrap);
    let ports = json!([{"name": "https", "port": 443, "protocol": "TCP"}]);
    assert_eq!((&made["spec"]["type"], &made["spec"]["ports"]), (&json!("ClusterIP"), &ports));
    assert!(made["spec"]["selector"].is_null());
    assert_eq!(leads_to(&rig), ["172.31.0.2:6443"]);
    assert_eq!((&slice["addressType"], &slice["ports"][0]["name"]), (&json!("IPv4"), &json!("https")));
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/service-name"], "dev");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "localcluster-operator");
    for object in [&made, &slice] {
        assert_eq!(object["metadata"]["ownerReferences"][0]["kind"], "LocalCluster");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "localcluster-operator");
    }
    assert_eq!((server(&rig, "value").as_str(), status(&rig), sans(&rig)), (URL, json!("dev"), 1));
    assert!(server(&rig, "kubeconfig").starts_with("https://127.0.0.1:"));
    idle(&mut rig).await;
    idle(&mut rig.restart()).await;
}

#[tokio::test(start_paused = true)]
async fn it_follows_an_address_that_changes() {
    let place = |w: &mut World, name: &str, ip: [u8; 4]| {
        assert!(w.foreign(name, &[]));
        w.container(name).unwrap().networks.get_mut(BRIDGE).unwrap().ip = Some(ip.into());
    };
    let mut rig = Rig::new(Settings { management: Management::Named("mgmt".into()), ..lab::settings() });
    rig.world(|w| place(w, "mgmt", [172, 17, 0, 9]));
    put(&rig, "dev", json!({}), spec("ClusterIP"));
    rig.settle(ENOUGH).await;
    assert_eq!(leads_to(&rig), ["172.17.0.2:6443"]);
    let kubeconfig = rig.api.get(&secret("dev-kubeconfig"));
    rig.world(|w| w.remove_container(BALANCER).unwrap());
    rig.world(|w| place(w, "other", [172, 17, 0, 2]));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert!(rig.settled());
    assert_eq!(leads_to(&rig), ["172.17.0.3:6443"]);
    // Whoever has a copy of it need not read it again.
    assert_eq!(rig.api.get(&secret("dev-kubeconfig")), kubeconfig);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_one_that_is_no_longer_wanted() {
    let mut rig = made(lab::settings(), "None").await;
    let address = server(&rig, "value");
    for _ in 0..2 {
        put(&rig, "dev", json!({}), spec("ClusterIP"));
        rig.settle_after_a_round(ENOUGH).await;
        assert_eq!((server(&rig, "value").as_str(), status(&rig), sans(&rig)), (URL, json!("dev"), 1));
        put(&rig, "dev", json!({}), spec("None"));
        rig.settle_after_a_round(ENOUGH).await;
        assert_eq!(found(&rig), [None, None]);
        assert_eq!((server(&rig, "value"), status(&rig), sans(&rig)), (address.clone(), Value::Null, 0));
    }
    idle(&mut rig).await;
    assert_eq!(rig.api.sins(), [] as [String; 0]);
}

/// The operator is killed after each failure, and the spec may be another one when it comes back.
#[tokio::test(start_paused = true)]
async fn it_is_as_the_spec_says_whatever_fails_on_the_way() {
    for (before, after) in [("None", "ClusterIP"), ("ClusterIP", "None")] {
        let rig = made(lab::settings(), before).await;
        let mut clean = rig.copy();
        put(&clean, "dev", json!({}), spec(after));
        clean.settle_after_a_round(ENOUGH).await;
        let calls = clean.faults.calls(Side::Kube);
        assert!(calls.iter().any(|(call, writes)| *writes && call.contains("/services")), "{calls:?}");
        for (number, (call, writes)) in calls.iter().enumerate() {
            let faults: &[Fault] = match writes {
                true => &[Fault::Lost, Fault::Refused, Fault::Conflict],
                false => &[Fault::Refused],
            };
            for fault in faults {
                for last in [before, after].into_iter().filter(|last| *writes || *last == after) {
                    let what = format!("{before} to {after}, then {last}: {fault:?} of {call}");
                    let mut run = rig.copy();
                    put(&run, "dev", json!({}), spec(after));
                    run.faults.plan(Side::Kube, number, *fault);
                    run.round().await;
                    run.round().await;
                    let mut run = run.restart();
                    put(&run, "dev", json!({}), spec(last));
                    run.settle_after_a_round(ENOUGH).await;
                    let wanted = last == "ClusterIP";
                    assert_eq!(found(&run).map(|found| found.is_some()), [wanted; 2], "{what}");
                    assert_eq!(server(&run, "value") == URL, wanted, "{what}");
                    assert_eq!(run.api.sins(), [] as [String; 0], "{what}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_of_somebody_else_stays_and_does_not_lead_to_the_api() {
    for (kind, at) in [("Service", service("dev")), ("EndpointSlice", endpoint_slice("dev"))] {
        let mut rig = Rig::new(lab::settings());
        rig.api.put(&at, foreign(kind));
        let theirs = rig.api.get(&at);
        put(&rig, "dev", json!({}), spec("ClusterIP"));
        for _ in 0..ENOUGH {
            rig.round().await;
        }
        assert_eq!(rig.api.get(&at), theirs, "{kind}");
        assert_eq!(found(&rig).iter().flatten().count(), 1, "{kind}");
        assert_eq!(rig.told("KubeconfigReady"), ("False".into(), "NameConflict".into()));
        let told = message(&rig, "KubeconfigReady");
        assert!(
            told.starts_with(&format!("the {kind} dev exists and is not managed by this object")),
            "{told}"
        );
        assert_eq!((server(&rig, "value").as_str(), status(&rig)), ("https://172.31.0.2:6443", Value::Null));
        let mut without = rig.copy();
        put(&without, "dev", json!({}), spec("None"));
        without.settle_after_a_round(ENOUGH).await;
        assert_eq!(without.api.get(&at), theirs, "{kind}");
        rig.api.delete(&at);
        rig.settle_after_a_round(ENOUGH).await;
        assert_eq!((server(&rig, "value").as_str(), leads_to(&rig).len()), (URL, 1));
    }
    // It comes later, in the place of the cluster's own.
    let mut rig = made(lab::settings(), "ClusterIP").await;
    rig.api.remove(&service("dev"));
    rig.api.put(&service("dev"), foreign("Service"));
    let theirs = rig.api.get(&service("dev"));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(found(&rig), [theirs.clone(), None], "the API would be an endpoint of theirs");
    put(&rig, "dev", json!({}), spec("None"));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!((found(&rig), status(&rig)), ([theirs, None], Value::Null));
}

#[tokio::test(start_paused = true)]
async fn it_leads_nowhere_while_the_cluster_is_stopped() {
    let mut rig = made(lab::settings(), "ClusterIP").await;
    put(&rig, "dev", json!({"localcluster.dev/paused": "true"}), spec("ClusterIP"));
    let before = found(&rig);
    for _ in 0..5 {
        rig.round().await;
    }
    assert_eq!(found(&rig), before, "a paused cluster runs on");
    let mut stopped = spec("ClusterIP");
    stopped["state"] = json!("Stopped");
    put(&rig, "dev", json!({}), stopped);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("Stopped"), ("True".into(), "Stopped".into()));
    assert_eq!((leads_to(&rig), found(&rig)[0].clone()), (vec![], before[0].clone()));
    idle(&mut rig).await;
    put(&rig, "dev", json!({}), spec("ClusterIP"));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(leads_to(&rig), ["172.31.0.2:6443"]);
    rig.api.delete(&path("localclusters", "dev"));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!((object(&rig), found(&rig)), (None, [None, None]));
}

fn edit(rig: &Rig, at: &str, change: fn(&mut Value)) {
    let mut object = rig.api.get(at).unwrap();
    change(&mut object);
    rig.api.store(at, object);
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_it_is_put_right() {
    let rig = made(lab::settings(), "ClusterIP").await;
    let wanted = found(&rig).map(|found| found.map(|object| object["metadata"]["labels"].clone()));
    type Harm = fn(&Rig);
    let harms: [Harm; 7] = [
        |rig| rig.api.remove(&service("dev")),
        |rig| rig.api.remove(&endpoint_slice("dev")),
        |rig| edit(rig, &service("dev"), |o| o["spec"]["ports"] = json!([])),
        |rig| edit(rig, &service("dev"), |o| o["spec"]["type"] = json!("NodePort")),
        |rig| edit(rig, &endpoint_slice("dev"), |o| o["endpoints"][0]["addresses"] = json!(["10.9.8.7"])),
        |rig| edit(rig, &endpoint_slice("dev"), |o| o["endpoints"][0]["conditions"]["ready"] = json!(false)),
        |rig| edit(rig, &endpoint_slice("dev"), |o| o["metadata"]["labels"] = json!({})),
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        let mut rig = rig.copy();
        harm(&rig);
        rig.faults.take_writes();
        rig.settle_after_a_round(ENOUGH).await;
        let labels = found(&rig).map(|found| found.map(|object| object["metadata"]["labels"].clone()));
        assert_eq!(
            (leads_to(&rig), labels),
            (vec!["172.31.0.2:6443".to_owned()], wanted.clone()),
            "{number}"
        );
        let [service, slice] = found(&rig).map(Option::unwrap);
        assert_eq!(
            (&service["spec"]["type"], &service["spec"]["ports"][0]["port"]),
            (&json!("ClusterIP"), &json!(443))
        );
        assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
        let writes = rig.faults.take_writes();
        assert_eq!(
            writes.iter().filter(|w| w.contains("/services") || w.contains("/endpointslices")).count(),
            1,
            "{number}: {writes:?}"
        );
        assert_eq!(rig.api.sins(), [] as [String; 0], "{number}");
    }
}
