//! Images of the Docker host for nodes that ask for them: the listener, and what nodes at their addresses get from it,
//! over real connections. Docker is a fake.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use localcluster_operator::{
    api::{local_cluster::NodeRole, names},
    controller::{
        host_images::{HostImages, Terms},
        preload::Preloads,
    },
    docker::{
        engine::Engine,
        listener::CONNECTIONS,
        spec::{Addressing, ContainerSpec, EndpointSettings, NetworkSpec, Role},
        tunnels::Tunnels,
    },
    plan::{observed::Listening, owner::Owner, policy::parse, policy::rules::Rules},
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

mod support;

use support::{
    fakes::{
        engine::Fake,
        faults::{Fault, Faults, Side},
    },
    model::{lab, world::World},
};

const LIMIT: Duration = Duration::from_secs(30);
const APP: &str = "/v2/app/manifests/1?ns=localhost";
/// Addresses of this machine, each of which may be one of a cluster's network.
const SUBNET: &str = "127.77.0.0/24";
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);
const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 77, 0, 10), Ipv4Addr::new(127, 77, 0, 11)];
/// A container of another owner on the network.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 200);

struct Rig {
    fake: Arc<Fake>,
    host_images: HostImages,
    address: SocketAddr,
    balancer: String,
    turned: Arc<AtomicUsize>,
    _program: NamedTempFile,
}

fn owner() -> Owner {
    Owner { uid: "u".into(), manager: lab::MANAGER.into(), object: "team/dev".into() }
}

fn terms() -> Terms {
    Terms {
        owner: owner(),
        network: "k3d-dev".into(),
        own: ["registry.localhost:5000".to_owned()].into(),
        rules: Rules::default(),
        settings: lab::settings(),
    }
}

/// The smallest file that passes as a static program for the engine.
fn program() -> NamedTempFile {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    file[18..20].copy_from_slice(&62_u16.to_le_bytes());
    let mut program = NamedTempFile::new().unwrap();
    program.write_all(&file).unwrap();
    program
}

async fn rig() -> Rig {
    let fake =
        Arc::new(Fake { world: Arc::new(Mutex::new(World::default())), faults: Arc::new(Faults::default()) });
    for image in ["nginx", "k3s", "localhost/app:1", "registry.localhost:5000/app:1"] {
        fake.world.lock().unwrap().pull(image).unwrap();
    }
    let network = NetworkSpec {
        name: "k3d-dev".into(),
        addressing: Some(Addressing {
            subnet: SUBNET.parse().unwrap(),
            gateway: [127, 77, 0, 1].into(),
            ip_range: "127.77.0.128/25".parse().unwrap(),
        }),
        labels: owner().labels(),
    };
    let network = fake.create_network(&network).await.unwrap();
    let mut ids = Vec::new();
    let node = Role::Node(NodeRole::Server);
    let containers = [
        ("lb", Role::LoadBalancer, "loadbalancer", BALANCER, true),
        ("server-0", node, "server", NODES[0], true),
        ("agent-0", node, "agent", NODES[1], true),
        ("other", node, "server", STRANGER, false),
    ];
    for (name, role, label, ip, own) in containers {
        let labels = if own { owner().labels() } else { BTreeMap::new() };
        let mounts = [("/var/lib/rancher/k3s".to_owned(), format!("{name}-state"))].into();
        let spec = ContainerSpec {
            labels: labels.into_iter().chain([(names::ROLE.to_owned(), label.to_owned())]).collect(),
            mounts,
            endpoint: EndpointSettings { ip: Some(ip), ..EndpointSettings::default() },
            ..ContainerSpec::bare(name, role, if label == "loadbalancer" { "nginx" } else { "k3s" })
        };
        let id = fake.create_container(&spec, Some(&network)).await.unwrap();
        fake.start(&id).await.unwrap();
        ids.push(id);
    }
    let free = std::net::TcpListener::bind((BALANCER, 0)).unwrap().local_addr().unwrap();
    let program = program();
    let engine: Arc<dyn Engine> = fake.clone();
    let tunnels = Tunnels::new(engine.clone(), program.path().to_owned());
    let preloads = Preloads::new(engine.clone(), Duration::from_secs(300));
    Rig {
        host_images: HostImages::new(engine, tunnels, preloads),
        fake,
        address: free,
        balancer: ids.swap_remove(0),
        turned: Arc::default(),
        _program: program,
    }
}

/// A rig whose listener listens.
async fn serving() -> Rig {
    let rig = rig().await;
    rig.becomes(&Listening::Up).await;
    rig
}

impl Rig {
    async fn observe(&self, terms: Terms) -> Option<Listening> {
        let balancer = self.fake.inspect(&self.balancer).await.unwrap();
        let turned = self.turned.clone();
        let turned = Box::new(move || _ = turned.fetch_add(1, Ordering::SeqCst));
        self.host_images.observe(balancer.as_ref(), self.address, terms, turned)
    }

    async fn becomes(&self, state: &Listening) {
        let reached = async {
            while self.observe(terms()).await.as_ref() != Some(state) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("not {state:?}"));
    }

    async fn connect(&self, from: Ipv4Addr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        timeout(LIMIT, socket.connect(self.address)).await.unwrap()
    }

    /// Sends a request from an address, and returns the head of the answer and its body.
    async fn ask(&self, from: Ipv4Addr, method: &str, path: &str) -> (String, String) {
        let mut stream = self.connect(from).await.unwrap();
        stream
            .write_all(format!("{method} {path} HTTP/1.1\r\nHost: mirror\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.to_ascii_lowercase(), body.to_owned())
    }

    async fn gets(&self, from: Ipv4Addr, path: &str) -> bool {
        let (head, body) = self.ask(from, "HEAD", path).await;
        assert_eq!(body, "");
        let found = head.starts_with("http/1.1 200 ");
        assert!(found || head.starts_with("http/1.1 404 "), "{head}");
        found
    }

    /// How often the program was copied into the load balancer.
    fn copies(&self) -> usize {
        self.calls(&format!("upload {}", self.balancer))
    }

    fn calls(&self, prefix: &str) -> usize {
        let calls = self.fake.faults.calls(Side::Docker);
        calls.iter().filter(|(call, _)| call.starts_with(prefix)).count()
    }
}

#[tokio::test]
async fn an_image_of_the_host_is_imported_into_the_node_that_asks() {
    let rig = serving().await;
    let (head, body) = rig.ask(NODES[0], "HEAD", APP).await;
    assert!(head.starts_with("http/1.1 200 ") && body.is_empty(), "{head}");
    let (read, content) = rig.ask(NODES[0], "GET", APP).await;
    let manifest = r#"{"config": {"digest": "sha256:1", "size": 2}, "layers": []}"#;
    assert_eq!(content, manifest);
    for head in [head, read] {
        assert!(head.contains("docker-content-digest: sha256:0\r\n"), "{head}");
        assert!(head.contains("content-type: type\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", manifest.len())), "{head}");
    }
    assert_eq!(rig.calls("pipe image"), 1, "it was there the second time");
    assert!(rig.gets(NODES[1], APP).await);
    assert_eq!(rig.calls("pipe image"), 2, "another node has its own");
    assert!(rig.gets(NODES[1], APP).await && rig.calls("pipe image") == 2);
    // It is built again.
    rig.fake.world.lock().unwrap().rebuilt.insert("localhost/app:1".into(), 1);
    assert!(rig.gets(NODES[0], APP).await && rig.calls("pipe image") == 3);
}

#[tokio::test]
async fn everything_else_is_not_found_and_imports_nothing() {
    let rig = serving().await;
    for (from, path) in [
        (NODES[0], "/v2/"),
        (NODES[0], "/v2/app/manifests/2?ns=localhost"),
        (NODES[0], "/v2/app/manifests/sha256:0?ns=localhost"),
        (NODES[0], "/v2/app/blobs/sha256:1?ns=localhost"),
        (NODES[0], "/v2/app/manifests/1"),
        (NODES[0], "/v2/app/manifests/1?ns=registry.localhost%3A5000"),
        (STRANGER, APP),
        (BALANCER, APP),
        (Ipv4Addr::new(127, 77, 0, 99), APP),
    ] {
        assert!(!rig.gets(from, path).await, "{from} {path}");
    }
    let (head, _) = rig.ask(NODES[0], "POST", APP).await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert_eq!(rig.calls("pipe image"), 0);
}

#[tokio::test]
async fn a_new_policy_counts_for_the_next_request() {
    let rig = serving().await;
    assert!(rig.gets(NODES[0], APP).await);
    let yaml = "{namespaceSelector: {}, images: {preload: ['docker.io/**']}}";
    let policy = parse::policy("teams", &serde_saphyr::from_str(yaml).unwrap());
    assert_eq!(rig.observe(Terms { rules: policy.rules, ..terms() }).await, Some(Listening::Up));
    assert!(!rig.gets(NODES[0], APP).await);
    assert_eq!(rig.calls("attach exec"), 1, "the listener goes on");
}

#[tokio::test]
async fn nodes_that_ask_together_wait_for_one_import() {
    let rig = serving().await;
    let all = futures::future::join_all((0..10).map(|_| rig.gets(NODES[0], APP))).await;
    assert!(all.into_iter().all(|found| found));
    assert_eq!(rig.calls("pipe image"), 1);
}

#[tokio::test]
async fn an_import_that_fails_is_not_repeated_for_each_request() {
    let rig = serving().await;
    rig.fake.faults.every(Some(("pipe image*", Fault::Refused)));
    assert!(!rig.gets(NODES[0], APP).await);
    rig.fake.faults.every(None);
    for _ in 0..5 {
        assert!(!rig.gets(NODES[0], APP).await);
    }
    assert_eq!(rig.calls("pipe image"), 1);
    assert!(rig.gets(NODES[1], APP).await, "another node has nothing to do with it");
}

/// The connections of a node that says nothing take their places, and nothing else.
#[tokio::test]
async fn connections_are_limited() {
    let rig = serving().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(rig.connect(NODES[0]).await.unwrap());
    }
    // There is no room: it is closed, so that containerd goes on with the registry.
    let mut further = rig.connect(NODES[1]).await.unwrap();
    let ended = timeout(LIMIT, further.read(&mut [0])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    drop(open);
    let again = async {
        loop {
            let mut stream = rig.connect(NODES[1]).await.unwrap();
            stream.write_all(format!("HEAD {APP} HTTP/1.1\r\nHost: mirror\r\n\r\n").as_bytes()).await.ok();
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    timeout(LIMIT, again).await.unwrap();
    // A head without an end.
    let mut endless = rig.connect(NODES[0]).await.unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let line = format!("X: {}\r\n", "x".repeat(1000));
    let written = async { while endless.write_all(line.as_bytes()).await.is_ok() {} };
    timeout(LIMIT, written).await.expect("it is not read");
}

#[tokio::test]
async fn the_listener_belongs_to_one_start_of_the_load_balancer() {
    let rig = serving().await;
    assert!(rig.turned.load(Ordering::SeqCst) > 0, "a pass is due when the state changes");
    assert_eq!(rig.calls("attach exec"), 1);
    // It is stopped: there is nobody to ask.
    rig.fake.stop(&rig.balancer, 0).await.unwrap();
    assert_eq!(rig.observe(terms()).await, None);
    rig.is_refused().await;
    rig.fake.start(&rig.balancer).await.unwrap();
    assert_eq!(rig.observe(terms()).await, Some(Listening::Starting));
    rig.becomes(&Listening::Up).await;
    assert!(rig.gets(NODES[0], APP).await);
    rig.host_images.forget("u");
    rig.is_refused().await;
    assert_eq!(rig.copies(), 1, "the program was copied once");
}

impl Rig {
    async fn is_refused(&self) {
        let refused = async {
            while self.connect(NODES[0]).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, refused).await.expect("somebody still listens");
    }
}

#[tokio::test]
async fn a_listener_that_does_not_start_says_why_and_is_tried_again() {
    let rig = rig().await;
    let taken = std::net::TcpListener::bind(rig.address).unwrap();
    let failed = async {
        loop {
            if let Some(Listening::Failed(why)) = rig.observe(terms()).await {
                return why;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let why = timeout(LIMIT, failed).await.unwrap();
    assert!(why.contains(&format!("cannot listen on {}", rig.address)), "{why}");
    drop(taken);
    rig.becomes(&Listening::Up).await;
    assert!(rig.gets(NODES[0], APP).await);
    assert_eq!(rig.copies(), 1, "a program that runs is not copied again");
}
