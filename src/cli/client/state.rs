//! `start` and `stop`.

use clap::Args;

use super::{
    apply,
    dry_run::{self, DryRun},
    management::Target,
    wait::Wait,
};
use crate::{api::local_cluster::ClusterState, cli::Result};

/// What to start or to stop.
#[derive(Args)]
pub struct Change {
    /// Name of the LocalCluster
    name: String,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(Change { name, wait, dry, target }: Change, state: ClusterState) -> Result {
    let management = target.connect().await?;
    let (condition, done) = match state {
        ClusterState::Running => ("Ready", "is Ready"),
        ClusterState::Stopped => ("Stopped", "is stopped"),
    };
    if dry.is_wanted() {
        management.cluster(&name).await?;
        let done = if state == ClusterState::Running { "started" } else { "stopped" };
        dry_run::told(&format!("{name} would be {done}"));
        return Ok(());
    }
    apply::state(&management, &name, state).await?;
    if !wait.wait {
        return Ok(());
    }
    management.tell(&format!("wait --for=condition={condition} lc/{name} --timeout={}", wait.seconds()));
    let (_, took) = wait.until_desired(&management, &name).await?;
    eprintln!("{name} {done} after {} s", took.as_secs());
    Ok(())
}
