//! Observations that depend on the desired state of a LocalCluster: images, files, and logs of failing nodes.

use std::collections::BTreeSet;

use futures::future::try_join_all;

use super::{context::Context, observe, times};
use crate::{
    api::RESET_QUORUM_ANNOTATION,
    docker::{engine::State, error::Error as DockerError},
    k3s,
    plan::{
        desired::Desired,
        observed::{Observed, Reached},
    },
    time::after,
};

/// Observes the desired images and files of the object with this UID.
pub async fn details(
    (ctx, uid): (&Context, &str),
    reached: Reached,
    desired: &Desired,
    token: &[u8],
) -> Result<Observed, DockerError> {
    let mut observed = Observed::from(reached);
    let specs: Vec<_> = desired.nodes().map(|n| &n.container).chain([&desired.load_balancer]).collect();
    let images: BTreeSet<&str> = specs.iter().map(|s| s.image.as_str()).collect();
    last_words(ctx, &mut observed, token).await?;
    let states = images.into_iter().map(|image| async move {
        Ok::<_, DockerError>((image.to_owned(), ctx.pulls.state(uid, image).await?))
    });
    observed.images = try_join_all(states).await?.into_iter().collect();
    observe::credentials(&ctx.files, &mut observed, desired).await?;
    observe::hosts(&ctx.files, &mut observed, desired).await?;
    if let Some(look) = &desired.mounts.look {
        observe::host_paths(&*ctx.engine, &mut observed, look).await?;
    }
    observe::files(&ctx.files, &mut observed, &specs).await?;
    Ok(observed)
}

/// Reads the last log lines of nodes that exited. K3s does not log its token; lines with it are dropped as a
/// precaution.
async fn last_words(ctx: &Context, observed: &mut Observed, token: &[u8]) -> Result<(), DockerError> {
    let token = String::from_utf8_lossy(token);
    let working: BTreeSet<String> = observe::all_working(observed);
    for detail in observed.reached.host.own.values() {
        let id = &detail.container.id;
        // It is running for a moment between two exits.
        let young = detail.started_at.is_some_and(|at| (ctx.now)() < after(at, times::TO_REPORT));
        let starts = !working.contains(id) && detail.container.state == State::Running && !young;
        if starts && observed.child.state().is_some() {
            let lines = ctx.logs.last(detail).await?;
            if detail.started_at.is_some_and(|started| k3s::log::rejected_since(&lines, started)) {
                observed.rejected.insert(id.clone());
            }
        }
        let loops =
            detail.container.state == State::Running && detail.started_again > 0 && !working.contains(id);
        let failed = detail.container.state == State::Restarting
            || (detail.container.state == State::Exited
                && detail.exit_code.is_some_and(|c| c != 0 && c != 137));
        if detail.container.state == State::Exited
            && detail.container.labels.contains_key(RESET_QUORUM_ANNOTATION)
        {
            let lines = ctx.logs.last(detail).await?;
            let lines = lines.into_iter().filter(|line| !line.contains(&*token)).collect();
            observed.logs.insert(id.clone(), lines);
        } else if loops || (failed && detail.error.as_deref().unwrap_or_default().is_empty()) {
            let mut lines = ctx.logs.last(detail).await?;
            lines.retain(|line| !line.contains(&*token));
            if let Some(words) = k3s::log::refused_arguments(&lines) {
                observed.refused_arguments.insert(id.clone(), words);
            }
            if failed {
                observed.log_errors.extend(k3s::log::last_words(&lines).map(|error| (id.clone(), error)));
            }
        }
    }
    Ok(())
}
