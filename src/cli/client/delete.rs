//! `delete`: clusters, and their contexts.

use clap::Args;
use kube::api::DeleteParams;

use super::{
    contexts,
    dry_run::{self, DryRun},
    management::Target,
    wait::Wait,
};
use crate::{api::LocalCluster, cli::Result};

/// What to delete.
#[derive(Args)]
pub struct Delete {
    /// Names of LocalClusters
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb. A name that does not exist is told before anything is deleted.
pub(super) async fn run(Delete { names, wait, dry, target }: Delete) -> Result {
    let management = target.connect().await?;
    let mut clusters = Vec::new();
    for name in &names {
        clusters.push((name, management.cluster(name).await?.metadata.uid));
    }
    if dry.is_wanted() {
        dry_run::told(&format!("{} would be deleted with all data", names.join(", ")));
        return Ok(());
    }
    let waits = if wait.wait { format!("--timeout={}", wait.seconds()) } else { "--wait=false".to_owned() };
    management.tell(&format!("delete lc {} {waits}", names.join(" ")));
    for (name, uid) in &clusters {
        let only = kube::api::Preconditions { uid: uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        match management.api::<LocalCluster>().delete(name, &params).await {
            Ok(_) => {}
            // Someone else was faster.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                return Err(management.told(&format!("cannot delete the LocalCluster {name}"), &error));
            }
        }
    }
    for (name, uid) in &clusters {
        if wait.wait {
            wait.until_gone(&management, name, uid.as_deref()).await?;
        }
        eprintln!("LocalCluster {name} {}", if wait.wait { "deleted" } else { "is being deleted" });
        contexts::remove(&management, name).await?;
    }
    Ok(())
}
