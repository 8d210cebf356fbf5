//! `logs`: what a node writes.

use std::io::{self, ErrorKind, Write};

use clap::Args;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, api::ListParams};

use super::{
    containers::Containers,
    management::{Management, Target},
    wait,
};
use crate::{
    api::LocalCluster,
    cli::{Failure, Result, engine::EngineArgs},
    docker::direct::{LogQuery, Written},
};

/// Whose log to print.
#[derive(Args)]
pub struct Logs {
    /// Name of the LocalCluster. Defaults to the only one in the namespace
    name: Option<String>,
    /// Node, such as server-0, agent-1 or serverlb for the load balancer. Defaults to server-0
    node: Option<String>,
    /// Goes on with what is written from now on, until the node stops
    #[arg(short, long)]
    follow: bool,
    /// Only what is newer than a duration, such as 10m, or than a time in RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// Only this number of lines from the end
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Begin of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(SignedDuration),
    At(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    let ago =
        wait::duration(text).ok().and_then(|length| SignedDuration::try_from(length).ok()).map(Since::Ago);
    ago.or_else(|| text.parse().ok().map(Since::At)).ok_or_else(|| {
        "it is neither a duration nor a time; write such as 10m, 1h30m or 2026-11-30T09:00:00Z".to_owned()
    })
}

impl Since {
    /// Returns the time as Docker reads it.
    fn seconds(self, now: Timestamp) -> i32 {
        let at = match self {
            Self::Ago(length) => now.saturating_sub(length).unwrap_or(Timestamp::UNIX_EPOCH),
            Self::At(at) => at,
        };
        i32::try_from(at.as_second().max(0)).unwrap_or(i32::MAX)
    }
}

/// Runs the verb.
pub(super) async fn run(args: Logs) -> Result {
    let management = args.target.connect().await?;
    let cluster = match &args.name {
        Some(name) => management.cluster(name).await?,
        None => only(&management).await?,
    };
    let containers = Containers::of(&args.engine, &management, &cluster).await?;
    let node = containers.choose(args.node.as_deref())?;
    let since = args.since.map(|since| since.seconds(Timestamp::now()));
    let query = LogQuery { follow: args.follow, since, tail: args.tail };
    management.tell_docker(&told(&query, &node.name));
    let mut records = containers.engine.follow_logs(&node.id, query).await?;
    while let Some(record) = records.next().await {
        let written = match record? {
            Written::Out(bytes) => write(&mut io::stdout().lock(), &bytes),
            Written::Err(bytes) => write(&mut io::stderr().lock(), &bytes),
        };
        match written {
            Ok(()) => {}
            // Who reads it has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn told(query: &LogQuery, name: &str) -> String {
    let follow = if query.follow { " -f" } else { "" };
    let since = query.since.map(|since| format!(" --since={since}")).unwrap_or_default();
    let tail = query.tail.map(|tail| format!(" --tail={tail}")).unwrap_or_default();
    format!("logs{follow}{since}{tail} {name}")
}

/// Writes at once: the next piece may be long in coming.
pub(super) fn write(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// Returns the only cluster of the namespace.
async fn only(management: &Management) -> Result<LocalCluster> {
    let list = management.api::<LocalCluster>().list(&ListParams::default()).await;
    let mut all = list.map_err(|error| management.told("cannot list LocalClusters", &error))?.items;
    let Management { namespace, context, .. } = management;
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(Failure::Failed(format!(
            "no LocalCluster: the namespace {namespace} of the context {context} has none; choose another with -n or \
             --context, or see `localcluster list -A`"
        ))),
        _ => {
            let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
            Err(Failure::Failed(format!(
                "the namespace {namespace} has several LocalClusters: name one of {}",
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_begins_at_a_time_or_some_time_ago() {
        let now = "2026-11-30T10:00:00Z".parse::<Timestamp>().unwrap();
        let at = |text| since(text).unwrap().seconds(now);
        assert_eq!(at("1h"), at("2026-11-30T09:00:00Z"));
        assert_eq!(i64::from(at("90s")), now.as_second() - 90);
        assert_eq!((at("999999h"), at("9999-01-01T00:00:00Z")), (0, i32::MAX));
        for bad in ["", "yesterday", "5"] {
            assert!(since(bad).unwrap_err().contains("such as 10m"), "{bad}");
        }
    }

    #[test]
    fn it_is_told_as_docker_writes_it() {
        let query = LogQuery { follow: true, since: Some(5), tail: Some(3) };
        assert_eq!(told(&query, "c"), "logs -f --since=5 --tail=3 c");
        assert_eq!(told(&LogQuery::default(), "c"), "logs c");
    }
}
