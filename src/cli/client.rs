//! The verbs that speak to a management cluster.

mod adopt;
mod apply;
mod check;
mod containers;
mod contexts;
mod convert;
mod create;
mod delete;
mod dry_run;
mod hold;
mod import;
mod input;
mod list;
mod logs;
mod management;
mod output;
mod progress;
pub mod registry;
mod report;
mod shell;
mod spec;
mod state;
mod status;
mod terminal;
mod tree;
mod wait;

use std::{io, process::ExitCode};

use clap::Subcommand;
use clap_complete::Shell;

use super::{Failure, Result};
use crate::api::local_cluster::ClusterState;

/// Field manager of everything that the command writes.
pub(crate) const FIELD_MANAGER: &str = "localcluster";

/// A verb.
#[derive(Subcommand)]
pub enum Verb {
    /// Creates a cluster, waits until it is Ready, and makes it the current context of kubectl
    #[command(
        after_help = "Examples:\n  localcluster create dev --agents 2 -p 8080:80\n  localcluster create dev --dry-run=client > dev.yaml\n  localcluster create -f dev.yaml"
    )]
    Create(Box<create::Create>),
    /// Lists clusters
    #[command(visible_alias = "ls", after_help = "Example:\n  localcluster list -A -o wide")]
    List(list::List),
    /// Shows conditions, nodes, ports, registries and Events of a cluster, and what to do. Exits with 0 only if it is Ready
    #[command(after_help = "Example:\n  localcluster status dev")]
    Status(status::Status),
    /// Deletes clusters with all data, and their contexts from the kubeconfig
    #[command(after_help = "Example:\n  localcluster delete dev test")]
    Delete(delete::Delete),
    /// Starts a stopped cluster
    #[command(after_help = "Example:\n  localcluster start dev")]
    Start(state::Change),
    /// Stops a cluster; its data, ports and addresses are kept
    #[command(after_help = "Example:\n  localcluster stop dev")]
    Stop(state::Change),
    /// Prints the log of a node, which has that of K3s, its kubelet and containerd
    #[command(after_help = "Example:\n  localcluster logs dev agent-0 -f --since 10m")]
    Logs(logs::Logs),
    /// Runs a command in a node, or a shell. Exits with the code of the command
    #[command(
        after_help = "Examples:\n  localcluster shell dev\n  localcluster shell dev agent-0 -- crictl ps"
    )]
    Shell(shell::Shell),
    /// Brings images into all nodes of a cluster: of this Docker Engine, or from archives of `docker save`
    ///
    /// They are added to spec.preloadImages, so that nodes that come later have them too.
    #[command(
        after_help = "Examples:\n  localcluster import-image dev app:1\n  localcluster import-image dev ./app.tar"
    )]
    ImportImage(import::Import),
    /// Keeps a cluster from being deleted when its time to live is over
    #[command(after_help = "Example:\n  localcluster hold dev")]
    Hold(hold::Hold),
    /// Takes over clusters and registries on the Docker host whose objects were lost; lists them without arguments
    ///
    /// For a hub that was lost or made anew, and for objects that were restored under another UID. Containers run on.
    #[command(
        after_help = "Examples:\n  localcluster adopt\n  localcluster adopt --all\n  localcluster adopt dev -f dev.yaml"
    )]
    Adopt(Box<adopt::Adopt>),
    /// Prints a k3d, kind or ctlptl file as a LocalCluster and Registries
    #[command(after_help = "Example:\n  localcluster convert k3d.yaml | localcluster create -f -")]
    Convert(convert::Convert),
    /// Checks whether the Docker host is fit for clusters and what is installed is well, and says how to correct what is not
    #[command(after_help = "Example:\n  localcluster check")]
    Check(check::Check),
    /// Collects what others need to help: objects, Events, logs and descriptions of containers, without secrets
    #[command(after_help = "Example:\n  localcluster report -o report.tar.gz")]
    Report(report::Report),
    /// Images of registries and caches as archives, for machines without a network
    #[command(subcommand)]
    Registry(registry::Verb),
    /// Kubeconfigs of clusters
    #[command(subcommand)]
    Kubeconfig(contexts::Verb),
    /// Prints a script that completes commands in a shell
    #[command(
        after_help = "Example:\n  localcluster completion bash > ~/.local/share/bash-completion/completions/localcluster"
    )]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Runs a verb of a command, and returns its exit code.
#[tokio::main(flavor = "current_thread")]
pub async fn execute(verb: Verb, command: clap::Command) -> ExitCode {
    match run(verb, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A command in a container has said itself why it failed.
            if !matches!(failure, Failure::Ended(_)) {
                eprintln!("error: {failure}");
            }
            failure.code()
        }
    }
}

async fn run(verb: Verb, mut command: clap::Command) -> Result {
    match verb {
        Verb::Create(args) => create::run(*args).await,
        Verb::List(args) => list::run(args).await,
        Verb::Status(args) => status::run(args).await,
        Verb::Delete(args) => delete::run(args).await,
        Verb::Start(args) => state::run(args, ClusterState::Running).await,
        Verb::Stop(args) => state::run(args, ClusterState::Stopped).await,
        Verb::Logs(args) => logs::run(args).await,
        Verb::Shell(args) => shell::run(args).await,
        Verb::ImportImage(args) => import::run(args).await,
        Verb::Hold(args) => hold::run(args).await,
        Verb::Adopt(args) => adopt::run(*args).await,
        Verb::Convert(args) => convert::run(&args),
        Verb::Check(args) => check::run(args).await,
        Verb::Report(args) => report::run(args).await,
        Verb::Registry(verb) => registry::run(verb).await,
        Verb::Kubeconfig(verb) => contexts::run(verb).await,
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut command, "localcluster", &mut io::stdout());
            Ok(())
        }
    }
}
