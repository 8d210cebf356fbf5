//! The planner against a model of Docker and K3s: whatever happened before, it leads to what is wanted, and stays
//! there.

mod support;

use std::collections::BTreeMap;

use localcluster_operator::{
    api::{LocalClusterSpec, RegistrySpec, local_cluster::NodeRole, names, names::ClusterNames},
    plan::steps::Step,
};
use proptest::{prelude::*, test_runner::Config};
use support::{
    check,
    interfere::Outside,
    lab::{Chance, Lab, Object},
    script::{self, Event, happen, specs},
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

fn delete(lab: &mut Lab) {
    lab.clusters.iter_mut().for_each(|c| c.deleted = true);
    lab.registries.iter_mut().for_each(|r| r.deleted = true);
    for _ in 0..4 {
        lab.round();
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
        cut_short.clusters[0].refused.clear();
        cut_short.registries[0].refused.clear();
        cut_short.settle(ENOUGH);
        same(&whole.world.normal(), &cut_short.world.normal())?;
    }

    /// An edit that is taken back leaves no trace. Host ports are the exception: one that was told is kept; and so is
    /// the version that runs, where none is named.
    #[test]
    fn there_and_back(a in specs(), mut b in specs(), rounds in 0..30usize, chance in any::<u64>()) {
        b.api.host_port = a.api.host_port;
        b.image.clone_from(&a.image);
        let mut a = a;
        a.ports.iter_mut().chain(&mut b.ports).for_each(|p| p.host_port = None);
        let mut lab = script::lab(a.clone(), chance);
        lab.settle(ENOUGH);
        let before = lab.world.normal();
        lab.clusters[0].edit(|s| *s = b);
        for _ in 0..rounds {
            lab.round();
        }
        lab.clusters[0].edit(|s| *s = a);
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
            lab.world.volumes.entry("mine".into()).or_default();
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
                Event::Rounds(_) | Event::Stranger(..) => drop(lab.round()),
            }
        }
        if given {
            lab.world.volumes.entry("mine".into()).or_default();
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

    /// Names fit, and objects of one name in two namespaces never meet; nor do two names in one namespace. What can
    /// meet is `a-b/c` with `a/b-c`, since both are written `a-b-c`: that is a NameConflict for the second.
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
        if ns != other {
            prop_assert_ne!(cluster(&ns, &a), cluster(&other, &a));
            prop_assert_ne!(registry(&ns, &a), registry(&other, &a));
        }
    }
}

/// A plan as text: each step with what it waits for, then what is in the way.
fn text(lab: &mut Lab) -> String {
    let plan = lab.look(0).plan;
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
    lab
}

#[test]
fn creation_in_full() {
    let mut spec = support::lab::spec(1);
    spec.registries.used.push(localcluster_operator::api::local_cluster::LocalRef { name: "images".into() });
    let mut lab = script::lab(spec, 0);
    lab.pass_registry(0, 0);
    insta::assert_snapshot!(text(&mut lab), @r"
    0 CreateNetwork k3d-dev (it did not exist)
    1 CreateVolume k3d-dev-server-0-state
    2 CreateVolume k3d-dev-server-0-etc
    3 CreateVolume k3d-dev-server-0-kubelet
    4 CreateVolume k3d-dev-server-0-cni
    5 CreateVolume k3d-dev-server-0-log
    6 CreateVolume k3d-dev-agent-0-state
    7 CreateVolume k3d-dev-agent-0-etc
    8 CreateVolume k3d-dev-agent-0-kubelet
    9 CreateVolume k3d-dev-agent-0-cni
    10 CreateVolume k3d-dev-agent-0-log
    NetworkReady Creating: the network k3d-dev is being made
    ControlPlaneReady ImagePulling: pulling rancher/k3s:v1.36.2-k3s1
    LoadBalancerReady ImagePulling: pulling nginx:1
    KubeconfigReady Pending:
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&mut lab), @r"
    0 CreateContainer k3d-dev-serverlb (it did not exist)
    1 Upload k3d-dev-serverlb after 0
    2 Start k3d-dev-serverlb after 1
    RegistriesReady RegistryNotReady: the Registry images is not ready:
    LoadBalancerReady Creating: k3d-dev-serverlb is being made
    ControlPlaneReady RegistryNotReady: it starts when the Registry images is ready
    AgentsReady RegistryNotReady: it starts when the Registry images is ready
    KubeconfigReady Pending:
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&mut lab), @r"
    RegistriesReady RegistryNotReady: the Registry images is not ready:
    ControlPlaneReady RegistryNotReady: it starts when the Registry images is ready
    AgentsReady RegistryNotReady: it starts when the Registry images is ready
    KubeconfigReady Pending:
    ");
    lab.pass_registry(0, usize::MAX);
    lab.pass_registry(0, usize::MAX);
    lab.pass_registry(0, usize::MAX);
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Connect k3d-images (the cluster uses the Registry images)
    1 CreateContainer k3d-dev-server-0 (it did not exist)
    2 Upload k3d-dev-server-0 after 1
    3 Start k3d-dev-server-0 after 2
    4 CreateContainer k3d-dev-agent-0 (it did not exist)
    5 Upload k3d-dev-agent-0 after 4
    6 Start k3d-dev-agent-0 after 5
    RegistriesReady RegistryNotReady: the Registry images is being connected
    ControlPlaneReady Creating: k3d-dev-server-0 is being made
    AgentsReady Creating: k3d-dev-agent-0 is being made
    KubeconfigReady Pending:
    ");
}

#[test]
fn changes_in_full() {
    let mut lab = settled(support::lab::spec(2));
    let settled = lab.clone();
    lab.clusters[0].edit(|s| s.agents.count = 1);
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Drain k3d-dev-agent-1 (it is to go)
    AgentsReady Scaling: k3d-dev-agent-1 is being taken away
    AgentsReady Draining: k3d-dev-agent-1 is being drained: 0 Pods have to go
    ");
    lab.pass(0, usize::MAX);
    lab.world.tick();
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Stop k3d-dev-agent-1
    1 DeleteNode k3d-dev-agent-1 after 0 (the cluster has fewer agents now)
    2 RemoveContainer k3d-dev-agent-1 after 1 (the cluster has fewer agents now)
    3 RemoveVolume k3d-dev-agent-1-etc after 2
    4 RemoveVolume k3d-dev-agent-1-cni after 2
    5 RemoveVolume k3d-dev-agent-1-state after 2
    6 RemoveVolume k3d-dev-agent-1-log after 2
    7 RemoveVolume k3d-dev-agent-1-kubelet after 2
    AgentsReady Scaling: k3d-dev-agent-1 is being taken away
    ");

    lab = settled.clone();
    lab.clusters[0].edit(|s| s.agents.args.push("--kubelet-arg=max-pods=50".into()));
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Drain k3d-dev-agent-0 (it is to go)
    AgentsReady Updating: k3d-dev-agent-0 is to be replaced, since its spec changed
    AgentsReady Updating: k3d-dev-agent-1 is to be replaced, since its spec changed
    AgentsReady Draining: k3d-dev-agent-0 is being drained: 0 Pods have to go
    ");
    lab.pass(0, usize::MAX);
    lab.world.tick();
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Stop k3d-dev-agent-0
    1 RemoveContainer k3d-dev-agent-0 after 0
    2 CreateContainer k3d-dev-agent-0 after 1 (its spec changed)
    3 Upload k3d-dev-agent-0 after 2
    4 Start k3d-dev-agent-0 after 3
    AgentsReady Updating: k3d-dev-agent-0 is to be replaced, since its spec changed
    AgentsReady Updating: k3d-dev-agent-1 is to be replaced, since its spec changed
    AgentsReady Creating: k3d-dev-agent-0 is being made
    ");

    lab = settled.clone();
    lab.clusters[0].edit(|s| s.ports.push(script::port("web", 80, Some(8080), Default::default())));
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Stop k3d-dev-serverlb
    1 RemoveContainer k3d-dev-serverlb after 0
    2 CreateContainer k3d-dev-serverlb after 1 (its published ports or its image changed)
    3 Upload k3d-dev-serverlb after 2
    4 Start k3d-dev-serverlb after 3
    LoadBalancerReady Creating: k3d-dev-serverlb is being made
    ");

    lab = settled.clone();
    lab.world.interfere(&Outside::RemoveNetwork("k3d-dev".into()));
    insta::assert_snapshot!(text(&mut lab), @r"
    0 CreateNetwork k3d-dev (it did not exist)
    NetworkReady Creating: the network k3d-dev is being made
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&mut lab), @r"
    0 Stop k3d-dev-serverlb
    1 RemoveContainer k3d-dev-serverlb after 0
    2 CreateContainer k3d-dev-serverlb after 1 (its published ports or its image changed)
    3 Upload k3d-dev-serverlb after 2
    4 Start k3d-dev-serverlb after 3
    5 Stop k3d-dev-server-0
    6 RemoveContainer k3d-dev-server-0 after 5
    7 CreateContainer k3d-dev-server-0 after 6 (its spec changed)
    8 Upload k3d-dev-server-0 after 7
    9 Start k3d-dev-server-0 after 8
    LoadBalancerReady Creating: k3d-dev-serverlb is being made
    ControlPlaneReady APINotAnswering: connection refused
    ControlPlaneReady Updating: k3d-dev-server-0 is to be replaced, since its spec changed
    AgentsReady Updating: k3d-dev-agent-0 is to be replaced, since its spec changed
    AgentsReady Updating: k3d-dev-agent-1 is to be replaced, since its spec changed
    ControlPlaneReady Creating: k3d-dev-server-0 is being made
    ");

    lab = settled;
    lab.world.interfere(&Outside::Visitor("k3d-dev".into()));
    lab.clusters[0].deleted = true;
    insta::assert_snapshot!(text(&mut lab), @r"
    0 RemoveContainer k3d-dev-serverlb (its object was deleted)
    1 RemoveContainer k3d-dev-agent-0 (its object was deleted)
    2 RemoveContainer k3d-dev-agent-1 (its object was deleted)
    3 RemoveContainer k3d-dev-server-0 (its object was deleted)
    4 Disconnect visitor (the cluster's network is removed)
    5 RemoveNetwork k3d-dev after 1,2,3,0,4 (its object was deleted)
    6 RemoveVolume k3d-dev-server-0-log after 1,2,3,0 (its object was deleted)
    7 RemoveVolume k3d-dev-agent-1-log after 1,2,3,0 (its object was deleted)
    8 RemoveVolume k3d-dev-agent-1-kubelet after 1,2,3,0 (its object was deleted)
    9 RemoveVolume k3d-dev-agent-0-etc after 1,2,3,0 (its object was deleted)
    10 RemoveVolume k3d-dev-server-0-etc after 1,2,3,0 (its object was deleted)
    11 RemoveVolume k3d-dev-server-0-cni after 1,2,3,0 (its object was deleted)
    12 RemoveVolume k3d-dev-server-0-state after 1,2,3,0 (its object was deleted)
    13 RemoveVolume k3d-dev-server-0-kubelet after 1,2,3,0 (its object was deleted)
    14 RemoveVolume k3d-dev-agent-0-kubelet after 1,2,3,0 (its object was deleted)
    15 RemoveVolume k3d-dev-agent-1-cni after 1,2,3,0 (its object was deleted)
    16 RemoveVolume k3d-dev-agent-0-cni after 1,2,3,0 (its object was deleted)
    17 RemoveVolume k3d-dev-agent-1-etc after 1,2,3,0 (its object was deleted)
    18 RemoveVolume k3d-dev-agent-1-state after 1,2,3,0 (its object was deleted)
    19 RemoveVolume k3d-dev-agent-0-state after 1,2,3,0 (its object was deleted)
    20 RemoveVolume k3d-dev-agent-0-log after 1,2,3,0 (its object was deleted)
    Ready Deleting: removing 21 Docker objects
    ");
}
