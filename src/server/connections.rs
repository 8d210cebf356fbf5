//! Limit of the connections of the HTTP server. Its port is open to all Pods of the management cluster, and a connection
//! that sends nothing takes memory for as long as it is open.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// A listener with at most this number of open connections. For a new one, the oldest is closed: if new ones were
/// refused instead, the kubelet's probes would fail as soon as somebody has opened as many.
pub struct Limited {
    listener: TcpListener,
    limit: usize,
    /// Open connections, the oldest first.
    open: VecDeque<CancellationToken>,
}

impl Limited {
    /// Creates an instance without connections.
    pub fn new(listener: TcpListener, limit: usize) -> Self {
        Self { listener, limit, open: VecDeque::new() }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Connection, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.open.retain(|connection| !connection.is_cancelled());
        while self.open.len() >= self.limit {
            self.open.pop_front().into_iter().for_each(|oldest| oldest.cancel());
        }
        let token = CancellationToken::new();
        self.open.push_back(token.clone());
        let closed = Box::pin(token.clone().cancelled_owned());
        (Connection { stream, closed, _open: token.drop_guard() }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection, which ends for the server when the limit closes it.
pub struct Connection {
    stream: TcpStream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _open: DropGuard,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = pin!(&mut self.stream).poll_read(cx, buf) {
            return Poll::Ready(result);
        }
        // As if the other end had closed it.
        ready!(self.closed.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
