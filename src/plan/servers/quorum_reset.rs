//! Loss of the data of most servers, and the reset of etcd that a user can request.
//!
//! Only the user knows whether lost volumes can be restored, and a reset loses the data that only the lost members
//! had. It is therefore only carried out if [`RESET_QUORUM_ANNOTATION`] names the server to continue with. K3s does
//! it: run once with `--cluster-reset` on the data of that server, it makes the server the only member of etcd and
//! exits (docs.k3s.io/cli/etcd-snapshot). The remains of the other servers are then removed, and they rejoin as new
//! members.

use super::{NOT_JOINING, QuorumLoss, Servers};
use crate::{
    api::{RESET_QUORUM_ANNOTATION as ANNOTATION, condition::ConditionType, reason::Reason},
    docker::{
        engine::{ContainerDetail, State},
        spec::{ContainerSpec, RestartPolicy},
    },
    k3s::{self, JOIN_FILE, args::CLUSTER_RESET},
    plan::{
        containers::{GRACE, outdated},
        desired::NodeSpec,
        inputs::{Inputs, Request},
        nodes::{cluster::Cluster, lifecycle, volumes::volumes},
        steps::{Action, Plan, Target},
    },
};

/// Adds a problem if the data of most servers is lost, and plans the requested reset. Reports whether there is one:
/// nothing else is planned for the nodes then.
pub fn plan(plan: &mut Plan, cluster: &Cluster<'_>, servers: &Servers<'_>) -> bool {
    let Some(loss) = servers.quorum_loss() else { return false };
    let request = cluster.inputs.reset;
    let survivor = request.due().and_then(|name| {
        let desired = cluster.desired.servers.iter().find(|s| s.container.name == name);
        desired.filter(|s| loss.left.contains(&s.container.name.as_str()))
    });
    let Some(survivor) = survivor else {
        plan.stalls(ConditionType::ControlPlaneReady, Reason::QuorumLost, quorum_lost(&loss, request));
        return false;
    };
    reset(plan, cluster, servers, survivor);
    plan.waits(
        ConditionType::AgentsReady,
        Reason::Pending,
        "waiting for the API of the cluster before evaluating agents",
    );
    true
}

fn quorum_lost(loss: &QuorumLoss<'_>, request: Request<'_>) -> String {
    let left = loss.left.join(", ");
    let way_out = match request.asked {
        Some(asked) if request.done == Some(asked) => {
            format!(
                "remove the annotation {ANNOTATION}, which was carried out before, and set it to one of {left}"
            )
        }
        Some(asked) => format!("change the annotation {ANNOTATION} from {asked} to one of {left}"),
        None => {
            let or = if loss.left.len() > 1 { " or another remaining server" } else { "" };
            format!(
                "accept the loss of what only they stored with the annotation {ANNOTATION}={}{or}",
                loss.left[0]
            )
        }
    };
    format!(
        "the data of {} of {} servers is lost ({}): the remaining servers ({left}) have no etcd quorum; restore the \
         lost volumes, or {way_out}",
        loss.gone.len(),
        loss.gone.len() + loss.left.len(),
        loss.gone.join(", "),
    )
}

/// Plans the next steps of the reset.
fn reset(plan: &mut Plan, cluster: &Cluster<'_>, servers: &Servers<'_>, survivor: &NodeSpec) {
    let Cluster { inputs, site, .. } = *cluster;
    let name = &survivor.container.name;
    let spec = resetting(&survivor.container);
    let waits = |plan: &mut Plan, message: String| {
        plan.waits(ConditionType::ControlPlaneReady, Reason::ResettingQuorum, message);
    };
    let current = site.own(name).filter(|d| !outdated(inputs.observed, d, &spec, site.network));
    match current.map(|d| (d, ended(d, inputs))) {
        Some((_, Some(End::Done))) => {
            waits(plan, format!("etcd was reset to the single member {name}: removing the other servers, which rejoin as new members"));
            let others: Vec<String> = servers.names().filter(|other| other != name).collect();
            for other in &others {
                let why = "etcd was reset without it";
                lifecycle::remove_container_and_volumes(plan, cluster, other, &[], why);
            }
            if others.is_empty() {
                plan.reset = Some(name.clone());
            }
        }
        Some((_, Some(End::Failed(words)))) => plan.stalls(
            ConditionType::ControlPlaneReady,
            Reason::QuorumResetFailed,
            format!(
                "K3s failed to reset etcd on {name}: {words}; remove the annotation {ANNOTATION} and set it again \
                 to retry"
            ),
        ),
        other => {
            waits(plan, format!("resetting etcd to the single member {name}"));
            // Their data does not count any more, and they must not connect to the remaining server.
            let stopped: Vec<usize> = servers
                .names()
                .filter(|other| other != name)
                .filter_map(|other| site.own(&other))
                .filter(|d| d.container.state == State::Running)
                .map(|d| {
                    let container = Target::of(&d.container);
                    plan.step(Action::Stop { container, grace: GRACE }, &[], "etcd is being reset without it")
                })
                .collect();
            if other.is_none() && site.own(name).is_some() {
                if site.has_image(plan, &spec) {
                    site.replace(plan, &spec, &stopped, "to reset etcd");
                }
            } else if stopped.is_empty()
                && let Some(made) = volumes(plan, survivor, inputs.owner, inputs.observed, &[])
            {
                site.converge(plan, &spec, &made, None);
            }
        }
    }
}

/// Returns the container that resets etcd on the data of a server, in its place.
fn resetting(server: &ContainerSpec) -> ContainerSpec {
    let mut spec = server.clone();
    spec.command.push(CLUSTER_RESET.into());
    spec.labels.insert(ANNOTATION.into(), spec.name.clone());
    spec.restart_policy = RestartPolicy::No;
    // K3s rejects the reset of a server that is configured to join another.
    for file in spec.files.iter_mut().filter(|f| f.path == JOIN_FILE) {
        file.content = NOT_JOINING.into();
    }
    spec
}

/// Result of K3s.
enum End {
    Done,
    Failed(String),
}

/// Returns the result of the reset; `None` while it is in progress, and after an interruption, which restarts it.
fn ended(detail: &ContainerDetail, inputs: &Inputs<'_>) -> Option<End> {
    if detail.container.state != State::Exited {
        return None;
    }
    // The exit code is not sufficient: K3s also exits with 0 when it is stopped.
    let lines = inputs.observed.logs.get(&detail.container.id).map(Vec::as_slice).unwrap_or_default();
    if k3s::log::was_reset(lines) {
        return Some(End::Done);
    }
    let killed = detail.exit_code.is_none_or(|code| matches!(code, 0 | 137 | 143));
    k3s::log::last_words(lines).filter(|words| !killed || words.contains("Shutdown request")).map(End::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::local_cluster::NodeRole,
        docker::spec::{FileChange, FileSpec, Role},
    };

    #[test]
    fn it_runs_in_the_servers_place_and_once_and_joins_nobody() {
        let file = |path: &str, content: &str| FileSpec {
            path: path.into(),
            mode: 0o600,
            content: content.into(),
            change: FileChange::Keep,
        };
        let server = ContainerSpec {
            command: vec!["server".into(), "--tls-san=dev".into()],
            files: vec![file(JOIN_FILE, "server: https://172.31.0.11:6443\n"), file("/token", "t")],
            ..ContainerSpec::bare("k3d-dev-server-0", Role::Node(NodeRole::Server), "rancher/k3s")
        };
        let spec = resetting(&server);
        assert_eq!(spec.command, ["server", "--tls-san=dev", "--cluster-reset"]);
        assert_eq!(spec.restart_policy, RestartPolicy::No);
        assert!(!String::from_utf8_lossy(&spec.files[0].content).contains("server:"));
        assert_eq!(spec.files[1], server.files[1]);
        assert_eq!(spec.labels[ANNOTATION], "k3d-dev-server-0");
        assert_eq!((spec.name, spec.endpoint, spec.mounts), (server.name, server.endpoint, server.mounts));
    }

    #[test]
    fn what_was_carried_out_is_not_carried_out_again() {
        let asked = Some("s0");
        assert_eq!(Request { asked, done: None }.due(), asked);
        assert_eq!(Request { asked, done: asked }.due(), None);
        assert_eq!(Request { asked, done: Some("s1") }.due(), asked);
        assert_eq!(Request { asked: None, done: asked }.recorded(&Plan::default()), None);
        assert_eq!(Request { asked, done: asked }.recorded(&Plan::default()), asked);
        assert_eq!(Request { asked, done: None }.recorded(&Plan::default()), None);
        let plan = Plan { reset: Some("s0".into()), ..Plan::default() };
        assert_eq!(Request { asked, done: None }.recorded(&plan), asked);
    }
}
