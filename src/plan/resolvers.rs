//! Resolvers of the Docker host, which the load balancer forwards DNS queries to through the resolver of its container.
//!
//! Docker reads the host's `resolv.conf` once when a container starts and never updates the resolver of a running one:
//! libnetwork sets its servers in `startResolver`, once in the life of a sandbox, also when networks are connected and
//! disconnected. So a load balancer that started with other resolvers is restarted, which takes about a second; nodes
//! keep running. The host's file is not visible to the operator, but Docker passes it to a container that starts on the
//! default network.

use std::collections::BTreeSet;

use super::{
    desired::Desired,
    observed::Reached,
    owner::Owner,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, names, reason::Reason},
    docker::spec::{ContainerSpec, RestartPolicy, Role},
};

/// The file in a container on the default network.
pub const FILE: &str = "/etc/resolv.conf";

/// Returns the name of the temporary container in which the file is read.
pub fn helper_name(balancer: &str) -> String {
    format!("{balancer}-resolvers")
}

/// Returns that container. Without the label of the owner's name its events concern nobody, since each of them would
/// cause another look at the cluster; the others let a deletion of the cluster remove one that an interrupted operator
/// left.
pub fn helper(owner: &Owner, balancer: &str, image: &str) -> ContainerSpec {
    let mut labels = owner.labels();
    labels.remove(names::OWNER);
    ContainerSpec {
        labels,
        command: vec!["true".to_owned()],
        restart_policy: RestartPolicy::No,
        ..ContainerSpec::bare(helper_name(balancer), Role::LoadBalancer, image)
    }
}

/// Parses the resolvers. Their order is ignored: a file that only lists them in another order changes too little for a
/// restart.
pub fn parse(file: &str) -> BTreeSet<String> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next().map(str::to_owned)).flatten()
    };
    file.lines().filter_map(address).collect()
}

/// Plans the restart of a running load balancer, which is otherwise as desired, if the host's resolvers changed since
/// its start.
pub fn plan(plan: &mut Plan, desired: &Desired, observed: &Reached) -> Option<usize> {
    let spec = &desired.load_balancer;
    let detail = observed.own_named(&spec.name).filter(|_| observed.resolvers_changed)?;
    let why = "the resolvers of the Docker host changed";
    let message =
        format!("restarting {}: {why}, and Docker passes them to a container at its start", spec.name);
    plan.waits(ConditionType::LoadBalancerReady, Reason::Updating, message);
    let container = Target::of(&detail.container);
    // The stop signal of nginx waits for all connections, and watches never end.
    let stopped = plan.step(Action::Stop { container: container.clone(), grace: 0 }, &[], "");
    Some(plan.step(Action::Start { container }, &[stopped], why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_count() {
        let of = |file: &str| parse(file).into_iter().collect::<Vec<_>>();
        assert_eq!(
            of("# by hand\nsearch x.example\nnameserver 10.0.0.2\n nameserver\t10.0.0.1 # a\n"),
            ["10.0.0.1", "10.0.0.2"]
        );
        assert_eq!(of("nameserver fe80::1%eth0\nnameserver\noptions ndots:0\n"), ["fe80::1%eth0"]);
        assert_eq!(
            parse("nameserver 1.1.1.1\nnameserver 8.8.8.8"),
            parse("nameserver 8.8.8.8\nnameserver 1.1.1.1")
        );
    }

    #[test]
    fn the_helper_is_owned_and_its_events_concern_nobody() {
        let owner = Owner { uid: "u".into(), object: "default/dev".into(), manager: "m".into() };
        let helper = helper(&owner, "k3d-dev-serverlb", "nginx");
        assert!(owner.owns(&helper.labels));
        assert!(!helper.labels.contains_key(names::OWNER));
        assert_eq!(helper.name, "k3d-dev-serverlb-resolvers");
    }
}
