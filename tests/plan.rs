//! The planner against a model of Docker and K3s: whatever happened before, it leads to what is wanted, and stays
//! there.

#[path = "plan/data_loss.rs"]
mod data_loss;
#[path = "plan/in_full.rs"]
mod in_full;
#[path = "plan/joined.rs"]
mod joined;
#[path = "plan/judged.rs"]
mod judged;
#[path = "plan/kept.rs"]
mod kept;
#[path = "plan/quorum.rs"]
mod quorum;
#[path = "plan/servers.rs"]
mod servers;
#[path = "plan/subnets.rs"]
mod subnets;
mod support;

use std::{collections::BTreeMap, sync::Arc};

use in_full::text;
use localcluster_operator::{
    api::{
        LocalClusterSpec, RegistrySpec,
        host_alias::HostAlias,
        local_cluster::{ClusterState, Durability},
        names::{self, ClusterNames, Pool},
        reason::Reason,
    },
    child::state::{self, Held},
    k3s::{HOSTS_DIR, RESOLV_CONF_FILE, dns, images, load_balancer},
    plan::{
        steps::{Action, Step},
        validate::CERTIFICATES,
    },
};
use proptest::{prelude::*, test_runner::Config};
use support::model::{
    check,
    interfere::Outside,
    lab::{Chance, Lab, Object},
    script::{self, Event, happen, specs},
    world::Volume,
};

/// Rounds within which everything has to be settled: a replacement of three agents takes four each, and a node that
/// lost its password is given three minutes first.
const ENOUGH: usize = 60;

/// As many cases as fit into seconds, or as many as PROPTEST_CASES says.
fn cases(n: u32) -> Config {
    let asked = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { Config { cases: n, ..asked } }
}

fn lived(spec: LocalClusterSpec, events: &[Event], chance: u64) -> Lab {
    let mut lab = script::lab(spec, chance);
    for event in events {
        happen(&mut lab, event);
    }
    lab
}

fn same(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Result<(), TestCaseError> {
    let differences = check::differences(a, b);
    prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

fn quiet(lab: &mut Lab) -> bool {
    let done: Vec<Step> = (0..3).flat_map(|_| lab.round()).collect();
    done.is_empty() && lab.settled()
}

/// Every node's containerd has the credentials and hosts that are wanted, and no others.
fn told_of_registries(lab: &mut Lab) -> Result<(), TestCaseError> {
    let desired = lab.look(0).whole.unwrap().desired;
    let wanted = desired.registries.as_ref().unwrap();
    let certificates = wanted.files.iter().filter(|f| f.path.starts_with(CERTIFICATES));
    let hosts = wanted.merged.hosts(true).into_iter();
    let mut hosts: BTreeMap<String, String> =
        hosts.map(|(dir, text)| (format!("{HOSTS_DIR}/{dir}/hosts.toml"), text)).collect();
    hosts.extend(certificates.map(|f| (f.path.clone(), String::from_utf8(f.content.clone()).unwrap())));
    for node in desired.nodes() {
        let id = lab.world.id(&node.container.name).unwrap();
        let told = lab.world.registries_of(&id);
        prop_assert_eq!(&told, &(wanted.merged.auth(), hosts.clone()), "{}", node.container.name);
    }
    Ok(())
}

/// Every node's containerd has the images that are wanted, as the Docker host has them now.
fn has_images(lab: &mut Lab) -> Result<(), TestCaseError> {
    let desired = lab.look(0).whole.unwrap().desired;
    for node in desired.nodes() {
        let held = lab.world.images_of(&lab.world.id(&node.container.name).unwrap());
        for image in &desired.preload {
            prop_assert_eq!(
                held.get(&images::canonical(image)).map(|held| held.id.clone()),
                lab.world.image_id(image),
                "{} in {}",
                image,
                node.container.name
            );
        }
    }
    Ok(())
}

/// The cluster has the objects of the manifests that are wanted, and no others.
fn has_objects(lab: &mut Lab) -> Result<(), TestCaseError> {
    let refs = lab.look(0).whole.unwrap().refs;
    let wanted = refs.manifests.iter().flat_map(|m| m.content.as_ref().unwrap().objects.clone()).collect();
    let there: Vec<_> = lab.world.clusters.values().map(|c| &c.objects).collect();
    prop_assert_eq!(there, vec![&wanted]);
    Ok(())
}

/// All of the servers that are wanted serve, and vote where there are several, and nothing is left to do.
fn whole(lab: &mut Lab, count: i32) -> Result<(), TestCaseError> {
    lab.settle(ENOUGH);
    let count = usize::try_from(count).unwrap();
    let cluster = lab.world.clusters.values().next().unwrap();
    let votes = cluster.members.values().filter(|votes| **votes).count();
    prop_assert_eq!(votes, if cluster.etcd { count } else { 0 });
    prop_assert!(quiet(lab));
    Ok(())
}

fn delete(lab: &mut Lab) {
    lab.clusters.iter_mut().for_each(|c| c.deleted = true);
    lab.registries.iter_mut().for_each(|r| r.deleted = true);
    for _ in 0..4 {
        lab.round();
    }
}

/// A volume that consents to this namespace.
fn consenting(namespace: &str) -> Volume {
    let labels = BTreeMap::from([(names::ALLOW_NAMESPACES.to_owned(), namespace.to_owned())]);
    Volume { labels: Arc::new(labels), ..Volume::default() }
}

proptest! {
    // Lives of five servers are long.
    #![proptest_config(cases(30))]

    /// Servers come and go, and whatever happens to them, we never take a voter away that the others need (which the
    /// lab looks at in each step). Where others have taken the data of most, what is left is kept.
    #[test]
    fn servers_stay_a_majority(
        counts in prop::collection::vec((prop_oneof![Just(1), Just(3), Just(5)], 0..12usize, script::events()), 1..4),
        chance in any::<u64>(),
    ) {
        let mut lab = script::lab(support::model::lab::spec(1), chance);
        for (count, rounds, events) in &counts {
            lab.clusters[0].edit(|s| s.servers.count = *count);
            for _ in 0..*rounds {
                lab.round();
            }
            for event in events.iter().filter(|e| !matches!(e, Event::Edit(_))) {
                script::happen(&mut lab, event);
            }
        }
        lab.world.strangers_leave();
        for _ in 0..ENOUGH {
            lab.round();
        }
        let plan = lab.look(0).plan;
        if lab.world.clusters.keys().any(|incarnation| !lab.world.quorum(*incarnation)) {
            prop_assert!(!plan.problems.is_empty());
            let removes = plan.steps.iter().any(|s| matches!(s.action, Action::RemoveVolume { .. }));
            prop_assert!(!removes, "what is left is removed");
            let wanted = 0..usize::try_from(counts.last().unwrap().0).unwrap();
            let mut wanted = wanted.map(|i| format!("k3d-dev-server-{i}"));
            let left = |s: &String| lab.world.volumes.contains_key(&format!("{s}-state"));
            let voters = lab.clusters[0].status.voters.clone();
            let survivor = wanted.find(|s| left(s) && voters.contains(s));
            let told = plan.problems.iter().any(|p| p.reason == Reason::QuorumLost);
            if let Some(survivor) = survivor.filter(|_| told) {
                lab.clusters[0].request = Some(survivor);
                whole(&mut lab, counts.last().unwrap().0)?;
            }
        } else {
            whole(&mut lab, counts.last().unwrap().0)?;
        }
        delete(&mut lab);
        prop_assert!(lab.world.empty_of(&lab.clusters[0].owner("cluster")));
    }
}

proptest! {
    #![proptest_config(cases(100))]

    /// The heart of it: eventually stable reconciliation, strangers untouched, nothing doubled, nothing left.
    #[test]
    fn converges_and_stays(spec in specs(), events in script::events(), chance in any::<u64>()) {
        let mut lab = lived(spec, &events, chance);
        let strangers = lab.world.strangers();
        // With strangers in the way it comes to rest as well, as far as it gets.
        for _ in 0..ENOUGH {
            lab.round();
        }
        let rest = lab.world.normal();
        for _ in 0..3 {
            lab.round();
            let moved = check::differences(&rest, &lab.world.normal());
            prop_assert!(moved.is_empty(), "no rest: {:#?} {:#?}", moved, lab.look(0).plan.problems);
        }
        prop_assert_eq!(lab.world.strangers(), strangers);
        lab.world.strangers_leave();
        lab.settle(ENOUGH);
        check::world(&lab.world);
        told_of_registries(&mut lab)?;
        has_images(&mut lab)?;
        has_objects(&mut lab)?;
        prop_assert!(quiet(&mut lab));
        delete(&mut lab);
        prop_assert!(lab.world.empty_of(&lab.clusters[0].owner("cluster")), "{:#?}", lab.world);
        prop_assert!(lab.world.empty_of(&lab.registries[0].owner("registry")));
    }

    /// From any state, deletion leaves nothing of ours and all of others'.
    #[test]
    fn teardown_from_any_state(spec in specs(), events in script::events(), chance in any::<u64>(), keep in any::<bool>()) {
        let mut lab = lived(spec, &events, chance);
        lab.registries[0].spec.storage.retain = keep;
        let strangers = lab.world.strangers();
        let volume = lab.world.volumes.get("k3d-images").cloned();
        delete(&mut lab);
        prop_assert_eq!(lab.world.strangers(), strangers);
        prop_assert!(lab.world.empty_of(&lab.clusters[0].owner("cluster")), "{:#?}", lab.world);
        if keep {
            prop_assert_eq!(lab.world.volumes.get("k3d-images").cloned(), volume);
        } else {
            prop_assert!(lab.world.empty_of(&lab.registries[0].owner("registry")));
        }
    }

    /// A plan that is cut short anywhere leads to the same end.
    #[test]
    fn any_prefix_leads_to_the_same_end(spec in specs(), events in script::events(), chance in any::<u64>(), cut in 0..60usize) {
        let mut whole = lived(spec, &events, chance);
        whole.world.strangers_leave();
        let mut cut_short = whole.clone();
        whole.settle(ENOUGH);
        cut_short.pass_registry(0, cut);
        cut_short.pass(0, cut);
        cut_short.clusters[0].refused = Default::default();
        cut_short.registries[0].refused = Default::default();
        cut_short.settle(ENOUGH);
        same(&whole.world.normal(), &cut_short.world.normal())?;
    }

    /// An edit that is taken back leaves no trace. Host ports are the exception: one that was told is kept; and so is
    /// the version that runs, where none is named.
    #[test]
    fn there_and_back(a in specs(), mut b in specs(), rounds in 0..30usize, chance in any::<u64>(), (before, between) in (0..64u8, 0..64u8)) {
        b.api.host_port = a.api.host_port;
        b.image.clone_from(&a.image);
        let mut a = a;
        a.ports.iter_mut().chain(&mut b.ports).for_each(|p| p.host_port = None);
        let mut lab = script::lab(a.clone(), chance);
        let inputs = script::inputs(before);
        lab.inputs = inputs.clone();
        lab.settle(ENOUGH);
        let before = lab.world.normal();
        lab.inputs = script::inputs(between);
        lab.clusters[0].edit(|s| *s = b);
        for _ in 0..rounds {
            lab.round();
        }
        lab.clusters[0].edit(|s| *s = a);
        lab.inputs = inputs;
        lab.settle(ENOUGH);
        same(&lab.world.normal(), &before)?;
    }

    /// In whatever order Docker lists things, the plan is the same.
    #[test]
    fn order_of_the_listing_is_irrelevant(spec in specs(), events in script::events(), chance in any::<u64>()) {
        let mut lab = lived(spec, &events, chance);
        for deleted in [false, true] {
            lab.clusters[0].deleted = deleted;
            let told = |lab: &mut Lab, chance| {
                lab.chance = Chance(chance);
                let plan = lab.look(0).plan;
                let mut lines: Vec<_> = plan.steps.iter().map(|s| format!("{:?} {}", s.action, s.why)).collect();
                lines.extend(plan.problems.iter().map(|p| format!("{p:?}")));
                lines.extend(plan.pulls);
                lines.sort();
                lines
            };
            prop_assert_eq!(told(&mut lab, 1), told(&mut lab, 2));
        }
    }

    /// Two clusters and their registries share a host without meeting.
    #[test]
    fn neighbours_do_not_meet(a in specs(), b in specs(), chance in any::<u64>()) {
        let mut lab = script::lab(a, chance);
        lab.clusters.push(Object::new("team", "dev", LocalClusterSpec { image: None, ..b }));
        // One of two wishes for one port has to wait; here nobody wishes for a port.
        for c in &mut lab.clusters {
            c.spec.api.host_port = None;
            c.spec.ports.iter_mut().for_each(|p| p.host_port = None);
        }
        lab.registries.push(Object::new("team", "images", RegistrySpec::default()));
        lab.settle(ENOUGH);
        check::world(&lab.world);
        let survivor = lab.clusters[1].owner("cluster");
        lab.clusters[0].deleted = true;
        let before: Vec<_> = lab.world.containers.values().filter(|c| survivor.owns(&c.labels)).cloned().collect();
        (0..4).for_each(|_| drop(lab.round()));
        prop_assert!(lab.world.empty_of(&lab.clusters[0].owner("cluster")));
        let after: Vec<_> = lab.world.containers.values().filter(|c| survivor.owns(&c.labels)).cloned().collect();
        prop_assert_eq!(before, after);
    }

    /// A registry converges from any state, on its own volume or a given one, and takes up what was retained.
    #[test]
    fn registries(events in script::events(), chance in any::<u64>(), retain in any::<bool>(), given in any::<bool>()) {
        let mut spec = RegistrySpec::default();
        spec.storage.retain = retain;
        let mut lab = Lab::new(vec![], vec![Object::new("default", "images", spec)]);
        lab.chance.0 = chance;
        if given {
            lab.registries[0].spec.storage.volume_name = Some("mine".into());
            lab.world.volumes.insert("mine".into(), consenting("default"));
        }
        for event in &events {
            match event {
                Event::Outside(pick) => {
                    let possible = lab.world.possible();
                    if let Some(act) = possible.get(usize::from(*pick) % possible.len().max(1)) {
                        lab.world.interfere(act);
                    }
                }
                Event::Crash(n, _) => drop(lab.pass_registry(0, usize::from(*n))),
                Event::Edit(_) => lab.registries[0].edit(|s| s.delete_enabled = !s.delete_enabled),
                Event::Rounds(_) | Event::Stranger(..) | Event::Inputs(_) => drop(lab.round()),
            }
        }
        if given {
            lab.world.volumes.entry("mine".into()).or_insert_with(|| consenting("default"));
        }
        lab.settle(ENOUGH);
        prop_assert!(quiet(&mut lab));
        let volumes = lab.world.volumes.clone();
        lab.registries[0].deleted = true;
        (0..4).for_each(|_| drop(lab.round()));
        if retain || given {
            prop_assert_eq!(&lab.world.volumes, &volumes);
        } else {
            prop_assert!(lab.world.volumes.is_empty());
        }
        // Somebody else's may have been on its network.
        lab.world.strangers_leave();
        prop_assert!(lab.world.containers.is_empty());
        // Made anew under the same name, as another object: what was retained is taken up, and goes with it.
        lab.registries = vec![Object::new("default", "images", RegistrySpec::default())];
        lab.settle(ENOUGH);
        lab.registries[0].deleted = true;
        (0..4).for_each(|_| drop(lab.round()));
        prop_assert!(!lab.world.volumes.contains_key("k3d-images"));
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// Names fit, and no two objects ever meet, wherever their hyphens are.
    #[test]
    fn names_fit_and_differ(a in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", b in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", ns in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", other in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
        let cluster = |ns: &str, name: &str| names::cluster(ns, name, None);
        let registry = |ns: &str, name: &str| names::registry(ns, name, None);
        for name in [cluster(&ns, &a), cluster("default", &a)] {
            let names = ClusterNames::new(name);
            for pool in [Pool::Servers, Pool::Agents, Pool::Named("p".repeat(20))] {
                let node = names.node_of(&pool, 31);
                prop_assert!(node.len() <= 63 && names.load_balancer().len() <= 63);
                prop_assert_eq!(names.parse_node(&node), Some((pool, 31)));
            }
        }
        prop_assert!(registry(&ns, &a).len() <= 63);
        if a != b {
            prop_assert_ne!(cluster(&ns, &a), cluster(&ns, &b));
            prop_assert_ne!(registry(&ns, &a), registry(&ns, &b));
        }
        let (long, short) = (format!("{a}-{ns}"), format!("{ns}-{b}"));
        prop_assert_ne!(cluster(&long, &b), cluster(&a, &short));
        prop_assert_ne!(registry(&long, &b), registry(&a, &short));
        if ns != other {
            prop_assert_ne!(cluster(&ns, &a), cluster(&other, &a));
            prop_assert_ne!(registry(&ns, &a), registry(&other, &a));
        }
    }
}

fn settled(spec: LocalClusterSpec) -> Lab {
    let mut lab = script::lab(spec, 0);
    lab.settle(ENOUGH);
    // Where nothing is published, nobody waits for kube-proxies.
    lab.world.tick();
    // However many steps it took: what follows is listed in the same order.
    lab.chance = Chance(0);
    lab
}
