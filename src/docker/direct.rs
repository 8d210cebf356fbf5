//! What only people ask an engine for, by the command: descriptions as Docker writes them, logs while they are written,
//! terminals, images from files, and archives of any size. The operator needs none of it, so it is not part of the interface
//! of engines.

use std::{io, pin::Pin};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error as Failure,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, ImportImageOptionsBuilder,
        LogsOptionsBuilder, ResizeExecOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, future, stream::BoxStream};
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWrite;

use super::{
    attach,
    bollard::BollardEngine,
    convert,
    engine::{EngineInfo, Result},
    error::Error,
    fault,
};

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// True for all that is written from now on, too.
    pub follow: bool,
    /// First second, as Unix time.
    pub since: Option<i32>,
    /// Number of lines from its end.
    pub tail: Option<u32>,
}

/// Bytes that a process wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// To its standard output, or to its terminal.
    Out(Bytes),
    /// To its standard error.
    Err(Bytes),
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Command to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: Vec<String>,
    /// Type of the terminal, such as `xterm`; `None` without one.
    pub terminal: Option<String>,
    /// Size of the terminal, if known.
    pub size: Option<Size>,
}

/// A running command in a container.
pub struct Session {
    /// ID of the command.
    pub exec: String,
    /// Standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes, until it exits.
    pub output: BoxStream<'static, Result<Written>>,
}

impl BollardEngine {
    /// Returns what the engine says about itself and its host.
    pub async fn raw_info(&self) -> Result<Value> {
        self.client.call("info", |docker| async move { docker.info().await }).await.map(json)
    }

    /// Returns the same, and what of it the operator uses.
    pub async fn both_infos(&self) -> Result<(EngineInfo, Value)> {
        let info = self.client.call("info", |docker| async move { docker.info().await }).await?;
        let raw = json(info.clone());
        Ok((convert::info(info), raw))
    }

    /// Returns the versions of the engine and of its parts.
    pub async fn raw_version(&self) -> Result<Value> {
        self.client.call("version", |docker| async move { docker.version().await }).await.map(json)
    }

    /// Returns all that the engine says about a container; `None` if no container has this ID or name.
    pub async fn raw_container(&self, id: &str) -> Result<Option<Value>> {
        let found = self.client.call("inspect_container", |docker| async move {
            fault::found(docker.inspect_container(id, None).await)
        });
        Ok(found.await?.map(json))
    }

    /// Returns the log of a container while it is read.
    pub async fn follow_logs(
        &self,
        container: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, Result<Written>>> {
        let mut options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(query.follow);
        if let Some(since) = query.since {
            options = options.since(since);
        }
        let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let records = self.client.docker()?.logs(container, Some(options.tail(&tail).build()));
        Ok(written("read_logs", records))
    }

    /// Starts a command in a running container, with its standard input attached.
    pub async fn start_session(&self, container: &str, run: Run) -> Result<Session> {
        let has_terminal = run.terminal.is_some();
        let config = ExecConfig {
            attach_stdin: Some(true),
            tty: Some(has_terminal),
            console_size: run
                .size
                .filter(|_| has_terminal)
                .map(|size| vec![size.rows.into(), size.columns.into()]),
            env: run.terminal.map(|kind| vec![format!("TERM={kind}")]),
            ..attach::config(&run.command)
        };
        let options = StartExecOptions { tty: has_terminal, ..StartExecOptions::default() };
        let call = |docker: Docker| async move {
            let exec = self.client.create_exec(&docker, container, config).await?;
            Ok((docker.start_exec(&exec, Some(options)).await?, exec))
        };
        match self.client.call("exec", call).await? {
            (StartExecResults::Attached { output, input }, exec) => {
                Ok(Session { exec, input, output: written("exec", output) })
            }
            (StartExecResults::Detached, _) => Err(Error::Engine("exec: not attached".into())),
        }
    }

    /// Sets the size of the terminal of a command.
    pub async fn resize_session(&self, exec: &str, size: Size) -> Result<()> {
        let options = ResizeExecOptionsBuilder::default().h(size.rows.into()).w(size.columns.into()).build();
        self.client.call("resize_exec", |docker| async move { docker.resize_exec(exec, options).await }).await
    }

    /// Returns the exit code of a command; `None` while it runs.
    pub async fn exit_code(&self, exec: &str) -> Result<Option<i64>> {
        let ended = self.client.call("exec", |docker| async move { docker.inspect_exec(exec).await });
        Ok(ended.await?.exit_code)
    }

    /// Loads the images of an archive, as `docker load` does, and returns their names; those without one by their ID.
    pub async fn load_images(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Vec<String>> {
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let records = self.client.docker()?.import_image_stream(options, archive, None);
        let lines = records.map_ok(|record| record.stream.unwrap_or_default());
        let told: Vec<String> = lines.try_collect().await.map_err(|e| fault::error("load_images", e))?;
        Ok(loaded(&told.concat()))
    }

    /// Returns the archive of a path in a container while it is read.
    pub fn download_archive(&self, container: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let chunks = self.client.docker()?.download_from_container(container, Some(options));
        Ok(chunks.map_err(|e| fault::error("read_archive", e)).boxed())
    }

    /// Unpacks an archive in a directory of a container while it is written.
    pub async fn upload_archive(
        &self,
        container: &str,
        path: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path(path).build();
        let body = bollard::body_try_stream(archive);
        let uploaded = self.client.docker()?.upload_to_container(container, Some(options), body).await;
        uploaded.map_err(|e| fault::error("upload_archive", e))
    }

    /// Returns the size of a file in a container; `None` if it does not exist.
    pub async fn file_size(&self, container: &str, path: &str) -> Result<Option<u64>> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let found = self.client.call("stat_path", |docker| async move {
            fault::found(docker.get_container_archive_info(container, Some(options)).await)
        });
        Ok(found.await?.and_then(|stat| u64::try_from(stat.size).ok()))
    }
}

/// Returns the names in the output of `docker load`.
fn loaded(told: &str) -> Vec<String> {
    let name = |line: &str| Some(line.trim().strip_prefix("Loaded image")?.split_once(": ")?.1.to_owned());
    told.lines().filter_map(name).collect()
}

fn json(of: impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

fn written(
    what: &'static str,
    records: impl Stream<Item = std::result::Result<LogOutput, Failure>> + Send + 'static,
) -> BoxStream<'static, Result<Written>> {
    let read = move |record: std::result::Result<LogOutput, Failure>| match record {
        Ok(LogOutput::StdErr { message }) => Some(Ok(Written::Err(message))),
        Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => Some(Ok(Written::Out(message))),
        Ok(LogOutput::StdIn { .. }) => None,
        Err(failure) => Some(Err(fault::error(what, failure))),
    };
    records.filter_map(move |record| future::ready(read(record))).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_load_tells_names() {
        let told =
            "Loaded image: app:1\nLoaded image: r.example:5000/a/b:2\nLoaded image ID: sha256:4f\nother\n";
        assert_eq!(loaded(told), ["app:1", "r.example:5000/a/b:2", "sha256:4f"]);
        assert!(loaded("").is_empty());
    }
}
