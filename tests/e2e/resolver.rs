//! Resolvers of the Docker host during a test.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::live::{command, world};

/// The engine reads the second file instead of the first where that names only systemd-resolved.
const FILES: &str = "/etc/resolv.conf /run/systemd/resolve/resolv.conf";

/// The host's `resolv.conf` as the engine reads it, covered by another file until this is dropped.
pub struct HostResolvers {
    engine: String,
    files: Vec<String>,
    before: IpAddr,
}

impl HostResolvers {
    /// Covers the file with a copy.
    pub fn replace() -> Self {
        let engine = engine();
        let text = inside(&engine, "cat /etc/resolv.conf", "");
        let mut servers = text.lines().filter_map(|l| l.strip_prefix("nameserver ")?.trim().parse().ok());
        let before = servers.next().expect("the host has a resolver");
        let files = inside(&engine, &format!("readlink -e {FILES} | sort -u"), "");
        let files: Vec<String> = files.lines().map(str::to_owned).collect();
        let cover = format!("/run/lco-e2e-resolv-{}", std::process::id());
        for file in &files {
            inside(
                &engine,
                &format!("cat {file} >{cover} && mount --bind {cover} {file} && rm -f {cover}"),
                "",
            );
        }
        Self { engine, files, before }
    }

    /// Returns the resolver that the host had before.
    pub fn before(&self) -> IpAddr {
        self.before
    }

    /// Returns a loopback address of this test run, as local resolvers have one.
    pub fn address(&self, number: u8) -> IpAddr {
        let [.., high, low] = std::process::id().to_be_bytes();
        Ipv4Addr::new(127, high | 0x80, low, number).into()
    }

    /// Sets the only resolver.
    pub fn set(&self, server: IpAddr) {
        for file in &self.files {
            inside(&self.engine, &format!("cat >{file}"), &format!("nameserver {server}\n"));
        }
    }
}

impl Drop for HostResolvers {
    fn drop(&mut self) {
        for file in &self.files {
            // A second panic would end the program before it uncovers the others.
            if let Err(said) = command("nsenter", &["-t", &self.engine, "-m", "umount", "-l", file], "") {
                eprintln!("{file} is still covered: {said}");
            }
        }
    }
}

/// Returns the process that listens on the engine's socket.
fn engine() -> String {
    let host = world("DOCKER_HOST");
    let socket = host.strip_prefix("unix://").expect("the engine has a Unix socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let peer = runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket).await.expect("the engine listens");
        stream.peer_cred().expect("Linux names it").pid().expect("Linux knows its process")
    });
    peer.to_string()
}

/// Runs a script where the engine sees its files.
fn inside(engine: &str, script: &str, input: &str) -> String {
    let args = ["-t", engine, "-m", "sh", "-ec", script];
    command("nsenter", &args, input).unwrap_or_else(|said| panic!("{script}: {said}"))
}

/// A DNS server that knows one name, and asks another one for all others.
pub struct Server {
    pub address: IpAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(address: IpAddr, name: &str, ip: &str, next: IpAddr) -> Self {
        let socket = UdpSocket::bind((address, 53)).expect("port 53 of a loopback address is free");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
        let ends = Arc::new(AtomicBool::new(false));
        let (stop, name) = (ends.clone(), name.to_owned());
        let ip: Ipv4Addr = ip.parse().expect("an address");
        let thread = thread::spawn(move || {
            let mut packet = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let Ok((size, from)) = socket.recv_from(&mut packet) else { continue };
                let query = packet[..size].to_vec();
                if let Some(answer) = answer(&query, &name, ip) {
                    let _ = socket.send_to(&answer, from);
                    continue;
                }
                let socket = socket.try_clone().expect("the socket can be shared");
                thread::spawn(move || {
                    if let Ok(answer) = forward(&query, next) {
                        let _ = socket.send_to(&answer, from);
                    }
                });
            }
        });
        Self { address, ends, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers a query for the name: with the address, or for another type with no record.
fn answer(query: &[u8], name: &str, ip: Ipv4Addr) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let labels: Vec<u8> =
        name.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).chain([0]).collect();
    let question = query.get(HEADER..HEADER + labels.len() + 4)?;
    let (asked, kind) = question.split_at(labels.len());
    if !asked.eq_ignore_ascii_case(&labels) {
        return None;
    }
    let is_address = kind == [0, 1, 0, 1];
    // The ID, "authoritative answer" without an error, and one question with its answers.
    let header = [&query[..2], &[0x85, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]].concat();
    let record = [&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4][..], &ip.octets()].concat();
    let records = if is_address { &record[..] } else { &[] };
    Some([&header[..], question, records].concat())
}

fn forward(query: &[u8], next: IpAddr) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(match next {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.send_to(query, (next, 53))?;
    let mut packet = vec![0; 4096];
    let size = socket.recv(&mut packet)?;
    packet.truncate(size);
    Ok(packet)
}
