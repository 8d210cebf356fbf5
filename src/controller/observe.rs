//! Takes the picture that a plan is made from. Everything here only reads.

use std::collections::BTreeMap;

use futures::{TryStreamExt, future::try_join_all, stream::FuturesUnordered};
use sha2::{Digest, Sha256};

use super::files::Files;
use crate::{
    api::names,
    docker::{
        engine::{Container, ContainerDetail, Engine, Result, State},
        error::Error,
    },
    plan::{
        containers::Owner,
        desired::{ContainerSpec, FileChange},
        observed::Observed,
    },
};

/// The engine, all that is on it, and the owner's containers in full. Images, files and the child come later, once
/// it is known which are needed.
pub async fn engine(engine: &dyn Engine, owner: &Owner) -> Result<Observed> {
    let (info, mut containers, networks, volumes) =
        tokio::try_join!(engine.info(), engine.containers(), engine.networks(), engine.volumes())?;
    // A listing leaves out the names on a network, which matter for the owner's containers and for registries.
    let registry = |c: &Container| {
        c.labels.get(names::MANAGER) == Some(&owner.manager)
            && c.labels.get(names::ROLE).is_some_and(|role| role == "registry")
    };
    let inspecting: FuturesUnordered<_> = containers
        .iter()
        .filter(|c| owner.owns(&c.labels) || registry(c))
        .map(|c| async move { Ok::<_, Error>((c.id.clone(), engine.inspect(&c.id).await?)) })
        .collect();
    let details: BTreeMap<String, Option<ContainerDetail>> = inspecting.try_collect().await?;
    // One that is gone between the listing and the inspection is simply gone.
    containers.retain(|c| !matches!(details.get(&c.id), Some(None)));
    let mut own = BTreeMap::new();
    for container in &mut containers {
        if let Some(Some(detail)) = details.get(&container.id) {
            container.clone_from(&detail.container);
            if owner.owns(&container.labels) {
                own.insert(container.id.clone(), detail.clone());
            }
        }
    }
    Ok(Observed { engine: info, containers, own, networks, volumes, ..Observed::default() })
}

/// The hashes of those files of running containers that may be changed under them.
pub async fn files(files: &Files, observed: &mut Observed, specs: &[&ContainerSpec]) -> Result<()> {
    let mut wanted = Vec::new();
    for spec in specs {
        let Some(detail) = observed.own.values().find(|d| d.container.name == spec.name) else { continue };
        if detail.container.state == State::Running {
            let live = spec.files.iter().filter(|f| f.change == FileChange::Hangup);
            wanted.extend(live.map(|f| (detail, f.path.clone())));
        }
    }
    let read = wanted.into_iter().map(|(detail, path)| async move {
        let content = files.read(detail, &path).await?;
        Ok::<_, Error>(((detail.container.id.clone(), path), content.map(|c| Sha256::digest(c).into())))
    });
    let read: Vec<_> = try_join_all(read).await?;
    observed.files = read.into_iter().collect();
    Ok(())
}
