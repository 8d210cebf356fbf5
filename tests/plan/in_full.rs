//! Whole plans as text, in the order of their steps.

use super::*;

/// A plan as text: each step with what it waits for, then what is in the way.
pub(super) fn text(lab: &Lab) -> String {
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
    KubeconfigReady Pending: the servers have not written it yet
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
    KubeconfigReady Pending: the servers have not written it yet
    ");
    lab.pass(0, usize::MAX);
    insta::assert_snapshot!(text(&lab), @r"
    RegistriesReady RegistryNotReady: waiting for the Registry images: it has no container yet
    ControlPlaneReady RegistryNotReady: waiting for the Registry images before the first start: it has no host port yet
    AgentsReady RegistryNotReady: waiting for the Registry images before the first start: it has no host port yet
    AgentsReady APINotAnswering: the API of the cluster does not respond: the readiness of the agents is unknown
    KubeconfigReady Pending: the servers have not written it yet
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
    KubeconfigReady Pending: the servers have not written it yet
    ");
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
    4 Disconnect visitor (the network is being removed)
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

/// The load balancer is restarted, since its container has the resolvers that the host had at its start; nodes are not.
#[test]
fn a_load_balancer_gets_the_new_resolvers_of_the_host() {
    let mut lab = settled(support::model::lab::spec(1));
    let starts = |lab: &Lab| -> BTreeMap<String, Option<i64>> {
        lab.world.containers.values().map(|c| (c.name.clone(), c.started)).collect()
    };
    let (normal, before) = (lab.world.normal(), starts(&lab));
    lab.world.interfere(&Outside::ChangeResolvers);
    insta::assert_snapshot!(text(&lab), @r"
    0 Stop k3d-dev-serverlb
    1 Start k3d-dev-serverlb after 0 (the resolvers of the Docker host changed)
    LoadBalancerReady Updating: restarting k3d-dev-serverlb: the resolvers of the Docker host changed, and Docker passes them to a container at its start
    ");
    lab.settle(ENOUGH);
    assert_eq!(lab.world.normal(), normal);
    let after = starts(&lab);
    let changed: Vec<_> =
        after.iter().filter(|(name, started)| before[*name] != **started).map(|(n, _)| n).collect();
    assert_eq!(changed, ["k3d-dev-serverlb"]);
}
