//! `check`: whether this host is fit, and what is installed is well. It only reads.

mod host;
mod management;

use std::io;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{
    list::columns,
    management::Target,
    output::{self, Data},
};
use crate::{
    cli::{Failure, Result, engine::EngineArgs, paint::Paint},
    docker::bollard::BollardEngine,
    plan::{
        checkup::{self, Finding, Level},
        hub::{desired::HubNames, manifests::Installation},
    },
};

/// What to look at.
#[derive(Args)]
pub struct Check {
    /// Name of the hub
    #[arg(long, default_value = "localcluster", value_name = "NAME", value_parser = HubNames::new)]
    hub: HubNames,
    /// Format. Defaults to a line for each thing that was looked at
    #[arg(short, long)]
    output: Option<Data>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(args: Check) -> Result {
    let found = all(&args.engine, &args.target, &args.hub).await?;
    let mut out = io::stdout().lock();
    match args.output {
        Some(format) => output::print(&mut out, &json!(found), format.into())?,
        None => io::Write::write_all(&mut out, rows(&found, Paint::of(&io::stdout())).as_bytes())?,
    }
    let bad = found.iter().filter(|finding| finding.level == Level::Error).count();
    if bad == 0 {
        return Ok(());
    }
    Err(Failure::NotReady(format!("{bad} of {} checks failed; correct what they say", found.len())))
}

/// Looks at everything.
pub(super) async fn all(args: &EngineArgs, target: &Target, names: &HubNames) -> Result<Vec<Finding>> {
    let engine = args.engine()?;
    let mut found = host::look(&engine, &args.docker_host, names).await;
    let hub = hub(&engine, names).await;
    let has_hub = hub.as_ref().is_ok_and(|hub| !hub.is_empty());
    found.extend(hub.unwrap_or_default());
    found.extend(management::look(target, has_hub).await);
    Ok(found)
}

/// Looks at the hub; fails with the engine, of which there is a finding already.
async fn hub(engine: &BollardEngine, names: &HubNames) -> crate::docker::engine::Result<Vec<Finding>> {
    use crate::cli::hub::observe;
    let all = Installation::of_this_version();
    let host = observe::host(engine, names, &[]).await?;
    let api = observe::api(engine, &host, all).await?;
    Ok(checkup::hub(names, (&host, &api), all, Timestamp::now()))
}

fn rows(found: &[Finding], paint: Paint) -> String {
    let row = |finding: &Finding| {
        let level = finding.level.as_str();
        let level = match finding.level {
            Level::Ok => paint.good(level),
            Level::Unknown | Level::Warning => paint.open(level),
            Level::Error => paint.bad(level),
        };
        vec![level, finding.check.to_owned(), finding.message.clone()]
    };
    columns(&found.iter().map(row).collect::<Vec<_>>())
}
