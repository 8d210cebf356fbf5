//! The command for people.
#![warn(clippy::panic, clippy::unwrap_used)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Hub(verb) => cli::hub::run(verb, Program::People),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
