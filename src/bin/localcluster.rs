//! The command for people. As `kubectl-localcluster` on the path, kubectl runs it as its plugin `kubectl localcluster`.
#![warn(clippy::panic, clippy::unwrap_used)]

use std::{env, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use localcluster_operator::cli::{self, hub::Program};

/// K3s clusters and image registries on a Docker host
#[derive(Parser)]
#[command(name = "localcluster", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Hub(cli::hub::Verb),
    #[command(flatten)]
    Client(cli::client::Verb),
}

fn main() -> ExitCode {
    let command = Cli::command().bin_name(called(env::args_os().next().as_ref().map(Path::new)));
    let parsed = Cli::from_arg_matches(&command.clone().get_matches());
    match parsed.unwrap_or_else(|error| error.exit()).command {
        Command::Hub(verb) => match cli::hub::run(verb, Program::People) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Client(verb) => cli::client::execute(verb, command),
    }
}

/// Returns how the user called the command.
fn called(program: Option<&Path>) -> &'static str {
    let name = program.and_then(Path::file_name).and_then(|name| name.to_str());
    if name.is_some_and(|name| name.starts_with("kubectl-")) {
        "kubectl localcluster"
    } else {
        "localcluster"
    }
}
