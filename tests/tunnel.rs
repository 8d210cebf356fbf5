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
    spec::{ContainerSpec, Role},
    tunnel::{self, Tunnel},
    tunnels::{Tunnels, remove_others},
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
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
