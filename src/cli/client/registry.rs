//! `registry`: the content of a registry as an archive, for machines without a network.

mod contents;
mod pack;
mod stream;
mod unpack;

use std::{
    fs::{self, File},
    future::Future,
    io::{self, BufWriter, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::{runtime::Handle, task::spawn_blocking};

pub use contents::About;
pub use pack::Summary;

use super::management::{Management, Target};
use crate::{
    api::{Registry, names},
    cli::{Failure, Result, engine::EngineArgs},
    docker::{
        bollard::BollardEngine,
        engine::{Container, ContainerDetail, Engine, State},
        error::Error,
        spec::{Bind, ContainerSpec, Role},
    },
    plan::registry::{self, collection, config::DATA},
};

use contents::{Links, ROOT, VERSION};
use stream::{Received, Sent};
use unpack::{Store, Unpacked};

/// Verb about a registry.
#[derive(Subcommand)]
pub enum Verb {
    /// Writes all images of a registry or cache into one archive, while it runs
    #[command(after_help = "Example:\n  localcluster registry export images -o images.tar")]
    Export(Export),
    /// Adds the images of such an archive to a registry or cache, while it runs
    ///
    /// Nothing is removed. A tag that exists gets the image of the archive, as with a push.
    #[command(after_help = "Example:\n  localcluster registry import images images.tar")]
    Import(Import),
}

/// What to export.
#[derive(Args)]
pub struct Export {
    /// Name of the Registry
    name: String,
    /// File to write; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// What to import.
#[derive(Args)]
pub struct Import {
    /// Name of the Registry
    name: String,
    /// Archive of `localcluster registry export`; - is standard input
    file: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Runs a verb.
pub(super) async fn run(verb: Verb) -> Result {
    match verb {
        Verb::Export(args) => export(args).await,
        Verb::Import(args) => import(args).await,
    }
}

async fn export(args: Export) -> Result {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Failed(
            "the archive would be written to the terminal: name a file with -o, or redirect the output"
                .into(),
        ));
    }
    let (storage, about) = find(&args.target, &args.engine, &args.name).await?;
    let registry = about.registry.clone();
    let summary = if to_stdout {
        storage.export(about, io::stdout()).await?
    } else {
        // Whoever waits for the file gets it whole or not at all.
        let mut partial = args.output.clone().into_os_string();
        partial.push(".partial");
        let unwritable = |e: io::Error| format!("cannot write {}: {e}", args.output.display());
        let file = File::create(&partial).map_err(unwritable)?;
        let exported = storage.export(about, BufWriter::new(file)).await;
        let renamed = exported.and_then(|summary| {
            fs::rename(&partial, &args.output).map_err(unwritable)?;
            Ok::<_, Failure>(summary)
        });
        if renamed.is_err() {
            let _ = fs::remove_file(&partial);
        }
        renamed?
    };
    eprintln!("{registry} exported: {}", told(&summary));
    Ok(())
}

async fn import(args: Import) -> Result {
    let (storage, about) = find(&args.target, &args.engine, &args.name).await?;
    let unreadable = |e: io::Error| format!("cannot import {}: {e}", args.file.display());
    let unpacked = if args.file == Path::new("-") {
        storage.import(&about, io::stdin()).await?
    } else {
        let open = || File::open(&args.file).map_err(unreadable);
        // Nothing is written of an archive that is not in order.
        let (file, caches) = (open()?, about.caches.clone());
        blocking(move || check(file, caches.as_deref())).await.map_err(unreadable)?;
        storage.import(&about, open()?).await?
    };
    eprintln!(
        "{} has the images of {}: {}, {} blobs of them new",
        about.registry,
        args.file.display(),
        told(&unpacked.0),
        unpacked.1
    );
    Ok(())
}

/// Checks an archive for a registry that caches `caches`, and returns its numbers.
pub fn check(archive: impl Read, caches: Option<&str>) -> io::Result<Summary> {
    unpack::unpack(archive, caches, None::<Store<'_, io::Sink>>).map(|unpacked| unpacked.summary)
}

/// Returns the numbers of an archive in words.
fn told(summary: &Summary) -> String {
    let Summary { tags, repositories, blobs, bytes } = summary;
    format!("{tags} tags in {repositories} repositories, {blobs} blobs of {} MiB", bytes >> 20)
}

/// Runs what blocks in a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

/// Finds the storage of a registry, and what an archive is told to be of.
async fn find(target: &Target, args: &EngineArgs, name: &str) -> Result<(Storage, About)> {
    let management = target.connect().await?;
    let registry: Option<Registry> = management.find(name).await?;
    let Management { namespace, context, .. } = &management;
    let registry = registry.ok_or_else(|| {
        format!(
            "no Registry {name}: the namespace {namespace} of the context {context} has none of this name; choose \
             another with -n or --context, or see `kubectl get registries -A`"
        )
    })?;
    let status = registry.status.clone().unwrap_or_default();
    let hostname = status.cluster.as_deref().and_then(|host| host.split(':').next());
    let object = format!("{namespace}/{}", registry.name_any());
    let is = |c: &&Container| {
        names::is_registry(&c.labels)
            && Some(c.name.as_str()) == hostname
            && c.labels.get(names::OWNER) == Some(&object)
    };
    let engine = args.engine()?;
    let containers = engine.containers().await?;
    let container = containers.iter().find(is).ok_or_else(|| {
        format!(
            "no container of {name} is on the Docker Engine at {}: the operator has not created one, or uses another \
             engine; see `kubectl get registry {name}`, or name the engine with --docker-host",
            args.docker_host
        )
    })?;
    management.tell_docker(&format!("cp {}:{DATA}/{ROOT} -", container.name));
    let about = About { version: VERSION, registry: object, caches: status.proxies };
    Ok((Storage { container: container.name.clone(), engine: Arc::new(engine) }, about))
}

/// Storage of a registry, which its container has.
pub struct Storage {
    /// The engine.
    pub engine: Arc<BollardEngine>,
    /// Name or ID of the container.
    pub container: String,
}

/// What tells whether the storage may have been changed by a garbage collection: the container, and its last start and end.
type Run = (String, Option<Timestamp>, Option<Timestamp>);

impl Storage {
    /// Returns the container of the registry.
    async fn detail(&self) -> Result<ContainerDetail> {
        let detail = self.engine.inspect(&self.container).await?;
        Ok(detail.ok_or_else(|| format!("the container {} is gone; try again", self.container))?)
    }

    /// Returns the current run of the registry. Fails during a garbage collection, which removes what no link refers to.
    async fn run(&self) -> Result<Run> {
        let detail = self.detail().await?;
        let uid = detail.container.labels.get(names::UID);
        let collects = |c: &Container| {
            c.labels.get(names::ROLE).is_some_and(|role| role == collection::ROLE)
                && c.labels.get(names::UID) == uid
                && c.state != State::Exited
        };
        if self.engine.containers().await?.iter().any(collects) {
            return Err(Failure::Failed(format!(
                "{} is stopped for a garbage collection; try again when it is over",
                self.container
            )));
        }
        Ok((detail.container.id, detail.started_at, detail.ended_at))
    }

    /// Fails if the registry was restarted since.
    async fn check(&self, before: &Run) -> Result {
        if self.run().await? == *before {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{} was restarted meanwhile, perhaps for a garbage collection, which removes what no tag needs yet; try again",
            self.container
        )))
    }

    /// Creates a container with the same storage, which is never started, and returns its name. Docker keeps a container
    /// locked while it sends or takes an archive, so that even the operator could not look at it meanwhile.
    async fn helper(&self) -> Result<String> {
        let detail = self.detail().await?;
        let name = registry::helper_name(&detail.container.name, "archive");
        let mut spec = ContainerSpec::bare(name.clone(), Role::RegistryHelper, &detail.container.image);
        let (volume, bind) = (detail.volumes.first(), detail.container.writable_binds.first());
        spec.mounts.extend(volume.map(|volume| (DATA.to_owned(), volume.clone())));
        let bind = bind.filter(|_| volume.is_none()).cloned();
        spec.binds.extend(bind.map(|source| (DATA.to_owned(), Bind { source, read_only: false })));
        match self.engine.create_container(&spec, None).await {
            Ok(_) => Ok(name),
            Err(Error::Conflict(_)) => Err(Failure::Failed(format!(
                "the container {name} exists: another export or import is running, or was killed; remove it in that case \
                 with `docker rm {name}`, and try again"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns what Docker sends of a directory of the storage.
    fn read(&self, helper: &str, directory: &str) -> Result<Received> {
        let path = format!("{DATA}/{ROOT}/{directory}");
        Ok(Received::of(self.engine.download_archive(helper, &path)?))
    }

    /// Returns the links and tags.
    async fn links(&self, helper: &str) -> Result<Links> {
        let archive = self.read(helper, "repositories")?;
        let read = blocking(move || pack::links(archive)).await;
        Ok(read.map_err(|e| format!("cannot read the storage of {}: {e}", self.container))?)
    }

    /// Writes the archive of all images. Images that are pushed meanwhile are in it whole or not at all.
    pub async fn export(&self, about: About, out: impl Write + Send + 'static) -> Result<Summary> {
        let before = self.run().await?;
        let helper = self.helper().await?;
        let packed = interruptible(self.pack(&helper, about, out)).await;
        self.engine.remove_container(&helper).await?;
        let summary = packed?;
        self.check(&before).await?;
        Ok(summary)
    }

    async fn pack(&self, helper: &str, about: About, out: impl Write + Send + 'static) -> Result<Summary> {
        let path = format!("{DATA}/{ROOT}/repositories");
        if self.engine.path_info(helper, &path).await?.is_none() {
            return Err(Failure::Failed(format!("{} has no images yet: nothing was pushed", about.registry)));
        }
        let tags = self.links(helper).await?.tags;
        // What the tags refer to was there when they were read.
        let links = Links { links: self.links(helper).await?.links, tags };
        let blobs = self.read(helper, "blobs")?;
        let registry = about.registry.clone();
        let packed = blocking(move || pack::pack(out, &about, &links, blobs)).await;
        Ok(packed.map_err(|e| format!("cannot export {registry}: {e}"))?)
    }

    /// Adds the images of an archive. Returns its numbers, and that of the blobs that were new.
    pub async fn import(
        &self,
        about: &About,
        archive: impl Read + Send + 'static,
    ) -> Result<(Summary, usize)> {
        let before = self.run().await?;
        if registry::fill::refuses(&self.detail().await?) {
            return Err(Failure::Failed(format!(
                "{} takes no images: its storage is full; raise spec.storage.maxSize",
                about.registry
            )));
        }
        let helper = self.helper().await?;
        let unpacked = interruptible(self.unpack(&helper, (about, &before), archive)).await;
        self.engine.remove_container(&helper).await?;
        let unpacked = unpacked?;
        self.check(&before).await?;
        Ok(unpacked)
    }

    async fn unpack(
        &self,
        helper: &str,
        (about, before): (&About, &Run),
        archive: impl Read + Send + 'static,
    ) -> Result<(Summary, usize)> {
        let Unpacked { links, summary, new } = self.blobs(helper, about, archive).await?;
        // The images become visible only if all that they need is still there.
        self.check(before).await?;
        let (out, body) = Sent::new();
        let written = spawn_blocking(move || unpack::write_links(out, &links));
        self.engine.upload_archive(helper, DATA, body).await?;
        let written = written.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        written.map_err(|e| format!("cannot import into {}: {e}", about.registry))?;
        Ok((summary, new))
    }

    /// Writes the blobs of an archive, and returns the rest of it.
    async fn blobs(
        &self,
        helper: &str,
        about: &About,
        archive: impl Read + Send + 'static,
    ) -> Result<Unpacked> {
        let (out, body) = Sent::new();
        let (engine, container, caches) = (self.engine.clone(), self.container.clone(), about.caches.clone());
        let runtime = Handle::current();
        let read = spawn_blocking(move || {
            // In the container of the registry, since the other one is locked meanwhile.
            let mut has = |path: &str, size: u64| {
                let found = runtime.block_on(engine.file_size(&container, &format!("{DATA}/{path}")));
                found.map(|there| there == Some(size)).map_err(io::Error::other)
            };
            unpack::unpack(archive, caches.as_deref(), Some(Store::new(&mut has, out)))
        });
        let uploaded = self.engine.upload_archive(helper, DATA, body).await;
        let read = read.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        match (read, uploaded) {
            (Ok(unpacked), Ok(())) => Ok(unpacked),
            // Docker stopped reading, and says why.
            (Err(e), Err(error)) if e.kind() == io::ErrorKind::BrokenPipe => Err(error.into()),
            (Err(e), _) => Err(Failure::Failed(format!("cannot import into {}: {e}", about.registry))),
            (Ok(_), Err(error)) => Err(error.into()),
        }
    }
}

/// Ends work when the user interrupts it, so that what it made can be removed.
async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".into())),
    }
}

#[cfg(test)]
mod tests;
