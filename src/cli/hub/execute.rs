//! Executes one step of a plan. It decides nothing.

use std::time::Duration;

use super::observe::kubectl;
use crate::{
    docker::{
        archive,
        engine::{Engine, Result},
        spec::{FileChange, FileSpec},
    },
    plan::hub::step::Step,
};

/// Grace period of a container in seconds.
const GRACE: u32 = 30;
/// The objects that kubectl applies, in the hub's container.
const MANIFEST: &str = "/tmp/localcluster-up.json";
/// Time for an application: definitions are large, and a new API server is slow.
const APPLY: Duration = Duration::from_secs(180);

/// Executes a step.
pub async fn execute(engine: &dyn Engine, step: &Step) -> Result<()> {
    match step {
        Step::Pull(image) => engine.pull(image, None).await,
        Step::CreateNetwork(spec) => engine.create_network(spec).await.map(drop),
        Step::CreateVolume(spec) => engine.create_volume(spec).await,
        Step::CreateContainer { spec, network } => {
            engine.create_container(spec, Some(network)).await.map(drop)
        }
        Step::WriteFile { container, file } => {
            engine.upload(container, archive::pack(std::slice::from_ref(file))).await
        }
        Step::Start(target) => engine.start(&target.id).await,
        Step::Unpause(target) => engine.unpause(&target.id).await,
        Step::RemoveContainer { target, stop, .. } => {
            if *stop {
                engine.stop(&target.id, GRACE).await?;
            }
            engine.remove_container(&target.id).await
        }
        Step::Apply { hub, manifest, .. } => apply(engine, hub, manifest).await,
        Step::DeleteObjects { hub, .. } => {
            let kinds = "localclusters.localcluster.dev,registries.localcluster.dev";
            kubectl(engine, hub, &["delete", kinds, "-A", "--all", "--wait=false"]).await.map(drop)
        }
        Step::RemoveNetwork { id, .. } => engine.remove_network(id).await,
        Step::RemoveVolume(name) => engine.remove_volume(name).await,
    }
}

async fn apply(engine: &dyn Engine, hub: &str, manifest: &str) -> Result<()> {
    let (path, content) = (MANIFEST.to_owned(), manifest.as_bytes().to_vec());
    let file = FileSpec { path, mode: 0o600, content, change: FileChange::Keep };
    engine.upload(hub, archive::pack(&[file])).await?;
    let manager = "--field-manager=localcluster-up";
    let command = ["k3s", "kubectl", "apply", "--server-side", "--force-conflicts", manager, "-f", MANIFEST];
    let command = command.map(str::to_owned);
    engine.exec_within(hub, &command, APPLY).await?.succeeded().map(drop)
}
