//! Problems of failed steps: their condition, reason and verdict.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{
    containers::condition_of,
    desired::Binding,
    steps::{Action, Problem, Verdict},
};
use crate::{
    api::{condition::ConditionType, names::ClusterNames, reason::Reason},
    child::{error as child, state::INVENTORY},
    docker::{error::Error, spec::Role},
};

/// Returns the problem of a failed Docker call; `None` if another look is sufficient.
pub fn docker(action: &Action, error: &Error, names: Option<&ClusterNames>) -> Option<Problem> {
    let condition = about(action, names);
    let subject = action.subject();
    use Verdict::{Stalls, Waits};
    let (reason, message, verdict) = match error {
        // The state changed after it was observed, or is about to change. The holder of a name is found at the next
        // look.
        Error::NotFound(_) | Error::Busy(_) | Error::Conflict(_) => return None,
        Error::Unavailable(m) | Error::Denied(m) => {
            let message = format!("cannot reach the Docker engine: {m}{}", remedy(error));
            return Some(Problem::waits(ConditionType::DockerReachable, Reason::DockerUnavailable, message));
        }
        Error::PortTaken(m) => {
            let message = format!(
                "{subject} cannot publish a host port that is in use: {m}; free the port, or change it in the spec"
            );
            (Reason::PortConflict, message, Stalls)
        }
        Error::Address(m) if refused_subnet(action, error).is_some() => (
            Reason::SubnetConflict,
            format!("{subject}: {m}; set spec.network.subnet to a free subnet"),
            Stalls,
        ),
        Error::Address(m) if matches!(action, Action::CreateNetwork(n) if n.addressing.is_none()) => {
            let message = format!(
                "no free subnet: Docker has none left to choose: {m}; remove unused networks, add a pool to \
                 default-address-pools in the engine's daemon.json, or start the operator with --network-pool"
            );
            (Reason::AddressPoolExhausted, message, Stalls)
        }
        Error::Pull(m) => (Reason::ImagePullFailed, format!("{subject}: {m}"), Stalls),
        Error::Invalid(m) | Error::Engine(m) if m.contains("bind source path does not exist") => {
            let path = m.rsplit(": ").next().unwrap_or_default();
            let message = format!(
                "{subject}: {path} does not exist on the Docker host; create the file, or the directory with `mkdir -p \
                 {path}`"
            );
            (Reason::HostPathNotFound, message, Stalls)
        }
        Error::Invalid(m) | Error::Engine(m) if is_about_gpus(m) => {
            let message = format!(
                "{subject}: the Docker engine cannot provide GPUs: {m}; install a driver and the NVIDIA Container \
                 Toolkit on the Docker host and restart Docker, or remove gpus from the spec"
            );
            (Reason::GpuUnavailable, message, Stalls)
        }
        Error::Invalid(m) | Error::Engine(m) if m.contains("exec: \"/bin/sh\"") => {
            let message = format!(
                "{subject}: the image has no shell, which makes the mounts of a node shared before K3s starts: {m}; \
                 use an image that contains /bin/sh, such as rancher/k3s"
            );
            (Reason::NodeImageInvalid, message, Stalls)
        }
        Error::Invalid(m) => (Reason::DockerError, format!("{action}: {m}"), Stalls),
        Error::Address(m) | Error::Engine(m) | Error::Timeout(m) => {
            (Reason::DockerError, format!("{action}: {m}"), Waits)
        }
    };
    Some(Problem { condition, reason, message, verdict })
}

/// Returns what an administrator does so that the operator reaches the engine; empty if that depends on the engine.
pub fn remedy(error: &Error) -> &'static str {
    match error {
        Error::Denied(_) => GROUP,
        _ => "",
    }
}

/// What an operator without access to the socket lacks.
const GROUP: &str = "; the operator needs the group of the Docker socket (`stat -c %g /var/run/docker.sock` on the host): \
    set supplementalGroups of its Pod, or docker.group of the Helm chart";

/// Reports whether an error of the engine is about GPUs. Names of objects and images are unlikely to contain these
/// words: a cluster may be called `gpu`. Engines before 29 use a driver of their own, engines from 28.3 on also use
/// CDI, and engines from 29 on only CDI; with a driver, the NVIDIA hook reports its own errors.
fn is_about_gpus(words: &str) -> bool {
    const WORDS: [&str; 8] = [
        "could not select device driver",
        "GPU vendor",
        "CDI device",
        "via CDI",
        "from CDI",
        "nvidia-container-",
        "nvidia.com/gpu",
        "nvml error",
    ];
    WORDS.iter().any(|word| words.contains(word))
}

/// Returns the problem of a failed call to the created cluster. `under_way` contains the problems of the plan.
pub fn child(
    action: &Action,
    error: &child::Error,
    names: Option<&ClusterNames>,
    under_way: &[Problem],
) -> Problem {
    let condition = about(action, names);
    let reason = match error {
        child::Error::Unreachable(_) => Reason::ApiNotAnswering,
        child::Error::Api(_) | child::Error::Failed(_) => {
            let message = format!(
                "the API of the cluster rejected {action}: {error}; retrying. If it persists, check the cluster for \
                 what rejects it, such as an admission webhook or a quota"
            );
            return Problem::waits(condition, Reason::ApiRefused, message);
        }
        // The operation that it belongs to takes longer; the reason is the same.
        child::Error::Waits(_) => under_way
            .iter()
            .find(|p| p.condition == condition && p.verdict == Verdict::Waits)
            .map_or(Reason::Progressing, |p| p.reason),
    };
    Problem::waits(condition, reason, format!("{action}: {error}"))
}

/// Error of a write to the management cluster.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// The object was created, changed or deleted after it was observed.
    #[error("the object changed in the meantime")]
    Changed,
    /// The API server rejected the object as invalid.
    #[error("{0}")]
    Invalid(String),
    /// Any other error response, or none.
    #[error("{0}")]
    Failed(String),
}

/// Returns the problem of a failed write to the management cluster; `None` if another look is sufficient.
pub fn management(action: &Action, error: &WriteError, names: Option<&ClusterNames>) -> Option<Problem> {
    match (action, error) {
        (_, WriteError::Changed) => None,
        // The API server's message names the cause, such as an immutable field.
        (Action::ApplyRegistry(_), WriteError::Invalid(message)) => {
            let message = format!("spec.registries.create: {message}");
            Some(Problem::stalls(ConditionType::Accepted, Reason::InvalidSpec, message))
        }
        (Action::Service(_), WriteError::Invalid(message)) => {
            let message = format!("spec.api.service: {message}");
            Some(Problem::stalls(ConditionType::KubeconfigReady, Reason::InvalidSpec, message))
        }
        (_, WriteError::Invalid(_) | WriteError::Failed(_)) => {
            let message = format!("the management cluster rejected {action}: {error}; retrying");
            Some(Problem::waits(about(action, names), Reason::ApiRefused, message))
        }
    }
}

/// Returns the condition that a step contributes to.
pub fn about(action: &Action, names: Option<&ClusterNames>) -> ConditionType {
    match action {
        // A Registry has no condition of its own for its network.
        Action::CreateNetwork(_) | Action::RemoveNetwork { .. } if names.is_some() => {
            ConditionType::NetworkReady
        }
        Action::Connect { endpoint, .. } if endpoint.is_joined() => ConditionType::NetworkReady,
        Action::CreateContainer { spec, .. } => condition_of(spec.role),
        Action::RemoveFiles { .. } | Action::DeleteObject { .. } => ConditionType::ManifestsReady,
        Action::SetConfig(map) if map.key == INVENTORY => ConditionType::ManifestsReady,
        Action::CreateSecret(_) | Action::ApplyRegistry(_) | Action::DeleteRegistry { .. } => {
            ConditionType::ResolvedRefs
        }
        Action::ApplySecret(_)
        | Action::DeleteSecret { .. }
        | Action::GrantAccess { .. }
        | Action::RevokeAccess { .. }
        | Action::IssueToken(_)
        | Action::Service(_) => ConditionType::KubeconfigReady,
        other => {
            let Some(names) = names else { return condition_of(Role::Registry) };
            let subject = other.subject();
            // A volume is named after its node, followed by its kind.
            let node = names
                .parse_node(subject)
                .or_else(|| subject.rsplit_once('-').and_then(|(node, _)| names.parse_node(node)));
            match node {
                Some((pool, _)) => condition_of(Role::Node(pool.role())),
                None if subject == names.load_balancer() => condition_of(Role::LoadBalancer),
                None => ConditionType::RegistriesReady,
            }
        }
    }
}

/// Returns the subnet that the engine refused because it overlaps another network.
pub fn refused_subnet(action: &Action, error: &Error) -> Option<Ipv4Net> {
    match (action, error) {
        (Action::CreateNetwork(network), Error::Address(_)) => network.addressing.as_ref().map(|a| a.subnet),
        _ => None,
    }
}

/// Returns the `ports` that the error of the engine reports as in use.
pub fn refused_ports(error: &Error, ports: impl Iterator<Item = u16>) -> Vec<u16> {
    let Error::PortTaken(message) = error else { return Vec::new() };
    let numbers: Vec<&str> = message.split(|c: char| !c.is_ascii_digit()).collect();
    ports.filter(|p| numbers.contains(&p.to_string().as_str())).collect()
}

/// What a failed step means for the next plan.
pub enum Consequence {
    /// Another subnet or host port is chosen.
    ChosenAgain,
    /// These host ports are held by others, and are left out.
    PortsHeld(BTreeSet<Binding>),
    /// The object has this problem.
    Problem(Problem),
    /// The picture was out of date; another look is all that is needed.
    OutOfDate,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        owner::Owner,
        service::objects::{ApiService, ServiceChange},
        steps::{Plan, Target},
    };

    #[test]
    fn a_host_without_gpus_needs_a_person() {
        let names = ClusterNames::new("dev");
        let judged = |said: &str| {
            let container = Target { name: "k3d-dev-agent-0".into(), id: None };
            docker(&Action::Start { container }, &Error::Engine(said.into()), Some(&names)).unwrap()
        };
        for said in [
            // Docker 20.10 to 28.
            "could not select device driver \"\" with capabilities: [[gpu]]",
            // Docker 29.
            "failed to discover GPU vendor from CDI: no known GPU vendor found",
            // A specification of CDI without such a device.
            "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0",
            "could not apply required modification to OCI specification: error modifying OCI spec: failed to inject \
             devices via CDI: unresolvable CDI devices nvidia.com/gpu=all",
            // NVIDIA's toolkit without a driver that works.
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
             process: error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: \
             Auto-detected mode as 'legacy'\nnvidia-container-cli: initialization error: nvml error: driver not \
             loaded: unknown",
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared \
             object file",
            "nvidia-container-cli: device error: 3: unknown device: unknown",
        ] {
            let problem = judged(said);
            assert_eq!(
                (problem.condition, problem.reason),
                (ConditionType::AgentsReady, Reason::GpuUnavailable)
            );
            assert!(problem.stalled() && problem.message.contains(said), "{problem:?}");
            assert!(problem.message.contains("remove gpus from the spec"), "{problem:?}");
        }
        for said in
            ["No space left on device", "No such image: corp/k3s-nvidia-gpu:1", "k3d-gpu-agent-0 failed"]
        {
            assert_eq!(judged(said).reason, Reason::DockerError, "{said}");
        }
    }

    #[test]
    fn an_image_without_a_shell_needs_a_person() {
        let container = Target { name: "k3d-dev-server-0".into(), id: None };
        let said = "OCI runtime create failed: runc create failed: unable to start container process: exec: \
                    \"/bin/sh\": stat /bin/sh: no such file or directory: unknown";
        let names = ClusterNames::new("dev");
        let problem =
            docker(&Action::Start { container }, &Error::Invalid(said.into()), Some(&names)).unwrap();
        assert_eq!(
            (problem.condition, problem.reason),
            (ConditionType::ControlPlaneReady, Reason::NodeImageInvalid)
        );
        assert!(
            problem.stalled() && problem.message.contains("use an image that contains /bin/sh"),
            "{problem:?}"
        );
    }

    #[test]
    fn a_service_that_cannot_exist_needs_a_person() {
        let service = ApiService { owner: Owner::default(), uid: None };
        let action = Action::Service(ServiceChange::Apply(service));
        let of = |error: WriteError| management(&action, &error, None);
        let problem = of(WriteError::Invalid("metadata.name: Invalid value: \"0\"".into())).unwrap();
        assert!(
            problem.stalled() && problem.message.starts_with("spec.api.service: metadata.name"),
            "{problem:?}"
        );
        assert_eq!(
            (problem.condition, problem.reason),
            (ConditionType::KubeconfigReady, Reason::InvalidSpec)
        );
        let failed = of(WriteError::Failed("no response".into())).unwrap();
        assert_eq!((failed.stalled(), failed.condition), (false, ConditionType::KubeconfigReady));
        assert_eq!(of(WriteError::Changed), None);
    }

    #[test]
    fn a_wait_or_a_refusal_is_an_answer() {
        let names = ClusterNames::new("dev");
        let delete = Action::DeleteNode { node: "k3d-dev-server-1".into() };
        let mut plan = Plan::default();
        plan.waits(ConditionType::AgentsReady, Reason::Scaling, "other");
        plan.stalls(ConditionType::ControlPlaneReady, Reason::RepairGivenUp, "other");
        plan.waits(ConditionType::ControlPlaneReady, Reason::ScalingServers, "removing k3d-dev-server-1");
        let told = |error, problems: &[Problem]| {
            let problem = child(&delete, &error, Some(&names), problems);
            assert_eq!(
                (problem.condition, problem.verdict),
                (ConditionType::ControlPlaneReady, Verdict::Waits)
            );
            (problem.reason, problem.message)
        };
        let waits = || child::Error::Waits("it is still there".into());
        let (reason, message) = told(waits(), &plan.problems);
        assert_eq!(reason, Reason::ScalingServers);
        assert_eq!(message, "DeleteNode k3d-dev-server-1: it is still there");
        assert_eq!(told(waits(), &[]).0, Reason::Progressing);
        for refused in [child::Error::Api("403 no".into()), child::Error::Failed("403 no".into())] {
            let (reason, message) = told(refused, &plan.problems);
            assert_eq!(reason, Reason::ApiRefused);
            let words = "the API of the cluster rejected DeleteNode k3d-dev-server-1: 403 no; ";
            assert!(message.starts_with(words), "{message}");
        }
        let silent = child::Error::Unreachable("no answer within 5 s".into());
        assert_eq!(told(silent, &plan.problems).0, Reason::ApiNotAnswering);
    }

    #[test]
    fn a_closed_socket_names_the_group_that_is_missing() {
        let start = Action::Start { container: Target { id: None, name: "c".into() } };
        let of = |error: Error| docker(&start, &error, None).unwrap();
        let denied = of(Error::Denied("permission denied".into()));
        assert_eq!(
            (denied.condition, denied.reason, denied.verdict),
            (ConditionType::DockerReachable, Reason::DockerUnavailable, Verdict::Waits)
        );
        let words = "cannot reach the Docker engine: permission denied; the operator needs the group";
        assert!(denied.message.starts_with(words), "{}", denied.message);
        let away = of(Error::Unavailable("no socket".into()));
        assert_eq!(away.message, "cannot reach the Docker engine: no socket");
    }

    #[test]
    fn the_taken_port_is_found_in_the_engines_words() {
        let said = |m: &str| refused_ports(&Error::PortTaken(m.into()), [80, 8080, 20001].into_iter());
        assert_eq!(said("Bind for 127.0.0.1:8080 failed: port is already allocated"), [8080]);
        assert_eq!(said("listen tcp4 127.0.0.1:20001: bind: address already in use"), [20001]);
        assert_eq!(said("something else"), [] as [u16; 0]);
    }
}
