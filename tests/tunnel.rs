//! Connections through the engine: both ends of a tunnel, over the standard streams of a command, and the copy of the
//! program into the container.

use std::{
    io::Write,
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use localcluster_operator::docker::{
    engine::{Attached, Engine},
    listener::{self, Incoming},
    spec::{ContainerSpec, Role},
    tunnel::{self, Tunnel},
    tunnels::{Tunnels, remove_others},
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    process::Command,
    time::{sleep, timeout},
};
use tokio_util::{compat::TokioAsyncWriteCompatExt, io::ReaderStream};

mod support;

use support::{
    fakes::{
        engine::Fake,
        faults::{Faults, Side},
    },
    model::world::World,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A server that returns what it receives.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// A tunnel within this process, and the task of its forwarder.
async fn tunnel() -> (Arc<Tunnel>, tokio::task::JoinHandle<std::io::Result<()>>) {
    let (input, stdin) = duplex(1 << 10);
    let (stdout, output) = duplex(1 << 10);
    let forwarder = tokio::spawn(tunnel::forward(stdin, stdout));
    let attached =
        Attached { input: Box::pin(input.compat_write()), output: ReaderStream::new(output).boxed() };
    (Tunnel::start(attached).await.unwrap(), forwarder)
}

async fn answers(tunnel: &Tunnel, address: SocketAddr, sent: &[u8]) {
    let mut stream = tunnel.dial(address).await.unwrap();
    let mut received = vec![0; sent.len()];
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let send = async {
        write.write_all(sent).await.unwrap();
        write.flush().await.unwrap();
    };
    let ((), read) = tokio::join!(send, read.read_exact(&mut received));
    read.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn many_connections_share_a_tunnel() {
    let (address, (tunnel, _forwarder)) = (echo().await, tunnel().await);
    let large: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    // One that is not read from holds up no other.
    let mut stuck = tunnel.dial(address).await.unwrap();
    let _ = timeout(Duration::from_millis(300), stuck.write_all(&large)).await;
    let all = (0..20).map(|_| answers(&tunnel, address, &large));
    timeout(LIMIT, futures::future::join_all(all)).await.unwrap();
}

#[tokio::test]
async fn each_end_sees_that_the_other_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tunnel, _forwarder) = tunnel().await;
    let mut here = tunnel.dial(listener.local_addr().unwrap()).await.unwrap();
    let (mut there, _) = listener.accept().await.unwrap();
    here.write_all(b"question").await.unwrap();
    here.shutdown().await.unwrap();
    let mut text = String::new();
    timeout(LIMIT, there.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "question");
    there.write_all(b"answer").await.unwrap();
    drop(there);
    text.clear();
    timeout(LIMIT, here.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn a_refused_connection_says_why_and_is_the_only_one() {
    let (address, (tunnel, _forwarder)) = (echo().await, tunnel().await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let words = tunnel.dial(closed).await.err().unwrap().to_string();
    assert!(words.contains("refused"), "{words}");
    answers(&tunnel, address, b"still there").await;
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_ends_its_forwarder() {
    let (tunnel, forwarder) = tunnel().await;
    drop(tunnel);
    timeout(LIMIT, forwarder).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_forwarder_that_is_gone_ends_the_tunnel() {
    let (address, (tunnel, forwarder)) = (echo().await, tunnel().await);
    let mut open = tunnel.dial(address).await.unwrap();
    forwarder.abort();
    let mut read = Vec::new();
    drop(timeout(LIMIT, open.read_to_end(&mut read)).await.unwrap());
    assert!(tunnel.dial(address).await.is_err());
    assert!(tunnel.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_without_connections_ends() {
    let (tunnel, forwarder) = tunnel().await;
    sleep(Duration::from_secs(100)).await;
    assert!(!tunnel.is_closed() && !forwarder.is_finished(), "heartbeats keep it");
    sleep(Duration::from_secs(60)).await;
    assert!(tunnel.is_closed() && forwarder.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_forwarder_that_hears_nothing_exits() {
    let (_input, stdin) = duplex(1 << 10);
    let (stdout, _output) = duplex(1 << 10);
    let error = timeout(Duration::from_secs(61), tunnel::forward(stdin, stdout)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn what_does_not_greet_is_reported() {
    for (output, expected) in [
        (Ok("OCI runtime exec failed: no such file\r\n"), "OCI runtime exec failed: no such file"),
        (Err("exec format error"), "exec format error"),
        (Ok(""), "it exits"),
    ] {
        let output = output.map(bytes::Bytes::from).map_err(std::io::Error::other);
        let output = futures::stream::iter([output]).boxed();
        let attached = Attached { input: Box::pin(futures::io::sink()), output };
        let words = Tunnel::start(attached).await.err().unwrap().to_string();
        assert_eq!(words, expected);
    }
}

/// The real program exits when its standard input is closed, and prints no more than its greeting.
#[tokio::test]
async fn the_program_ends_with_its_input() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster-operator"));
    let command = command.arg("forward").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let attached =
        Attached { input: Box::pin(input.compat_write()), output: ReaderStream::new(output).boxed() };
    let tunnel = Tunnel::start(attached).await.unwrap();
    answers(&tunnel, echo().await, b"through a process").await;
    drop(tunnel);
    let ended = timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

/// The smallest file that passes as a static program for this engine.
fn program(machine: u16) -> NamedTempFile {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    let mut program = NamedTempFile::new().unwrap();
    program.write_all(&file).unwrap();
    program
}

struct Rig {
    fake: Arc<Fake>,
    tunnels: Arc<Tunnels>,
    container: String,
    _program: NamedTempFile,
}

async fn rig(machine: u16) -> Rig {
    let world = Arc::new(Mutex::new(World::default()));
    let fake = Arc::new(Fake { world, faults: Arc::new(Faults::default()) });
    let spec = ContainerSpec::bare("lb", Role::LoadBalancer, "nginx");
    fake.world.lock().unwrap().pull("nginx").unwrap();
    let container = fake.create_container(&spec, None).await.unwrap();
    fake.start(&container).await.unwrap();
    let program = program(machine);
    let tunnels = Tunnels::new(fake.clone(), program.path().to_owned());
    Rig { fake, tunnels, container, _program: program }
}

impl Rig {
    fn calls(&self, prefix: &str) -> usize {
        let calls = self.fake.faults.calls(Side::Docker);
        calls.iter().filter(|(call, _)| call.starts_with(prefix)).count()
    }
}

#[tokio::test]
async fn the_program_is_copied_once_and_runs_once() {
    let (rig, address) = (rig(62).await, echo().await);
    let destination = rig.tunnels.to(&rig.container, address);
    let all = futures::future::join_all((0..5).map(|_| destination.dial())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((rig.calls("upload"), rig.calls("attach exec")), (1, 1));
    // Another process of the same operator.
    let program = program(62);
    let again = Tunnels::new(rig.fake.clone(), program.path().to_owned());
    again.to(&rig.container, address).dial().await.unwrap();
    assert_eq!((rig.calls("upload"), rig.calls("attach exec")), (1, 2));
}

#[tokio::test]
async fn a_program_for_another_architecture_is_not_copied() {
    let rig = rig(183).await;
    let words = rig.tunnels.to(&rig.container, echo().await).dial().await.err().unwrap().to_string();
    assert!(words.contains("Docker runs on x86_64; run an operator"), "{words}");
    assert_eq!((rig.calls("upload"), rig.calls("attach exec")), (0, 0));
}

/// Each version has a name of its own, and takes 20 MB in every container.
#[test]
fn a_forwarder_removes_those_of_other_versions() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["localcluster-forward-1", "localcluster-forward-2", "nginx"] {
        std::fs::write(path(name), name).unwrap();
    }
    let names = || {
        let mut all: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    // Another program than a forwarder removes nothing.
    remove_others(&path("nginx")).unwrap();
    assert_eq!(names(), ["localcluster-forward-1", "localcluster-forward-2", "nginx"]);
    remove_others(&path("localcluster-forward-2")).unwrap();
    assert_eq!(names(), ["localcluster-forward-2", "nginx"]);
}

/// A listener within this process, and its task.
async fn listening(address: SocketAddr) -> (Incoming, tokio::task::JoinHandle<std::io::Result<()>>) {
    let (input, stdin) = duplex(1 << 10);
    let (stdout, output) = duplex(1 << 10);
    let task = tokio::spawn(listener::listen(address, stdin, stdout));
    let attached =
        Attached { input: Box::pin(input.compat_write()), output: ReaderStream::new(output).boxed() };
    (Incoming::start(attached).await.unwrap(), task)
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn connections_to_a_listener_come_with_the_address_of_their_peer() {
    let address = free();
    let (mut incoming, _task) = listening(address).await;
    let large: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    let node = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"question").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        (stream.local_addr().unwrap(), read)
    };
    let operator = async {
        let mut stream = incoming.next().await.unwrap();
        let peer = listener::peer(&mut stream).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        stream.write_all(&large).await.unwrap();
        stream.shutdown().await.unwrap();
        peer
    };
    let ((local, read), peer) = timeout(LIMIT, futures::future::join(node, operator)).await.unwrap();
    assert_eq!(local, peer);
    assert!(read == large);
}

/// A node that keeps its side open does not keep the connection.
#[tokio::test]
async fn a_connection_ends_with_the_operators_side() {
    let address = free();
    let (mut incoming, _task) = listening(address).await;
    let mut node = TcpStream::connect(address).await.unwrap();
    drop(timeout(LIMIT, incoming.next()).await.unwrap());
    assert_eq!(timeout(LIMIT, node.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn a_listener_ends_with_its_operator_and_tells_it_of_its_own_end() {
    let address = free();
    let (incoming, task) = listening(address).await;
    drop(incoming);
    timeout(LIMIT, task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    let (mut incoming, task) = listening(address).await;
    task.abort();
    assert!(timeout(LIMIT, incoming.next()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_hears_nothing_exits_and_an_idle_one_goes_on() {
    let (incoming, task) = listening(free()).await;
    sleep(Duration::from_secs(3600)).await;
    assert!(!task.is_finished(), "heartbeats keep it");
    drop(incoming);
    let (_input, stdin) = duplex(1 << 10);
    let (stdout, _output) = duplex(1 << 10);
    let error = timeout(Duration::from_secs(61), listener::listen(free(), stdin, stdout)).await;
    assert_eq!(error.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

/// The real program listens, says why it cannot, and ends with its input.
#[tokio::test]
async fn the_program_listens() {
    let address = free();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster-operator"));
        let command = command.arg("listen").arg(address.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = start();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let attached =
        Attached { input: Box::pin(input.compat_write()), output: ReaderStream::new(output).boxed() };
    let mut incoming = Incoming::start(attached).await.unwrap();
    let node = TcpStream::connect(address).await.unwrap();
    let mut stream = timeout(LIMIT, incoming.next()).await.unwrap().unwrap();
    assert_eq!(listener::peer(&mut stream).await.unwrap(), node.local_addr().unwrap());
    let second = timeout(LIMIT, start().wait_with_output()).await.unwrap().unwrap();
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && second.stdout.is_empty(), "{second:?}");
    assert!(words.starts_with(&format!("error: cannot listen on {address}: ")), "{words}");
    drop((stream, incoming));
    let ended = timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}
