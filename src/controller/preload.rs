//! Imports of images of the Docker host into nodes, in the background, and the images that nodes have.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::{
    backoff::{Backoff, jitter},
    observe,
    pulls::{Pulls, Wake},
    times,
};
use crate::{
    docker::{
        archive,
        engine::{ContainerDetail, Ended, Engine, Result},
        error::Error,
        share::{self, Limits, Shares},
        spec::{FileChange, FileSpec},
    },
    k3s::{
        images::{self, Held},
        own_image::{self, Blob, Own},
    },
    plan::{
        desired::Desired,
        observed::{ImportState, Observed},
        steps::Import,
    },
};

/// Maximum numbers of concurrent imports: more would only share the disk. A node that hangs delays only those of its
/// namespace.
const AT_ONCE: Limits = Limits { object: 3, namespace: 3, all: 9 };

/// Imports into the nodes of one engine.
#[derive(Clone)]
pub struct Preloads {
    engine: Arc<dyn Engine>,
    /// Period for which a cached list is trusted, unless the operator changes it or the container restarts.
    trusted: Duration,
    state: Arc<Mutex<State>>,
    backoff: Arc<Backoff<Key>>,
    turns: Arc<Shares>,
    /// Imports of an image into a node follow each other.
    one: Arc<Mutex<HashMap<Key, Weak<Single>>>>,
}

type Single = tokio::sync::Mutex<()>;

/// A manifest in containerd of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Media type.
    pub kind: String,
    /// Digest.
    pub digest: String,
    /// Content.
    pub content: String,
}

/// ID of a container and reference of an image.
type Key = (String, String);
/// Images that were imported from the Docker host, by their names in containerd.
type Images = BTreeMap<String, Held>;

#[derive(Default)]
struct State {
    lists: HashMap<String, List>,
    imports: HashMap<Key, Way>,
}

struct List {
    started: Option<Timestamp>,
    at: Instant,
    images: Images,
}

enum Way {
    /// In progress, with the error of the previous attempt.
    Running(Option<String>),
    /// Failed, with the error and the time of the next attempt.
    Failed(String, Instant),
}

impl Preloads {
    /// Creates the imports of this engine.
    pub fn new(engine: Arc<dyn Engine>, trusted: Duration) -> Self {
        Self {
            engine,
            trusted,
            state: Arc::default(),
            backoff: Arc::new(Backoff::new(times::IMPORT)),
            turns: Arc::new(Shares::new(AT_ONCE)),
            one: Arc::default(),
        }
    }

    /// Waits until nobody else imports an image into a node.
    async fn alone(&self, container: &str, image: &str) -> OwnedMutexGuard<()> {
        let single = {
            let mut all = self.one.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, single| single.strong_count() > 0);
            let single = all.entry((container.to_owned(), images::canonical(image))).or_default();
            single.upgrade().unwrap_or_else(|| {
                let new = Arc::new(Single::default());
                *single = Arc::downgrade(&new);
                new
            })
        };
        single.lock_owned().await
    }

    /// Returns the manifest by which containerd of a node knows an image of the host with this ID. The image is imported
    /// unless containerd has it.
    pub async fn provide(&self, container: &str, image: &str, id: &str) -> Result<Manifest> {
        let _alone = self.alone(container, image).await;
        let list = async || self.engine.exec(container, &images::list()).await?.succeeded();
        let mut target = images::made_of(&list().await?, image, id);
        if target.is_none() {
            let done = self.put(container, image, |digest| images::label_asked(image, id, digest)).await;
            self.lock().lists.remove(container);
            done?;
            target = images::made_of(&list().await?, image, id);
        }
        let missing = || Error::Engine(format!("{image} does not stand for what was imported last"));
        let (kind, digest) = target.ok_or_else(missing)?;
        let content = self.engine.exec(container, &images::content(&digest)).await?.succeeded()?;
        Ok(Manifest { kind, digest, content })
    }

    /// Imports an image into a node, gives it its own ID, and labels it.
    async fn put(&self, container: &str, image: &str, label: impl FnOnce(&str) -> Vec<String>) -> Result<()> {
        let _turn = self.turns.acquire().await;
        tracing::info!(image, container, "putting the image into the node");
        self.engine.pipe_image(image, container, &images::import()).await?.succeeded()?;
        let digest = self.make_own(container, image).await?.ok_or_else(|| missing(image))?;
        self.engine.exec(container, &label(&digest)).await?.succeeded()?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records which desired images the host and the working nodes have, and which imports are in progress.
    pub async fn observe(
        &self,
        (pulls, uid): (&Pulls, &str),
        observed: &mut Observed,
        desired: &Desired,
    ) -> Result<()> {
        if desired.preload.is_empty() {
            return Ok(());
        }
        let host = desired.preload.iter().map(|image| async move {
            let id = self.engine.image(image).await?;
            let state = if id.is_none() { Some(pulls.state(uid, image).await?) } else { None };
            Ok::<_, Error>((image.clone(), id, state))
        });
        for (image, id, state) in try_join_all(host).await? {
            observed.preload.ids.extend(id.map(|id| (image.clone(), id)));
            observed.images.extend(state.map(|state| (image, state)));
        }
        let working: Vec<&ContainerDetail> = observe::working(observed, desired).collect();
        let lists = working.into_iter().map(|detail| async move {
            Ok::<_, Error>((detail.container.id.clone(), self.list(detail).await?))
        });
        observed.preload.nodes = try_join_all(lists).await?.into_iter().collect();
        let state = self.lock();
        let imports = state.imports.iter().filter(|((id, _), _)| observed.own.contains_key(id));
        observed.preload.imports = imports
            .map(|(key, way)| {
                let state = match way {
                    // The previous error stays until the attempt ends, so that the status does not alternate.
                    Way::Failed(why, _) | Way::Running(Some(why)) => ImportState::Failed(why.clone()),
                    Way::Running(None) => ImportState::Running,
                };
                (key.clone(), state)
            })
            .collect();
        Ok(())
    }

    /// Returns the images in containerd of a node, or the reason why they are unknown.
    async fn list(&self, detail: &ContainerDetail) -> Result<std::result::Result<Images, String>> {
        let id = &detail.container.id;
        let known = self.lock().lists.get(id).and_then(|list| {
            let fresh = list.started == detail.started_at && list.at.elapsed() < self.trusted;
            fresh.then(|| list.images.clone())
        });
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let at = Instant::now();
        match self.ask(id).await {
            Ok(images) => {
                let list = List { started: detail.started_at, at, images: images.clone() };
                let mut state = self.lock();
                // The lists of removed containers.
                state.lists.retain(|_, list| list.at.elapsed() < self.trusted * 2);
                state.lists.insert(id.clone(), list);
                Ok(Ok(images))
            }
            Err(error) if error.is_away() => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    async fn ask(&self, container: &str) -> Result<Images> {
        let list = self.engine.exec(container, &images::list()).await?.succeeded()?;
        Ok(images::listed(&list))
    }

    /// Starts the import of an image into a node unless it is in progress or delayed after a failure; `wake` is called
    /// when it ends.
    pub fn start(&self, import: &Import, wake: Wake) {
        let Some(id) = import.container.id.clone() else { return };
        let key = (id, import.image.clone());
        let mut state = self.lock();
        let failed = match state.imports.get_mut(&key) {
            Some(Way::Running(_)) => return,
            Some(Way::Failed(_, due)) if Instant::now() < *due => return,
            Some(Way::Failed(why, _)) => Some(std::mem::take(why)),
            None => None,
        };
        state.imports.insert(key.clone(), Way::Running(failed));
        drop(state);
        let (this, import) = (self.clone(), import.clone());
        share::spawn(async move {
            let done = this.bring(&key.0, &import).await;
            let (image, node) = (&import.image, &import.container.name);
            let mut state = this.lock();
            // A failed import may have changed the list too.
            state.lists.remove(&key.0);
            match done {
                Ok(()) => {
                    tracing::info!(image, node, "the image is in the node");
                    this.backoff.cleared(&key);
                    state.imports.remove(&key);
                }
                // The node was removed.
                Err(Error::NotFound(why)) if why.contains("No such container") => {
                    this.backoff.cleared(&key);
                    state.imports.remove(&key);
                }
                Err(error) => {
                    tracing::warn!(image, node, %error, "the image did not get into the node");
                    let now = Instant::now();
                    let due = now + this.backoff.failed(key.clone(), now, jitter());
                    state.imports.insert(key, Way::Failed(error.to_string(), due));
                }
            }
            drop(state);
            wake();
        });
    }

    /// Imports an image into a node, and waits until containerd lists it.
    async fn bring(&self, container: &str, import: &Import) -> Result<()> {
        let Import { image, id, .. } = import;
        let _alone = self.alone(container, image).await;
        self.put(container, image, |digest| images::label(image, id, digest)).await?;
        let name = images::canonical(image);
        let held = self.ask(container).await?.remove(&name).filter(|held| held.id == *id);
        if held.ok_or_else(|| missing(image))?.own {
            return Ok(());
        }
        // The CRI plugin of containerd labels a new image a moment later, with the target that its name had before.
        Err(Error::Engine(format!("{name} does not stand for what was imported last")))
    }

    /// Gives an image its own ID in a node, see [`own_image`]; an image of an unusual format is left unchanged. Returns
    /// the digest that the name of the image then refers to; `None` if the image does not exist.
    async fn make_own(&self, container: &str, image: &str) -> Result<Option<String>> {
        let list = self.engine.exec(container, &images::list()).await?.succeeded()?;
        let name = images::canonical(image);
        let Some((kind, digest)) = images::target(&list, image) else { return Ok(None) };
        let top = self.content(container, &digest).await?;
        let top = top.ok_or_else(|| Error::Engine(format!("containerd has {name}, but not its {digest}")))?;
        let mut own = Own::default();
        let made = if own_image::config(&top).is_some() {
            self.own_manifest(container, &top, &name, &mut own).await?
        } else {
            let mut made = Vec::new();
            for digest in own_image::manifests(&top) {
                // Manifests of other platforms are only listed in the index.
                let Some(manifest) = self.content(container, &digest).await? else { continue };
                let blob = self.own_manifest(container, &manifest, &name, &mut own).await?;
                made.extend(blob.map(|blob| (digest, blob)));
            }
            if made.is_empty() { None } else { own.index(&top, &made) }
        };
        let Some(made) = made else { return Ok(Some(digest)) };
        let file = |(path, content): own_image::File| FileSpec {
            path,
            mode: 0o644,
            content,
            change: FileChange::Keep,
        };
        let files: Vec<FileSpec> = own.archive(&made, &kind, &name).into_iter().map(file).collect();
        let path = format!("/tmp/localcluster-{}.tar", made.digest.trim_start_matches("sha256:"));
        let archive = archive::pack(&[file((path.clone(), archive::pack(&files)))]);
        self.engine.upload(container, archive).await?;
        let imported =
            self.engine.exec(container, &images::import_file(&path)).await.and_then(Ended::succeeded);
        self.engine.exec(container, &archive::removal(&[path])).await?.succeeded()?;
        imported.map(|_| Some(made.digest))
    }

    async fn own_manifest(
        &self,
        container: &str,
        manifest: &Value,
        name: &str,
        own: &mut Own,
    ) -> Result<Option<Blob>> {
        let Some(digest) = own_image::config(manifest) else { return Ok(None) };
        let Some(config) = self.content(container, &digest).await? else { return Ok(None) };
        Ok(own.manifest(manifest, &config, name))
    }

    /// Returns a blob of an image in a node; `None` if containerd does not have it.
    async fn content(&self, container: &str, digest: &str) -> Result<Option<Value>> {
        let ended = self.engine.exec(container, &images::content(digest)).await?;
        if ended.code != 0 && ended.stderr.contains("not found") {
            return Ok(None);
        }
        let content = serde_json::from_str(&ended.succeeded()?);
        content.map(Some).map_err(|e| Error::Engine(format!("containerd's content {digest} is no JSON: {e}")))
    }
}

fn missing(image: &str) -> Error {
    Error::Engine(format!("containerd does not tell of {} after its import", images::canonical(image)))
}
