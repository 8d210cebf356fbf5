//! `import-image`: images of this engine, or from archives, on all nodes of a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    containers::{Containers, short},
    dry_run::{self, DryRun},
    management::{Management, Target},
    progress::sentence,
    wait::{LOOK_AGAIN, STALLED, Wait},
};
use crate::{
    api::{
        LocalCluster,
        condition::{self, ConditionType, Status},
        local_cluster::ClusterState,
        reason::{Class, Reason},
    },
    cli::{Failure, Result, engine::EngineArgs, paint::Paint, valid},
    docker::{
        bollard::BollardEngine,
        engine::{Engine, State},
    },
    k3s::images::{self, Held, canonical},
};

/// What to import.
#[derive(Args)]
pub struct Import {
    /// Name of the LocalCluster
    name: String,
    /// Image with a tag, or archive of `docker save`: a path that begins with / or ./ or ends in .tar, .tar.gz or .tgz
    #[arg(required = true, value_name = "IMAGE|TAR")]
    images: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Owner of the images in a spec that this verb added, and of no other field: files that are applied again leave them.
const FIELD_MANAGER: &str = "localcluster-import";
/// Annotation by which the operator looks again at once, at an image whose name stands for another one since.
const IMPORT_AT: &str = "localcluster.dev/import-at";
/// The operator writes the status meanwhile.
const TRIES: u32 = 10;

/// Runs the verb.
pub(super) async fn run(args: Import) -> Result {
    let management = args.target.connect().await?;
    let cluster = management.cluster(&args.name).await?;
    let containers = Containers::of(&args.engine, &management, &cluster).await?;
    if args.dry.is_wanted() {
        let (files, images): (Vec<_>, Vec<_>) =
            args.images.iter().cloned().partition(|argument| is_archive(argument));
        let images: Vec<String> = images.iter().map(|image| with_tag(image)).collect();
        for (what, all) in [("loaded into Docker and imported into", files), ("imported into", images)] {
            if !all.is_empty() {
                dry_run::told(&format!("{} would be {what} {}", all.join(", "), args.name));
            }
        }
        return Ok(());
    }
    let (files, names): (Vec<&String>, Vec<&String>) =
        args.images.iter().partition(|argument| is_archive(argument));
    let mut wanted: BTreeSet<String> = names.into_iter().map(|image| with_tag(image)).collect();
    // Nothing is loaded if the rest is refused.
    check(&cluster, &wanted)?;
    for file in files {
        management.tell_docker(&format!("load -i {file}"));
        wanted.extend(load(&containers.engine, file).await?);
    }
    check(&cluster, &wanted)?;
    add(&management, cluster, &wanted).await?;
    let cluster = management.cluster(&args.name).await?;
    if cluster.spec.state == ClusterState::Stopped && args.wait.wait {
        let name = &args.name;
        return Err(Failure::NotReady(format!(
            "{name} is stopped: its nodes get the images when it starts; start it with `localcluster start {name}`"
        )));
    }
    if args.wait.wait { until_there(&args, &management, &wanted).await } else { Ok(()) }
}

/// Reports whether an argument is a file, and not an image, whose name may look like one.
fn is_archive(argument: &str) -> bool {
    let begins = ["/", "./", "../", "~/"].iter().any(|begin| argument.starts_with(begin));
    begins || [".tar", ".tar.gz", ".tgz"].iter().any(|end| argument.ends_with(end))
}

/// Returns an image with the tag that Docker means by none.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Loads an archive into the engine, and returns its images.
async fn load(engine: &BollardEngine, file: &str) -> Result<Vec<String>> {
    const PIECE: usize = 256 << 10;
    let unreadable =
        |e: io::Error| format!("cannot read {file}: {e}; give the path of an archive of `docker save`");
    let mut open = fs::File::open(Path::new(file)).map_err(unreadable)?;
    let pieces = std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE];
        match open.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(Bytes::from(piece)))
            }
            Err(error) => Some(Err(error)),
        }
    });
    let loaded = engine.load_images(futures::stream::iter(pieces)).await.map_err(|e| {
        let why = crate::cli::engine::words(&e);
        format!("cannot load {file} into Docker: {why}; give an archive of `docker save`")
    })?;
    if let Some(id) = loaded.iter().find(|name| name.starts_with("sha256:")) {
        return Err(Failure::Failed(format!(
            "{file} has the image {id} without a name, by which no Pod can use it: save it by its name, as with `docker save \
             app:1`"
        )));
    }
    if loaded.is_empty() {
        return Err(Failure::Failed(format!("{file} has no image; give an archive of `docker save`")));
    }
    eprintln!("{file} loaded into Docker: {}", loaded.join(", "));
    Ok(loaded)
}

/// Checks the spec with these images, too.
fn check(cluster: &LocalCluster, wanted: &BTreeSet<String>) -> Result {
    let all: BTreeSet<String> = cluster.spec.preload_images.iter().chain(wanted).cloned().collect();
    let mut with = json!(cluster);
    with["spec"]["preloadImages"] = json!(all);
    Ok(valid::check("LocalCluster", &with)?)
}

/// Adds images to those of the spec.
async fn add(management: &Management, mut cluster: LocalCluster, wanted: &BTreeSet<String>) -> Result {
    let name = cluster.name_any();
    let api: Api<DynamicObject> = Api::namespaced_with(
        management.client(),
        &management.namespace,
        &ApiResource::erase::<LocalCluster>(&()),
    );
    let params = PatchParams::apply(FIELD_MANAGER).validation_strict();
    for tries in 1.. {
        let object = applied(&cluster, wanted, Timestamp::now());
        management.tell(&format!("apply --server-side --field-manager={FIELD_MANAGER} -f - <<< '{object}'"));
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => break,
            // Someone changed the object since it was read.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => {
                cluster = management.cluster(&name).await?;
            }
            Err(error) => {
                return Err(management.told(&format!("cannot change the LocalCluster {name}"), &error));
            }
        }
    }
    let added: Vec<&str> = wanted.iter().map(String::as_str).collect();
    eprintln!("spec.preloadImages of {name} has {}", added.join(", "));
    Ok(())
}

/// Returns what to apply: all images that this verb ever added, since it owns those only that it applies. The version of
/// the object keeps the images that another process adds at the same time.
fn applied(cluster: &LocalCluster, wanted: &BTreeSet<String>, now: Timestamp) -> Value {
    let mut owned = owned(cluster.metadata.managed_fields.as_deref().unwrap_or_default());
    // A user may have taken one out since.
    owned.retain(|image| cluster.spec.preload_images.contains(image));
    owned.extend(wanted.iter().cloned());
    json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {
            "name": cluster.metadata.name, "namespace": cluster.metadata.namespace,
            "uid": cluster.metadata.uid, "resourceVersion": cluster.metadata.resource_version,
            "annotations": {IMPORT_AT: now.to_string()},
        },
        "spec": {"preloadImages": owned},
    })
}

/// Returns the images of which this verb is an owner.
fn owned(fields: &[ManagedFieldsEntry]) -> BTreeSet<String> {
    let own = fields.iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let sets = own.filter_map(|entry| entry.fields_v1.as_ref()?.0["f:spec"]["f:preloadImages"].as_object());
    let keys = sets.flat_map(|set| set.keys());
    keys.filter_map(|key| serde_json::from_str(key.strip_prefix("v:")?).ok()).collect()
}

/// Waits until all nodes have the images that the engine has, and tells of each.
async fn until_there(args: &Import, management: &Management, wanted: &BTreeSet<String>) -> Result {
    let (began, paint, name) = (Instant::now(), Paint::of(&io::stderr()), &args.name);
    let (mut told, mut stalled, mut waits) = (BTreeSet::new(), None::<Instant>, String::new());
    loop {
        let cluster = management.cluster(name).await?;
        if cluster.metadata.deletion_timestamp.is_some() {
            return Err(Failure::NotReady(format!("{name} is being deleted")));
        }
        let containers = Containers::of(&args.engine, management, &cluster).await?;
        let (there, mut missing) = look(&containers, wanted).await?;
        let (desired, existing) = (desired(&cluster), containers.nodes().count());
        if existing < desired {
            missing = Some(format!("waiting for {} of {desired} nodes to be created", desired - existing));
        }
        let say = |line: String| eprintln!("[{:>3}s] {line}", began.elapsed().as_secs());
        for (image, node) in there {
            if told.insert((image.clone(), node.clone())) {
                say(format!("{} {image} on {node}", paint.good("✓")));
            }
        }
        let Some(missing) = missing else { return Ok(()) };
        let (why, needs_user) = reason(&cluster).unwrap_or((missing, false));
        if waits != why {
            say(format!("{} {why}", paint.open("…")));
            waits.clone_from(&why);
        }
        stalled = if needs_user { stalled.or_else(|| Some(Instant::now())) } else { None };
        if stalled.is_some_and(|since| since.elapsed() >= STALLED) {
            return Err(Failure::NotReady(format!("the images do not get to the nodes of {name}: {why}")));
        }
        if began.elapsed() >= args.wait.timeout {
            return Err(Failure::NotReady(format!(
                "not all nodes of {name} have the images after {}: {why}; see `localcluster status {name}`, or wait longer \
                 with --timeout",
                args.wait.seconds()
            )));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Images and the nodes that have them, and one that is missing, in words.
type Look = (Vec<(String, String)>, Option<String>);

async fn look(containers: &Containers, wanted: &BTreeSet<String>) -> Result<Look> {
    let (mut there, mut missing) = (Vec::new(), None);
    let mut ids = BTreeMap::new();
    for image in wanted {
        ids.insert(image, containers.engine.image(image).await?);
    }
    for node in containers.nodes() {
        if node.state != State::Running {
            missing = Some(format!("waiting for {} to run", node.name));
            continue;
        }
        let held = match containers.engine.exec(&node.id, &images::list()).await {
            Ok(listed) if listed.code == 0 => images::listed(&listed.stdout),
            Err(error) if error.is_away() => return Err(error.into()),
            // A node that starts has no containerd yet, and one that is replaced is stopped.
            Ok(_) | Err(_) => BTreeMap::new(),
        };
        for (image, id) in &ids {
            if has(&held, image, id.as_deref()) {
                there.push(((*image).clone(), short(node).to_owned()));
            } else {
                missing = Some(format!("waiting for {image} on {}", node.name));
            }
        }
    }
    Ok((there, missing))
}

/// Reports whether a node has the image that the engine has by this name, or any by that name if the engine has none.
fn has(held: &BTreeMap<String, Held>, image: &str, id: Option<&str>) -> bool {
    held.get(&canonical(image)).is_some_and(|held| held.own && id.is_none_or(|id| held.id == id))
}

/// Returns the number of nodes of the spec.
fn desired(cluster: &LocalCluster) -> usize {
    let count = cluster.spec.servers.count.saturating_add(cluster.spec.agents.count);
    usize::try_from(count).unwrap_or_default()
}

/// Returns what the operator says of the images, and whether only the user can resolve it.
fn reason(cluster: &LocalCluster) -> Option<(String, bool)> {
    let status = cluster.status.as_ref()?;
    let paused = condition::get(&status.conditions, ConditionType::Paused);
    if let Some(paused) = paused.filter(|paused| paused.status == Status::True.as_str()) {
        return Some((sentence(&paused.reason, &paused.message), true));
    }
    if status.observed_generation? < cluster.metadata.generation? {
        return None;
    }
    let images = condition::get(&status.conditions, ConditionType::ImagesReady)?;
    let class = Reason::parse(&images.reason).map(Reason::class);
    // A pull that the registry refuses is retried, and succeeds only after someone changed something.
    let stalled = condition::get(&status.conditions, ConditionType::Stalled)
        .is_some_and(|stalled| stalled.status == Status::True.as_str() && stalled.reason == images.reason);
    (images.status == Status::False.as_str())
        .then(|| (sentence(&images.reason, &images.message), stalled || class == Some(Class::NeedsUser)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_images() {
        for file in ["./app", "/tmp/app", "app.tar", "a/b.tar.gz", "app.tgz", "../app"] {
            assert!(is_archive(file), "{file}");
        }
        for image in ["app", "app:1", "r.example/team/app:1", "tar"] {
            assert!(!is_archive(image), "{image}");
        }
        assert_eq!(with_tag("r.example:5000/app"), "r.example:5000/app:latest");
        assert_eq!((with_tag("app:1"), with_tag("app@sha256:1")), ("app:1".into(), "app@sha256:1".into()));
    }

    fn cluster(images: &[&str], owned: &[&str]) -> LocalCluster {
        let set: serde_json::Map<String, Value> =
            owned.iter().map(|image| (format!("v:{}", json!(image)), json!({}))).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "dev", "resourceVersion": "7", "managedFields": [
                {"manager": "else", "fieldsV1": {"f:spec": {"f:preloadImages": {"v:\"theirs:1\"": {}}}}},
                {"manager": FIELD_MANAGER, "fieldsV1": {"f:spec": {"f:preloadImages": set}}},
            ]},
            "spec": {"preloadImages": images},
        }))
        .unwrap()
    }

    #[test]
    fn what_was_added_before_stays_unless_a_user_took_it_out() {
        let of = |images: &[&str], owned: &[&str]| {
            applied(&cluster(images, owned), &["new:1".to_owned()].into(), Timestamp::UNIX_EPOCH)
        };
        let object = of(&["theirs:1", "before:1"], &["before:1", "gone:1"]);
        assert_eq!(object["spec"]["preloadImages"], json!(["before:1", "new:1"]));
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        assert_eq!(of(&["theirs:1"], &[])["spec"]["preloadImages"], json!(["new:1"]));
    }

    #[test]
    fn a_node_has_the_image_of_the_engine() {
        let held =
            |id: &str, own| [("docker.io/library/app:1".to_owned(), Held { id: id.into(), own })].into();
        assert!(has(&held("sha256:1", true), "app:1", Some("sha256:1")));
        assert!(has(&held("sha256:1", true), "app:1", None), "the engine has it no longer");
        assert!(!has(&held("sha256:0", true), "app:1", Some("sha256:1")), "built again since");
        assert!(!has(&held("sha256:1", false), "app:1", Some("sha256:1")), "the import is not complete");
        assert!(!has(&BTreeMap::new(), "app:1", None));
    }

    #[test]
    fn only_what_is_said_of_the_present_spec_counts() {
        let of = |generation: i64, of_images: &str, stalled: &str| {
            let condition = |type_: &str, status: &str, reason: &str| {
                json!({"type": type_, "status": status, "reason": reason, "message": "m",
                    "lastTransitionTime": "2026-11-30T00:00:00Z"})
            };
            let conditions =
                [condition("ImagesReady", "False", of_images), condition("Stalled", "True", stalled)];
            let cluster: LocalCluster = serde_json::from_value(json!({
                "metadata": {"name": "dev", "generation": generation}, "spec": {},
                "status": {"observedGeneration": 1, "conditions": conditions},
            }))
            .unwrap();
            reason(&cluster)
        };
        assert_eq!(of(1, "ImageImporting", "PortConflict"), Some(("ImageImporting: m".into(), false)));
        assert_eq!(of(1, "ImagePullFailed", "ImagePullFailed"), Some(("ImagePullFailed: m".into(), true)));
        assert_eq!(of(2, "ImageImporting", ""), None);
        assert_eq!(desired(&cluster(&[], &[])), 1);
    }
}
