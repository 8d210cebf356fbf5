//! An HTTP proxy like those of companies: it records all requests, and connects only to a few hosts.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// A proxy that listens on all addresses of this machine while the tests run.
pub struct HttpProxy {
    /// Its port.
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    /// Starts a proxy that connects these outside hosts (`host:port`) to a port of this machine each.
    pub fn start(places: &[(&str, u16)]) -> Self {
        let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let places: Arc<BTreeMap<String, u16>> =
            Arc::new(places.iter().map(|(place, port)| ((*place).to_owned(), *port)).collect());
        let log = asked.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, places) = (log.clone(), places.clone());
                // A client may disconnect.
                thread::spawn(move || drop(serve(client, &log, &places)));
            }
        });
        Self { port, asked }
    }

    /// Returns the hosts and ports of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves one request of a connection.
fn serve(client: TcpStream, log: &Mutex<Vec<String>>, places: &BTreeMap<String, u16>) -> io::Result<()> {
    let mut from = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    from.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let place =
        target.strip_prefix("http://").map_or(target, |rest| rest.split('/').next().unwrap_or_default());
    let place = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(place.clone());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    let mut client = client;
    let Some(port) = places.get(&place) else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut server = TcpStream::connect(("127.0.0.1", *port))?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        let path = target.trim_start_matches("http://").find('/').map_or("/", |at| &target[at + 7..]);
        write!(server, "{method} {path} HTTP/1.1\r\nConnection: close\r\n")?;
        for line in head.iter().filter(|l| !l.to_ascii_lowercase().starts_with("connection:")) {
            server.write_all(line.as_bytes())?;
        }
        server.write_all(b"\r\n")?;
    }
    let (mut back, mut there) = (client.try_clone()?, server.try_clone()?);
    let answers = thread::spawn(move || {
        let done = io::copy(&mut there, &mut back);
        let _ = back.shutdown(Shutdown::Both);
        done
    });
    // Until the client has sent everything, or has its response.
    let _ = io::copy(&mut from, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    drop(answers.join());
    Ok(())
}
