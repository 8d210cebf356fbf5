//! An image on its way from the engine into a command of a container: a stream from end to end, since images are
//! larger than the memory that anyone has for them.

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

use super::{bollard::Timeouts, engine::Result, error::Error, fault, said::Said};

/// More than anyone wants to read of what the command says.
const SAID: usize = 64 << 10;

/// How feeding the command ended.
enum Fed {
    /// It has all of the image.
    Whole,
    /// It no longer reads: it has ended, or is about to, and says why itself.
    Closed,
}

/// Starts the command of this exec, feeds it the archive of the image, and answers what it said.
pub async fn image(docker: &Docker, reference: &str, exec: &str, timeouts: &Timeouts) -> Result<Said> {
    let what = "command in a container";
    let started = timeout(timeouts.quick, docker.start_exec(exec, None::<StartExecOptions>)).await;
    let started = started.map_err(|_| late(reference, "the command that reads it does not start"))?;
    let StartExecResults::Attached { mut output, input } = started.map_err(|e| fault::error(what, e))? else {
        return Err(Error::Engine(format!("{what}: it is not attached")));
    };
    let said = async move { Said::hear(&mut output, SAID).await };
    let (said, fed) = (Box::pin(said), Box::pin(feed(docker, reference, input, timeouts)));
    let said = match select(said, fed).await {
        // It has read what it needs, or failed: its exit code tells.
        Either::Left((said, _)) => said,
        Either::Right((fed, said)) => {
            let limit = match fed? {
                Fed::Whole => timeouts.unpack,
                Fed::Closed => timeouts.quick,
            };
            timeout(limit, said)
                .await
                .map_err(|_| late(reference, "the command that reads it does not end"))?
        }
    };
    said.map_err(|e| fault::error(what, e))
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
        let chunk = chunk.map_err(|_| late(reference, "Docker does not go on writing it"))?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|e| fault::error("export of an image", e))?;
        match timeout(timeouts.pull, input.write_all(&chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(Fed::Closed),
            Err(_) => return Err(late(reference, "the command does not go on reading it")),
        }
    }
    // The end of the archive is in the archive; who waits for the end of the stream gets that too.
    let _ = timeout(timeouts.quick, input.shutdown()).await;
    Ok(Fed::Whole)
}

fn late(reference: &str, why: &str) -> Error {
    Error::Timeout(format!("{reference} is on its way into a container: {why}"))
}
