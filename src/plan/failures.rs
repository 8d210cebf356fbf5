//! What a failed step means for the object: which condition it fails, for which reason, and who has to act.

use ipnet::Ipv4Net;

use super::{
    containers::condition_of,
    desired::Role,
    manifests::INVENTORY,
    steps::{Action, Problem, Verdict},
};
use crate::{
    api::{
        condition::{reasons, types},
        names::ClusterNames,
    },
    docker::error::Error,
};

/// The problem that a failed Docker call is; `None` when looking again is all that is needed.
pub fn docker(action: &Action, error: &Error, names: Option<&ClusterNames>) -> Option<Problem> {
    let condition = about(action, names);
    let subject = action.subject();
    use Verdict::{Stalls, Waits};
    let (reason, message, verdict) = match error {
        // Something changed between the look and the act, or is about to. Whoever has the name is seen at the next look.
        Error::NotFound(_) | Error::Busy(_) | Error::Conflict(_) => return None,
        Error::Unavailable(m) => {
            let message = format!("Docker can't be reached: {m}");
            return Some(Problem::waits(types::DOCKER_REACHABLE, reasons::DOCKER_UNAVAILABLE, message));
        }
        Error::PortTaken(m) => {
            let message = format!(
                "{subject} can't publish a host port that something else holds: {m}. Free the port, or change it in \
                 the spec"
            );
            (reasons::PORT_CONFLICT, message, Stalls)
        }
        Error::Address(m) if refused_subnet(action, error).is_some() => (
            reasons::SUBNET_CONFLICT,
            format!("{subject}: {m}. Set spec.network.subnet to a free subnet"),
            Stalls,
        ),
        Error::Pull(m) => (reasons::IMAGE_PULL_FAILED, format!("{subject}: {m}"), Stalls),
        Error::Invalid(m) | Error::Engine(m) if m.contains("bind source path does not exist") => {
            let path = m.rsplit(": ").next().unwrap_or_default();
            let message = format!(
                "{subject}: there is no directory {path} on the Docker host: make it with `mkdir -p {path}`"
            );
            (reasons::HOST_PATH_NOT_FOUND, message, Stalls)
        }
        Error::Invalid(m) | Error::Engine(m) if m.contains("could not select device driver") => {
            let message = format!(
                "{subject}: the Docker engine has no driver for GPUs ({m}): install NVIDIA's container toolkit on the \
                 Docker host and restart Docker, or take gpus out of the spec"
            );
            (reasons::GPU_UNAVAILABLE, message, Stalls)
        }
        Error::Invalid(m) => (reasons::DOCKER_ERROR, format!("{action}: {m}"), Stalls),
        Error::Address(m) | Error::Engine(m) | Error::Timeout(m) => {
            (reasons::DOCKER_ERROR, format!("{action}: {m}"), Waits)
        }
    };
    Some(Problem { condition, reason, message, verdict })
}

/// The problem that a failed call to the created cluster is.
pub fn child(action: &Action, message: &str, names: Option<&ClusterNames>) -> Problem {
    Problem::waits(about(action, names), reasons::API_NOT_ANSWERING, format!("{action}: {message}"))
}

/// The condition that a step works for.
pub fn about(action: &Action, names: Option<&ClusterNames>) -> &'static str {
    match action {
        Action::CreateNetwork(_) | Action::RemoveNetwork { .. } => types::NETWORK_READY,
        Action::CreateContainer { spec, .. } => condition_of(spec.role),
        Action::RemoveFiles { .. } | Action::DeleteObject { .. } => types::MANIFESTS_READY,
        Action::SetConfig(map) if map.key == INVENTORY => types::MANIFESTS_READY,
        other => {
            let Some(names) = names else { return condition_of(Role::Registry) };
            let subject = other.subject();
            // A volume is named after its node, with its kind behind.
            let node = names
                .parse_node(subject)
                .or_else(|| subject.rsplit_once('-').and_then(|(node, _)| names.parse_node(node)));
            match node {
                Some((role, _)) => condition_of(Role::Node(role)),
                None if subject == names.load_balancer() => condition_of(Role::LoadBalancer),
                None => types::REGISTRIES_READY,
            }
        }
    }
}

/// The subnet that the engine refused, since another network has it or a part of it.
pub fn refused_subnet(action: &Action, error: &Error) -> Option<Ipv4Net> {
    match (action, error) {
        (Action::CreateNetwork(network), Error::Address(_)) => Some(network.subnet),
        _ => None,
    }
}

/// Which of `ports` the engine's answer names as taken.
pub fn refused_ports(error: &Error, ports: impl Iterator<Item = u16>) -> Vec<u16> {
    let Error::PortTaken(message) = error else { return Vec::new() };
    let numbers: Vec<&str> = message.split(|c: char| !c.is_ascii_digit()).collect();
    ports.filter(|p| numbers.contains(&p.to_string().as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::steps::Target;

    #[test]
    fn a_host_without_gpus_needs_a_person() {
        let container = Target { name: "k3d-dev-agent-0".into(), id: None };
        // As Docker 20.10 says it.
        let said = "could not select device driver \"\" with capabilities: [[gpu]]";
        let names = ClusterNames::new("dev");
        let problem =
            docker(&Action::Start { container }, &Error::Engine(said.into()), Some(&names)).unwrap();
        assert_eq!((problem.condition, problem.reason), (types::AGENTS_READY, reasons::GPU_UNAVAILABLE));
        assert!(problem.stalled() && problem.message.contains(said), "{problem:?}");
        assert!(problem.message.contains("take gpus out of the spec"), "{problem:?}");
    }

    #[test]
    fn the_taken_port_is_found_in_the_engines_words() {
        let said = |m: &str| refused_ports(&Error::PortTaken(m.into()), [80, 8080, 20001].into_iter());
        assert_eq!(said("Bind for 127.0.0.1:8080 failed: port is already allocated"), [8080]);
        assert_eq!(said("listen tcp4 127.0.0.1:20001: bind: address already in use"), [20001]);
        assert_eq!(said("something else"), [] as [u16; 0]);
    }
}
