//! `hold`: a cluster outlives its time to live.

use clap::Args;
use serde_json::json;

use super::{
    apply,
    dry_run::{self, DryRun},
    management::Target,
};
use crate::{api::HOLD_ANNOTATION, cli::Result};

/// What to hold.
#[derive(Args)]
pub struct Hold {
    /// Name of the LocalCluster
    name: String,
    /// Lets it go again: it is deleted at once if its time to live is over
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(Hold { name, off, dry, target }: Hold) -> Result {
    let management = target.connect().await?;
    if dry.is_wanted() {
        management.cluster(&name).await?;
        dry_run::told(&format!("{name} would {}be held", if off { "no longer " } else { "" }));
        return Ok(());
    }
    let value = if off { json!(null) } else { json!("true") };
    apply::change(&management, &name, &json!({"metadata": {"annotations": {HOLD_ANNOTATION: value}}}))
        .await?;
    if off {
        eprintln!("{name} is not held: it is deleted when its time to live, if it has one, is over");
    } else {
        eprintln!(
            "{name} is held: it is not deleted when its time to live is over; `localcluster hold {name} --off` lets it go"
        );
    }
    Ok(())
}
