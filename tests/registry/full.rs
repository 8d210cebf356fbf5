//! Registries whose storage has a maximum size: garbage collections when it is nearly full, and no pushes when it is full.

use localcluster_operator::{api::names, plan::registry::config};

use super::*;

const MAX: i64 = 100 << 30;
const GC: &str = "k3d-images-gc";

fn limited() -> RegistrySpec {
    let storage = StorageSpec { max_size: Some("100Gi".into()), ..StorageSpec::default() };
    RegistrySpec { storage, ..RegistrySpec::default() }
}

fn cache() -> RegistrySpec {
    let remote_url = "https://quay.io".into();
    let proxy = Some(ProxySpec { remote_url, credentials_secret: None, ttl: None });
    RegistrySpec { proxy, ..limited() }
}

/// The storage has so many percent of its maximum.
fn fill(lab: &mut Lab, percent: i64) {
    lab.world.sizes.insert(NAME.into(), MAX / 100 * percent);
}

fn full(lab: &Lab) -> (String, String) {
    let (status, reason, _) = told(lab, ConditionType::StorageFull);
    (status, reason)
}

fn is(status: &str, reason: Reason) -> (String, String) {
    (status.into(), reason.to_string())
}

/// Settles, and returns how often a garbage collection began.
fn collections(lab: &mut Lab) -> usize {
    let mut began = 0;
    for _ in 0..ENOUGH {
        let steps = lab.round();
        began += steps.iter().filter(|step| step.action.to_string() == format!("Start {GC}")).count();
    }
    assert!(lab.round().is_empty(), "it has settled");
    rests(lab);
    began
}

/// Whether pushes are refused, by the label and by the configuration.
fn refuses(lab: &Lab) -> bool {
    let container = lab.world.named(NAME).expect("it is there");
    let text = String::from_utf8_lossy(&container.files[config::CONFIG_FILE]).into_owned();
    let refuses = container.labels.contains_key(names::READ_ONLY);
    assert_eq!(text.contains("readonly"), refuses, "{text}");
    refuses
}

#[test]
fn garbage_is_collected_when_it_is_nearly_full_and_again_when_it_has_grown() {
    let mut lab = settled(limited());
    lab.round();
    assert_eq!(full(&lab), is("Unknown", Reason::Pending));
    let id = lab.world.id(NAME);
    for (percent, began, status, reason) in [
        (0, 0, "False", Reason::BelowMaxSize),
        (89, 0, "False", Reason::BelowMaxSize),
        (90, 1, "True", Reason::NearMaxSize),
        // It had nothing to remove.
        (94, 0, "True", Reason::NearMaxSize),
        (95, 1, "True", Reason::NearMaxSize),
        (99, 0, "True", Reason::NearMaxSize),
        // Something made room, since then it has grown.
        (60, 0, "False", Reason::BelowMaxSize),
        (89, 0, "False", Reason::BelowMaxSize),
        (91, 1, "True", Reason::NearMaxSize),
    ] {
        fill(&mut lab, percent);
        assert_eq!(collections(&mut lab), began, "{percent}");
        assert_eq!(full(&lab), is(status, reason), "{percent}");
        assert_eq!(told(&lab, ConditionType::Ready).0, "True");
        let status = &lab.registries[0].status;
        let used = if percent == 0 { "0Ki".to_owned() } else { format!("{percent}Gi") };
        assert_eq!(status.storage.as_ref().unwrap().used, used);
        assert!(!refuses(&lab));
    }
    assert_eq!(lab.world.id(NAME), id, "it is the same container as before");
    assert_eq!(collected(&lab), Some((String::new(), "2 blobs removed".into())));
    // What the annotation asks for counts too.
    fill(&mut lab, 60);
    assert_eq!(collections(&mut lab), 0);
    ask(&mut lab, Some("1"));
    fill(&mut lab, 92);
    assert_eq!((collections(&mut lab), collected(&lab)), (1, done("1")));
}

#[test]
fn pushes_are_refused_when_it_is_full_and_taken_again_when_there_is_room() {
    let mut lab = settled(limited());
    for (percent, began, refused) in [
        (50, 0, false),
        (99, 1, false),
        (100, 0, true),
        (300, 1, true),
        (99, 0, true),
        (95, 0, true),
        (94, 0, false),
        (99, 1, false),
        (100, 0, true),
    ] {
        let id = lab.world.id(NAME);
        let before = refuses(&lab);
        fill(&mut lab, percent);
        assert_eq!((collections(&mut lab), refuses(&lab)), (began, refused), "{percent}");
        assert_eq!(lab.world.id(NAME) == id, before == refused, "only then it is replaced");
        let full = condition::is_true(&lab.registries[0].status.conditions, ConditionType::StorageFull);
        assert_eq!((full, told(&lab, ConditionType::Ready).0.as_str()), (percent >= 90, "True"));
    }
    // The cures in the message.
    let (_, _, message) = told(&lab, ConditionType::StorageFull);
    assert!(message.contains("100Gi of 100Gi (100 %)") && message.contains("raise"), "{message}");
    let mut removed = lab.clone();
    removed.registries[0].edit(|spec| spec.storage.max_size = None);
    assert_eq!((collections(&mut removed), refuses(&removed)), (0, false));
    let status = &removed.registries[0].status;
    assert_eq!(condition::get(&status.conditions, ConditionType::StorageFull), None);
    assert_eq!(status.storage, None);
    // By what is known, also while nothing is measured.
    lab.world.sizes.clear();
    lab.registries[0].edit(|spec| spec.storage.max_size = Some("200Gi".into()));
    assert_eq!((collections(&mut lab), refuses(&lab)), (0, false));
}

/// A measurement that fails, as in an image without du, and an operator that has just started.
#[test]
fn what_is_unknown_changes_nothing() {
    let mut unmeasured = settled(limited());
    assert_eq!((collections(&mut unmeasured), full(&unmeasured)), (0, is("Unknown", Reason::Pending)));
    assert!(told(&unmeasured, ConditionType::StorageFull).2.contains("by du in its image"));
    for percent in [50, 92, 100] {
        let mut lab = settled(limited());
        fill(&mut lab, percent);
        collections(&mut lab);
        let (id, before) = (lab.world.id(NAME), lab.registries[0].status.clone());
        lab.world.sizes.clear();
        lab.world.clock += 7200;
        assert_eq!((collections(&mut lab), lab.world.id(NAME)), (0, id), "{percent}");
        assert_eq!(lab.registries[0].status, before, "{percent}");
        assert_eq!(refuses(&lab), percent == 100);
        // Its container is gone from outside: it is not known to be full.
        lab.world.remove_container(NAME).unwrap();
        assert_eq!((collections(&mut lab), refuses(&lab)), (0, false));
    }
}

#[test]
fn a_cache_goes_on() {
    let mut lab = settled(cache());
    let id = lab.world.id(NAME);
    for (percent, reason) in [(95, Reason::NearMaxSize), (120, Reason::MaxSizeExceeded)] {
        fill(&mut lab, percent);
        assert_eq!((collections(&mut lab), refuses(&lab)), (0, false));
        assert_eq!(full(&lab), is("True", reason));
        assert!(told(&lab, ConditionType::StorageFull).2.contains("spec.proxy.ttl"));
    }
    assert_eq!(lab.world.id(NAME), id);
}

/// In whatever pass and after whatever step the operator dies, and even if it loses what it remembers.
#[test]
fn it_ends_the_same_whenever_the_operator_dies() {
    for (percent, refused) in [(92, false), (105, true)] {
        for (passes, cut, ticks) in all_cuts() {
            let mut lab = settled(limited());
            fill(&mut lab, percent);
            die(&mut lab, passes, cut);
            lab.registries[0].forget();
            if ticks {
                lab.world.tick();
            }
            collections(&mut lab);
            assert_eq!(refuses(&lab), refused, "{percent} {passes} {cut} {ticks}");
            assert_eq!(collected(&lab), Some((String::new(), "2 blobs removed".into())));
            assert_eq!(collections(&mut lab), 0, "once");
        }
    }
}

/// What is edited meanwhile counts, and a Registry that is deleted leaves nothing.
#[test]
fn edits_and_a_deletion_meanwhile() {
    type Edit = fn(&mut Lab);
    let edits: [(Edit, Option<bool>); 4] = [
        (|lab| lab.registries[0].edit(|spec| spec.storage.max_size = Some("1000Gi".into())), Some(false)),
        (|lab| lab.registries[0].edit(|spec| spec.storage.max_size = None), Some(false)),
        (|lab| lab.registries[0].edit(|spec| spec.delete_enabled = true), Some(true)),
        (|lab| lab.registries[0].deleted = true, None),
    ];
    for (edit, refused) in edits {
        for (passes, cut, ticks) in all_cuts() {
            let mut lab = settled(limited());
            fill(&mut lab, 105);
            die(&mut lab, passes, cut);
            edit(&mut lab);
            if ticks {
                lab.world.tick();
            }
            let Some(refused) = refused else {
                lab.settle(ENOUGH);
                assert!(lab.world.containers.is_empty() && lab.world.volumes.is_empty());
                continue;
            };
            collections(&mut lab);
            assert_eq!(refuses(&lab), refused, "{passes} {cut} {ticks}");
        }
    }
}
