//! Bytes between Docker, whose calls are asynchronous, and archives, which are read and written in a thread of their own.

use std::io::{self, Read, Write};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use crate::docker::engine::Result;

/// Number of chunks under way.
const CHUNKS: usize = 8;
/// Size of a chunk that is sent.
const CHUNK: usize = 256 << 10;

/// Reads what Docker sends, in a thread that may block.
pub struct Received {
    chunks: Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Received {
    /// Reads a stream, which a task of its own asks for more.
    pub fn of(mut stream: impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static) -> Self {
        let (sender, chunks) = channel(CHUNKS);
        tokio::spawn(async move {
            while let Some(chunk) = stream.next().await {
                if sender.send(chunk.map_err(io::Error::other)).await.is_err() {
                    break;
                }
            }
        });
        Self { chunks, chunk: Bytes::new() }
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        let read = self.chunk.split_to(count);
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(&read);
        Ok(count)
    }
}

/// Writes what Docker gets, in a thread that may block. What was not flushed at the end is an error for Docker.
pub struct Sent {
    chunks: Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Sent {
    /// Returns a writer, and the body of the request.
    pub fn new() -> (Self, ReceiverStream<io::Result<Bytes>>) {
        let (chunks, receiver) = channel(CHUNKS);
        (Self { chunks, chunk: Vec::with_capacity(CHUNK) }, ReceiverStream::new(receiver))
    }

    fn send(&self, chunk: io::Result<Bytes>) -> io::Result<()> {
        let closed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "Docker stopped reading it");
        self.chunks.blocking_send(chunk).map_err(closed)
    }
}

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.send(Ok(chunk.into()))
    }
}

impl Drop for Sent {
    /// What was not flushed to its end is cut short, and Docker must not take it for whole.
    fn drop(&mut self) {
        if !self.chunk.is_empty() {
            let _ = self.send(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Reads an archive, and knows whether it has its end: 1024 zeros. Readers of archives take the end of the bytes for it too.
pub struct Whole<R> {
    inner: R,
    zeros: usize,
}

impl<R: Read> Whole<R> {
    /// Reads an archive.
    pub fn new(inner: R) -> Self {
        Self { inner, zeros: 0 }
    }

    /// Reads the rest, and fails if the archive has no end.
    pub fn end(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        if self.zeros >= 1024 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        let zeros = read.iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == count { self.zeros.saturating_add(count) } else { zeros };
        Ok(count)
    }
}

/// Counts what is read.
pub struct Counted<R> {
    inner: R,
    /// Number of bytes.
    pub bytes: u64,
}

impl<R: Read> Counted<R> {
    /// Counts from 0.
    pub fn new(inner: R) -> Self {
        Self { inner, bytes: 0 }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
