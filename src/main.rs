//! The binary: reads the settings and prints a single readable line if it fails.
#![warn(clippy::panic, clippy::unwrap_used)]

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use localcluster_operator::{
    api::{crds, reference},
    cli::{
        self,
        hub::{self, Program},
    },
    config::Config,
    controller,
    docker::{listener, tunnel, tunnels},
    plan::policy::{admission, check},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs K3s clusters and image registries on a Docker host
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator
    Run(Box<Config>),
    #[command(flatten)]
    Hub(hub::Verb),
    /// Prints the CustomResourceDefinitions to apply to the API server
    Crds(Crds),
    /// Judges objects by HostPolicies without a cluster
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Does nothing until it is killed: the container of a placeholder Pod
    #[command(hide = true)]
    Hold,
    /// Forwards the connections of an operator, in a container that it has no route to
    #[command(hide = true)]
    Forward,
    /// Passes the connections to an address on to an operator, in the load balancer of a cluster
    #[command(hide = true)]
    Listen {
        /// Address to listen on
        address: SocketAddr,
    },
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Prints what a HostPolicy does not allow of the LocalClusters and Registries in files, and fails if there is anything
    Check(Check),
    /// Prints the ValidatingAdmissionPolicies that refuse at `kubectl apply` what a HostPolicy does not allow
    Admission,
}

#[derive(Args)]
struct Check {
    /// File with LocalClusters and Registries. May be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// File with one HostPolicy. Its namespaceSelector is ignored
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Namespace of objects that do not name one
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// Settings of an operator, from the environment.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
struct Crds {
    /// yaml: what is applied to the API server; markdown: the reference of all fields; json-schema: for editors and
    /// tools that validate files
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    format: Format,
    /// Write one file per definition into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Write nothing, and fail if the files in this directory differ
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
}

/// Form of the CustomResourceDefinitions.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Markdown,
    JsonSchema,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(config) => run(*config),
        Command::Hub(verb) => hub::run(verb, Program::Operator).map_err(Into::into),
        Command::Crds(Crds { format, output: Some(dir), .. }) => write_crds(format, &dir),
        Command::Crds(Crds { format, check: Some(dir), .. }) => check_crds(format, &dir),
        Command::Crds(Crds { format, output: None, check: None }) => print_crds(format),
        Command::Policy(PolicyCommand::Check(check)) => check_policy(&check),
        Command::Policy(PolicyCommand::Admission) => print_admission(),
        Command::Hold => hold(),
        Command::Forward => forward(None),
        Command::Listen { address } => forward(Some(address)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Returns an error with its causes on one line.
fn one_line(error: &dyn Error) -> String {
    cli::causes(error).lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[tokio::main]
async fn run(config: Config) -> Result<()> {
    telemetry::init(config.log_format, &config.log_filter)?;
    let stop = CancellationToken::new();
    // Both are registered before anything starts, so that no signal kills the process halfway.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let on_signal = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("received a signal; shutting down");
        on_signal.cancel();
    });
    Ok(controller::run(config, stop).await?)
}

/// Holds the place of an object on its Docker host until a signal ends it. The Pod stays until the agent of the host has
/// stopped the object, by its finalizer and not by this process: the kubelet does not heed a grace period that is shortened
/// while it waits for a container to end.
#[tokio::main(flavor = "current_thread")]
async fn hold() -> Result<()> {
    // Process 1 of a container is not ended by a signal that it does not handle.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Runs the forwarder, which an operator starts in a container: for its own connections, or for those to an address.
#[tokio::main(flavor = "current_thread")]
async fn forward(address: Option<SocketAddr>) -> Result<()> {
    // They take space only, so a container whose files cannot be changed keeps them.
    let _ = env::current_exe().and_then(|own| tunnels::remove_others(&own));
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    let ended = match address {
        None => tunnel::forward(input, output).await,
        Some(address) => listener::listen(address, input, output).await,
    };
    // The runtime would wait for its thread that reads standard input, which may never end.
    if let Err(error) = ended {
        eprintln!("error: {error}");
        process::exit(1);
    }
    process::exit(0)
}

fn print_admission() -> Result<()> {
    write!(io::stdout().lock(), "{}", admission::file()?)?;
    Ok(())
}

/// Judges the objects in files by a policy.
fn check_policy(check: &Check) -> Result<()> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok::<_, String>((path.display().to_string(), text))
    };
    let (name, policy) = read(&check.policy)?;
    let files = check.files.iter().map(read).collect::<std::result::Result<Vec<_>, _>>()?;
    let settings = controller::settings(&Defaults::parse_from(["check"]).config);
    let checked = check::files((&name, &policy), &files, &check.namespace, &settings)?;
    let mut out = io::stdout().lock();
    for refused in &checked.refused {
        writeln!(out, "{refused}")?;
    }
    for audited in &checked.audited {
        writeln!(out, "{audited}; only audited, not refused")?;
    }
    if checked.refused.is_empty() && !checked.audited.is_empty() {
        let words = "does not allow all of the objects, and refuses nothing, since its mode is Audit";
        writeln!(out, "the HostPolicy {} {words}", checked.policy)?;
        return Ok(());
    }
    if checked.refused.is_empty() {
        writeln!(out, "the HostPolicy {} allows all {} objects", checked.policy, checked.objects)?;
        return Ok(());
    }
    Err(format!("the HostPolicy {} does not allow all of the {} objects", checked.policy, checked.objects)
        .into())
}

/// Returns file names and contents of all definitions.
fn rendered(format: Format) -> Result<Vec<(String, String)>> {
    let render = |(file, crd): (String, CustomResourceDefinition)| {
        Ok(match format {
            Format::Yaml => (file, serde_saphyr::to_string(&crd)?),
            Format::Markdown => (format!("{}.md", crd.spec.names.plural), reference::markdown(&crd)),
            Format::JsonSchema => {
                let schema = serde_json::to_string_pretty(&reference::json_schema(&crd)?)?;
                (reference::schema_file(&crd), schema + "\n")
            }
        })
    };
    crds::all().into_iter().map(render).collect()
}

fn print_crds(format: Format) -> Result<()> {
    let mut out = io::stdout().lock();
    for (_, text) in rendered(format)? {
        match format {
            Format::Yaml => writeln!(out, "---\n{}", text.trim_end())?,
            Format::Markdown | Format::JsonSchema => writeln!(out, "{}", text.trim_end())?,
        }
    }
    Ok(())
}

fn write_crds(format: Format, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for (file, text) in rendered(format)? {
        let path = dir.join(file);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn check_crds(format: Format, dir: &Path) -> Result<()> {
    let mut differ = Vec::new();
    for (file, text) in rendered(format)? {
        let path = dir.join(file);
        if fs::read_to_string(&path).ok() != Some(text) {
            differ.push(path.display().to_string());
        }
    }
    if differ.is_empty() {
        return Ok(());
    }
    let (dir, name) = (dir.display(), format.to_possible_value());
    let option = match (format, &name) {
        (Format::Yaml, _) | (_, None) => String::new(),
        (_, Some(name)) => format!("--format {} ", name.get_name()),
    };
    Err(format!(
        "out of date: {}; regenerate with: localcluster-operator crds {option}--output {dir}",
        differ.join(", ")
    )
    .into())
}
