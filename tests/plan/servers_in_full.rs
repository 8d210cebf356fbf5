//! The whole story of servers that are added, removed and replaced, as text.

use super::*;

#[test]
fn servers_in_full() {
    let mut lab = settled(support::model::lab::spec(0));
    let story = |lab: &mut Lab| {
        let mut lines = Vec::new();
        for _ in 0..ENOUGH {
            if lab.settled() {
                break;
            }
            lines.extend(lab.look(0).plan.problems.first().map(|p| format!("{}: {}", p.reason, p.message)));
            let steps = lab.pass(0, usize::MAX);
            lines.extend(
                steps.iter().filter(|s| !s.why.is_empty()).map(|s| format!("  {} ({})", s.action, s.why)),
            );
            lab.world.tick();
        }
        lines.dedup();
        lines.join("\n")
    };
    lab.clusters[0].edit(|s| s.servers.count = 3);
    insta::assert_snapshot!(story(&mut lab), @r"
    Joining: waiting for k3d-dev-server-0 to become an etcd voter before k3d-dev-server-1 joins
      CreateContainer k3d-dev-server-0 (its spec changed)
    Creating: creating k3d-dev-server-1
      CreateContainer k3d-dev-server-1 (it did not exist)
    NodeStarting: waiting for k3d-dev-server-1 to register as a Node
      CreateContainer k3d-dev-server-2 (it did not exist)
    NodeNotReady: k3d-dev-server-1 is not Ready: kubelet is silent
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
    ");
    let three = lab.clone();
    lab.clusters[0].edit(|s| s.servers.count = 1);
    insta::assert_snapshot!(story(&mut lab), @r"
    Updating: updating k3d-dev-serverlb
      Drain k3d-dev-server-2 (to replace or remove it)
      Upload k3d-dev-serverlb (its configuration changed)
    ScalingServers: removing k3d-dev-server-2
      LeaveEtcd k3d-dev-server-2 (it is a surplus server)
    ScalingServers: removing k3d-dev-server-2
      DeleteNode k3d-dev-server-2 (it is a surplus server)
      RemoveContainer k3d-dev-server-2 (it is a surplus server)
    ScalingServers: removing k3d-dev-server-1
      Drain k3d-dev-server-1 (to replace or remove it)
    ScalingServers: removing k3d-dev-server-1
      LeaveEtcd k3d-dev-server-1 (it is a surplus server)
    ScalingServers: removing k3d-dev-server-1
      DeleteNode k3d-dev-server-1 (it is a surplus server)
      RemoveContainer k3d-dev-server-1 (it is a surplus server)
    ");

    lab = three.clone();
    lab.clusters[0].edit(|s| s.image = Some("rancher/k3s:v1.36.3-k3s1".into()));
    insta::assert_snapshot!(story(&mut lab), @r"
    Upgrading: upgrading k3d-dev-server-0 to the image rancher/k3s:v1.36.3-k3s1
      Drain k3d-dev-server-0 (to replace or remove it)
    Updating: updating k3d-dev-serverlb
      Exec k3d-dev-server-0 (to save an etcd snapshot before the upgrade)
      Upload k3d-dev-serverlb (its configuration changed)
      CreateContainer k3d-dev-server-0 (its spec changed)
    Updating: k3d-dev-server-0 is cordoned; uncordoning
      Drain k3d-dev-server-1 (to replace or remove it)
      Uncordon k3d-dev-server-0 (it is ready for Pods again)
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
      CreateContainer k3d-dev-server-1 (its spec changed)
    Updating: k3d-dev-server-1 is cordoned; uncordoning
      Uncordon k3d-dev-server-1 (it is ready for Pods again)
      Drain k3d-dev-server-2 (to replace or remove it)
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
      CreateContainer k3d-dev-server-2 (its spec changed)
    Updating: k3d-dev-server-2 is cordoned; uncordoning
      Uncordon k3d-dev-server-2 (it is ready for Pods again)
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
    ");

    lab = three.clone();
    lose_most(&mut lab);
    insta::assert_snapshot!(text(&lab), @r"
    0 Upload k3d-dev-serverlb (its configuration changed)
    1 Signal k3d-dev-serverlb after 0
    2 Upload k3d-dev-serverlb after 1
    LoadBalancerReady Updating: updating k3d-dev-serverlb
    ControlPlaneReady QuorumLost: the data of 2 of 3 servers is lost (k3d-dev-server-1, k3d-dev-server-2): the remaining servers (k3d-dev-server-0) have no etcd quorum; restore the lost volumes, or accept the loss of what only they stored with the annotation localcluster.dev/reset-quorum=k3d-dev-server-0
    ControlPlaneReady Joining: waiting for the API of the cluster before k3d-dev-server-1 joins
    ControlPlaneReady Joining: waiting for the API of the cluster before k3d-dev-server-2 joins
    ");

    lab.clusters[0].request = Some("k3d-dev-server-1".into());
    insta::assert_snapshot!(text(&lab), @r"
    0 Upload k3d-dev-serverlb (its configuration changed)
    1 Signal k3d-dev-serverlb after 0
    2 Upload k3d-dev-serverlb after 1
    LoadBalancerReady Updating: updating k3d-dev-serverlb
    ControlPlaneReady QuorumLost: the data of 2 of 3 servers is lost (k3d-dev-server-1, k3d-dev-server-2): the remaining servers (k3d-dev-server-0) have no etcd quorum; restore the lost volumes, or change the annotation localcluster.dev/reset-quorum from k3d-dev-server-1 to one of k3d-dev-server-0
    ControlPlaneReady Joining: waiting for the API of the cluster before k3d-dev-server-1 joins
    ControlPlaneReady Joining: waiting for the API of the cluster before k3d-dev-server-2 joins
    ");
    lab.clusters[0].request = Some("k3d-dev-server-0".into());
    insta::assert_snapshot!(story(&mut lab), @r"
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
      CreateContainer k3d-dev-server-0 (to reset etcd)
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
    Joining: waiting for the API of the cluster before k3d-dev-server-1 joins
      CreateContainer k3d-dev-server-0 (its spec changed)
    Updating: updating k3d-dev-serverlb
      DeleteNode k3d-dev-server-2 (its data is lost)
      DeleteNode k3d-dev-server-1 (its data is lost)
      Upload k3d-dev-serverlb (its configuration changed)
    Creating: creating k3d-dev-server-1
      CreateContainer k3d-dev-server-1 (it did not exist)
    NodeStarting: waiting for k3d-dev-server-1 to register as a Node
      CreateContainer k3d-dev-server-2 (it did not exist)
    NodeNotReady: k3d-dev-server-1 is not Ready: kubelet is silent
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
    Updating: updating k3d-dev-serverlb
      Upload k3d-dev-serverlb (its configuration changed)
    ");
    assert_eq!(lab.clusters[0].status.quorum_reset.as_deref(), Some("k3d-dev-server-0"));
    // The annotation that stays does nothing when it happens again.
    lose_most(&mut lab);
    insta::assert_snapshot!(text(&lab), @r"
    0 Upload k3d-dev-serverlb (its configuration changed)
    1 Signal k3d-dev-serverlb after 0
    2 Upload k3d-dev-serverlb after 1
    LoadBalancerReady Updating: updating k3d-dev-serverlb
    ControlPlaneReady QuorumLost: the data of 2 of 3 servers is lost (k3d-dev-server-1, k3d-dev-server-2): the remaining servers (k3d-dev-server-0) have no etcd quorum; restore the lost volumes, or remove the annotation localcluster.dev/reset-quorum, which was carried out before, and set it to one of k3d-dev-server-0
    ControlPlaneReady Joining: waiting for the API of the cluster before k3d-dev-server-1 joins
    ControlPlaneReady Joining: waiting for the API of the cluster before k3d-dev-server-2 joins
    ");

    lab = three;
    lab.clusters[0].edit(|s| s.state = ClusterState::Stopped);
    // The one that leads etcd waits for another that it hands that to.
    insta::assert_snapshot!(text(&lab), @r"
    0 Stop k3d-dev-server-0 (spec.state is Stopped)
    1 Stop k3d-dev-server-1 after 0 (spec.state is Stopped)
    2 Stop k3d-dev-server-2 after 1 (spec.state is Stopped)
    3 Stop k3d-dev-serverlb after 2 (spec.state is Stopped)
    ControlPlaneReady Stopping: stopping k3d-dev-server-0
    ControlPlaneReady Stopping: stopping k3d-dev-server-1
    ControlPlaneReady Stopping: stopping k3d-dev-server-2
    ControlPlaneReady Stopping: stopping k3d-dev-serverlb
    ");
    insta::assert_snapshot!(story(&mut lab), @r"
    Stopping: stopping k3d-dev-server-0
      Stop k3d-dev-server-0 (spec.state is Stopped)
      Stop k3d-dev-server-1 (spec.state is Stopped)
      Stop k3d-dev-server-2 (spec.state is Stopped)
      Stop k3d-dev-serverlb (spec.state is Stopped)
    ");
    for server in 0..3 {
        let name = format!("k3d-dev-server-{server}");
        assert_eq!(
            lab.world.named(&name).unwrap().state,
            localcluster_operator::docker::engine::State::Exited
        );
    }
    assert!(quiet(&mut lab));
    lab.clusters[0].edit(|s| s.state = ClusterState::Running);
    insta::assert_snapshot!(story(&mut lab), @r"
    ContainerNotRunning: k3d-dev-serverlb is not running (exit code 0)
      Start k3d-dev-server-1 (it was not running (exit code 0))
      Start k3d-dev-server-0 (it was not running (exit code 0))
      Start k3d-dev-server-2 (it was not running (exit code 0))
      Start k3d-dev-serverlb (it was not running (exit code 0))
    ");
}
