//! The reconciles themselves, over fakes of Docker, of the created clusters and of the management cluster's API:
//! whatever call fails in whatever way, the end is the same.

mod support;

use std::{collections::BTreeMap, sync::atomic::Ordering};

use localcluster_operator::api::reason::Reason;
use serde_json::json;
use support::{
    fakes::{
        api::{path, secret},
        faults::{FAULTS, Fault, SIDES, Side},
        rig::{Rig, condition},
    },
    model::{
        check,
        interfere::Outside,
        lab,
        scenario::{
            ENOUGH, SCENARIOS, Scenario, applied, delete, end, published, put, put_registry,
            put_registry_with, put_secret, put_secrets, secured,
        },
        world::TICK,
    },
};

/// A call that goes wrong.
type Wrong = (Side, usize, Fault);

/// Runs a scenario with one call going wrong; the end, and the calls that each side got.
async fn run(scenario: Scenario, mut rig: Rig, wrong: Option<Wrong>) -> (BTreeMap<String, String>, Calls) {
    if let Some((side, number, fault)) = wrong {
        rig.faults.plan(side, number, fault);
    }
    scenario.act(&rig);
    rig.settle(ENOUGH).await;
    // A call may have gone wrong after all was Ready.
    rig.settle(ENOUGH).await;
    check::world(&rig.world.lock().unwrap());
    (end(&rig), SIDES.map(|s| rig.faults.calls(s)))
}

type Calls = [Vec<(String, bool)>; 3];

/// How a call goes wrong: with FAULTS=all in the environment in every way, else in one way, each in its turn.
fn faults(number: usize, writes: bool) -> Vec<Fault> {
    let all = std::env::var("FAULTS").is_ok_and(|f| f == "all");
    // Of what only reads, a lost reply is no reply.
    let possible: Vec<_> = FAULTS.into_iter().filter(|f| writes || *f != Fault::Lost).collect();
    let turn = number % possible.len();
    possible.into_iter().enumerate().filter(|(i, _)| all || *i == turn).map(|(_, f)| f).collect()
}

async fn every_call_may_fail(scenario: Scenario) {
    let before = scenario.before().await;
    let (clean, calls) = run(scenario, before.copy(), None).await;
    let mut runs = 0;
    for side in SIDES {
        for (number, (call, writes)) in calls[side as usize].iter().enumerate() {
            for fault in faults(number, *writes) {
                let (end, _) = run(scenario, before.copy(), Some((side, number, fault))).await;
                let differences = check::differences(&clean, &end);
                assert!(
                    differences.is_empty(),
                    "{scenario:?} {side:?} {number} {call} {fault:?}: {}",
                    differences.join("\n")
                );
                runs += 1;
            }
        }
    }
    println!("{scenario:?}: {runs} runs, calls {:?}", calls.map(|c| c.len()));
}

macro_rules! faults {
    ($($name:ident: $scenario:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            every_call_may_fail($scenario).await;
        }
    )*};
}

mod faults_in {
    use super::{Scenario, every_call_may_fail};

    faults! {
        create: Scenario::Create;
        scale_up: Scenario::ScaleUp;
        scale_down: Scenario::ScaleDown;
        arguments: Scenario::Arguments;
        ports: Scenario::Ports;
        repair: Scenario::Repair;
        secure: Scenario::Secure;
        users: Scenario::Users;
        collect: Scenario::Collect;
        fill: Scenario::Fill;
        refill: Scenario::Refill;
        delete: Scenario::Delete;
        delete_half_made: Scenario::DeleteHalfMade;
    }
}

/// Nobody knows of such a bug, but that none is left can't be known either.
#[tokio::test(start_paused = true)]
async fn a_panic_is_told_of_its_object_alone_and_ends_with_its_cause() {
    let mut rig = applied(0);
    rig.settle(ENOUGH).await;
    let seen = |rig: &Rig| rig.faults.calls(Side::Docker).len();
    let ready = |rig: &Rig| condition(&rig.api.get(&path("registries", "images")).unwrap(), "Ready").0;

    // The registry is looked after all the same.
    rig.faults.panic_at(Some("observe"));
    rig.world(|w| w.interfere(&Outside::Kill("k3d-images".into())));
    rig.round().await;
    rig.round().await;
    assert_eq!(rig.told("Ready"), ("False".into(), "InternalError".into()));
    assert_eq!((rig.told("Stalled").0, rig.told("Reconciling").0), ("True".into(), "False".into()));
    assert_eq!(ready(&rig), "True");

    // It is left alone for five minutes, unless its spec changes.
    rig.faults.panic_at(None);
    rig.reconcile().await;
    assert_eq!(rig.told("Ready").1, "InternalError");
    put(&rig, 1, |_| {});
    rig.settle(ENOUGH).await;
    rig.faults.panic_at(Some("observe"));
    rig.round().await;
    rig.faults.panic_at(None);
    let before = seen(&rig);
    for _ in 0..(300 / TICK) {
        rig.round().await;
    }
    rig.settle(ENOUGH).await;
    assert!(seen(&rig) > before);
}

#[tokio::test(start_paused = true)]
async fn scenarios_end_as_they_should() {
    for scenario in SCENARIOS {
        let (end, _) = run(scenario, scenario.before().await, None).await;
        let containers = end.keys().filter(|k| k.starts_with("container k3d-")).count();
        let wanted = match scenario {
            Scenario::Create | Scenario::ScaleDown | Scenario::Ports | Scenario::Repair => 4,
            Scenario::Secure | Scenario::Users | Scenario::Collect => 4,
            Scenario::Fill | Scenario::Refill => 4,
            Scenario::ScaleUp | Scenario::Arguments => 5,
            Scenario::Delete | Scenario::DeleteHalfMade => 0,
        };
        assert_eq!(containers, wanted, "{scenario:?}");
        if matches!(scenario, Scenario::Refill) {
            for node in ["images k3d-dev-server-0", "images k3d-dev-agent-0"] {
                assert_eq!(
                    end[node], r#"{"docker.io/library/app:1": Held { id: "sha256:app:1-1", own: true }}"#,
                    "{node}"
                );
            }
            let left = &end["applied"];
            assert_eq!(left.matches("name: ").count(), 1, "{left}");
        }
        assert!(end.contains_key("container stranger") && end.contains_key("volume strange"));
    }
}

/// Whether the registry asks for a password, and the list of users in its container.
fn registry_files(rig: &Rig) -> (bool, String) {
    rig.world(|w| {
        let id = w.id("k3d-images").unwrap();
        let read = |path: &str| w.read(&id, path).map(|c| String::from_utf8_lossy(&c).into_owned());
        let config = read("/etc/localcluster/registry.yml").unwrap();
        (config.contains("htpasswd:"), read("/etc/localcluster/htpasswd").unwrap_or_default())
    })
}

#[tokio::test(start_paused = true)]
async fn users_change_under_the_running_registry_and_a_certificate_with_another_one() {
    let mut rig = Scenario::Users.before().await;
    let id = rig.world(|w| w.id("k3d-images"));
    assert!(registry_files(&rig).0 && registry_files(&rig).1.ends_with("first\n"));
    put_secrets(&rig, "second");
    rig.round().await;
    rig.settle(ENOUGH).await;
    assert!(registry_files(&rig).1.ends_with("second\n"));
    assert_eq!(rig.world(|w| w.id("k3d-images")), id, "it is the same container");
    put_secret(
        &rig,
        "tls",
        &[("tls.crt", "-----BEGIN CERTIFICATE-----\nnew"), ("tls.key", "PRIVATE KEY-----")],
    );
    rig.round().await;
    rig.settle(ENOUGH).await;
    assert_ne!(rig.world(|w| w.id("k3d-images")), id);
    end(&rig);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_registrys_secrets_is_told() {
    let told =
        |rig: &Rig, type_: &str| condition(&rig.api.get(&path("registries", "images")).unwrap(), type_);
    let refs = |reason: Reason| ("False".to_owned(), reason.to_string());
    let mut rig = Rig::new(lab::settings());
    put_registry_with(&rig, json!({}), secured());
    rig.round().await;
    assert_eq!(told(&rig, "ResolvedRefs"), refs(Reason::SecretNotFound));
    put_secrets(&rig, "first");
    put_secret(&rig, "users", &[("htpasswd", "user:plain-password")]);
    rig.round().await;
    assert_eq!(told(&rig, "ResolvedRefs"), refs(Reason::SecretInvalid));
    assert!(!rig.api.get(&path("registries", "images")).unwrap().to_string().contains("plain-password"));
    put_secrets(&rig, "first");
    rig.settle(ENOUGH).await;
    put_secret(&rig, "login", &[("username", "user"), ("password", "other")]);
    rig.round().await;
    rig.round().await;
    assert_eq!(told(&rig, "Reachable"), refs(Reason::CredentialsRefused));
    assert_eq!(told(&rig, "Stalled").0, "True");
    put_secrets(&rig, "other");
    rig.settle(ENOUGH).await;
    assert_eq!(told(&rig, "Reachable").0, "True");
}

/// Nothing of a Secret is anywhere but in the files and in the Secret itself.
#[tokio::test(start_paused = true)]
async fn secrets_are_nowhere_else() {
    let mut rig = applied(1);
    put_secrets(&rig, "registry-password");
    put_secret(&rig, "hub", &[("username", "hub-user-name"), ("password", "hub-password")]);
    let mut spec = secured();
    spec["proxy"] = json!({"remoteURL": "https://registry-1.docker.io", "credentialsSecret": "hub"});
    put_registry_with(&rig, json!({"localcluster.dev/garbage-collect": "1"}), spec);
    rig.settle(ENOUGH).await;
    rig.settle(ENOUGH).await;
    let objects: Vec<_> = rig.api.all("").into_iter().filter(|o| o["kind"] != "Secret").collect();
    assert!(objects.iter().any(|o| o["status"]["proxies"] == "docker.io"));
    let mut told = format!("{objects:?}");
    rig.world(|w| {
        let containers = w.containers.values();
        containers
            .for_each(|c| told += &format!("{:?} {:?} {:?} {:?}", c.name, c.labels, c.command, c.error));
    });
    for secret in ["registry-password", "hub-password", "hub-user-name", "$2y$"] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}

/// A process that dies and comes back with an empty memory after every round of every scenario.
#[tokio::test(start_paused = true)]
async fn restarts_change_nothing() {
    for scenario in SCENARIOS {
        let (clean, _) = run(scenario, scenario.before().await, None).await;
        let mut rig = scenario.before().await;
        scenario.act(&rig);
        for _ in 0..ENOUGH {
            rig = rig.restart();
            rig.round().await;
        }
        let differences = check::differences(&clean, &end(&rig));
        assert!(differences.is_empty(), "{scenario:?}: {}", differences.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn idle_means_idle() {
    let mut rig = applied(2);
    rig.settle(ENOUGH).await;
    rig.round().await;
    rig.faults.take_writes();
    let versions: Vec<_> = rig.api.all("").iter().map(|o| o["metadata"]["resourceVersion"].clone()).collect();
    let events = rig.api.all("events").len();
    for _ in 0..10 {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
    assert_eq!(rig.api.all("events").len(), events);
    let after: Vec<_> = rig.api.all("").iter().map(|o| o["metadata"]["resourceVersion"].clone()).collect();
    assert_eq!(versions, after);
    // The same again is no change either.
    put(&rig, 2, |_| {});
    rig.round().await;
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}

/// Has something in the way, checks what is told of it, takes it away, and checks that all is well.
async fn bad_luck(
    settings: impl FnOnce(&mut localcluster_operator::plan::settings::Settings),
    hinder: impl FnOnce(&Rig),
    type_: &str,
    reason: Reason,
    heal: impl FnOnce(&Rig),
) {
    let mut with = lab::settings();
    settings(&mut with);
    let mut rig = Rig::new(with);
    put_registry(&rig);
    put(&rig, 1, |_| {});
    hinder(&rig);
    let strangers = rig.world(|w| w.strangers());
    for _ in 0..8 {
        rig.round().await;
    }
    assert_eq!(rig.told(type_), ("False".to_owned(), reason.to_string()), "{}", rig.world(|w| w.brief()));
    assert_eq!(rig.told("Ready"), ("False".to_owned(), reason.to_string()));
    // No hot loop: what is tried again is tried by one step a round, not by many.
    rig.faults.take_writes();
    for _ in 0..4 {
        rig.round().await;
    }
    let tried = rig.faults.take_writes();
    assert!(tried.len() <= 4 * 3, "{tried:#?}");
    assert_eq!(rig.world(|w| w.strangers()), strangers);
    heal(&rig);
    rig.settle(ENOUGH).await;
    end(&rig);
    delete(&rig);
    rig.settle(ENOUGH).await;
    assert!(rig.world(|w| w.containers.keys().all(|id| id.starts_with("foreign-"))));
}

#[tokio::test(start_paused = true)]
async fn bad_luck_is_told_and_heals() {
    let image = "rancher/k3s:v1.36.2-k3s1";
    let leave = |rig: &Rig| rig.world(|w| w.strangers_leave());
    let nothing = |_: &mut localcluster_operator::plan::settings::Settings| {};
    bad_luck(
        nothing,
        |r| assert!(r.world(|w| w.unknown_images.insert(image.into()))),
        "ControlPlaneReady",
        Reason::ImagePullFailed,
        |r| r.world(|w| w.unknown_images.clear()),
    )
    .await;
    for container in [true, false] {
        let hold = move |r: &Rig| {
            put(r, 1, |s| s["api"]["hostPort"] = json!(16443));
            r.world(|w| {
                if container {
                    w.foreign("other", &[published(16443)]);
                } else {
                    w.held_ports.insert(16443);
                }
            });
        };
        bad_luck(nothing, hold, "LoadBalancerReady", Reason::PortConflict, leave).await;
    }
    for (act, type_) in [
        (Outside::ForeignContainer("k3d-dev-server-0".into()), "ControlPlaneReady"),
        (Outside::ForeignContainer("k3d-dev-agent-0".into()), "AgentsReady"),
        (Outside::ForeignContainer("k3d-dev-serverlb".into()), "LoadBalancerReady"),
        (Outside::ForeignVolume("k3d-dev-agent-0-etc".into()), "AgentsReady"),
        (Outside::ForeignNetwork("k3d-dev".into()), "NetworkReady"),
    ] {
        let hinder = |r: &Rig| assert!(r.world(|w| w.interfere(&act)));
        bad_luck(nothing, hinder, type_, Reason::NameConflict, leave).await;
    }
    let token = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": {"token": "dG9rZW4="}});
    bad_luck(
        nothing,
        |r| put(r, 1, |s| s["token"] = json!({"secretName": "mine"})),
        "ResolvedRefs",
        Reason::SecretNotFound,
        |r| r.api.put(&secret("mine"), token),
    )
    .await;
    bad_luck(
        nothing,
        |r| r.api.delete(&path("registries", "images")),
        "ResolvedRefs",
        Reason::RegistryNotFound,
        put_registry,
    )
    .await;
    bad_luck(
        nothing,
        |r| r.faults.away.store(true, Ordering::Relaxed),
        "DockerReachable",
        Reason::DockerUnavailable,
        |r| r.faults.away.store(false, Ordering::Relaxed),
    )
    .await;
    bad_luck(
        |s| s.allowed_subnets = vec!["10.99.0.0/24".parse().unwrap()],
        |r| {
            put(r, 1, |s| s["network"]["subnet"] = json!("10.99.0.0/24"));
            r.world(|w| w.interfere(&Outside::ForeignNetwork("other".into())));
        },
        "NetworkReady",
        Reason::SubnetConflict,
        leave,
    )
    .await;
    bad_luck(
        nothing,
        |r| put(r, 1, |s| s["network"]["subnet"] = json!("10.98.0.0/24")),
        "NetworkReady",
        Reason::SubnetNotAllowed,
        |r| put(r, 1, |_| {}),
    )
    .await;
    bad_luck(
        |s| s.network_pool = "10.99.0.0/24".parse().unwrap(),
        |r| assert!(r.world(|w| w.interfere(&Outside::ForeignNetwork("other".into())))),
        "NetworkReady",
        Reason::AddressPoolExhausted,
        leave,
    )
    .await;
}

/// Others may be faster again and again, and by as much as a busy engine takes: that is nobody's mistake.
#[tokio::test(start_paused = true)]
async fn a_subnet_that_others_were_faster_with_is_exchanged() {
    let mut rig = Rig::new(lab::settings());
    let pool: Vec<_> = lab::settings().network_pool.subnets(24).unwrap().collect();
    let (last, others) = pool.split_last().unwrap();
    rig.world(|w| w.unseen.extend(others));
    put_registry(&rig);
    put(&rig, 1, |_| {});
    for _ in 0..others.len() {
        if rig.told("Ready").0 == "True" {
            break;
        }
        rig.round().await;
        assert_ne!(rig.told("NetworkReady").1, Reason::SubnetConflict);
    }
    rig.settle(ENOUGH).await;
    let object = rig.api.get(&path("localclusters", "dev")).unwrap();
    assert_eq!(object["status"]["network"]["subnet"], last.to_string());
}

/// While Docker is away a deletion waits, says so, and finishes by itself.
#[tokio::test(start_paused = true)]
async fn deletion_waits_for_docker() {
    let mut rig = applied(1);
    rig.settle(ENOUGH).await;
    rig.faults.away.store(true, Ordering::Relaxed);
    delete(&rig);
    for _ in 0..3 {
        rig.round().await;
    }
    assert_eq!(rig.told("DockerReachable").1, Reason::DockerUnavailable);
    rig.faults.away.store(false, Ordering::Relaxed);
    rig.settle(ENOUGH).await;
    assert!(end(&rig).keys().all(|k| !k.starts_with("object")));
}

/// A server that does not answer from inside either is restarted. One that does is left alone, however long the
/// operator can't reach it.
#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_told_from_one_that_is_not_reached() {
    let server = "k3d-dev-server-0";
    let mut rig = applied(1);
    rig.settle(ENOUGH).await;
    let started = |r: &Rig| r.world(|w| w.named(server).unwrap().started);
    let before = started(&rig);

    rig.faults.unreachable.store(true, Ordering::Relaxed);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("ControlPlaneReady").1, Reason::ApiNotAnswering);
    assert_eq!(started(&rig), before, "it was restarted");
    rig.faults.unreachable.store(false, Ordering::Relaxed);
    rig.settle(ENOUGH).await;

    rig.world(|w| w.interfere(&Outside::Hang(server.into())));
    let mut rounds = 0;
    while started(&rig) == before {
        rig.round().await;
        rounds += 1;
        assert!(rounds < 40, "it was not restarted");
    }
    // The time of before counts no longer: it answered in between.
    let after = lab::settings().node_repair_after.unwrap().as_secs();
    assert!(rounds * TICK > after, "after {rounds} rounds");
    rig.settle(ENOUGH).await;
    assert_eq!(
        rig.events("StartedContainer").iter().filter(|e| e.contains("its API does not respond")).count(),
        1
    );
}
