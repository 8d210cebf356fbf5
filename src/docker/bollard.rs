//! Implementation of [`Engine`] with bollard.
//!
//! bollard 0.21 sends no API version in its paths, so every engine uses its own newest version; 0.22 does, and will
//! need a negotiation here (`tests/docker_wire.rs` fails then).
//!
//! bollard logs bodies, including credentials, through the `log` crate. They must not be forwarded to `tracing`.

use std::{collections::BTreeMap, path::Path, time::Duration};

use async_trait::async_trait;
use bollard::{
    Docker,
    exec::{StartExecOptions, StartExecResults},
    models::{ExecConfig, NetworkConnectRequest, NetworkDisconnectRequest},
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
        ListContainersOptionsBuilder, ListVolumesOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        RemoveVolumeOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use futures::{TryStreamExt, stream::BoxStream};

use super::{
    attach,
    client::{Client, Timeouts},
    convert, download,
    engine::{
        Attached, Container, ContainerDetail, Ended, Engine, EngineInfo, Event, ImageNames, Network,
        PathInfo, RegistryAuth, Result, Update, Volume,
    },
    error::Error,
    events, fault, images,
    listing::Listing,
    output::Output,
    pipe, pull,
    spec::{ContainerSpec, EndpointSettings, NetworkSpec, VolumeSpec},
};
use crate::metrics::Metrics;

/// Maximum size of a log that is read.
const LOG_LIMIT: usize = 1 << 20;

/// A Docker Engine at a Unix socket, or over TCP with TLS.
///
/// Creating one does not require a running engine. Without one every call fails with [`Error::Unavailable`], and calls
/// succeed as soon as there is one: each has its own connection.
pub struct BollardEngine {
    pub(super) client: Client,
    containers: Listing<Vec<Container>>,
    networks: Listing<Vec<Network>>,
    volumes: Listing<Vec<Volume>>,
}

impl BollardEngine {
    /// Returns the engine at `unix:///path`.
    pub fn connect(host: &str) -> Result<Self> {
        Self::connect_with(host, None)
    }

    /// Returns the engine at this address. Over TCP, `certificates` is a directory with `ca.pem`, `cert.pem` and
    /// `key.pem`.
    pub fn connect_with(host: &str, certificates: Option<&Path>) -> Result<Self> {
        let client = Client::connect(host, certificates)?;
        let (containers, networks, volumes) = Default::default();
        Ok(Self { client, containers, networks, volumes })
    }

    /// Sets the timeouts.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.client.timeouts = timeouts;
        self
    }

    /// Sets the metrics that count its calls.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.client.metrics = metrics;
        self
    }
}

#[async_trait]
impl Engine for BollardEngine {
    async fn info(&self) -> Result<EngineInfo> {
        self.client.call("info", |docker| async move { docker.info().await }).await.map(convert::info)
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let list = |docker: Docker| async move {
            let list = docker.list_containers(Some(options)).await?;
            Ok(list.into_iter().map(convert::container).collect())
        };
        self.client.list("list_containers", &self.containers, list).await
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerDetail>> {
        let found = self.client.call("inspect_container", |docker| async move {
            fault::found(docker.inspect_container(id, None).await)
        });
        Ok(found.await?.map(convert::detail))
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        let list = |docker: Docker| async move {
            let list = docker.list_networks(None).await?;
            Ok(list.into_iter().map(convert::network).collect())
        };
        self.client.list("list_networks", &self.networks, list).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        let list = |docker: Docker| async move {
            let list = docker.list_volumes(None::<ListVolumesOptions>).await?;
            Ok(list.volumes.unwrap_or_default().into_iter().map(convert::volume).collect())
        };
        self.client.list("list_volumes", &self.volumes, list).await
    }

    async fn image(&self, reference: &str) -> Result<Option<String>> {
        Ok(self.found_image(reference).await?.and_then(|image| image.id))
    }

    async fn image_names(&self, reference: &str) -> Result<Option<ImageNames>> {
        Ok(self.found_image(reference).await?.map(images::names))
    }

    async fn check_access(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        images::check_access(&self.client.docker()?, reference, auth, self.client.timeouts.quick).await
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        let limit = self.client.timeouts.pull;
        let pulled = pull::follow(&self.client.docker()?, reference, auth, limit).await;
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
        let made = self
            .client
            .call_or("create_network", self.client.timeouts.quick, call, fault::create_error)
            .await?;
        Ok(made.id)
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        match self.delete_network(id).await {
            Err(Error::Busy(refusal)) => self.remove_used_network(id, refusal).await,
            other => other,
        }
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()> {
        let body = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(convert::endpoint(network, endpoint)),
        };
        self.client
            .call("connect_network", |docker| async move {
                fault::met(docker.connect_network(network, body).await, |status, words| {
                    status == 403 && words.contains("already exists in network")
                })
            })
            .await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        let body = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        self.client
            .call("disconnect_network", |docker| async move {
                fault::met(docker.disconnect_network(network, body).await, |status, words| {
                    status == 404 || words.contains("is not connected to")
                })
            })
            .await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        let body = convert::volume_body(spec);
        let call = |docker: Docker| async move { docker.create_volume(body).await };
        self.client.call_or("create_volume", self.client.timeouts.quick, call, fault::create_error).await?;
        Ok(())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.client
            .call("remove_volume", |docker| async move {
                let removed = docker.remove_volume(name, None::<RemoveVolumeOptions>).await;
                fault::met(removed, |status, _| status == 404)
            })
            .await
    }

    async fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<String> {
        // Not cached: the engine at the socket may change.
        let cgroup_v1 = (spec.privileged || spec.role.is_node()) && self.info().await?.cgroup_v1;
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
        let made = self
            .client
            .call_or("create_container", self.client.timeouts.quick, call, fault::create_error)
            .await?;
        Ok(made.id)
    }

    async fn upload(&self, container: &str, archive: Vec<u8>) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        self.client
            .call("upload_archive", |docker| async move {
                docker.upload_to_container(container, Some(options), bollard::body_full(archive.into())).await
            })
            .await
    }

    async fn read_file(&self, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        download::file(&self.client, container, path, limit).await
    }

    async fn read_tree(
        &self,
        container: &str,
        path: &str,
        limit: usize,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        download::tree(&self.client, container, path, limit).await
    }

    async fn path_info(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let found = self.client.call("stat_path", |docker| async move {
            fault::found(docker.get_container_archive_info(container, Some(options)).await)
        });
        Ok(found.await?.map(|stat| convert::path_info(stat.file_mode)))
    }

    async fn start(&self, container: &str) -> Result<()> {
        // bollard treats a container that is already running (304) as success.
        let call = |docker: Docker| async move { docker.start_container(container, None).await };
        self.client.call_or("start_container", self.client.timeouts.start, call, fault::error).await
    }

    async fn stop(&self, container: &str, grace: u32) -> Result<()> {
        let options = StopContainerOptionsBuilder::default().t(grace.try_into().unwrap_or(i32::MAX)).build();
        let limit = self.client.timeouts.stop + Duration::from_secs(grace.into());
        let call = |docker: Docker| async move {
            // A container that does not exist is not running either; bollard treats one that is already stopped (304)
            // as success.
            fault::met(docker.stop_container(container, Some(options)).await, |status, _| status == 404)
        };
        self.client.call_or("stop_container", limit, call, fault::error).await
    }

    async fn unpause(&self, container: &str) -> Result<()> {
        self.client
            .call("unpause_container", |docker| async move {
                fault::met(docker.unpause_container(container).await, |_, words| {
                    words.contains("is not paused")
                })
            })
            .await
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        self.client
            .call("signal_container", |docker| async move {
                // A container that is not running reads everything when it starts.
                fault::met(docker.kill_container(container, Some(options)).await, |status, words| {
                    matches!(status, 409 | 500) && words.contains("is not running")
                })
            })
            .await
    }

    async fn update(&self, container: &str, change: &Update) -> Result<()> {
        let body = convert::update_body(change);
        self.client
            .call("update_container", |docker| async move { docker.update_container(container, body).await })
            .await
    }

    async fn exec(&self, container: &str, command: &[String]) -> Result<Ended> {
        self.exec_within(container, command, self.client.timeouts.command).await
    }

    async fn exec_within(&self, container: &str, command: &[String], limit: Duration) -> Result<Ended> {
        let config = attach::config(command);
        let call = |docker: Docker| async move {
            let exec = self.client.create_exec(&docker, container, config).await?;
            let output = match docker.start_exec(&exec, None::<StartExecOptions>).await? {
                StartExecResults::Attached { mut output, .. } => Output::read(&mut output, LOG_LIMIT).await?,
                StartExecResults::Detached => Output::default(),
            };
            let code = docker.inspect_exec(&exec).await?.exit_code.unwrap_or(-1);
            Ok(output.ended(code))
        };
        self.client.call_or("exec", limit, call, fault::error).await
    }

    async fn pipe_image(&self, reference: &str, container: &str, command: &[String]) -> Result<Ended> {
        let config = ExecConfig { attach_stdin: Some(true), ..attach::config(command) };
        // Not limited by the number of concurrent calls: it lasts as long as a pull.
        let client = self.client.docker()?;
        let exec = self
            .client
            .call("exec", |docker| async move { self.client.create_exec(&docker, container, config).await });
        let exec = exec.await?;
        let output = pipe::image(&client, reference, &exec, &self.client.timeouts).await?;
        let ended = self.client.call("exec", |docker| async move {
            Ok(docker.inspect_exec(&exec).await?.exit_code.unwrap_or(-1))
        });
        Ok(output.ended(ended.await?))
    }

    async fn attach_exec(&self, container: &str, command: &[String]) -> Result<Attached> {
        let config = ExecConfig { attach_stdin: Some(true), ..attach::config(command) };
        let call = |docker: Docker| async move {
            let exec = self.client.create_exec(&docker, container, config).await?;
            docker.start_exec(&exec, None::<StartExecOptions>).await
        };
        match self.client.call("exec", call).await? {
            StartExecResults::Attached { output, input } => Ok(attach::streams(output, input)),
            StartExecResults::Detached => Err(Error::Engine("exec: not attached".into())),
        }
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.client
            .call("remove_container", |docker| async move {
                fault::met(docker.remove_container(container, Some(options)).await, |status, _| status == 404)
            })
            .await
    }

    async fn logs(&self, container: &str, lines: u32) -> Result<Vec<String>> {
        let tail = lines.to_string();
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let read = self.client.call("read_logs", |docker| async move {
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
        let info = self.client.call("info", |docker| async move { docker.info().await }).await?;
        let since = info.system_time.as_deref().and_then(events::since);
        // The timeout of bollard only covers the headers, as needed here. It has a resolution of one second.
        let limit = self.client.timeouts.quick.max(Duration::from_secs(1));
        Ok(events::stream(&self.client.docker()?.with_timeout(limit), since, self.client.execs.clone()))
    }
}
