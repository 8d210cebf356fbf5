//! Observes the Docker host for a plan. Everything here only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::{TryStreamExt, future::try_join_all, stream::FuturesUnordered};
use sha2::{Digest, Sha256};

use super::{files::Files, sizes};
use crate::{
    api::names::ClusterNames,
    docker::{
        engine::{ContainerDetail, Engine, Result, State},
        error::Error,
        spec::{ContainerSpec, FileChange},
    },
    k3s::{self, hosts_file, registries},
    plan::{
        adoption::Adoptions,
        containers::outdated,
        desired::{Desired, Look},
        host_path,
        nodes::health::NodeHealth,
        observed::{Host, Kept, Observed, Reached},
        owner::Owner,
        registries::DIRECTORIES,
        registry::{
            Subject,
            config::Secrets,
            log,
            upstream::{self, LINES, REPORT_FILE, REPORT_LIMIT},
        },
        servers::is_made_for_etcd,
    },
};

/// Lists the engine's objects and inspects the owner's containers. Images, files and the created cluster follow once
/// the required ones are known. What objects adopted has their labels.
///
/// An inspection waits while the engine works on the container, and never returns if that never ends. A listing returns,
/// and has all that matters about the containers of others: an inspection adds the network aliases, of which they have none.
pub async fn engine(engine: &dyn Engine, owner: &Owner, adoptions: &Adoptions) -> Result<Host> {
    let (info, mut containers, networks, volumes) =
        tokio::try_join!(engine.info(), engine.containers(), engine.networks(), engine.volumes())?;
    let is_own =
        |labels| owner.owns(labels) || adoptions.owner(labels).is_some_and(|adopter| adopter == owner);
    let inspecting: FuturesUnordered<_> = containers
        .iter()
        .filter(|c| is_own(&c.labels))
        .map(|c| async move { Ok::<_, Error>((c.id.clone(), engine.inspect(&c.id).await?)) })
        .collect();
    let details: BTreeMap<String, Option<ContainerDetail>> = inspecting.try_collect().await?;
    // A container that was deleted after the listing is left out.
    containers.retain(|c| !matches!(details.get(&c.id), Some(None)));
    let own: BTreeMap<_, _> = details.into_iter().filter_map(|(id, detail)| Some((id, detail?))).collect();
    for container in &mut containers {
        if let Some(detail) = own.get(&container.id) {
            container.clone_from(&detail.container);
        }
    }
    let mut host = Host { engine: info, containers, own, networks, volumes };
    adoptions.read_all(&mut host);
    Ok(host)
}

/// Reads the volumes of nodes that were created and never started.
pub async fn kept(engine: &dyn Engine, host: &Host, names: &ClusterNames) -> Result<BTreeMap<String, Kept>> {
    let new = host.own.values().filter(|d| {
        let node = names.parse_node(&d.container.name).is_some();
        node && d.container.state == State::Created && d.started_at.is_none()
    });
    let looks = new.map(|detail| async {
        let id = detail.container.id.as_str();
        let data = try_join_all(k3s::DATA.map(|path| engine.path_info(id, path))).await?;
        let password = engine.path_info(id, k3s::PASSWORD_FILE).await?.is_some();
        Ok::<_, Error>((id.to_owned(), Kept { data: data.iter().any(Option::is_some), password }))
    });
    let looks: Vec<_> = try_join_all(looks).await?;
    Ok(looks.into_iter().collect())
}

/// Returns the servers that were started and have no data, if etcd has no leader according to another one: only then it
/// matters which of them have joined.
pub async fn without_data(
    engine: &dyn Engine,
    reached: &Reached,
    names: &ClusterNames,
) -> Result<BTreeSet<String>> {
    if !reached.leaders.values().any(|has_leader| !has_leader) {
        return Ok(BTreeSet::new());
    }
    let silent = reached.own.values().filter(|d| {
        let name = &d.container.name;
        let server = names.parse_server(name).is_some() && is_made_for_etcd(d);
        server && d.started_at.is_some() && !reached.leaders.contains_key(name)
    });
    let looks = silent.map(|detail| async {
        let data = k3s::DATA.map(|path| engine.path_info(&detail.container.id, path));
        let is_empty = try_join_all(data).await?.iter().all(Option::is_none);
        Ok::<_, Error>(is_empty.then(|| detail.container.name.clone()))
    });
    Ok(try_join_all(looks).await?.into_iter().flatten().collect())
}

/// Reads the hashes of those container files that are compared with the desired ones.
pub async fn files(files: &Files, observed: &mut Observed, specs: &[&ContainerSpec]) -> Result<()> {
    let mut wanted = Vec::new();
    for spec in specs {
        let Some(detail) = observed.own_named(&spec.name) else { continue };
        let compared = spec.files.iter().filter(|f| is_compared(f.change, detail));
        wanted.extend(compared.map(|f| (detail, f)));
    }
    let read = wanted.into_iter().map(|(detail, file)| async move {
        let content = files.read(detail, &file.path, sizes::CONTENT).await?;
        // Of all files of all containers, no more than the hashes are in memory together.
        let hash = |content: &[u8]| -> [u8; 32] { Sha256::digest(content).into() };
        let is_token = file.change == FileChange::Token;
        let secret = is_token.then(|| content.as_deref().and_then(k3s::token::secret_of).map(hash));
        Ok::<_, Error>((detail.container.id.clone(), file, content.as_deref().map(hash), secret))
    });
    for (id, file, content, secret) in try_join_all(read).await? {
        if let Some(secret) = secret {
            observed.secrets.insert(id.clone(), secret);
        }
        observed.files.insert((id, file.path.clone()), content);
    }
    Ok(())
}

/// Reads the credentials in the registries files of nodes that were started.
pub async fn credentials(files: &Files, observed: &mut Observed, desired: &Desired) -> Result<()> {
    let started = nodes(observed, desired).filter(|d| d.started_at.is_some());
    let read = started.map(|detail| async move {
        let content = files.read(detail, k3s::REGISTRIES_FILE, sizes::CONTENT).await?.unwrap_or_default();
        let file = registries::parse_rendered(&String::from_utf8_lossy(&content)).unwrap_or_default();
        Ok::<_, Error>((detail.container.id.clone(), file.auth()))
    });
    let read: Vec<_> = try_join_all(read).await?;
    observed.registries = read.into_iter().collect();
    Ok(())
}

/// Reads the hosts files of running nodes.
pub async fn hosts(files: &Files, observed: &mut Observed, desired: &Desired) -> Result<()> {
    let running = nodes(observed, desired).filter(|d| d.container.state == State::Running);
    let read = running.map(|detail| async move {
        let content = files.read(detail, hosts_file::FILE, sizes::SYSTEM).await?;
        let text = content.map(|content| String::from_utf8_lossy(&content).into_owned());
        Ok::<_, Error>(text.map(|text| (detail.container.id.clone(), text)))
    });
    let read: Vec<_> = try_join_all(read).await?;
    observed.hosts = read.into_iter().flatten().collect();
    Ok(())
}

/// Reads containerd's registry configuration in ready nodes. K3s may be about to rewrite it in a node that is starting.
pub async fn trees(files: &Files, observed: &mut Observed, desired: &Desired) -> Result<()> {
    let read = working(observed, desired).map(|detail| async move {
        let trees = DIRECTORIES.map(|path| files.tree(detail, path, sizes::REGISTRIES));
        let tree = try_join_all(trees).await?.into_iter().flatten().collect();
        Ok::<_, Error>((detail.container.id.clone(), tree))
    });
    let read: Vec<_> = try_join_all(read).await?;
    observed.trees = read.into_iter().collect();
    Ok(())
}

/// Returns the IDs of the containers of all ready nodes.
pub fn all_working(observed: &Reached) -> BTreeSet<String> {
    observed
        .own
        .values()
        .filter(|d| NodeHealth::of(d, observed).is_ready())
        .map(|d| d.container.id.clone())
        .collect()
}

/// Returns the containers of the nodes that the cluster's API reports as ready.
pub fn working<'a>(
    observed: &'a Observed,
    desired: &'a Desired,
) -> impl Iterator<Item = &'a ContainerDetail> {
    nodes(observed, desired).filter(|d| NodeHealth::of(d, observed).is_ready())
}

/// Returns the containers of desired nodes.
fn nodes<'a>(observed: &'a Observed, desired: &'a Desired) -> impl Iterator<Item = &'a ContainerDetail> {
    let named = |d: &&ContainerDetail| desired.nodes().any(|n| n.container.name == d.container.name);
    observed.own.values().filter(named)
}

/// Reads the types of host paths through the container that was created for it, if it exists.
pub async fn host_paths(engine: &dyn Engine, observed: &mut Observed, look: &Look) -> Result<()> {
    let detail = observed.own_named(&look.looker.name);
    let Some(detail) = detail.filter(|d| d.container.state == State::Created) else { return Ok(()) };
    // A container that was created for another directory mounts something else.
    if outdated(observed, detail, &look.looker, None) {
        return Ok(());
    }
    let id = detail.container.id.clone();
    for (path, prefix) in &look.paths {
        let mut seen = Vec::new();
        for (inside, outside) in host_path::parts(prefix, path) {
            let info = engine.path_info(&id, &inside).await?;
            let goes_on = info.is_some_and(|i| i.is_dir && !i.is_symlink);
            seen.push((outside, info));
            // Links are not followed.
            if !goes_on {
                break;
            }
        }
        observed.host_paths.insert(path.clone(), host_path::judge(path, &seen));
    }
    Ok(())
}

/// Reads the last log lines of a registry that exited, and of its completed garbage collection.
pub async fn registry_logs(
    engine: &dyn Engine,
    observed: &mut Observed,
    secrets: &Secrets,
    registry: &str,
    collector: &str,
) -> Result<()> {
    let mut logs = BTreeMap::new();
    for detail in observed.reached.host.own.values() {
        let name = &detail.container.name;
        let id = detail.container.id.clone();
        let ended = matches!(detail.container.state, State::Exited | State::Restarting);
        let failed = ended && detail.exit_code.is_some_and(|code| !matches!(code, 0 | 137 | 143));
        if name == collector && ended {
            // The count is followed by two lines for each blob; the last lines contain the reason of a failure.
            let lines = engine.logs(&id, if failed { 50 } else { 100_000 }).await?;
            logs.insert(id, lines.into_iter().filter(|line| !secrets.are_in(line)).collect());
        } else if name == registry && failed && detail.error.as_deref().unwrap_or_default().is_empty() {
            let lines = engine.logs(&id, 100).await?;
            let lines: Vec<String> = lines.into_iter().filter(|line| !secrets.are_in(line)).collect();
            observed.log_errors.extend(log::last_words(&lines).map(|error| (id, error)));
        }
    }
    observed.logs = logs;
    Ok(())
}

/// Observes what a cache that runs tells of its upstream registry. Nothing depends on it, so what cannot be read is left out:
/// with some log drivers, Docker has no log to read.
pub async fn upstream(engine: &dyn Engine, observed: &mut Observed, subject: &Subject<'_>) -> Result<()> {
    let Subject { valid, secrets, now, .. } = *subject;
    let running = observed.own_named(&valid.hostname).filter(|d| d.container.state == State::Running);
    let (Some(detail), true) = (running, valid.proxy.is_some()) else { return Ok(()) };
    let id = &detail.container.id;
    let report = engine.read_file(id, REPORT_FILE, REPORT_LIMIT);
    let (report, lines) = futures::join!(report, engine.logs(id, LINES));
    observed.upstream = upstream::told(readable(report)?.as_deref(), &readable(lines)?, secrets, now);
    Ok(())
}

/// Returns what was read, or nothing if the engine responds that it cannot be read.
fn readable<T: Default>(read: Result<T>) -> Result<T> {
    read.or_else(|error| if error.is_away() { Err(error) } else { Ok(T::default()) })
}

/// Reports whether a file of this container can be read and is needed.
fn is_compared(change: FileChange, detail: &ContainerDetail) -> bool {
    match change {
        FileChange::Replace | FileChange::Keep => false,
        FileChange::Hangup => detail.container.state == State::Running,
        FileChange::Recreate | FileChange::Token | FileChange::Live | FileChange::LiveFrom(_) => {
            match detail.container.state {
                State::Running | State::Paused | State::Restarting | State::Exited => true,
                // Its files are written before its first start in any case.
                State::Created => detail.started_at.is_some(),
                State::Removing | State::Dead => false,
            }
        }
    }
}
