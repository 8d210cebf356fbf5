//! Registries whose storage is measured.

use support::{
    fakes::faults::Side::Docker,
    model::scenario::{put_registry, put_registry_with},
};

use super::*;

const CONTAINER: &str = "k3d-images";

fn fill(rig: &Rig, gibibytes: i64) {
    rig.world(|w| w.sizes.insert(CONTAINER.into(), gibibytes << 30));
}

/// Six minutes go by. Returns the Registry, and how often its storage was measured.
async fn later(rig: &mut Rig) -> (Value, usize) {
    let measured = |rig: &Rig| {
        rig.faults.calls(Docker).iter().filter(|(call, _)| call.ends_with("du -sk /var/lib/registry")).count()
    };
    let before = measured(rig);
    for _ in 0..12 {
        rig.round().await;
    }
    (rig.api.get(&path("registries", "images")).unwrap(), measured(rig) - before)
}

fn told(object: &Value) -> (String, String, String) {
    let (status, reason) = condition(object, "StorageFull");
    (status, reason, object["status"]["storage"]["used"].as_str().unwrap_or_default().to_owned())
}

fn is(status: &str, reason: &str, used: &str) -> (String, String, String) {
    (status.into(), reason.into(), used.into())
}

#[tokio::test(start_paused = true)]
async fn a_storage_is_measured_now_and_then_and_what_is_unknown_changes_nothing() {
    let mut rig = Rig::new(lab::settings());
    put_registry(&rig);
    assert_eq!(later(&mut rig).await.1, 0, "only with a maximum");
    let limited = json!({"storage": {"maxSize": "100Gi"}});
    put_registry_with(&rig, json!({}), limited.clone());
    fill(&rig, 50);
    let (object, measured) = later(&mut rig).await;
    assert_eq!(told(&object), is("False", "BelowMaxSize", "50Gi"));
    assert!((1..=2).contains(&measured), "{measured}");
    rig.faults.take_writes();
    let (_, measured) = later(&mut rig).await;
    assert_eq!(
        (rig.faults.take_writes(), measured >= 1),
        (Vec::new(), true),
        "an idle registry writes nothing"
    );

    fill(&rig, 93);
    let (object, _) = later(&mut rig).await;
    assert_eq!(told(&object), is("True", "NearMaxSize", "93Gi"));
    assert_eq!(condition(&object, "Ready").0, "True");
    let collection = object["status"]["garbageCollection"].clone();
    assert_eq!((collection["request"].as_str(), collection["used"].as_str()), (Some(""), Some("93Gi")));
    let events = rig.events("NearMaxSize");
    assert!(events.len() == 1 && events[0].contains("93Gi of 100Gi (93 %)"), "{events:?}");

    // The image has no du, Docker does not answer, or the operator has just started.
    rig.world(|w| w.sizes.clear());
    rig.faults.take_writes();
    let (object, measured) = later(&mut rig).await;
    assert_eq!((told(&object), measured >= 1), (is("True", "NearMaxSize", "93Gi"), true));
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
    rig.faults.every(Some(("exec*", Fault::Timeout)));
    let mut rig = rig.restart();
    let (object, _) = later(&mut rig).await;
    assert_eq!(told(&object), is("True", "NearMaxSize", "93Gi"));
    rig.faults.every(None);
    rig.faults.away.store(true, Ordering::Relaxed);
    let (object, _) = later(&mut rig).await;
    assert_eq!(condition(&object, "DockerReachable").0, "False");
    assert_eq!(told(&object), is("True", "NearMaxSize", "93Gi"));
    rig.faults.away.store(false, Ordering::Relaxed);

    // A paused one is not looked at.
    put_registry_with(&rig, json!({"localcluster.dev/paused": "true"}), limited.clone());
    fill(&rig, 120);
    let id = rig.world(|w| w.id(CONTAINER));
    let (object, measured) = later(&mut rig).await;
    assert_eq!((told(&object), measured), (is("Unknown", "Paused", "93Gi"), 0));
    assert_eq!(rig.world(|w| w.id(CONTAINER)), id);
    put_registry_with(&rig, json!({}), limited);
    let (object, _) = later(&mut rig).await;
    assert_eq!(told(&object), is("True", "MaxSizeExceeded", "120Gi"));
    assert_ne!(rig.world(|w| w.id(CONTAINER)), id, "it refuses pushes");
    assert_eq!(rig.events("MaxSizeExceeded").len(), 1);
    put_registry(&rig);
    let (object, _) = later(&mut rig).await;
    assert_eq!(told(&object), is("", "", ""));
}
