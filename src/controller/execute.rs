//! Does what a plan says, and decides nothing: a step carries all it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use futures::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use jiff::Timestamp;

use crate::{
    child::api::{self as child, ChildApi},
    docker::{
        archive,
        engine::{Engine, Update},
        error,
    },
    metrics::Metrics,
    plan::steps::{Action, Step, Target},
};

/// Why a step failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Docker's answer.
    #[error(transparent)]
    Docker(#[from] error::Error),
    /// The created cluster's answer.
    #[error(transparent)]
    Child(#[from] child::Error),
    /// The created cluster was not reachable when the plan began.
    #[error("the cluster's API does not answer")]
    NoChild,
    /// The container that an earlier step was to make is not known.
    #[error("the container {0} was not made")]
    NotMade(String),
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// The steps that succeeded, by index.
    pub done: BTreeSet<usize>,
    /// The steps that failed, and why. What depended on them was left out.
    pub failed: Vec<(usize, Error)>,
}

/// Runs the steps: each as soon as those before it are done, everything else at the same time. The engine bounds how
/// many calls are under way.
pub async fn execute(
    steps: &[Step],
    engine: &dyn Engine,
    child: Option<&dyn ChildApi>,
    now: Timestamp,
    metrics: &Metrics,
) -> Report {
    let made = Mutex::new(BTreeMap::new());
    let world = World { engine, child, now, made: &made };
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
            let world = &world;
            running.push(async move { (index, world.act(&steps[index].action).await) });
        }
        // What is still waiting when nothing runs depends on something that failed.
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

struct World<'a> {
    engine: &'a dyn Engine,
    child: Option<&'a dyn ChildApi>,
    now: Timestamp,
    made: &'a Mutex<BTreeMap<String, String>>,
}

impl World<'_> {
    async fn act(&self, action: &Action) -> Result<(), Error> {
        let engine = self.engine;
        match action {
            Action::CreateNetwork(spec) => drop(engine.create_network(spec).await?),
            Action::RemoveNetwork { id, .. } => gone(engine.remove_network(id).await)?,
            Action::CreateVolume(spec) => engine.create_volume(spec).await?,
            Action::RemoveVolume { name } => gone(engine.remove_volume(name).await)?,
            Action::CreateContainer { spec, network } => {
                let id = engine.create_container(spec, network.as_deref()).await?;
                self.made.lock().expect("no step panics").insert(spec.name.clone(), id);
            }
            Action::Upload { container, files } => {
                engine.upload(&self.id(container)?, archive::pack(files)).await?
            }
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
            Action::Expect { container, one_of } => {
                let id = self.id(container)?;
                let looks = one_of.iter().map(|path| engine.path_info(&id, path));
                if !try_join_all(looks).await?.iter().any(Option::is_some) {
                    let words = format!("{} has none of {}", container.name, one_of.join(", "));
                    return Err(error::Error::NotFound(words).into());
                }
            }
            Action::SetRestart { container, restart } => {
                engine.update(&self.id(container)?, &Update { restart: Some(*restart) }).await?;
            }
            Action::Exec { container, command } => {
                let ended = engine.exec(&self.id(container)?, command).await?;
                let failed = |why| error::Error::Engine(format!("`{}`: {why}", command.join(" ")));
                ended.succeeded().map_err(failed)?;
            }
            Action::Drain { node } => self.child()?.drain(node, self.now).await?,
            Action::Uncordon { node } => self.child()?.uncordon(node).await?,
            Action::Configure { node, config } => self.child()?.configure(node, config).await?,
            Action::DeleteNode { node } => self.child()?.delete_node(node).await?,
            Action::ForgetPassword { node } => self.child()?.forget_password(node).await?,
            Action::LeaveEtcd { node } => self.child()?.leave_etcd(node).await?,
            Action::ReleaseLease { name, holder: _, version } => {
                self.child()?.release_lease(name, version).await?;
            }
            Action::SetConfig(wanted) => self.child()?.set_config(wanted).await?,
            Action::RemoveFiles { container, paths } => {
                let ended = engine.exec(&self.id(container)?, &archive::removal(paths)).await?;
                ended.succeeded().map_err(|why| error::Error::Engine(format!("rm: {why}")))?;
            }
            Action::DeleteObject { object, uid } => self.child()?.delete_object(object, uid).await?,
        }
        Ok(())
    }

    fn child(&self) -> Result<&dyn ChildApi, Error> {
        self.child.ok_or(Error::NoChild)
    }

    fn id(&self, target: &Target) -> Result<String, Error> {
        match &target.id {
            Some(id) => Ok(id.clone()),
            None => {
                let made = self.made.lock().expect("no step panics");
                made.get(&target.name).cloned().ok_or_else(|| Error::NotMade(target.name.clone()))
            }
        }
    }
}

/// What is to be absent may be gone already.
fn gone(result: Result<(), error::Error>) -> Result<(), error::Error> {
    match result {
        Err(error::Error::NotFound(_)) => Ok(()),
        other => other,
    }
}
