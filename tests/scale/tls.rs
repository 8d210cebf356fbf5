//! The server's end of a TLS connection, as a stream of what was said in it.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
};

const BUFFER: usize = 16 << 10;

/// Returns the plain stream, and what carries it until it ends.
pub fn accept(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
) -> (DuplexStream, impl Future<Output = io::Result<()>>) {
    let (plain, inside) = duplex(BUFFER);
    (plain, carry(tcp, config, inside))
}

async fn carry(mut tcp: TcpStream, config: Arc<ServerConfig>, mut inside: DuplexStream) -> io::Result<()> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let (mut coded, mut plain) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        while tls.wants_write() {
            let mut out = Vec::new();
            tls.write_tls(&mut out)?;
            tcp.write_all(&out).await?;
        }
        tokio::select! {
            read = tcp.read(&mut coded) => {
                let mut left = &coded[..read?];
                if left.is_empty() {
                    return Ok(());
                }
                while !left.is_empty() {
                    tls.read_tls(&mut left)?;
                    tls.process_new_packets().map_err(io::Error::other)?;
                    let mut said = vec![0; BUFFER];
                    while let Ok(n @ 1..) = tls.reader().read(&mut said) {
                        inside.write_all(&said[..n]).await?;
                    }
                }
            }
            read = inside.read(&mut plain) => match read? {
                0 => {
                    tls.send_close_notify();
                    let mut out = Vec::new();
                    tls.write_tls(&mut out)?;
                    return tcp.write_all(&out).await;
                }
                n => tls.writer().write_all(&plain[..n])?,
            },
        }
    }
}
