//! The planner against a model of Docker and K3s: whatever happened before, it leads to what is wanted, and stays
//! there.

#[path = "plan/servers.rs"]
mod servers;
mod support;

use std::{collections::BTreeMap, sync::Arc};

use localcluster_operator::{
    api::{
        LocalClusterSpec, RegistrySpec,
        host_alias::HostAlias,
        local_cluster::{ClusterState, NodeRole},
        names::{self, ClusterNames},
        reason::Reason,
    },
    child::state::{self, Held},
    k3s::{HOSTS_DIR, dns, images},
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
            let node = names.node(NodeRole::Agent, 31);
            prop_assert!(node.len() <= 63 && names.load_balancer().len() <= 63);
            prop_assert_eq!(names.parse_node(&node), Some((NodeRole::Agent, 31)));
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

/// A plan as text: each step with what it waits for, then what is in the way.
fn text(lab: &Lab) -> String {
    // Not shuffled: what happened before would decide about the order.
    let observed = lab.world.observe(&lab.clusters[0].owner("cluster"));
    let plan = lab.look_at(0, observed).plan;
    let mut out = String::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let after: Vec<_> = step.after.iter().map(ToString::to_string).collect();
        let after = if after.is_empty() { String::new() } else { format!(" after {}", after.join(",")) };
        let why = if step.why.is_empty() { String::new() } else { format!(" ({})", step.why) };
        out.push_str(&format!("{i} {}{after}{why}\n", step.action));
    }
    for problem in &plan.problems {
        out.push_str(&format!("{} {}: {}\n", problem.condition, problem.reason, problem.message));
    }
    out.lines().map(|l| l.trim_end().to_owned() + "\n").collect()
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

#[test]
fn creation_in_full() {
    let mut spec = support::model::lab::spec(1);
    spec.registries.used.push(localcluster_operator::api::local_cluster::RegistryRef {
        name: "images".into(),
        ..Default::default()
    });
    let mut lab = script::lab(spec, 0);
    lab.pass_registry(0, 0);
    insta::assert_snapshot!(text(&lab), @r"
    0 CreateNetwork k3d-dev (it did not exist)
    1 CreateVolume k3d-dev-server-0-state
    2 CreateVolume k3d-dev-server-0-etc
    3 CreateVolume k3d-dev-server-0-kubelet
    4 CreateVolume k3d-dev-server-0-cni
    5 CreateVolume k3d-dev-server-0-log
    NetworkReady Creating: creating the network k3d-dev
    ControlPlaneReady ImagePulling: pulling rancher/k3s:v1.36.2-k3s1
    LoadBalancerReady ImagePulling: pulling nginx:1
    KubeconfigReady Pending:
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&lab), @r"
    0 CreateContainer k3d-dev-serverlb (it did not exist)
    1 Upload k3d-dev-serverlb after 0
    2 Start k3d-dev-serverlb after 1
    3 CreateContainer k3d-dev-server-0 (it did not exist)
    4 CreateVolume k3d-dev-agent-0-state after 3
    5 CreateVolume k3d-dev-agent-0-etc after 3
    6 CreateVolume k3d-dev-agent-0-kubelet after 3
    7 CreateVolume k3d-dev-agent-0-cni after 3
    8 CreateVolume k3d-dev-agent-0-log after 3
    9 CreateContainer k3d-dev-agent-0 after 3,4,5,6,7,8 (it did not exist)
    10 Upload k3d-dev-agent-0 after 9
    RegistriesReady RegistryNotReady: waiting for the Registry images: it has no container yet
    LoadBalancerReady Creating: creating k3d-dev-serverlb
    ControlPlaneReady Creating: creating k3d-dev-server-0
    AgentsReady Creating: creating k3d-dev-agent-0
    AgentsReady RegistryNotReady: waiting for the Registry images before the first start: it has no host port yet
    AgentsReady APINotAnswering: the API of the cluster does not respond: the readiness of the agents is unknown
    KubeconfigReady Pending:
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&lab), @r"
    RegistriesReady RegistryNotReady: waiting for the Registry images: it has no container yet
    ControlPlaneReady RegistryNotReady: waiting for the Registry images before the first start: it has no host port yet
    AgentsReady RegistryNotReady: waiting for the Registry images before the first start: it has no host port yet
    AgentsReady APINotAnswering: the API of the cluster does not respond: the readiness of the agents is unknown
    KubeconfigReady Pending:
    ");
    lab.pass_registry(0, usize::MAX);
    lab.pass_registry(0, usize::MAX);
    lab.pass_registry(0, usize::MAX);
    insta::assert_snapshot!(text(&lab), @r"
    0 Connect k3d-images (the cluster uses the Registry images)
    1 Upload k3d-dev-server-0
    2 Start k3d-dev-server-0 after 1
    3 Upload k3d-dev-agent-0
    4 Start k3d-dev-agent-0 after 3
    RegistriesReady RegistryNotReady: connecting the Registry images to the network of the cluster
    ControlPlaneReady Creating: creating k3d-dev-server-0
    AgentsReady Creating: creating k3d-dev-agent-0
    AgentsReady APINotAnswering: the API of the cluster does not respond: the readiness of the agents is unknown
    KubeconfigReady Pending:
    ");
}

/// What is kept inside the cluster follows the registries, comes back, and is somebody else's where they wrote it.
#[test]
fn names_and_hosting_follow_the_registries() {
    let mut spec = support::model::lab::spec(0);
    let images = || localcluster_operator::api::local_cluster::RegistryRef {
        name: "images".into(),
        ..Default::default()
    };
    spec.registries.used.push(images());
    let mut lab = settled(spec);
    let kept = |lab: &Lab, key| lab.world.clusters[&0].config.get(&key).map(|held| held.content.clone());
    let address = |lab: &Lab| {
        let container = lab.world.named("k3d-images").unwrap();
        container.networks.values().find(|p| p.name == "k3d-dev").unwrap().ip.unwrap()
    };
    let names = dns::parse(&kept(&lab, state::DNS).unwrap());
    assert_eq!(
        names,
        [
            ("host.k3d.internal".to_owned(), [172, 31, 0, 1].into()),
            ("k3d-images".to_owned(), address(&lab).into())
        ]
        .into()
    );
    let port = lab.registries[0].status.host_port.unwrap();
    assert!(kept(&lab, state::REGISTRY_HOSTING).unwrap().contains(&format!("host: \"localhost:{port}\"")));

    let before = lab.world.normal();
    lab.world.interfere(&Outside::DeleteConfig);
    insta::assert_snapshot!(text(&lab), @r"
    0 SetConfig coredns-custom (it did not exist)
    1 SetConfig local-registry-hosting (it did not exist)
    RegistriesReady Updating: updating the ConfigMap kube-system/coredns-custom in the cluster
    RegistriesReady Updating: updating the ConfigMap kube-public/local-registry-hosting in the cluster
    ");
    lab.settle(ENOUGH);
    assert_eq!(lab.world.normal(), before);

    lab.clusters[0].edit(|s| s.registries.used.clear());
    lab.settle(ENOUGH);
    assert_eq!(kept(&lab, state::REGISTRY_HOSTING), None);
    assert_eq!(dns::parse(&kept(&lab, state::DNS).unwrap()).len(), 1);

    let theirs = Held { content: "theirs".into(), ours: false };
    lab.world.clusters.get_mut(&0).unwrap().config.insert(state::REGISTRY_HOSTING, theirs);
    lab.clusters[0].edit(|s| s.registries.used.push(images()));
    lab.settle(ENOUGH);
    assert_eq!(kept(&lab, state::REGISTRY_HOSTING).as_deref(), Some("theirs"));
    assert_eq!(lab.look(0).plan.notes.len(), 1);
}

/// Addresses too are kept, in whatever order the registries come back.
#[test]
fn registries_that_are_made_anew_get_their_addresses_back() {
    let mut spec = support::model::lab::spec(0);
    for name in ["images", "more"] {
        let name = name.into();
        spec.registries
            .used
            .push(localcluster_operator::api::local_cluster::RegistryRef { name, ..Default::default() });
    }
    let mut lab = script::lab(spec, 0);
    lab.registries.push(Object::new("default", "more", RegistrySpec::default()));
    lab.settle(ENOUGH);
    let addresses = |lab: &Lab| {
        ["k3d-images", "k3d-more"].map(|name| {
            let places = lab.world.named(name).unwrap().networks.values();
            places.filter(|p| p.name == "k3d-dev").map(|p| p.ip).next().unwrap()
        })
    };
    let before = addresses(&lab);
    for name in ["k3d-images", "k3d-more"] {
        lab.world.interfere(&Outside::Remove(name.into()));
    }
    // The second one is faster this time.
    lab.pass_registry(1, usize::MAX);
    lab.pass_registry(1, usize::MAX);
    lab.pass(0, usize::MAX);
    lab.settle(ENOUGH);
    assert_eq!(addresses(&lab), before);
}

/// The status was lost, and nothing told of a chosen port but the load balancer, which was replaced for another one of
/// its ports: an operator that ended just then chose anew.
#[test]
fn a_chosen_port_is_told_before_the_load_balancer_that_has_it_is_replaced() {
    let mut lab = script::lab(support::model::lab::spec(1), 0);
    let web = |name: &str| serde_json::from_value(serde_json::json!({"name": name, "port": 80})).unwrap();
    lab.clusters[0].edit(|s| s.ports = vec![web("web")]);
    lab.settle(ENOUGH);
    let chosen = |lab: &Lab| {
        let status = &lab.clusters[0].status;
        (status.api_port.clone(), status.ports.iter().find(|p| p.name == "web").cloned())
    };
    let before = chosen(&lab);
    assert!(before.0.is_some() && before.1.is_some());
    lab.clusters[0].edit(|s| s.ports.push(web("more")));
    lab.clusters[0].forget();
    lab.pass(0, 2);
    assert!(lab.world.named("k3d-dev-serverlb").is_none(), "the step that this is about");
    assert_eq!(chosen(&lab), before);
    lab.settle(ENOUGH);
    assert_eq!(chosen(&lab), before);
}

#[test]
fn host_aliases_replace_the_nodes_and_are_told_to_pods_as_they_run() {
    let mut lab = settled(support::model::lab::spec(2));
    let names = |lab: &Lab| {
        let kept = lab.world.clusters[&0].config.get(&state::DNS).unwrap();
        dns::parse(&kept.content).into_iter().map(|(name, ip)| format!("{name} {ip}")).collect::<Vec<_>>()
    };
    let containers = |lab: &Lab| {
        let of = |name: &str| lab.world.id(&format!("k3d-dev-{name}")).unwrap();
        ["server-0", "agent-0", "agent-1", "serverlb"].map(of)
    };
    let alias = |ip: &str| HostAlias { ip: ip.into(), hostnames: vec!["db.internal".into()] };
    let mut before = containers(&lab);
    for ip in ["10.0.0.5", "2001:db8::5"] {
        lab.clusters[0].edit(|s| s.host_aliases = vec![alias(ip)]);
        lab.settle(ENOUGH);
        assert_eq!(names(&lab), [format!("db.internal {ip}"), "host.k3d.internal 172.31.0.1".into()]);
        let after = containers(&lab);
        let replaced = [0, 1, 2, 3].map(|i| before[i] != after[i]);
        assert_eq!(replaced, [true, true, true, false], "{before:?} {after:?}");
        before = after;
    }
    lab.clusters[0].edit(|s| s.host_aliases.clear());
    lab.settle(ENOUGH);
    assert_eq!(names(&lab), ["host.k3d.internal 172.31.0.1"]);
}

#[test]
fn changes_in_full() {
    let mut lab = settled(support::model::lab::spec(2));
    let settled = lab.clone();
    lab.clusters[0].edit(|s| s.agents.count = 1);
    insta::assert_snapshot!(text(&lab), @r"
    0 Drain k3d-dev-agent-1 (to replace or remove it)
    AgentsReady Scaling: removing k3d-dev-agent-1
    AgentsReady Draining: draining k3d-dev-agent-1: 0 pods left to evict
    ");
    lab.pass(0, usize::MAX);
    lab.world.tick();
    insta::assert_snapshot!(text(&lab), @r"
    0 Stop k3d-dev-agent-1
    1 DeleteNode k3d-dev-agent-1 after 0 (it is a surplus agent)
    2 RemoveContainer k3d-dev-agent-1 after 1 (it is a surplus agent)
    3 RemoveVolume k3d-dev-agent-1-cni after 2
    4 RemoveVolume k3d-dev-agent-1-etc after 2
    5 RemoveVolume k3d-dev-agent-1-kubelet after 2
    6 RemoveVolume k3d-dev-agent-1-log after 2
    7 RemoveVolume k3d-dev-agent-1-state after 2
    AgentsReady Scaling: removing k3d-dev-agent-1
    ");

    lab = settled.clone();
    lab.clusters[0].edit(|s| s.agents.args.push("--kubelet-arg=max-pods=50".into()));
    insta::assert_snapshot!(text(&lab), @r"
    0 Drain k3d-dev-agent-0 (to replace or remove it)
    AgentsReady Updating: replacing k3d-dev-agent-0: its spec changed
    AgentsReady Updating: replacing k3d-dev-agent-1: its spec changed
    AgentsReady Draining: draining k3d-dev-agent-0: 0 pods left to evict
    ");
    lab.pass(0, usize::MAX);
    lab.world.tick();
    insta::assert_snapshot!(text(&lab), @r"
    0 Stop k3d-dev-agent-0
    1 RemoveContainer k3d-dev-agent-0 after 0
    2 CreateContainer k3d-dev-agent-0 after 1 (its spec changed)
    3 Expect k3d-dev-agent-0 after 2
    4 Upload k3d-dev-agent-0 after 3
    5 Start k3d-dev-agent-0 after 4
    AgentsReady Updating: replacing k3d-dev-agent-0: its spec changed
    AgentsReady Updating: replacing k3d-dev-agent-1: its spec changed
    AgentsReady Creating: creating k3d-dev-agent-0
    ");

    lab = settled.clone();
    lab.clusters[0].edit(|s| s.ports.push(script::port("web", 80, Some(8080), Default::default())));
    insta::assert_snapshot!(text(&lab), @r"
    0 Stop k3d-dev-serverlb
    1 RemoveContainer k3d-dev-serverlb after 0
    2 CreateContainer k3d-dev-serverlb after 1 (its published ports or its image changed)
    3 Upload k3d-dev-serverlb after 2
    4 Start k3d-dev-serverlb after 3
    LoadBalancerReady Updating: replacing k3d-dev-serverlb because its published ports or its image changed: Docker unpublishes 1 port and publishes 2 ports, one after the other; no port responds meanwhile, including that of the API
    LoadBalancerReady Creating: creating k3d-dev-serverlb
    ");

    lab = settled.clone();
    lab.world.interfere(&Outside::RemoveNetwork("k3d-dev".into()));
    insta::assert_snapshot!(text(&lab), @r"
    0 CreateNetwork k3d-dev (it did not exist)
    NetworkReady Creating: creating the network k3d-dev
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&lab), @r"
    0 Stop k3d-dev-serverlb
    1 RemoveContainer k3d-dev-serverlb after 0
    2 CreateContainer k3d-dev-serverlb after 1 (its published ports or its image changed)
    3 Upload k3d-dev-serverlb after 2
    4 Start k3d-dev-serverlb after 3
    5 Stop k3d-dev-server-0
    6 RemoveContainer k3d-dev-server-0 after 5
    7 CreateContainer k3d-dev-server-0 after 6 (its spec changed)
    8 Expect k3d-dev-server-0 after 7
    9 Upload k3d-dev-server-0 after 8
    10 Start k3d-dev-server-0 after 9
    LoadBalancerReady Updating: replacing k3d-dev-serverlb because its published ports or its image changed: Docker unpublishes 1 port and publishes 1 port, one after the other; no port responds meanwhile, including that of the API
    LoadBalancerReady Creating: creating k3d-dev-serverlb
    ControlPlaneReady APINotAnswering: connection refused
    AgentsReady APINotAnswering: the API of the cluster does not respond: the readiness of the agents is unknown
    ControlPlaneReady Updating: replacing k3d-dev-server-0: its spec changed
    AgentsReady Updating: replacing k3d-dev-agent-0: its spec changed
    AgentsReady Updating: replacing k3d-dev-agent-1: its spec changed
    ControlPlaneReady Creating: creating k3d-dev-server-0
    ");

    lab = settled;
    lab.world.interfere(&Outside::Visitor("k3d-dev".into()));
    lab.clusters[0].deleted = true;
    insta::assert_snapshot!(text(&lab), @r"
    0 RemoveContainer k3d-dev-agent-0 (the object was deleted)
    1 RemoveContainer k3d-dev-agent-1 (the object was deleted)
    2 RemoveContainer k3d-dev-server-0 (the object was deleted)
    3 RemoveContainer k3d-dev-serverlb (the object was deleted)
    4 Disconnect visitor (the network of the cluster is being removed)
    5 RemoveNetwork k3d-dev after 0,1,2,3,4 (the object was deleted)
    6 RemoveVolume k3d-dev-agent-0-cni after 0,1,2,3 (the object was deleted)
    7 RemoveVolume k3d-dev-agent-0-etc after 0,1,2,3 (the object was deleted)
    8 RemoveVolume k3d-dev-agent-0-kubelet after 0,1,2,3 (the object was deleted)
    9 RemoveVolume k3d-dev-agent-0-log after 0,1,2,3 (the object was deleted)
    10 RemoveVolume k3d-dev-agent-0-state after 0,1,2,3 (the object was deleted)
    11 RemoveVolume k3d-dev-agent-1-cni after 0,1,2,3 (the object was deleted)
    12 RemoveVolume k3d-dev-agent-1-etc after 0,1,2,3 (the object was deleted)
    13 RemoveVolume k3d-dev-agent-1-kubelet after 0,1,2,3 (the object was deleted)
    14 RemoveVolume k3d-dev-agent-1-log after 0,1,2,3 (the object was deleted)
    15 RemoveVolume k3d-dev-agent-1-state after 0,1,2,3 (the object was deleted)
    16 RemoveVolume k3d-dev-server-0-cni after 0,1,2,3 (the object was deleted)
    17 RemoveVolume k3d-dev-server-0-etc after 0,1,2,3 (the object was deleted)
    18 RemoveVolume k3d-dev-server-0-kubelet after 0,1,2,3 (the object was deleted)
    19 RemoveVolume k3d-dev-server-0-log after 0,1,2,3 (the object was deleted)
    20 RemoveVolume k3d-dev-server-0-state after 0,1,2,3 (the object was deleted)
    Ready Deleting: removing 21 Docker objects
    ");
}
