//! `up` and `down`: the hub, which holds LocalClusters and Registries where there is no other management cluster.

mod context;
pub mod drive;
mod execute;
pub(super) mod observe;

use std::io::Write;

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};

use super::engine::EngineArgs;
use crate::{
    config::{self, Config},
    docker::{engine::Engine, host::DockerHost},
    k3s::versions,
    plan::hub::{
        desired::{HubNames, Wanted},
        down::Clusters,
    },
};

/// Image of the operator of this version. A release names the registry that it is published in when it compiles the program.
const OPERATOR_IMAGE: &str = match option_env!("LOCALCLUSTER_OPERATOR_IMAGE") {
    Some(image) => image,
    None => concat!("localcluster-operator:", env!("CARGO_PKG_VERSION")),
};

/// Verbs about the hub.
#[derive(Subcommand)]
pub enum Verb {
    /// Creates, repairs or upgrades a hub: an API for LocalClusters and Registries, and the operator, as two containers
    ///
    /// The flags are the whole state that is wanted: without a flag, its default applies again. Only the port of the API
    /// stays. What is as wanted already is not touched.
    #[command(after_help = "Example:\n  localcluster up")]
    Up(Box<Up>),
    /// Removes a hub
    #[command(after_help = "Example:\n  localcluster down --delete-clusters")]
    Down(Down),
}

/// Settings of both verbs.
#[derive(Args, Debug)]
struct Hub {
    /// Name of the hub: that of its context in the kubeconfig, and what the names of its containers begin with
    #[arg(long, default_value = "localcluster", value_name = "NAME", value_parser = HubNames::new)]
    name: HubNames,

    #[command(flatten)]
    engine: EngineArgs,
}

/// Settings of `up`.
#[derive(Args, Debug)]
pub struct Up {
    #[command(flatten)]
    hub: Hub,

    /// K3s image of the hub. Defaults to the K3s version of clusters that do not specify one
    #[arg(long, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    image: Option<String>,

    /// Port of the API on 127.0.0.1. Defaults to the present one, or a free one from 16443 on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    api_port: Option<u16>,

    /// Image of the operator. Defaults to the one of this version
    #[arg(long, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    operator_image: Option<String>,

    /// Argument of the operator, for example --operator-arg=--port-range=21000-21999. May be repeated
    #[arg(long = "operator-arg", value_name = "ARG", allow_hyphen_values = true)]
    operator_args: Vec<String>,

    /// Socket of the Docker Engine on its host, which the operator uses. Defaults to the path in --docker-host, or
    /// /var/run/docker.sock
    #[arg(long, value_name = "PATH", value_parser = absolute)]
    socket: Option<String>,

    /// Prints the kubeconfig of the hub to standard output instead of merging it
    #[arg(long)]
    print_kubeconfig: bool,
}

/// Settings of `down`.
#[derive(Args, Debug)]
pub struct Down {
    #[command(flatten)]
    hub: Hub,

    /// Delete the LocalClusters and Registries of the hub first, with their data
    #[arg(long, conflicts_with = "keep_clusters")]
    delete_clusters: bool,

    /// Leave the containers of LocalClusters and Registries running without a hub, which no hub will manage again
    #[arg(long)]
    keep_clusters: bool,
}

/// The program that has the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `localcluster`, on a user's machine.
    People,
    /// The operator's binary, in a container of its image: it has no home directory with a kubeconfig.
    Operator,
}

/// Runs a verb to its end.
pub fn run(verb: Verb, program: Program) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start: {e}"))?;
    runtime.block_on(async {
        match verb {
            Verb::Up(up) => bring_up(*up, program).await,
            Verb::Down(down) => take_down(down, program).await,
        }
    })
}

/// Prints a line of progress. Standard output is for what other programs read.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

async fn bring_up(up: Up, program: Program) -> Result<(), String> {
    let engine = up.hub.engine.engine()?;
    let print = up.print_kubeconfig;
    let wanted = up.wanted(&engine, program).await?;
    let done = drive::up(&engine, &wanted, &say).await?;
    let name = wanted.names.hub();
    let mut changed = done.changed;
    match (print, program) {
        (true, _) => {
            let written = std::io::stdout().lock().write_all(done.kubeconfig.as_bytes());
            written.map_err(|e| format!("cannot print the kubeconfig: {e}"))?;
        }
        (false, Program::People) => changed |= context::merge(&engine, name, &done.kubeconfig).await?,
        (false, Program::Operator) => {}
    }
    let state = if changed { "is ready" } else { "is ready; nothing had to be changed" };
    say(&format!("hub {name} {state}"));
    match (print, program) {
        (true, _) => {}
        (false, Program::People) => {
            say(&format!("next: localcluster create dev --context {name}"));
        }
        (false, Program::Operator) => say(&format!(
            "next: repeat the command with --print-kubeconfig, which changes nothing, and redirect its output to a file: it \
             is the kubeconfig of hub {name}"
        )),
    }
    Ok(())
}

async fn take_down(down: Down, program: Program) -> Result<(), String> {
    let engine = down.hub.engine.engine()?;
    let (names, clusters) = (&down.hub.name, down.clusters());
    let mut changed = drive::down(&engine, names, clusters, &say).await?;
    let name = names.hub();
    if program == Program::People {
        changed |= context::remove(&engine, name, clusters).await?;
    }
    if !changed {
        say(&format!("there is no hub {name}; nothing had to be removed"));
        return Ok(());
    }
    say(&format!("hub {name} is removed"));
    if clusters == Clusters::Keep {
        say("containers of its clusters and registries, if any, keep running: `docker ps` shows them");
    }
    Ok(())
}

impl Up {
    async fn wanted(self, engine: &dyn Engine, program: Program) -> Result<Wanted, String> {
        let own = match program {
            Program::Operator if self.operator_image.is_none() => own_image(engine).await,
            Program::Operator | Program::People => None,
        };
        self.with(own)
    }

    fn with(self, own_image: Option<String>) -> Result<Wanted, String> {
        checked(&self.operator_args)?;
        Ok(Wanted {
            image: self.image.unwrap_or_else(|| {
                format!("{}:{}", config::NODE_IMAGE_REPOSITORY, versions::tag(config::DEFAULT_VERSION))
            }),
            api_port: self.api_port,
            operator_image: self.operator_image.or(own_image).unwrap_or_else(|| OPERATOR_IMAGE.to_owned()),
            operator_args: self.operator_args,
            socket: self.socket.unwrap_or_else(|| socket(&self.hub.engine.docker_host)),
            names: self.hub.name,
        })
    }
}

impl Down {
    fn clusters(&self) -> Clusters {
        match (self.delete_clusters, self.keep_clusters) {
            (true, _) => Clusters::Delete,
            (false, true) => Clusters::Keep,
            (false, false) => Clusters::Refuse,
        }
    }
}

/// Returns the image of the container that this process runs in.
async fn own_image(engine: &dyn Engine) -> Option<String> {
    let id = std::env::var("HOSTNAME").ok()?;
    Some(engine.inspect(&id).await.ok()??.container.image)
}

/// Returns the path of the engine's socket on the engine's host. Docker Desktop's sockets below a home directory lead to
/// one in its virtual machine.
fn socket(host: &DockerHost) -> String {
    match host {
        DockerHost::Socket(path) if !path.iter().any(|part| part == ".docker") => path.display().to_string(),
        DockerHost::Socket(_) | DockerHost::Tcp(_) => "/var/run/docker.sock".to_owned(),
    }
}

fn absolute(path: &str) -> Result<String, String> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Err("must be an absolute path, for example /var/run/docker.sock".to_owned())
}

/// Checks the operator's arguments, which it would otherwise refuse at each start.
fn checked(args: &[String]) -> Result<(), String> {
    /// The operator's `run`.
    #[derive(Parser)]
    #[command(no_binary_name = true, disable_help_flag = true)]
    struct Run {
        #[command(flatten)]
        _config: Config,
    }
    Run::try_parse_from(args).map(drop).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        format!("--operator-arg: {first}; `localcluster-operator run --help` lists all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        verb: Verb,
    }

    fn up(args: &[&str]) -> Result<Wanted, String> {
        let Verb::Up(up) = Cli::try_parse_from([&["localcluster", "up"], args].concat()).unwrap().verb else {
            panic!("another verb")
        };
        up.with(None)
    }

    #[test]
    fn defaults_are_those_of_this_version() {
        let wanted = up(&["--docker-host=unix:///run/user/1000/docker.sock"]).unwrap();
        assert_eq!(wanted.image, "docker.io/rancher/k3s:v1.36.2-k3s1");
        assert_eq!(wanted.operator_image, OPERATOR_IMAGE);
        assert_eq!((wanted.api_port, wanted.socket.as_str()), (None, "/run/user/1000/docker.sock"));
    }

    #[test]
    fn the_socket_is_that_of_the_engines_host() {
        let of = |host: &str| socket(&host.parse().unwrap());
        assert_eq!(of("unix:///var/run/docker.sock"), "/var/run/docker.sock");
        assert_eq!(of("unix:///Users/me/.docker/run/docker.sock"), "/var/run/docker.sock");
        assert_eq!(of("tcp://10.0.0.5:2376"), "/var/run/docker.sock");
    }

    #[test]
    fn arguments_of_the_operator_are_checked() {
        let wanted = up(&["--operator-arg=--resync=1h", "--operator-arg=--port-range=1-2"]).unwrap();
        assert_eq!(wanted.operator_args, ["--resync=1h", "--port-range=1-2"]);
        let told = up(&["--operator-arg=--port-range=2-1"]).unwrap_err();
        assert!(told.contains("--port-range") && told.contains("FIRST-LAST"), "{told}");
        let told = up(&["--operator-arg=--never-heard-of"]).unwrap_err();
        assert!(told.contains("--never-heard-of"), "{told}");
    }

    #[test]
    fn what_happens_to_clusters_is_one_of_three() {
        let down = |args: &[&str]| match Cli::try_parse_from([&["localcluster", "down"], args].concat()) {
            Ok(Cli { verb: Verb::Down(down) }) => Some(down.clusters()),
            _ => None,
        };
        assert_eq!(down(&[]), Some(Clusters::Refuse));
        assert_eq!(down(&["--delete-clusters"]), Some(Clusters::Delete));
        assert_eq!(down(&["--keep-clusters"]), Some(Clusters::Keep));
        assert_eq!(down(&["--keep-clusters", "--delete-clusters"]), None);
    }
}
