//! `report`: an archive for those who help.

mod bundle;
mod docker;
mod management;

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use self::bundle::Bundle;
use super::{check, management::Target};
use crate::{
    cli::{Result, engine::EngineArgs},
    plan::hub::desired::HubNames,
};

/// What to collect.
#[derive(Args)]
pub struct Report {
    /// File to write, which must not exist. Defaults to localcluster-report-<time>.tar.gz in this directory
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Collects the objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Name of the hub
    #[arg(long, default_value = "localcluster", value_name = "NAME", value_parser = HubNames::new)]
    hub: HubNames,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb. What cannot be collected is told in the archive, and is no failure: something is broken where a report is
/// needed.
pub(super) async fn run(args: Report) -> Result {
    let now = Timestamp::now();
    let file = args.output.clone().unwrap_or_else(|| {
        let time: String = now.strftime("%Y%m%d-%H%M%S").to_string();
        format!("localcluster-report-{time}.tar.gz").into()
    });
    let mut bundle = Bundle::default();
    bundle.json("report.json", json!({"version": env!("CARGO_PKG_VERSION"), "time": now.to_string()}));
    match check::all(&args.engine, &args.target, &args.hub).await {
        Ok(found) => bundle.json("check.json", json!(found)),
        Err(why) => bundle.missing("check.json", &why),
    }
    let uids = match args.target.connect().await {
        Ok(management) => management::collect(&mut bundle, &management, args.all_namespaces).await,
        Err(why) => {
            bundle.missing("management/", &why);
            Vec::new()
        }
    };
    match args.engine.engine() {
        Ok(engine) => docker::collect(&mut bundle, &engine, (&uids, &args.hub)).await,
        Err(why) => bundle.missing("docker/", &why),
    }
    let (missing, archive) = (bundle.number_missing(), bundle.archive()?);
    write(&file, &archive)?;
    let missing = match missing {
        0 => String::new(),
        number => format!("; {number} things could not be collected, see missing.txt in it"),
    };
    eprintln!("{} written{missing}", file.display());
    eprintln!(
        "it has no Secrets, and no values of environment variables; look through it before you send it to others"
    );
    Ok(())
}

fn write(file: &Path, archive: &[u8]) -> Result {
    let failed = |e: std::io::Error| {
        format!("cannot write {}: {e}; name another file with -o, which must not exist", file.display())
    };
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    open.write_all(archive).map_err(failed)?;
    Ok(())
}
