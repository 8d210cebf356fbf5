//! `shell`: commands in a node.

use std::{
    io::{self, Read},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    containers::{Containers, unfit},
    logs::write,
    management::Target,
    terminal::{self, Raw},
};
use crate::{
    cli::{Failure, Result, engine::EngineArgs},
    docker::{
        bollard::BollardEngine,
        direct::{Run, Session, Written},
        error::Error,
    },
};

/// What to run.
#[derive(Args)]
pub struct Shell {
    /// Name of the LocalCluster
    name: String,
    /// Node, such as server-0, agent-1 or serverlb for the load balancer. Defaults to server-0
    node: Option<String>,
    /// Command with its arguments, after --. Defaults to a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: Target,
}

/// Docker knows the exit code a moment after the last output.
const EXITS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Exit code of what a signal ended is its number and this.
const SIGNALLED: u8 = 128;
/// SIGTERM.
const TERMINATE: u8 = 15;

/// Runs the verb.
pub(super) async fn run(args: Shell) -> Result {
    let management = args.target.connect().await?;
    let cluster = management.cluster(&args.name).await?;
    let containers = Containers::of(&args.engine, &management, &cluster).await?;
    let node = containers.choose(args.node.as_deref())?;
    if let Some(why) = unfit(node, &cluster) {
        return Err(Failure::Failed(format!("cannot run a command: {why}")));
    }
    let command = if args.command.is_empty() { vec!["sh".to_owned()] } else { args.command };
    let has_terminal = terminal::is_used();
    let flags = if has_terminal { "-it" } else { "-i" };
    management.tell_docker(&format!("exec {flags} {} {}", node.name, command.join(" ")));
    let run = Run { command, terminal: has_terminal.then(terminal::kind), size: terminal::size() };
    let session = containers.engine.start_session(&node.id, run).await?;
    let code = attach(&containers.engine, session, has_terminal).await?;
    if code == 0 { Ok(()) } else { Err(Failure::Ended(u8::try_from(code).unwrap_or(1))) }
}

/// Connects a command with the streams of this process until it exits, and returns its exit code.
async fn attach(engine: &BollardEngine, session: Session, has_terminal: bool) -> Result<i64> {
    let broken = |e: io::Error| {
        format!("cannot use the terminal: {e}; give the command after --, and its input by a pipe")
    };
    let _raw = if has_terminal { Some(Raw::new().map_err(broken)?) } else { None };
    let listen = |kind| signal(kind).map_err(broken);
    let (mut resized, mut terminate) =
        (listen(SignalKind::window_change())?, listen(SignalKind::terminate())?);
    let Session { exec, input, mut output } = session;
    tokio::spawn(feed(input));
    let mut is_sized = false;
    loop {
        tokio::select! {
            record = output.next() => match record {
                None => break,
                Some(record) => {
                    match record? {
                        Written::Out(bytes) => write(&mut io::stdout().lock(), &bytes)?,
                        Written::Err(bytes) => write(&mut io::stderr().lock(), &bytes)?,
                    }
                    // Engines before 23 know no size when it starts, and none before it runs.
                    if has_terminal && !std::mem::replace(&mut is_sized, true) {
                        resize(engine, &exec).await;
                    }
                }
            },
            () = received(&mut resized), if has_terminal => resize(engine, &exec).await,
            () = received(&mut terminate) => return Ok((SIGNALLED + TERMINATE).into()),
        }
    }
    let ended = Instant::now();
    loop {
        match engine.exit_code(&exec).await? {
            Some(code) => return Ok(code),
            None if ended.elapsed() > EXITS => {
                return Err(Error::Engine("the command has closed its output and goes on".into()).into());
            }
            None => sleep(LOOK_AGAIN).await,
        }
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending().await
    }
}

/// The command draws for a size that is wrong, if this fails.
async fn resize(engine: &BollardEngine, exec: &str) {
    if let Some(size) = terminal::size() {
        let _ = engine.resize_session(exec, size).await;
    }
}

/// Passes standard input on to a command, and its end.
async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>) {
    let mut typed = typed();
    while let Some(bytes) = typed.recv().await {
        // It no longer reads.
        if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
    // Dropping it would end the output, too.
    std::future::pending::<()>().await;
}

/// Returns standard input. It is read by a thread that nobody waits for: a read of a terminal cannot be ended.
fn typed() -> mpsc::Receiver<Bytes> {
    const PIECE: usize = 16 << 10;
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let (mut stdin, mut piece) = (io::stdin().lock(), vec![0; PIECE]);
        while let Ok(length @ 1..) = stdin.read(&mut piece) {
            if sender.blocking_send(Bytes::copy_from_slice(&piece[..length])).is_err() {
                break;
            }
        }
    });
    receiver
}
