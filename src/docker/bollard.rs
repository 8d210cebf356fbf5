//! Implementation of [`Engine`] with bollard.
//!
//! bollard 0.21 sends no API version in its paths, so every engine uses its own newest version; 0.22 does, and will
//! need a negotiation here (`tests/docker_wire.rs` fails then).
//!
//! bollard logs bodies, including credentials, through the `log` crate. They must not be forwarded to `tracing`.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as Failure,
    exec::{StartExecOptions, StartExecResults},
    models::{ExecConfig, NetworkConnectRequest, NetworkDisconnectRequest},
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
        DownloadFromContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
        ListVolumesOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
        StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    archive, convert,
    engine::{
        Container, ContainerDetail, Ended, Engine, EngineInfo, Event, Network, PathInfo, RegistryAuth,
        Result, Update, Volume,
    },
    error::Error,
    events, fault,
    output::Output,
    pipe,
    spec::{ContainerSpec, EndpointSettings, NetworkSpec, VolumeSpec},
};
use crate::metrics::Metrics;

/// Maximum number of concurrent calls: bollard opens a connection for each.
const CALLS: usize = 8;
/// Maximum size of a file that is read, more than any has.
const FILE_LIMIT: usize = 8 << 20;
/// Maximum size of a log that is read.
const LOG_LIMIT: usize = 1 << 20;

/// Timeouts of calls.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Calls without a timeout of their own, including the body.
    pub quick: Duration,
    /// Start of a container, which on an overloaded host, as when many clusters start at once, takes more than 30
    /// seconds.
    pub start: Duration,
    /// Stop of a container, in addition to its grace period.
    pub stop: Duration,
    /// Time between two progress records of a pull.
    pub pull: Duration,
    /// Command in a container.
    pub command: Duration,
    /// Time without output of a command that has read all of an image.
    pub unpack: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            quick: Duration::from_secs(30),
            start: Duration::from_secs(120),
            stop: Duration::from_secs(10),
            pull: Duration::from_secs(120),
            command: Duration::from_secs(60),
            unpack: Duration::from_secs(600),
        }
    }
}

/// A Docker Engine at a Unix socket.
///
/// Creating one does not require a running engine. Without one every call fails with [`Error::Unavailable`], and calls
/// succeed as soon as there is one: each has its own connection.
pub struct BollardEngine {
    socket: String,
    timeouts: Timeouts,
    calls: Arc<Semaphore>,
    metrics: Metrics,
    /// Created on first use, since bollard creates no client for a socket that does not exist.
    client: OnceLock<Docker>,
}

impl BollardEngine {
    /// Returns the engine at `unix:///path`.
    pub fn connect(host: &str) -> Result<Self> {
        match host.strip_prefix("unix://") {
            Some(socket) if socket.starts_with('/') => Ok(Self {
                socket: socket.to_owned(),
                timeouts: Timeouts::default(),
                calls: Arc::new(Semaphore::new(CALLS)),
                metrics: Metrics::new(),
                client: OnceLock::new(),
            }),
            _ => Err(Error::Invalid(format!("invalid Docker host {host:?}: must be unix:///path"))),
        }
    }

    /// Sets the timeouts.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets the metrics that count its calls.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    fn client(&self) -> Result<Docker> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        // The timeout of bollard only covers the headers of the response; the one here covers all of it.
        const NO_TIMEOUT: u64 = 365 * 24 * 3600;
        let client = Docker::connect_with_unix(&self.socket, NO_TIMEOUT, API_DEFAULT_VERSION)
            .map_err(|failure| fault::error("connect", failure))?
            .with_request_modifier(url_safe_auth);
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// Executes a call within its timeout and the limit of concurrent calls. `failed` converts its error.
    async fn call_or<T, F>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl FnOnce(Docker) -> F,
        failed: impl FnOnce(&str, Failure) -> Error,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        let client = self.client()?;
        let _turn = self.calls.acquire().await.map_err(|_| Error::Unavailable("shutting down".into()))?;
        let began = Instant::now();
        let answer = match timeout(limit, call(client)).await {
            Ok(answer) => answer.map_err(|failure| failed(what, failure)),
            Err(_) => Err(Error::Timeout(format!("{} took longer than {limit:?}", fault::words(what)))),
        };
        self.metrics.docker_call(what, answer.as_ref().map_or_else(Error::name, |_| "ok"), began.elapsed());
        answer
    }

    async fn call<T, F>(&self, what: &'static str, call: impl FnOnce(Docker) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        self.call_or(what, self.timeouts.quick, call, fault::error).await
    }

    /// Follows a pull until it completes.
    async fn follow_pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        let mut options = CreateImageOptionsBuilder::default().from_image(reference);
        if let Some(tag) = convert::missing_tag(reference) {
            options = options.tag(tag);
        }
        let client = self.client()?;
        let records = client.create_image(Some(options.build()), None, auth.map(convert::credentials));
        let mut records = std::pin::pin!(records);
        let limit = self.timeouts.pull;
        loop {
            match timeout(limit, records.next()).await {
                Ok(Some(Ok(_))) => {}
                Ok(None) => return Ok(()),
                Ok(Some(Err(failure))) => {
                    let secrets = auth.map(|auth| {
                        [auth.password.as_str(), auth.identity_token.as_deref().unwrap_or_default()]
                    });
                    let failure = fault::without(failure, secrets.into_iter().flatten());
                    return Err(fault::pull_error("pull", failure));
                }
                Err(_) => {
                    return Err(Error::Timeout(format!(
                        "pulling {reference} made no progress for {limit:?}"
                    )));
                }
            }
        }
    }
}

/// Re-encodes credentials, for which bollard uses plain Base64 where the engine expects the URL-safe alphabet
/// (bollard#169, moby#33434). The engine treats invalid encodings as no credentials, so some passwords would not be
/// sent.
fn url_safe_auth(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("X-Registry-Auth") {
        let text = value.to_str().unwrap_or_default().replace('+', "-").replace('/', "_");
        if let Ok(safe) = text.parse() {
            *value = safe;
            value.set_sensitive(true);
        }
    }
    request
}

impl BollardEngine {
    /// Returns the entry point of an image; `None` if it has none.
    async fn entrypoint(&self, image: &str) -> Result<Option<Vec<String>>> {
        let call = |docker: Docker| async move { docker.inspect_image(image).await };
        let found = self.call("inspect_image", call).await?;
        Ok(found.config.and_then(|config| config.entrypoint).filter(|entrypoint| !entrypoint.is_empty()))
    }

    /// Returns an archive of a path in a container; empty if the path does not exist.
    async fn download(&self, container: &str, path: &str) -> Result<Vec<u8>> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let read = self.call("read_file", |docker| async move {
            let mut chunks = docker.download_from_container(container, Some(options));
            let mut bytes = Vec::new();
            while let Some(chunk) = fault::found(chunks.try_next().await)?.flatten() {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > FILE_LIMIT {
                    break;
                }
            }
            Ok(bytes)
        });
        let bytes = read.await?;
        if bytes.len() > FILE_LIMIT {
            return Err(Error::Invalid(format!("{path} is larger than {FILE_LIMIT} bytes")));
        }
        Ok(bytes)
    }
}

#[async_trait]
impl Engine for BollardEngine {
    async fn info(&self) -> Result<EngineInfo> {
        self.call("info", |docker| async move { docker.info().await }).await.map(convert::info)
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let list =
            self.call("list_containers", |docker| async move { docker.list_containers(Some(options)).await });
        Ok(list.await?.into_iter().map(convert::container).collect())
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerDetail>> {
        let found = self.call("inspect_container", |docker| async move {
            fault::found(docker.inspect_container(id, None).await)
        });
        Ok(found.await?.map(convert::detail))
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        let list = self.call("list_networks", |docker| async move { docker.list_networks(None).await });
        Ok(list.await?.into_iter().map(convert::network).collect())
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        let list = self.call("list_volumes", |docker| async move {
            docker.list_volumes(None::<ListVolumesOptions>).await
        });
        Ok(list.await?.volumes.unwrap_or_default().into_iter().map(convert::volume).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<String>> {
        let found = self.call("inspect_image", |docker| async move {
            fault::found(docker.inspect_image(reference).await)
        });
        Ok(found.await?.and_then(|image| image.id))
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        let pulled = self.follow_pull(reference, auth).await;
        // Only the image counts. bollard treats a record with its line ending in two chunks as a broken stream, and a
        // record with an unknown kind of error as progress.
        match (self.image(reference).await, pulled) {
            (Ok(Some(_)), _) => Ok(()),
            (_, Err(error)) => Err(error),
            (Ok(None), Ok(())) => {
                Err(Error::Pull(format!("pulling {reference} completed without the image")))
            }
            (Err(error), Ok(())) => Err(error),
        }
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        let body = convert::network_body(spec);
        let call = |docker: Docker| async move { docker.create_network(body).await };
        let made = self.call_or("create_network", self.timeouts.quick, call, fault::create_error).await?;
        Ok(made.id)
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.call("remove_network", |docker| async move {
            fault::met(docker.remove_network(id).await, |status, _| status == 404)
        })
        .await
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()> {
        let body = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(convert::endpoint(network, endpoint)),
        };
        self.call("connect_network", |docker| async move {
            fault::met(docker.connect_network(network, body).await, |status, words| {
                status == 403 && words.contains("already exists in network")
            })
        })
        .await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        let body = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        self.call("disconnect_network", |docker| async move {
            fault::met(docker.disconnect_network(network, body).await, |status, words| {
                status == 404 || words.contains("is not connected to")
            })
        })
        .await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        let body = convert::volume_body(spec);
        let call = |docker: Docker| async move { docker.create_volume(body).await };
        self.call_or("create_volume", self.timeouts.quick, call, fault::create_error).await?;
        Ok(())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.call("remove_volume", |docker| async move {
            let removed = docker.remove_volume(name, None::<RemoveVolumeOptions>).await;
            fault::met(removed, |status, _| status == 404)
        })
        .await
    }

    async fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<String> {
        // Not cached: the engine at the socket may change.
        let cgroup_v1 = spec.privileged && self.info().await?.cgroup_v1;
        let mut body = convert::container_body(spec, network, cgroup_v1);
        if spec.shares_mounts {
            body.entrypoint =
                self.entrypoint(&spec.image).await?.map(|own| convert::sharing_entrypoint(&own));
        }
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let call = |docker: Docker| async move {
            let made = docker.create_container(Some(options), body).await;
            made.map_err(|failure| {
                fault::without(failure, spec.env.values().chain(spec.host_env.values()).map(String::as_str))
            })
        };
        let made = self.call_or("create_container", self.timeouts.quick, call, fault::create_error).await?;
        Ok(made.id)
    }

    async fn upload(&self, container: &str, archive: Vec<u8>) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        self.call("upload_archive", |docker| async move {
            docker.upload_to_container(container, Some(options), bollard::body_full(archive.into())).await
        })
        .await
    }

    async fn read_file(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
        let bytes = self.download(container, path).await?;
        archive::single(&bytes).map_err(|error| Error::Engine(format!("cannot read {path}: {error}")))
    }

    async fn read_tree(&self, container: &str, path: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let bytes = self.download(container, path).await?;
        archive::tree(&bytes, path).map_err(|error| Error::Engine(format!("cannot read {path}: {error}")))
    }

    async fn path_info(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let found = self.call("stat_path", |docker| async move {
            fault::found(docker.get_container_archive_info(container, Some(options)).await)
        });
        Ok(found.await?.map(|stat| convert::path_info(stat.file_mode)))
    }

    async fn start(&self, container: &str) -> Result<()> {
        // bollard treats a container that is already running (304) as success.
        let call = |docker: Docker| async move { docker.start_container(container, None).await };
        self.call_or("start_container", self.timeouts.start, call, fault::error).await
    }

    async fn stop(&self, container: &str, grace: u32) -> Result<()> {
        let options = StopContainerOptionsBuilder::default().t(grace.try_into().unwrap_or(i32::MAX)).build();
        let limit = self.timeouts.stop + Duration::from_secs(grace.into());
        let call = |docker: Docker| async move {
            // A container that does not exist is not running either; bollard treats one that is already stopped (304)
            // as success.
            fault::met(docker.stop_container(container, Some(options)).await, |status, _| status == 404)
        };
        self.call_or("stop_container", limit, call, fault::error).await
    }

    async fn unpause(&self, container: &str) -> Result<()> {
        self.call("unpause_container", |docker| async move {
            fault::met(docker.unpause_container(container).await, |_, words| words.contains("is not paused"))
        })
        .await
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        self.call("signal_container", |docker| async move {
            // A container that is not running reads everything when it starts.
            fault::met(docker.kill_container(container, Some(options)).await, |status, words| {
                matches!(status, 409 | 500) && words.contains("is not running")
            })
        })
        .await
    }

    async fn update(&self, container: &str, change: &Update) -> Result<()> {
        let body = convert::update_body(change);
        self.call("update_container", |docker| async move { docker.update_container(container, body).await })
            .await
    }

    async fn exec(&self, container: &str, command: &[String]) -> Result<Ended> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let call = |docker: Docker| async move {
            let exec = docker.create_exec(container, config).await?.id;
            let output = match docker.start_exec(&exec, None::<StartExecOptions>).await? {
                StartExecResults::Attached { mut output, .. } => Output::read(&mut output, LOG_LIMIT).await?,
                StartExecResults::Detached => Output::default(),
            };
            let code = docker.inspect_exec(&exec).await?.exit_code.unwrap_or(-1);
            Ok(output.ended(code))
        };
        self.call_or("exec", self.timeouts.command, call, fault::error).await
    }

    async fn pipe_image(&self, reference: &str, container: &str, command: &[String]) -> Result<Ended> {
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        // Not limited by the number of concurrent calls: it lasts as long as a pull.
        let client = self.client()?;
        let exec =
            self.call("exec", |docker| async move { Ok(docker.create_exec(container, config).await?.id) });
        let exec = exec.await?;
        let output = pipe::image(&client, reference, &exec, &self.timeouts).await?;
        let ended = self.call("exec", |docker| async move {
            Ok(docker.inspect_exec(&exec).await?.exit_code.unwrap_or(-1))
        });
        Ok(output.ended(ended.await?))
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.call("remove_container", |docker| async move {
            fault::met(docker.remove_container(container, Some(options)).await, |status, _| status == 404)
        })
        .await
    }

    async fn logs(&self, container: &str, lines: u32) -> Result<Vec<String>> {
        let tail = lines.to_string();
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let read = self.call("read_logs", |docker| async move {
            let mut records = docker.logs(container, Some(options));
            let mut bytes = Vec::new();
            while let Some(record) = records.try_next().await? {
                bytes.extend_from_slice(&record.into_bytes());
                if bytes.len() > LOG_LIMIT {
                    break;
                }
            }
            Ok(bytes)
        });
        Ok(convert::last_lines(&read.await?, lines))
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<Event>>> {
        // The connection is established when the stream is first polled. Events until then are replayed, so that a
        // caller that lists everything after this call misses none. It also verifies that an engine is running.
        let info = self.call("info", |docker| async move { docker.info().await }).await?;
        let since = info.system_time.as_deref().and_then(events::since);
        // The timeout of bollard only covers the headers, as needed here. It has a resolution of one second.
        let limit = self.timeouts.quick.max(Duration::from_secs(1));
        Ok(events::stream(&self.client()?.with_timeout(limit), since))
    }
}
