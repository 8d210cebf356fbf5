//! `hold`: a cluster outlives its time to live.

use clap::Args;
use serde_json::json;

use super::{apply, management::Target};
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
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(Hold { name, off, target }: Hold) -> Result {
    let management = target.connect().await?;
    let value = if off { json!(null) } else { json!("true") };
    apply::change(&management, &name, &json!({"metadata": {"annotations": {HOLD_ANNOTATION: value}}})).await?;
    if off {
        eprintln!("{name} is not held: it is deleted when its time to live, if it has one, is over");
    } else {
        eprintln!("{name} is held: it is not deleted when its time to live is over; `localcluster hold {name} --off` lets it go");
    }
    Ok(())
}
