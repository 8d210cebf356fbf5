//! The containers of a cluster on the Docker Engine that the command reaches.

use kube::ResourceExt;

use super::management::Management;
use crate::{
    api::{ADOPTS_ANNOTATION, LocalCluster, local_cluster::ClusterState, names},
    cli::{Failure, Result, engine::EngineArgs},
    docker::{
        bollard::BollardEngine,
        engine::{Container, Engine, State},
    },
    plan::adoption::{self, Pair},
};

/// Containers of a cluster.
pub(super) struct Containers {
    /// The engine that they are on.
    pub engine: BollardEngine,
    /// Name of the cluster.
    cluster: String,
    /// The containers, by name.
    all: Vec<Container>,
}

impl Containers {
    /// Finds those that belong to a cluster, by the label with its UID.
    pub async fn of(args: &EngineArgs, management: &Management, cluster: &LocalCluster) -> Result<Self> {
        let engine = args.engine()?;
        let name = cluster.name_any();
        let mut all = own(engine.containers().await?, cluster);
        all.sort_by(|one, other| one.name.cmp(&other.name));
        if all.is_empty() {
            return Err(Failure::Failed(format!(
                "no container of {name} is on the Docker Engine at {}: the operator of {} has not created one, or uses \
                 another engine; see `localcluster status {name}`, or name the engine with --docker-host",
                args.docker_host, management.context
            )));
        }
        Ok(Self { engine, cluster: name, all })
    }

    /// Returns those of nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Container> {
        self.all.iter().filter(|c| matches!(role(c), Some("server" | "agent")))
    }

    /// Returns the container with a name, or with its end that names the node: `server-0` for `k3d-dev-server-0`.
    pub fn choose(&self, node: Option<&str>) -> Result<&Container> {
        let wanted = node.unwrap_or("server-0");
        let is = |c: &&Container| c.name == wanted || short(c) == wanted;
        self.all.iter().find(is).ok_or_else(|| {
            let names: Vec<&str> = self.all.iter().map(short).collect();
            Failure::Failed(format!("{} has no node {wanted}; it has {}", self.cluster, names.join(", ")))
        })
    }
}

fn own(all: Vec<Container>, cluster: &LocalCluster) -> Vec<Container> {
    let uid = cluster.metadata.uid.as_ref();
    let object = format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any());
    let annotation = cluster.annotations().get(ADOPTS_ANNOTATION);
    let adopts = annotation.map(|text| adoption::parse(text).0).unwrap_or_default();
    let adopted = |c: &Container| {
        c.labels.get(names::OWNER) == Some(&object)
            && Pair::of(&c.labels).is_some_and(|pair| adopts.contains(&pair))
    };
    let is_own = |c: &Container| uid.is_some() && c.labels.get(names::UID) == uid || adopted(c);
    all.into_iter().filter(|c| is_own(c) && role(c).is_some()).collect()
}

fn role(container: &Container) -> Option<&str> {
    container.labels.get(names::ROLE).map(String::as_str)
}

/// Returns the end of the name of a container that distinguishes it in its cluster.
pub(super) fn short(container: &Container) -> &str {
    let cluster = container.labels.get(names::CLUSTER);
    let rest = cluster.and_then(|cluster| container.name.strip_prefix(&format!("k3d-{cluster}-")));
    rest.unwrap_or(&container.name)
}

/// Returns why no command can run in a container.
pub(super) fn unfit(container: &Container, cluster: &LocalCluster) -> Option<String> {
    let (name, of) = (&container.name, cluster.name_any());
    let logs = format!("`localcluster logs {of} {}` shows its log", short(container));
    match container.state {
        State::Running => None,
        State::Paused => Some(format!("{name} is paused; `docker unpause {name}` resumes it")),
        State::Restarting => Some(format!("{name} exits each time Docker starts it; {logs}")),
        State::Created | State::Exited | State::Removing | State::Dead
            if cluster.spec.state == ClusterState::Stopped =>
        {
            Some(format!("{name} is stopped, as {of} is; start it with `localcluster start {of}`. {logs}"))
        }
        State::Created | State::Exited | State::Removing | State::Dead => Some(format!(
            "{name} does not run; the operator starts it again unless `localcluster status {of}` says why not. {logs}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(state: &str) -> LocalCluster {
        serde_json::from_value(json!({"metadata": {"name": "dev", "uid": "u"}, "spec": {"state": state}}))
            .unwrap()
    }

    fn container(name: &str, uid: &str, role: &str, state: State) -> Container {
        let labels = [(names::UID, uid), (names::ROLE, role), (names::CLUSTER, "team-dev")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Container { name: name.into(), id: name.into(), labels, state, ..Container::default() }
    }

    fn containers() -> Containers {
        let all = vec![
            container("k3d-team-dev-agent-0", "u", "agent", State::Running),
            container("k3d-team-dev-server-0", "u", "server", State::Running),
            container("k3d-team-dev-server-1", "other", "server", State::Running),
            container("k3d-team-dev-serverlb", "u", "loadbalancer", State::Running),
        ];
        let engine = BollardEngine::connect("unix:///none").unwrap();
        Containers { engine, cluster: "dev".into(), all: own(all, &cluster("Running")) }
    }

    #[test]
    fn a_node_has_two_names_and_belongs_to_the_object() {
        let all = containers();
        let name = |node| all.choose(node).map(|c| c.name.clone());
        assert_eq!(name(None).unwrap(), "k3d-team-dev-server-0");
        for node in ["agent-0", "k3d-team-dev-agent-0"] {
            assert_eq!(name(Some(node)).unwrap(), "k3d-team-dev-agent-0");
        }
        assert_eq!(name(Some("serverlb")).unwrap(), "k3d-team-dev-serverlb");
        let told = name(Some("server-1")).unwrap_err().to_string();
        assert_eq!(told, "dev has no node server-1; it has agent-0, server-0, serverlb");
        assert_eq!(all.nodes().count(), 2);
        let mut new = cluster("Running");
        new.metadata.uid = None;
        assert!(own(all.all, &new).is_empty());
    }

    #[test]
    fn only_a_running_container_runs_commands() {
        for (state, of, word) in [
            (State::Paused, "Running", "docker unpause k3d-team-dev-server-0"),
            (State::Restarting, "Running", "localcluster logs dev server-0"),
            (State::Exited, "Stopped", "localcluster start dev"),
            (State::Exited, "Running", "the operator starts it again"),
        ] {
            let node = container("k3d-team-dev-server-0", "u", "server", state);
            let told = unfit(&node, &cluster(of)).unwrap();
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(unfit(&container("x", "u", "server", State::Running), &cluster("Running")), None);
    }
}
