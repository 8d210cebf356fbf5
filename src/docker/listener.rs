//! Connections that nodes of a cluster open to the operator, which they have no route to.
//!
//! The operator's own program listens on an address in the network of a container and passes each connection on to the
//! operator over its standard streams, as in a [`tunnel`](super::tunnel) in the other direction. A connection starts with a
//! line of the listener, the address of the peer. The operator sends heartbeats; without one for a while, the listener
//! exits, and connections to its address are refused.

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::{
    engine::Attached,
    tunnel::{ANSWER, OK, SILENCE, Stream, Tunnel, late, read_line},
};

/// First line of the listener. Anything else is an error of the engine.
const GREETING: &str = "localcluster-listen 1";
/// Maximum number of open connections of a listener. Further ones are closed at once, so that whoever opened them does
/// not wait.
pub const CONNECTIONS: usize = 128;

/// The operator's end: the connections to a listener, which ends when this is dropped.
pub struct Incoming {
    opened: mpsc::Receiver<Stream>,
    _tunnel: Arc<Tunnel>,
}

impl Incoming {
    /// Creates an instance over the streams of a listener. Fails with the message of whatever does not greet.
    pub async fn start(attached: Attached) -> io::Result<Self> {
        let (send, opened) = mpsc::channel(CONNECTIONS);
        let tunnel = Tunnel::begin(attached, GREETING, Some(send)).await?;
        Ok(Self { opened, _tunnel: tunnel })
    }

    /// Returns the next connection; `None` when the listener has ended.
    pub async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }
}

/// Returns the address of the peer of a connection, which precedes what the peer sends.
pub async fn peer(stream: &mut Stream) -> io::Result<SocketAddr> {
    let line = timeout(ANSWER, read_line(stream)).await.map_err(|_| late())??;
    line.parse().map_err(|_| io::Error::other(format!("{line:?} is not an address")))
}

/// What happens at a listener.
enum Event {
    /// The operator sent a heartbeat.
    Asked(yamux::Stream),
    /// A connection was opened and passed on.
    Opened(yamux::Stream, TcpStream, SocketAddr),
    /// The operator has ended.
    Ended,
}

/// Runs the listener until its input ends.
pub async fn listen(
    address: SocketAddr,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))?;
    output.write_all(format!("{GREETING}\n").as_bytes()).await?;
    output.flush().await?;
    let both = tokio::io::join(input, output).compat();
    let mut connection = yamux::Connection::new(both, yamux::Config::default(), yamux::Mode::Server);
    // Dropping it ends all connections.
    let mut open = JoinSet::new();
    let (mut accepted, mut heard) = (None, Instant::now());
    loop {
        let event = poll_fn(|cx| poll(cx, (&listener, &mut open), &mut connection, &mut accepted));
        match timeout_at(heard + SILENCE, event).await.map_err(|_| late())?? {
            Event::Asked(stream) => {
                heard = Instant::now();
                drop(open.spawn(answer(stream.compat())));
            }
            Event::Opened(stream, tcp, peer) => drop(open.spawn(pass_on(stream.compat(), tcp, peer))),
            Event::Ended => return Ok(()),
        }
    }
}

/// Moves the bytes of all connections until something happens.
fn poll<T: futures::AsyncRead + futures::AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    (listener, open): (&TcpListener, &mut JoinSet<()>),
    connection: &mut yamux::Connection<T>,
    accepted: &mut Option<(TcpStream, SocketAddr)>,
) -> Poll<io::Result<Event>> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    loop {
        if accepted.is_none()
            && let Poll::Ready(new) = listener.poll_accept(cx)
        {
            while open.try_join_next().is_some() {}
            match new {
                Ok(new) if open.len() < CONNECTIONS => *accepted = Some(new),
                // It is closed.
                Ok(_) => continue,
                Err(error) if [ConnectionAborted, ConnectionReset].contains(&error.kind()) => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if accepted.is_some()
            && let Poll::Ready(opened) = connection.poll_new_outbound(cx)
        {
            let Some((tcp, peer)) = accepted.take() else { continue };
            return Poll::Ready(Ok(opened.map_or(Event::Ended, |stream| Event::Opened(stream, tcp, peer))));
        }
        return match connection.poll_next_inbound(cx) {
            Poll::Ready(Some(Ok(stream))) => Poll::Ready(Ok(Event::Asked(stream))),
            // The operator has ended, and reads no reply to the end of its output.
            Poll::Ready(Some(Err(yamux::ConnectionError::Io(e)))) if e.kind() == BrokenPipe => {
                Poll::Ready(Ok(Event::Ended))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(io::Error::other(error))),
            Poll::Ready(None) => Poll::Ready(Ok(Event::Ended)),
            Poll::Pending => Poll::Pending,
        };
    }
}

/// Answers a heartbeat. Its failures are the operator's to see.
async fn answer(mut stream: Compat<yamux::Stream>) {
    if read_line(&mut stream).await.is_ok() {
        let _ = stream.write_all(format!("{OK}\n").as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// Passes a connection on until the operator closes it: a peer that keeps its own side open does not keep it.
async fn pass_on(mut stream: Compat<yamux::Stream>, mut tcp: TcpStream, peer: SocketAddr) {
    if stream.write_all(format!("{peer}\n").as_bytes()).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    let (mut answers, mut asks) = tokio::io::split(stream);
    let (mut asked, mut answered) = tcp.split();
    let ask = async {
        let _ = tokio::io::copy(&mut asked, &mut asks).await;
        let _ = asks.shutdown().await;
        pending::<()>().await;
    };
    let answer = async {
        let _ = tokio::io::copy(&mut answers, &mut answered).await;
        let _ = answered.shutdown().await;
    };
    tokio::select! {
        () = ask => {}
        () = answer => {}
    }
}
