//! `adopt`: clusters and registries on the Docker host that no object of the management cluster owns.

mod found;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    FIELD_MANAGER, apply, contexts,
    dry_run::Place,
    input,
    management::{Management, Target},
    output::{self, Format},
    spec,
    wait::Wait,
};
use crate::{
    api::{ADOPTS_ANNOTATION, LocalCluster, Registry},
    cli::{
        Failure, Result,
        adoptable::{self, How, Key},
        engine::EngineArgs,
        kubeconfig::Merge,
    },
    plan::kind::Kind,
};
use found::{Found, look};

/// What to adopt.
#[derive(Args)]
pub struct Adopt {
    /// Name of a LocalCluster or Registry. Without it and --all, lists what could be adopted
    #[arg(conflicts_with = "all")]
    name: Option<String>,
    /// Adopts everything, of the namespace that -n names or of all
    #[arg(long)]
    all: bool,
    /// Management cluster whose clusters and registries are adopted, as the list shows it. May be repeated; defaults to any
    #[arg(long, value_name = "ID")]
    from: Vec<String>,
    /// File with the LocalCluster and Registries, where no record of them is left; - is standard input
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "all")]
    file: Option<PathBuf>,
    /// Prints the objects that would be applied, and does nothing
    #[arg(long, value_name = "client")]
    dry_run: Option<Place>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) async fn run(args: Adopt) -> Result {
    let management = args.target.connect().await?;
    let mut file = None;
    if let Some(path) = &args.file {
        let shown =
            if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
        let text = input::read(path, &shown)?;
        file =
            Some(spec::from_file((&shown, &text), args.name.as_deref(), args.target.namespace.as_deref())?);
    }
    let namespace = if args.name.is_some() || file.is_some() {
        let of_file = file.as_ref().and_then(|file| file.cluster["metadata"]["namespace"].as_str());
        Some(of_file.unwrap_or(&management.namespace).to_owned())
    } else {
        args.target.namespace.clone()
    };
    let mut found = look(&management, (&args.engine, &args.from), namespace.as_deref()).await?;
    if let (Some(file), Some(namespace)) = (&file, &namespace) {
        let of_file = adoptable::keyed(file.all(), namespace);
        let keys: BTreeSet<Key> = of_file.keys().cloned().collect();
        found.objects.extend(of_file.into_iter().map(|(key, object)| (key, Ok(object))));
        found.keep(|key| keys.contains(key));
    } else if let Some(name) = &args.name {
        found.keep(|key| key.2 == *name);
    }
    if found.leftovers.is_empty() {
        return nothing(&args, &management, namespace.as_deref());
    }
    if args.name.is_none() && !args.all && file.is_none() {
        return list(&found);
    }
    adopt(&args, &management, &found).await
}

fn nothing(args: &Adopt, management: &Management, namespace: Option<&str>) -> Result {
    let place = namespace.map(|namespace| format!(" of the namespace {namespace}")).unwrap_or_default();
    let told = format!(
        "nothing to adopt{place}: every container with the operator's labels on the Docker Engine at {} belongs to an object \
         of the context {}",
        args.engine.docker_host, management.context
    );
    match &args.name {
        Some(name) => Err(Failure::Failed(format!(
            "no {name} to adopt{place}: the Docker Engine at {} has no containers of this name without an object in the \
             context {}; `localcluster adopt` lists what it has",
            args.engine.docker_host, management.context
        ))),
        None => {
            eprintln!("{told}");
            Ok(())
        }
    }
}

/// Prints what could be adopted.
fn list(found: &Found) -> Result {
    let mut out = io::stdout().lock();
    writeln!(out, "NAMESPACE\tNAME\tKIND\tCONTAINERS\tMANAGEMENT CLUSTER\tADOPTION")?;
    for (key, leftover) in &found.leftovers {
        let managers: BTreeSet<&str> = leftover.pairs.iter().map(|pair| pair.manager.as_str()).collect();
        let managers: Vec<&str> = managers
            .into_iter()
            .map(|manager| if found.manager.as_deref() == Some(manager) { "this one" } else { manager })
            .collect();
        let (kind, namespace, name) = key;
        writeln!(
            out,
            "{namespace}\t{name}\t{}\t{}\t{}\t{}",
            kind.as_str(),
            leftover.containers.len(),
            managers.join(","),
            found.how(key).told()
        )?;
    }
    drop(out);
    warn(found);
    eprintln!("next: localcluster adopt --all, or localcluster adopt NAME");
    Ok(())
}

fn warn(found: &Found) {
    for other in found.others() {
        eprintln!(
            "warning: something is from the management cluster {other}: an operator that still runs there would manage the \
             same containers; make sure that it is gone. An object that is deleted there takes its containers with it unless its \
             finalizer is removed first"
        );
    }
}

/// Adopts what was found, and waits for it.
async fn adopt(args: &Adopt, management: &Management, found: &Found) -> Result {
    let keys = found.keys();
    if args.dry_run.is_some() {
        let mut out = io::stdout().lock();
        for (_, key) in &keys {
            match found.how(key) {
                How::Create(object) => {
                    writeln!(out, "---")?;
                    let object = adoptable::adopting(object, &found.pairs(key));
                    output::print(&mut out, &object, Format::Yaml)?;
                }
                how => writeln!(out, "# {} {}/{}: {}", key.0.as_str(), key.1, key.2, how.told())?,
            }
        }
        return Ok(());
    }
    let others = found.others();
    if args.all && others.len() > 1 {
        let others: Vec<&str> = others.into_iter().collect();
        return Err(Failure::Failed(format!(
            "cannot adopt all: the Docker Engine has clusters or registries of several other management clusters, {}; name \
             those that no longer exist with --from",
            others.join(" and ")
        )));
    }
    warn(found);
    let (mut failures, mut adopted) = (Vec::new(), Vec::new());
    for (_, key) in keys {
        match one(management, found, &key).await {
            Ok(()) => adopted.push(key),
            Err(failure) => failures.push(failure),
        }
    }
    if args.wait.wait {
        for key in &adopted {
            if let Err(failure) = ready(args, management, key).await {
                failures.push(failure);
            }
        }
    }
    match <[Failure; 1]>::try_from(failures) {
        Ok([failure]) => Err(failure),
        Err(failures) if failures.is_empty() => Ok(()),
        Err(failures) => {
            failures.iter().for_each(|failure| eprintln!("error: {failure}"));
            Err(Failure::Failed(format!(
                "{} objects are not adopted or not Ready, see above",
                failures.len()
            )))
        }
    }
}

/// Creates or annotates an object.
async fn one(management: &Management, found: &Found, key: &Key) -> Result {
    let (kind, namespace, name) = key;
    let pairs = found.pairs(key);
    let what = format!("{} {namespace}/{name}", kind.as_str());
    match found.how(key) {
        How::Create(object) => {
            let object = adoptable::adopting(object, &pairs);
            management.tell(&format!("apply --server-side --field-manager={FIELD_MANAGER} -f - # {what}"));
            apply::one(management, &object).await?;
        }
        How::Annotate => {
            let before = found.existing.get(key).map(|object| object.adopts.clone()).unwrap_or_default();
            let value = adoptable::annotation(&before, &pairs);
            let plural = if *kind == Kind::Registry { "registry" } else { "lc" };
            management.tell(&format!("annotate --overwrite {plural} {name} {ADOPTS_ANNOTATION}={value}"));
            let patch = json!({"metadata": {"annotations": {ADOPTS_ANNOTATION: value}}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let client = management.client();
            let patched = match kind {
                Kind::LocalCluster => {
                    let api = Api::<LocalCluster>::namespaced(client, namespace);
                    api.patch(name, &params, &Patch::Merge(&patch)).await.map(drop)
                }
                Kind::Registry => {
                    let api = Api::<Registry>::namespaced(client, namespace);
                    api.patch(name, &params, &Patch::Merge(&patch)).await.map(drop)
                }
            };
            patched.map_err(|error| management.told(&format!("cannot annotate the {what}"), &error))?;
            eprintln!("{what} annotated");
        }
        // Its cluster is the adopter.
        How::With(_) => {}
        How::Unknown(why) => {
            return Err(Failure::Failed(format!(
                "cannot adopt the {what}: {why}; give its spec with `localcluster adopt {name} -n {namespace} -f FILE`, or \
                 apply it with the annotation {ADOPTS_ANNOTATION}={}",
                adoptable::annotation(&BTreeSet::new(), &pairs)
            )));
        }
    }
    let containers: Vec<&str> = found.of(key).flat_map(|l| &l.containers).map(String::as_str).collect();
    eprintln!("{what} adopts {}", containers.join(", "));
    Ok(())
}

/// Waits until an adopted object is as desired, and merges the context of a cluster.
async fn ready(args: &Adopt, management: &Management, (kind, namespace, name): &Key) -> Result {
    let management = &management.within(namespace);
    if *kind == Kind::Registry {
        management
            .tell(&format!("wait --for=condition=Ready registry/{name} --timeout={}", args.wait.seconds()));
        return args.wait.until_registry(management, name).await;
    }
    management.tell(&format!("wait --for=condition=Ready lc/{name} --timeout={}", args.wait.seconds()));
    let (cluster, took) = args.wait.until_desired(management, name).await?;
    let status = cluster.status.as_ref();
    let endpoint = status.and_then(|status| status.endpoint.as_deref()).unwrap_or("no endpoint");
    eprintln!("{name} is as desired after {} s: {endpoint}", took.as_secs());
    if status.is_none_or(|status| status.kubeconfig_secret.is_none()) {
        return Ok(());
    }
    let how = Merge { switch: false, force: false };
    let merged = contexts::merge(management, &cluster, None, how).await;
    merged.map(drop).map_err(|failure| contexts::not_merged(name, &failure))
}
