//! Executes the steps of a plan, without decisions: a step carries all it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use futures::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use jiff::Timestamp;

use super::management_api::ManagementApi;
use crate::{
    child::api::{self as child, ChildApi},
    docker::{
        archive,
        engine::{Engine, Update},
        error,
        spec::{ContainerSpec, FileSpec},
    },
    metrics::Metrics,
    plan::{
        failures::WriteError,
        kubeconfig::template::Template,
        policy::permit::Gate,
        steps::{Action, Problem, Step, Target},
    },
};

/// Error of a step.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Error of Docker.
    #[error(transparent)]
    Docker(#[from] error::Error),
    /// Error of the created cluster.
    #[error(transparent)]
    Child(#[from] child::Error),
    /// Error of the management cluster.
    #[error(transparent)]
    Management(#[from] WriteError),
    /// The created cluster was not reachable when the plan began.
    #[error("the API of the cluster does not respond")]
    NoChild,
    /// The policy of the namespace does not permit the step.
    #[error("{}", .0.message)]
    NotPermitted(Problem),
    /// The container that an earlier step creates is unknown.
    #[error("the container {0} was not created")]
    NotMade(String),
}

/// Result of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// Indices of the steps that succeeded.
    pub done: BTreeSet<usize>,
    /// Indices of the steps that failed, with their errors. The steps that depend on them were not executed.
    pub failed: Vec<(usize, Error)>,
}

/// Executes the steps: each as soon as the steps before it have succeeded, all others concurrently. The engine limits
/// the number of concurrent calls.
pub async fn execute(steps: &[Step], world: World<'_>, metrics: &Metrics) -> Report {
    let run = Run { world, created: Mutex::default() };
    let mut report = Report::default();
    let mut waiting: BTreeSet<usize> = (0..steps.len()).collect();
    let mut running = FuturesUnordered::new();
    loop {
        let ready: Vec<usize> = waiting
            .iter()
            .copied()
            .filter(|i| steps[*i].after.iter().all(|a| report.done.contains(a)))
            .collect();
        for index in ready {
            waiting.remove(&index);
            let run = &run;
            running.push(async move { (index, run.act(&steps[index].action).await) });
        }
        // Steps that still wait when none is running depend on one that failed.
        let Some((index, result)) = running.next().await else { return report };
        let kind = steps[index].action.kind();
        match result {
            Ok(()) => {
                metrics.docker_step(kind, "ok");
                report.done.insert(index);
            }
            Err(error) => {
                metrics.docker_step(kind, "failed");
                report.failed.push((index, error));
            }
        }
    }
}

/// Everything that steps change.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The Docker engine.
    pub engine: &'a dyn Engine,
    /// The API of the created cluster, if it responds.
    pub child: Option<&'a dyn ChildApi>,
    /// The API of the management cluster.
    pub management: &'a dyn ManagementApi,
    /// What permits the steps.
    pub gate: &'a Gate<'a>,
    /// Current time.
    pub now: Timestamp,
}

/// An execution of a plan.
struct Run<'a> {
    world: World<'a>,
    /// IDs of the created containers, by name.
    created: Mutex<BTreeMap<String, String>>,
}

impl Run<'_> {
    async fn act(&self, action: &Action) -> Result<(), Error> {
        let World { engine, management, gate, now, .. } = self.world;
        gate.permit(action).map_err(Error::NotPermitted)?;
        match action {
            Action::CreateNetwork(spec) => drop(engine.create_network(spec).await?),
            Action::RemoveNetwork { id, .. } => gone(engine.remove_network(id).await)?,
            Action::CreateVolume(spec) => engine.create_volume(spec).await?,
            Action::RemoveVolume { name } => gone(engine.remove_volume(name).await)?,
            Action::CreateContainer { spec, network } => self.create(spec, network.as_deref()).await?,
            Action::Upload { container, files } => self.upload(container, files).await?,
            Action::Connect { network, container, endpoint } => {
                engine.connect(network, &self.id(container)?, endpoint).await?;
            }
            Action::Disconnect { network, container } => {
                gone(engine.disconnect(network, &self.id(container)?).await)?;
            }
            Action::Start { container } => engine.start(&self.id(container)?).await?,
            Action::Stop { container, grace } => gone(engine.stop(&self.id(container)?, *grace).await)?,
            Action::Unpause { container } => engine.unpause(&self.id(container)?).await?,
            Action::Signal { container, signal } => engine.signal(&self.id(container)?, signal).await?,
            Action::RemoveContainer { container } => {
                gone(engine.remove_container(&self.id(container)?).await)?
            }
            Action::Expect { container, one_of } => self.expect(container, one_of).await?,
            Action::SetRestart { container, policy } => {
                engine.update(&self.id(container)?, &Update { restart_policy: Some(*policy) }).await?;
            }
            Action::Exec { container, command } => {
                self.exec(container, command, &format!("`{}`", command.join(" "))).await?;
            }
            Action::RemoveFiles { container, paths } => {
                self.exec(container, &archive::removal(paths), "rm").await?;
            }
            Action::Drain { node } => self.child()?.drain(node, now).await?,
            Action::Uncordon { node } => self.child()?.uncordon(node).await?,
            Action::Configure { node, config } => self.child()?.configure(node, config).await?,
            Action::DeleteNode { node } => self.child()?.delete_node(node).await?,
            Action::ForgetPassword { node } => self.child()?.forget_password(node).await?,
            Action::LeaveEtcd { node } => self.child()?.leave_etcd(node).await?,
            Action::RemoveMember(member) => self.child()?.remove_member(member).await?,
            Action::ReleaseLease { name, version, .. } => self.child()?.release_lease(name, version).await?,
            Action::SetConfig(wanted) => self.child()?.set_config(wanted).await?,
            Action::DeleteObject { object, uid } => self.child()?.delete_object(object, uid).await?,
            Action::GrantAccess { role } => self.child()?.grant(*role).await?,
            Action::RevokeAccess { role, uid } => self.child()?.revoke(*role, uid.as_deref()).await?,
            Action::IssueToken(template) => self.issue(template).await?,
            Action::CreateSecret(secret) => management.create_secret(secret).await?,
            Action::ApplySecret(secret) => management.apply_secret(secret).await?,
            Action::DeleteSecret { namespace, name, uid } => {
                management.delete_secret(namespace, name, uid).await?;
            }
            Action::Service(change) => management.change_service(change).await?,
            Action::ApplyRegistry(registry) => management.apply_registry(registry).await?,
            Action::DeleteRegistry { namespace, name, uid } => {
                management.delete_registry(namespace, name, uid).await?;
            }
        }
        Ok(())
    }

    async fn create(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<(), Error> {
        let id = self.world.engine.create_container(spec, network).await?;
        self.created.lock().expect("no step panics").insert(spec.name.clone(), id);
        Ok(())
    }

    async fn upload(&self, container: &Target, files: &[FileSpec]) -> Result<(), Error> {
        Ok(self.world.engine.upload(&self.id(container)?, archive::pack(files)).await?)
    }

    /// Writes a new token into the Secret with a kubeconfig.
    async fn issue(&self, template: &Template) -> Result<(), Error> {
        let token = self.child()?.issue(template.role, template.ttl).await?;
        let secret = template.issued(&token, self.world.now);
        Ok(self.world.management.apply_secret(&secret).await?)
    }

    /// Runs a command in a container, which must succeed.
    async fn exec(&self, container: &Target, command: &[String], name: &str) -> Result<(), Error> {
        let ended = self.world.engine.exec(&self.id(container)?, command).await?;
        ended.succeeded().map_err(|why| error::Error::Engine(format!("{name}: {why}")))?;
        Ok(())
    }

    /// Fails unless one of the paths exists in the container.
    async fn expect(&self, container: &Target, one_of: &[String]) -> Result<(), Error> {
        let id = self.id(container)?;
        let looks = one_of.iter().map(|path| self.world.engine.path_info(&id, path));
        if try_join_all(looks).await?.iter().any(Option::is_some) {
            return Ok(());
        }
        let words = format!("{} has none of {}", container.name, one_of.join(", "));
        Err(error::Error::NotFound(words).into())
    }

    fn child(&self) -> Result<&dyn ChildApi, Error> {
        self.world.child.ok_or(Error::NoChild)
    }

    fn id(&self, target: &Target) -> Result<String, Error> {
        match &target.id {
            Some(id) => Ok(id.clone()),
            None => {
                let created = self.created.lock().expect("no step panics");
                created.get(&target.name).cloned().ok_or_else(|| Error::NotMade(target.name.clone()))
            }
        }
    }
}

/// Returns success if the resource to remove does not exist.
fn gone(result: Result<(), error::Error>) -> Result<(), error::Error> {
    match result {
        Err(error::Error::NotFound(_)) => Ok(()),
        other => other,
    }
}
