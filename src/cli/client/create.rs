//! `create`: from flags or a file to a cluster that kubectl uses.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::{
    apply, contexts,
    dry_run::Place,
    input,
    management::{Management, Target},
    output::{self, Format},
    spec::{self, Flags, Objects},
    wait::Wait,
};
use crate::{
    api::LocalCluster,
    cli::{Failure, Result, kubeconfig::Merge},
};

/// What to create.
#[derive(Args)]
pub struct Create {
    /// Name of the LocalCluster
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// File with a LocalCluster and Registries to apply, instead of flags; - is standard input. The cluster may exist
    #[arg(
        short, long = "filename", id = "file", value_name = "FILE",
        conflicts_with_all = [
            "servers", "agents", "ports", "version", "image", "registries", "k3s_args", "ttl", "no_host_images"
        ]
    )]
    file: Option<PathBuf>,
    #[command(flatten)]
    wait: Wait,
    /// Leaves the current context of kubectl as it is
    #[arg(long)]
    no_switch: bool,
    /// Prints the objects and does nothing
    #[arg(long, value_name = "client")]
    dry_run: Option<Place>,
    /// Format of --dry-run
    #[arg(short, long, requires = "dry_run", default_value = "yaml")]
    output: Format,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(args: Create) -> Result {
    let objects = objects(&args)?;
    if args.dry_run.is_some() {
        return print(&objects, args.output);
    }
    let mut management = args.target.connect().await?;
    if let Some(namespace) = objects.cluster["metadata"]["namespace"].as_str() {
        namespace.clone_into(&mut management.namespace);
    }
    let name = objects.name().to_owned();
    refuse_existing(&management, &name, &args).await?;
    let source = args
        .file
        .as_ref()
        .map_or_else(|| "- # the output of --dry-run=client".to_owned(), |file| file.display().to_string());
    management.tell(&format!("apply --server-side --field-manager={} -f {source}", super::FIELD_MANAGER));
    apply::all(&management, &objects).await?;
    if !args.wait.wait {
        return Ok(());
    }
    management.tell(&format!("wait --for=condition=Ready lc/{name} --timeout={}", args.wait.seconds()));
    let (cluster, took) = args.wait.until_desired(&management, &name).await?;
    let status = cluster.status.as_ref();
    let Some(endpoint) =
        status.and_then(|status| status.endpoint.as_deref()).filter(|_| is_running(&cluster))
    else {
        eprintln!("{name} is stopped, as desired");
        return Ok(());
    };
    eprintln!("{name} is Ready after {} s: {endpoint}", took.as_secs());
    if status.is_some_and(|status| status.kubeconfig_secret.is_none()) {
        eprintln!("it has no kubeconfig, since spec.kubeconfig.access is None");
        return Ok(());
    }
    let how = Merge { switch: !args.no_switch, force: false };
    let merged = contexts::merge(&management, &cluster, None, how).await;
    let context = merged.map_err(|failure| contexts::not_merged(&name, &failure))?;
    let context = if args.no_switch { format!(" --context {context}") } else { String::new() };
    eprintln!("next: kubectl{context} get nodes");
    Ok(())
}

fn is_running(cluster: &LocalCluster) -> bool {
    cluster.spec.state == crate::api::local_cluster::ClusterState::Running
}

/// Returns what to apply.
fn objects(args: &Create) -> Result<Objects> {
    let namespace = args.target.namespace.as_deref();
    let name = args.name.as_deref();
    let Some(file) = &args.file else {
        return Ok(spec::from_flags(name.unwrap_or_default(), namespace, &args.flags)?);
    };
    let shown =
        if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let text = input::read(file, &shown)?;
    Ok(spec::from_file((&shown, &text), name, namespace)?)
}

fn print(objects: &Objects, format: Format) -> Result {
    let mut out = io::stdout().lock();
    let many = objects.all().count() > 1;
    for object in objects.all() {
        if many && format == Format::Yaml {
            writeln!(out, "---")?;
        }
        output::print(&mut out, object, format)?;
    }
    Ok(())
}

/// Refuses to create a cluster by flags that exists: the flags are not all that its spec has.
async fn refuse_existing(management: &Management, name: &str, args: &Create) -> Result {
    if args.file.is_some() || management.find::<LocalCluster>(name).await?.is_none() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the LocalCluster {name} exists in the namespace {}: flags describe new clusters; change it with \
         `kubectl edit lc {name}` or -f, or fetch its kubeconfig with `localcluster kubeconfig use {name}`",
        management.namespace
    )))
}
