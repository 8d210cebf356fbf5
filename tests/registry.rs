//! The planner of registries against the model: garbage collection and storage in a directory of the host, with the
//! operator killed anywhere.

mod support;

#[path = "registry/cache.rs"]
mod cache;
#[path = "registry/full.rs"]
mod full;
#[path = "registry/network.rs"]
mod network;
#[path = "registry/retention.rs"]
mod retention;

use std::sync::Arc;

use localcluster_operator::{
    api::{
        RegistrySpec,
        condition::{self, ConditionType},
        reason::Reason,
        registry::{GarbageCollectionSpec, ProxySpec, RetentionSpec, StorageSpec},
    },
    docker::engine::State,
};
use support::model::lab::{Lab, Object};

const NAME: &str = "k3d-images";
/// Rounds within which everything has to be settled.
const ENOUGH: usize = 20;
/// More steps than a plan has.
const STEPS: usize = 8;

fn lab(spec: RegistrySpec) -> Lab {
    Lab::new(Vec::new(), vec![Object::new("default", "images", spec)])
}

fn settled(spec: RegistrySpec) -> Lab {
    let mut lab = lab(spec);
    lab.settle(ENOUGH);
    lab
}

fn on_host(path: &str) -> RegistrySpec {
    let storage = StorageSpec { host_path: Some(path.into()), ..StorageSpec::default() };
    RegistrySpec { storage, ..RegistrySpec::default() }
}

fn ask(lab: &mut Lab, request: Option<&str>) {
    lab.registries[0].request = request.map(str::to_owned);
}

/// What the status tells of the last garbage collection.
fn collected(lab: &Lab) -> Option<(String, String)> {
    let status = lab.registries[0].status.garbage_collection.as_ref()?;
    Some((status.request.clone(), status.message.clone()))
}

fn told(lab: &Lab, type_: ConditionType) -> (String, String, String) {
    let found = condition::get(&lab.registries[0].status.conditions, type_).expect("it is there");
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// The registry runs and nothing else of it is left.
fn rests(lab: &Lab) {
    let all: Vec<_> = lab.world.containers.values().map(|c| (c.name.as_str(), c.state)).collect();
    assert_eq!(all, [(NAME, State::Running)]);
}

fn done(request: &str) -> Option<(String, String)> {
    Some((request.into(), "2 blobs removed".into()))
}

#[test]
fn a_garbage_collection_stops_the_registry_and_starts_it_again() {
    let mut lab = settled(RegistrySpec::default());
    let id = lab.world.id(NAME);
    ask(&mut lab, Some("1"));
    let pass = |lab: &mut Lab| -> Vec<String> {
        lab.pass_registry(0, usize::MAX).iter().map(|s| s.action.to_string()).collect()
    };
    assert_eq!(pass(&mut lab), ["CreateContainer k3d-images-gc", "Upload k3d-images-gc", "Stop k3d-images"]);
    // A stop may succeed without effect, so that it begins once the registry is seen to rest.
    assert_eq!(pass(&mut lab), ["Upload k3d-images-gc", "Start k3d-images-gc"]);
    assert_eq!(told(&lab, ConditionType::ContainerReady).1, Reason::GarbageCollecting);
    assert_eq!(lab.world.named(NAME).unwrap().state, State::Exited);
    lab.settle(ENOUGH);
    rests(&lab);
    assert_eq!(lab.world.id(NAME), id, "it is the same container as before");
    lab.round();
    assert_eq!((collected(&lab), told(&lab, ConditionType::Ready).0.as_str()), (done("1"), "True"));
    // Once for each request.
    assert!((0..3).all(|_| lab.round().is_empty()));
    ask(&mut lab, Some("2"));
    lab.settle(ENOUGH);
    assert_eq!(collected(&lab), done("2"));
}

/// The schedule's collections are like those of the annotation, of which each still happens once.
#[test]
fn a_schedule_begins_garbage_collections() {
    let hourly = GarbageCollectionSpec { schedule: "0 * * * *".into() };
    let spec = RegistrySpec { garbage_collection: Some(hourly), ..RegistrySpec::default() };
    for (passes, cut, _) in all_cuts() {
        let mut lab = settled(spec.clone());
        ask(&mut lab, Some("1"));
        lab.settle(ENOUGH);
        assert_eq!(collected(&lab), done("1"));
        let last = |lab: &Lab| lab.registries[0].status.garbage_collection.as_ref().unwrap().time.0;
        let begin = last(&lab);
        lab.world.clock += 3600;
        die(&mut lab, passes, cut);
        lab.registries[0].forget();
        lab.settle(ENOUGH);
        rests(&lab);
        assert_eq!(collected(&lab), done("1"), "the annotation's request stays done");
        let second = last(&lab);
        assert!(second.duration_since(begin).as_hours() >= 1, "{passes} {cut}");
        assert!((0..3).all(|_| lab.round().is_empty()), "once for each time");
        ask(&mut lab, Some("2"));
        lab.settle(ENOUGH);
        assert_eq!(collected(&lab), done("2"));
    }
}

/// What an edit of the image did ends with it; another default of the operator changes nothing.
#[test]
fn an_image_that_is_taken_out_of_the_spec_is_the_one_before() {
    let mut lab = settled(RegistrySpec::default());
    let image = |lab: &Lab| lab.world.named(NAME).unwrap().image.clone();
    let before = image(&lab);
    lab.settings.registry_image = "registry:9".into();
    lab.settle(ENOUGH);
    assert_eq!(image(&lab), before);
    lab.registries[0].edit(|s| s.image = Some("registry.example/other:1".into()));
    lab.settle(ENOUGH);
    assert_eq!(image(&lab), "registry.example/other:1");
    lab.registries[0].edit(|s| s.image = None);
    lab.settle(ENOUGH);
    assert_eq!(image(&lab), before);
}

/// In whatever pass and after whatever step the operator dies, and whatever is asked for then.
#[test]
fn it_goes_on_where_it_was_killed() {
    let kept = RetentionSpec { keep_tags: Some(1), keep_for: None };
    let with_retention = RegistrySpec { retention: Some(kept), ..RegistrySpec::default() };
    for spec in [RegistrySpec::default(), with_retention, on_host("/srv/images")] {
        let before = settled(spec);
        for (passes, cut, ticks) in all_cuts() {
            let mut killed = before.clone();
            ask(&mut killed, Some("1"));
            die(&mut killed, passes, cut);
            if ticks {
                killed.world.tick();
            }
            for (then, end) in [(Some("1"), done("1")), (Some("2"), done("2")), (None, None)] {
                let mut lab = killed.clone();
                ask(&mut lab, then);
                lab.settle(ENOUGH);
                rests(&lab);
                // What was under way when it was no longer asked for may have come to its end.
                let all_the_same = then.is_none() && collected(&lab) == done("1");
                assert!(collected(&lab) == end || all_the_same, "{passes} {cut} {ticks} {then:?}");
            }
        }
    }
}

/// The operator makes these passes, and dies in the next one after so many steps.
fn die(lab: &mut Lab, passes: usize, cut: usize) {
    for _ in 0..passes {
        lab.pass_registry(0, usize::MAX);
    }
    lab.pass_registry(0, cut);
}

fn all_cuts() -> impl Iterator<Item = (usize, usize, bool)> {
    (0..5).flat_map(|passes| (0..STEPS).flat_map(move |cut| [false, true].map(|ticks| (passes, cut, ticks))))
}

#[test]
fn what_was_done_to_its_containers_meanwhile_is_put_right() {
    let before = settled(RegistrySpec::default());
    let meddle: [fn(&mut Lab); 5] = [
        |lab| drop(lab.world.remove_container(NAME)),
        |lab| drop(lab.world.remove_container("k3d-images-gc")),
        |lab| drop(lab.world.pause("k3d-images-gc")),
        |lab| drop(lab.world.pause(NAME)),
        |lab| lab.registries[0].edit(|s| s.delete_enabled = true),
    ];
    for meddle in meddle {
        for (passes, cut, ticks) in all_cuts() {
            let mut lab = before.clone();
            ask(&mut lab, Some("1"));
            die(&mut lab, passes, cut);
            meddle(&mut lab);
            if ticks {
                lab.world.tick();
            }
            lab.settle(ENOUGH);
            rests(&lab);
            assert_eq!(collected(&lab), done("1"), "{passes} {cut} {ticks}");
        }
    }
}

#[test]
fn where_it_cannot_begin_the_registry_stays_up() {
    let mut lab = settled(RegistrySpec::default());
    lab.world.foreign("k3d-images-gc", &[]);
    ask(&mut lab, Some("1"));
    lab.settle(ENOUGH);
    lab.round();
    assert!(collected(&lab).unwrap().1.contains("is not managed by this object"));
    assert_eq!(lab.world.named(NAME).unwrap().state, State::Running);

    let remote_url = "https://quay.io".into();
    let proxy = Some(ProxySpec { remote_url, credentials_secret: None, ttl: None });
    let mut lab = settled(RegistrySpec { proxy, ..RegistrySpec::default() });
    ask(&mut lab, Some("1"));
    lab.round();
    rests(&lab);
    assert!(collected(&lab).unwrap().1.contains("spec.proxy.ttl"));
    assert_eq!(lab.registries[0].status.proxies.as_deref(), Some("quay.io"));
}

#[test]
fn a_directory_of_the_host_is_looked_at_before_it_is_mounted() {
    let mut lab = settled(on_host("/srv/images"));
    rests(&lab);
    let registry = lab.world.named(NAME).unwrap();
    assert_eq!(registry.binds.get("/var/lib/registry").map(String::as_str), Some("/srv/images"));
    assert!(registry.mounts.is_empty() && lab.world.volumes.is_empty());
    lab.round();
    let status = &lab.registries[0].status;
    assert_eq!((status.host_path.as_deref(), status.volume.as_deref()), (Some("/srv/images"), None));

    // Again before it is replaced.
    Arc::make_mut(&mut lab.world.host_links).insert("/srv/images".into());
    lab.registries[0].edit(|s| s.delete_enabled = true);
    for _ in 0..ENOUGH {
        lab.round();
    }
    assert_eq!(told(&lab, ConditionType::Ready).1, Reason::HostPathNotAllowed);
    Arc::make_mut(&mut lab.world.host_links).clear();
    lab.settle(ENOUGH);
    rests(&lab);
}

/// Docker resolves the path of a mount again at each start: who can write to a directory above it can exchange it for a
/// link to anywhere.
#[test]
fn no_directory_is_above_or_below_one_that_another_registry_can_write_to() {
    for (first, second, allowed) in [
        ("/srv", "/srv/images", false),
        ("/srv/images", "/srv", false),
        ("/srv/images", "/srv/images", true),
        ("/srv/images", "/srv/images-2", true),
    ] {
        let other = Object::new("team-a", "other", on_host(first));
        let mut lab = Lab::new(Vec::new(), vec![other, Object::new("default", "images", on_host(second))]);
        for path in [first, second] {
            Arc::make_mut(&mut lab.world.host_directories).insert(path.into());
        }
        for _ in 0..ENOUGH {
            lab.pass_registry(0, usize::MAX);
        }
        assert_eq!(lab.world.containers.len(), 1, "the first one runs");
        for _ in 0..ENOUGH {
            lab.round();
        }
        assert_eq!(lab.world.named(NAME).is_some(), allowed, "{first} {second}");
        if !allowed {
            let conditions = &lab.registries[1].status.conditions;
            let found = condition::get(conditions, ConditionType::Stalled).expect("it is there");
            let message = &found.message;
            assert_eq!(found.reason, Reason::HostPathNotAllowed);
            assert!(
                message.contains("another Registry") && message.contains("a directory beside"),
                "{message}"
            );
            // The one that runs is not touched, and the other one takes its turn when it is gone.
            assert_eq!(lab.world.containers.len(), 1);
            lab.registries[0].deleted = true;
            lab.settle(ENOUGH);
            assert!(lab.world.named(NAME).is_some());
        }
    }
}

#[test]
fn it_is_looked_at_whenever_the_operator_is_killed() {
    for (passes, cut, _) in all_cuts() {
        let mut lab = lab(on_host("/srv/images"));
        die(&mut lab, passes, cut);
        lab.registries[0].forget();
        lab.settle(ENOUGH);
        rests(&lab);
        lab.registries[0].deleted = true;
        lab.round();
        lab.round();
        assert!(lab.world.containers.is_empty());
    }
}

#[test]
fn what_may_not_be_mounted_is_told_with_what_to_do() {
    let stalls = |path: &str, prepare: fn(&mut Lab)| {
        let mut lab = lab(on_host(path));
        prepare(&mut lab);
        for _ in 0..ENOUGH {
            lab.round();
        }
        assert!(lab.world.named(NAME).is_none(), "{path}");
        (told(&lab, ConditionType::Ready).1, told(&lab, ConditionType::Stalled).2, lab)
    };
    let (reason, message, _) = stalls("/etc", |_| {});
    assert_eq!(reason, Reason::HostPathNotAllowed);
    assert!(message.contains("--allow-host-path") && message.contains("/srv"), "{message}");

    let (reason, message, mut missing) = stalls("/srv/images/deep", |_| {});
    assert_eq!(reason, Reason::HostPathNotFound);
    assert!(message.contains("`mkdir -p /srv/images/deep`"), "{message}");
    Arc::make_mut(&mut missing.world.host_directories).insert("/srv/images/deep".into());
    missing.settle(ENOUGH);
    rests(&missing);

    let (reason, message, _) = stalls("/srv/images/deep", |lab| {
        Arc::make_mut(&mut lab.world.host_links).insert("/srv/images".into());
        Arc::make_mut(&mut lab.world.host_directories).insert("/srv/images/deep".into());
    });
    assert_eq!(reason, Reason::HostPathNotAllowed);
    assert!(message.contains("/srv/images on the Docker host is a symbolic link"), "{message}");

    let (reason, message, _) =
        stalls("/srv/images", |lab| Arc::make_mut(&mut lab.world.host_directories).clear());
    assert_eq!(reason, Reason::HostPathNotFound);
    assert!(message.contains("`mkdir -p /srv`"), "{message}");
}
