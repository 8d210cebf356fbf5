//! Connections through the engine, for an operator without a route to its containers.
//!
//! The operator's own program runs as a forwarder in the container, started by the engine. Its standard streams carry
//! any number of connections, multiplexed by yamux. The forwarder prints a greeting. Then each connection starts with a
//! line of the operator, the address to connect to, and a line of the forwarder, `ok` or an error. An empty line is a
//! heartbeat: the forwarder exits if it receives no line for a while, since an engine that is killed does not close its
//! standard input.
//!
//! In the other direction, for what nodes ask the operator, see [`listener`](super::listener).

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    compat::{Compat, FuturesAsyncReadCompatExt, FuturesAsyncWriteCompatExt, TokioAsyncReadCompatExt},
    sync::{CancellationToken, DropGuard},
};
use tower::Service;

use super::engine::Attached;

/// First line of the forwarder. Anything else is an error of the engine.
const GREETING: &str = "localcluster-forward 1";
/// Answer to a line that was obeyed.
pub(super) const OK: &str = "ok";
/// Maximum length of a line.
const LINE: usize = 1024;
/// Time for the forwarder's answer, which includes its connection.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Time for a connection of the forwarder. All its addresses are local.
const CONNECT: Duration = Duration::from_secs(2);
/// Interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Time without a line after which the forwarder exits.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// Time without a connection after which the operator closes a tunnel.
const IDLE: Duration = Duration::from_secs(120);
/// Time for closing a tunnel in order.
const CLOSE: Duration = Duration::from_secs(1);

/// A destination that is reached through the engine.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to it.
    async fn dial(&self) -> io::Result<Stream>;
}

/// Connector for HTTP clients that ignores the host in the URL.
#[derive(Clone)]
pub struct Connector(pub Arc<dyn Dial>);

impl Service<hyper::Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let dial = self.0.clone();
        async move { dial.dial().await.map(TokioIo::new) }.boxed()
    }
}

/// The operator's end of a tunnel into a container. It ends when it is dropped, when the forwarder exits or does not
/// respond, and when it has had no connection for a while.
pub struct Tunnel {
    requests: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    /// Cloned by each connection, so that the number of connections is known.
    open: Arc<()>,
    used: Mutex<Instant>,
    /// Connections that the forwarder opens; those of a [`forward`] open none.
    listens: bool,
    end: CancellationToken,
    _ends: DropGuard,
}

impl Tunnel {
    /// Creates a tunnel over the streams of a forwarder. Fails with the message of whatever does not greet.
    pub async fn start(attached: Attached) -> io::Result<Arc<Self>> {
        Self::begin(attached, GREETING, None).await
    }

    /// Creates a tunnel over the streams of a program with this greeting. The connections that the program opens are sent
    /// to `opened`; those for which there is no room are closed. A tunnel that receives such connections does not end for
    /// having none.
    pub(super) async fn begin(
        attached: Attached,
        greeting: &str,
        opened: Option<mpsc::Sender<Stream>>,
    ) -> io::Result<Arc<Self>> {
        let mut output = attached.output.into_async_read().compat();
        let first = timeout(ANSWER, read_line(&mut output)).await.map_err(|_| late())??;
        if first != greeting {
            return Err(io::Error::other(if first.is_empty() { "it exits".to_owned() } else { first }));
        }
        let both = tokio::io::join(output, attached.input.compat_write()).compat();
        let connection = yamux::Connection::new(both, yamux::Config::default(), yamux::Mode::Client);
        let (requests, requested) = mpsc::channel(1);
        let (end, open) = (CancellationToken::new(), Arc::new(()));
        let (listens, count) = (opened.is_some(), open.clone());
        let accept = move |stream: yamux::Stream| {
            let stream = Stream { io: stream.compat(), _open: count.clone() };
            if let Some(opened) = &opened {
                let _ = opened.try_send(stream);
            }
        };
        tokio::spawn(drive(connection, requested, accept, end.clone()));
        let tunnel = Arc::new(Self {
            requests,
            open,
            used: Mutex::new(Instant::now()),
            listens,
            _ends: end.clone().drop_guard(),
            end,
        });
        tokio::spawn(keep(Arc::downgrade(&tunnel)));
        Ok(tunnel)
    }

    /// Reports whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.end.is_cancelled() || self.requests.is_closed()
    }

    /// Connects to an address in the network of the container.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<Stream> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.request(&address.to_string()).await
    }

    async fn request(&self, line: &str) -> io::Result<Stream> {
        let asked = async {
            let (send, receive) = oneshot::channel();
            self.requests.send(send).await.map_err(|_| gone())?;
            let stream = receive.await.map_err(|_| gone())?;
            let mut stream = Stream { io: stream.compat(), _open: self.open.clone() };
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            stream.flush().await?;
            match read_line(&mut stream).await?.as_str() {
                OK => Ok(stream),
                "" => Err(gone()),
                words => Err(io::Error::other(words.to_owned())),
            }
        };
        timeout(ANSWER, asked).await.map_err(|_| late())?
    }

    fn is_idle(&self) -> bool {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // The tunnel itself, and its task, count too.
        !self.listens && Arc::strong_count(&self.open) == 2 && used.elapsed() > IDLE
    }
}

/// A connection through a tunnel.
pub struct Stream {
    io: Compat<yamux::Stream>,
    _open: Arc<()>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Moves the bytes of all connections, and opens new ones, until the tunnel ends.
async fn drive<T>(
    mut connection: yamux::Connection<T>,
    mut requested: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    mut accept: impl FnMut(yamux::Stream),
    end: CancellationToken,
) where
    T: futures::AsyncRead + futures::AsyncWrite + Unpin,
{
    let mut waiting: Option<oneshot::Sender<yamux::Stream>> = None;
    let work = poll_fn(|cx| {
        loop {
            if waiting.is_none()
                && let Poll::Ready(Some(request)) = requested.poll_recv(cx)
            {
                waiting = Some(request);
            }
            if waiting.is_some()
                && let Poll::Ready(opened) = connection.poll_new_outbound(cx)
            {
                let (Ok(stream), Some(request)) = (opened, waiting.take()) else { return Poll::Ready(()) };
                // Whoever asked may have given up; the stream is closed then.
                let _ = request.send(stream);
                continue;
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => accept(stream),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    tokio::select! {
        () = work => {}
        () = end.cancelled() => {}
    }
    drop((requested, accept));
    let _ = timeout(CLOSE, poll_fn(|cx| connection.poll_close(cx))).await;
}

/// Sends heartbeats, and ends the tunnel if one is not answered or if it is not used.
async fn keep(tunnel: Weak<Tunnel>) {
    loop {
        sleep(HEARTBEAT).await;
        let Some(tunnel) = tunnel.upgrade() else { return };
        if tunnel.is_closed() || tunnel.is_idle() || tunnel.request("").await.is_err() {
            tunnel.end.cancel();
            return;
        }
    }
}

/// Runs the forwarder until its input ends.
pub async fn forward(input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin) -> io::Result<()> {
    output.write_all(format!("{GREETING}\n").as_bytes()).await?;
    output.flush().await?;
    let both = tokio::io::join(input, output).compat();
    let mut connection = yamux::Connection::new(both, yamux::Config::default(), yamux::Mode::Server);
    // Dropping it ends all connections.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match timeout(SILENCE, poll_fn(|cx| connection.poll_next_inbound(cx))).await {
            Ok(Some(Ok(stream))) => drop(connections.spawn(serve(stream.compat()))),
            // The operator has ended, and reads no reply to the end of its output.
            Ok(Some(Err(yamux::ConnectionError::Io(error)))) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(());
            }
            Ok(Some(Err(error))) => return Err(io::Error::other(error)),
            Ok(None) => return Ok(()),
            Err(_) => return Err(late()),
        }
    }
}

/// Serves one connection. Its failures are the operator's to see.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(line) = read_line(&mut stream).await else { return };
    let connected = if line.is_empty() { Ok(None) } else { connect(&line).await.map(Some) };
    let answer = connected.as_ref().map_or_else(String::as_str, |_| OK);
    if stream.write_all(format!("{answer}\n").as_bytes()).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    if let Ok(Some(mut connection)) = connected {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut connection).await;
    } else {
        let _ = stream.shutdown().await;
    }
}

async fn connect(line: &str) -> Result<TcpStream, String> {
    let address: SocketAddr = line.parse().map_err(|_| format!("{line:?} is not an address"))?;
    let connected = timeout(CONNECT, TcpStream::connect(address)).await;
    let connection = connected.map_err(|_| "timed out".to_owned())?.map_err(|e| e.to_string())?;
    connection.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(connection)
}

/// Reads a line byte by byte, since what follows it belongs to the connection. Returns what there is if the stream ends.
pub(super) async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE && AsyncReadExt::read(stream, &mut byte).await? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the forwarder has exited")
}

pub(super) fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timed out")
}
