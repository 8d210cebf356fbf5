//! `kubeconfig`: contexts of clusters in the user's kubeconfig.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::management::{Management, Target};
use crate::{
    api::LocalCluster,
    cli::{
        Failure, Result,
        kubeconfig::{Changed, Entry, Merge},
    },
};

/// A verb about kubeconfigs.
#[derive(Subcommand)]
pub enum Verb {
    /// Prints the kubeconfig of a cluster
    #[command(after_help = "Example:\n  localcluster kubeconfig get dev > dev.kubeconfig")]
    Get(Get),
    /// Merges the context of a cluster into the kubeconfig
    #[command(after_help = "Example:\n  localcluster kubeconfig merge dev --as test")]
    Merge(Merged),
    /// Merges the context of a cluster and makes it the current one
    #[command(after_help = "Example:\n  localcluster kubeconfig use dev")]
    Use(Merged),
}

/// Whose kubeconfig to print.
#[derive(Args)]
pub struct Get {
    /// Name of the LocalCluster
    name: String,
    #[command(flatten)]
    target: Target,
}

/// What to merge.
#[derive(Args)]
pub struct Merged {
    /// Name of the LocalCluster
    name: String,
    /// Name of the context. Defaults to k3d-<name of the cluster on the Docker host>
    #[arg(long = "as", value_name = "CONTEXT")]
    name_it: Option<String>,
    /// Replaces a context of the same name whoever made it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs a verb.
pub(super) async fn run(verb: Verb) -> Result {
    match verb {
        Verb::Get(Get { name, target }) => {
            let management = target.connect().await?;
            let cluster = management.cluster(&name).await?;
            tell(&management, &cluster);
            print!("{}", management.kubeconfig(&name, &cluster).await?);
            Ok(())
        }
        Verb::Merge(args) => merged(args, false).await,
        Verb::Use(args) => merged(args, true).await,
    }
}

async fn merged(Merged { name, name_it, force, target }: Merged, switch: bool) -> Result {
    let management = target.connect().await?;
    let cluster = management.cluster(&name).await?;
    merge(&management, &cluster, name_it.as_deref(), Merge { switch, force }).await.map(drop)
}

fn tell(management: &Management, cluster: &LocalCluster) {
    let secret = cluster.status.as_ref().and_then(|status| status.kubeconfig_secret.as_deref());
    let secret = secret.unwrap_or_default();
    management.tell(&format!("get secret {secret} -o go-template='{{{{.data.kubeconfig | base64decode}}}}'"));
}

/// Merges the context of a cluster, tells where, and returns its name.
pub(super) async fn merge(
    management: &Management,
    cluster: &LocalCluster,
    name_it: Option<&str>,
    how: Merge,
) -> Result<String> {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    tell(management, cluster);
    let file = management.kubeconfig(name, cluster).await?;
    let mut entry = Entry::parse(&file, management.origin(name))?;
    entry.via = Some(management.context.clone());
    if let Some(context) = name_it {
        entry = entry.renamed(context);
    }
    let changed = management.files.merge(&entry, how).await?;
    told(&changed, &entry.name, management.files.paths());
    let status = cluster.status.as_ref().and_then(|status| status.kubeconfig.as_ref());
    if let Some(token) = status {
        eprintln!(
            "its token expires at {}; `localcluster kubeconfig merge {name}` fetches the next one",
            token.expires_at.0
        );
    }
    Ok(entry.name)
}

/// Tells what became of a context.
fn told(changed: &Changed, context: &str, paths: &[PathBuf]) {
    let files: Vec<String> = if changed.written.is_empty() { paths } else { &changed.written }
        .iter()
        .map(|path| home(path))
        .collect();
    let current = changed.current.as_deref() == Some(context);
    let current = if current { ", the current context" } else { "" };
    eprintln!("context {context} in {}{current}", files.join(" and "));
    for backup in &changed.backups {
        eprintln!("a copy of the file before this command's first change: {}", home(backup));
    }
}

/// Returns a path as a user writes it.
fn home(path: &Path) -> String {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let below = home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned));
    below.map_or_else(|| path.display().to_string(), |below| format!("~/{}", below.display()))
}

/// Removes all contexts that were merged for a cluster.
pub(super) async fn remove(management: &Management, name: &str) -> Result {
    let origin = management.origin(name);
    for (context, of) in management.files.merged()? {
        if of == origin {
            let changed = management.files.remove(&context, &origin).await?;
            let current = changed.current.map(|now| format!("; the current context is {now}"));
            eprintln!("context {context} removed{}", current.unwrap_or_default());
        }
    }
    Ok(())
}

/// Returns the failure to merge the context of a cluster that was created.
pub(super) fn not_merged(name: &str, failure: &Failure) -> Failure {
    Failure::Failed(format!(
        "{name} is Ready, but {failure}; `localcluster kubeconfig merge {name}` merges its context later, with --as \
         under another name"
    ))
}
