//! `status`: all about a cluster, and what to do.

use std::io::{self, Write};

use clap::Args;
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::{
    management::{Management, Target},
    output::{self, Format},
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
    /// Prints the object instead. The exit code is the same
    #[arg(short, long)]
    output: Option<Format>,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(Status { name, output, target }: Status) -> Result {
    let management = target.connect().await?;
    let cluster = management.cluster(&name).await?;
    match output {
        Some(format) => {
            management.tell(&format!("get lc {name} -o {}", format.as_str()));
            output::print(&mut io::stdout().lock(), &object(&management, &name).await?, format)?;
        }
        None => {
            management.tell(&format!("describe lc {name}"));
            let events = events(&management, &cluster).await;
            let text = tree::render(&cluster, &events, Timestamp::now(), Paint::of(&io::stdout()));
            write!(io::stdout().lock(), "{text}")?;
        }
    }
    match progress::outcome(&cluster) {
        Outcome::Done if tree::is_ready(&cluster) => Ok(()),
        Outcome::Done => Err(Failure::NotReady(format!(
            "{name} is stopped, as desired; start it with `localcluster start {name}`"
        ))),
        Outcome::Waits(why) => Err(Failure::NotReady(format!("{name} is not Ready: {why}"))),
        Outcome::NeedsUser(why) => Err(Failure::NotReady(format!("{name} needs you: {why}"))),
    }
}

/// Returns the object as the API has it, with fields that this version does not know.
async fn object(management: &Management, name: &str) -> Result<Value> {
    let resource = ApiResource::erase::<LocalCluster>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(management.client(), &management.namespace, &resource);
    let found = api.get(name).await;
    Ok(json!(
        found.map_err(|error| management.told(&format!("cannot read the LocalCluster {name}"), &error))?
    ))
}

/// Returns the Events of a cluster, or why there are none.
async fn events(management: &Management, cluster: &LocalCluster) -> Result<Vec<Event>, String> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let list = management.api::<Event>().list(&params).await;
    list.map(|list| list.items).map_err(|error| management.told("cannot list Events", &error).to_string())
}
