//! `status`: all about a cluster, and what to do.

use std::io::{self, Write};

use clap::Args;
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::api::ListParams;

use super::{
    management::{Management, Target},
    progress::{self, Outcome},
    tree,
};
use crate::{
    api::LocalCluster,
    cli::{Failure, Result, paint::Paint},
};

/// Whose status to show.
#[derive(Args)]
pub struct Status {
    /// Name of the LocalCluster
    name: String,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(Status { name, target }: Status) -> Result {
    let management = target.connect().await?;
    management.tell(&format!("describe lc {name}"));
    let cluster = management.cluster(&name).await?;
    let events = events(&management, &cluster).await;
    let text = tree::render(&cluster, &events, Timestamp::now(), Paint::of(&io::stdout()));
    write!(io::stdout().lock(), "{text}")?;
    match progress::outcome(&cluster) {
        Outcome::Done if tree::is_ready(&cluster) => Ok(()),
        Outcome::Done => Err(Failure::NotReady(format!(
            "{name} is stopped, as desired; start it with `localcluster start {name}`"
        ))),
        Outcome::Waits(why) => Err(Failure::NotReady(format!("{name} is not Ready: {why}"))),
        Outcome::NeedsUser(why) => Err(Failure::NotReady(format!("{name} needs you: {why}"))),
    }
}

/// Returns the Events of a cluster, or why there are none.
async fn events(management: &Management, cluster: &LocalCluster) -> Result<Vec<Event>, String> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let list = management.api::<Event>().list(&params).await;
    list.map(|list| list.items).map_err(|error| management.told("cannot list Events", &error).to_string())
}
