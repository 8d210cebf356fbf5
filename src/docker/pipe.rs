//! Streaming of an image from the engine into a command in a container, since images are larger than the available
//! memory.

use bollard::{
    Docker,
    exec::{StartExecOptions, StartExecResults},
};
use futures::{
    StreamExt,
    future::{Either, select},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{client::Timeouts, engine::Result, error::Error, fault, output::Output};

/// Maximum size of the output that is read.
const OUTPUT_LIMIT: usize = 64 << 10;

/// Result of sending the image to the command.
enum Fed {
    /// The command has received all of the image.
    Whole,
    /// The command no longer reads: it has exited or is about to, and reports the reason itself.
    Closed,
}

/// Starts the command of this exec, sends it the archive of the image, and returns its output.
pub async fn image(docker: &Docker, reference: &str, exec: &str, timeouts: &Timeouts) -> Result<Output> {
    let what = "exec";
    let started = timeout(timeouts.quick, docker.start_exec(exec, None::<StartExecOptions>)).await;
    let started = started.map_err(|_| late(reference, "the command does not start"))?;
    let StartExecResults::Attached { mut output, input } = started.map_err(|e| fault::error(what, e))? else {
        return Err(Error::Engine(format!("{what}: not attached")));
    };
    let ended = async move { Output::read(&mut output, OUTPUT_LIMIT).await };
    let (ended, fed) = (Box::pin(ended), Box::pin(feed(docker, reference, input, timeouts)));
    let ended = match select(ended, fed).await {
        // It has read what it needs, or failed, as its exit code shows.
        Either::Left((ended, _)) => ended,
        Either::Right((fed, ended)) => {
            let limit = match fed? {
                Fed::Whole => timeouts.unpack,
                Fed::Closed => timeouts.quick,
            };
            timeout(limit, ended).await.map_err(|_| late(reference, "the command does not exit"))?
        }
    };
    ended.map_err(|e| fault::error(what, e))
}

async fn feed(
    docker: &Docker,
    reference: &str,
    mut input: impl AsyncWrite + Unpin,
    timeouts: &Timeouts,
) -> Result<Fed> {
    let mut archive = docker.export_image(reference);
    loop {
        let chunk = timeout(timeouts.pull, archive.next()).await;
        let chunk = chunk.map_err(|_| late(reference, "Docker stopped sending it"))?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|e| fault::error("export_image", e))?;
        match timeout(timeouts.pull, input.write_all(&chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(Fed::Closed),
            Err(_) => return Err(late(reference, "the command stopped reading it")),
        }
    }
    // The archive contains its own end; a reader that waits for the end of the stream gets that too.
    let _ = timeout(timeouts.quick, input.shutdown()).await;
    Ok(Fed::Whole)
}

fn late(reference: &str, why: &str) -> Error {
    Error::Timeout(format!("copying {reference} into a container: {why}"))
}
