//! What a failed step means for the object: which condition it fails, for which reason, and who has to act.

use super::{
    containers::condition_of,
    desired::Role,
    steps::{Action, Problem},
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
    let (reason, message, stalled) = match error {
        // Something changed between the look and the act, or is about to.
        Error::NotFound(_) | Error::Busy(_) => return None,
        Error::Unavailable(m) => {
            let message = format!("Docker can't be reached: {m}");
            return Some(Problem {
                condition: types::DOCKER_REACHABLE,
                reason: reasons::DOCKER_UNAVAILABLE,
                message,
                stalled: false,
            });
        }
        Error::PortTaken(m) => {
            let message = format!(
                "{subject} can't publish a host port that something else holds: {m}. Free the port, or change it in \
                 the spec"
            );
            (reasons::PORT_CONFLICT, message, true)
        }
        Error::Conflict(m) => (reasons::NAME_CONFLICT, format!("{subject}: {m}"), true),
        Error::Address(m) if matches!(action, Action::CreateNetwork(_)) => (
            reasons::SUBNET_CONFLICT,
            format!("{subject}: {m}. Set spec.network.subnet to a free subnet"),
            true,
        ),
        Error::Pull(m) => (reasons::IMAGE_PULL_FAILED, format!("{subject}: {m}"), true),
        Error::Invalid(m) => (reasons::DOCKER_ERROR, format!("{action}: {m}"), true),
        Error::Address(m) | Error::Engine(m) | Error::Timeout(m) => {
            (reasons::DOCKER_ERROR, format!("{action}: {m}"), false)
        }
    };
    Some(Problem { condition, reason, message, stalled })
}

/// The problem that a failed call to the created cluster is.
pub fn child(action: &Action, message: &str, names: Option<&ClusterNames>) -> Problem {
    Problem {
        condition: about(action, names),
        reason: reasons::API_NOT_ANSWERING,
        message: format!("{action}: {message}"),
        stalled: false,
    }
}

/// The condition that a step works for.
fn about(action: &Action, names: Option<&ClusterNames>) -> &'static str {
    match action {
        Action::CreateNetwork(_) | Action::RemoveNetwork { .. } => types::NETWORK_READY,
        Action::CreateContainer { spec, .. } => condition_of(spec.role),
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

/// Which of `ports` the engine's answer names as taken.
pub fn refused_ports(error: &Error, ports: impl Iterator<Item = u16>) -> Vec<u16> {
    let Error::PortTaken(message) = error else { return Vec::new() };
    let numbers: Vec<&str> = message.split(|c: char| !c.is_ascii_digit()).collect();
    ports.filter(|p| numbers.contains(&p.to_string().as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taken_port_is_found_in_the_engines_words() {
        let said = |m: &str| refused_ports(&Error::PortTaken(m.into()), [80, 8080, 20001].into_iter());
        assert_eq!(said("Bind for 127.0.0.1:8080 failed: port is already allocated"), [8080]);
        assert_eq!(said("listen tcp4 127.0.0.1:20001: bind: address already in use"), [20001]);
        assert_eq!(said("something else"), [] as [u16; 0]);
    }
}
