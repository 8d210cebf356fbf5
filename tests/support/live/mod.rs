//! The test world as users see it: kubectl, docker, and the management cluster that `tests/world/world` created.

// Every test binary compiles all of it and uses its own part.
#![allow(dead_code)]

pub mod cluster;
pub mod harness;
pub mod http_proxy;
pub mod hub;
pub mod operator;
pub mod probe;
pub mod proxy;
pub mod pulls;
pub mod registries;
pub mod scene;

use std::{
    env, fs,
    io::{Read, Write},
    iter,
    net::Ipv4Addr,
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Interval of polling a condition that no watch reports. It grows, because each call of kubectl or docker takes up
/// to half a core, which the awaited clusters need.
const POLL: Duration = Duration::from_millis(200);
const POLL_LATER: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(5);
/// Namespace of the operator in the management cluster.
pub const SYSTEM: &str = "localcluster-system";
/// Deployment of the operator.
pub const DEPLOYMENT: &str = "deployment/localcluster-operator";

/// Returns a setting that `world with` exports.
pub fn world(name: &str) -> String {
    env::var(format!("WORLD_{name}")).unwrap_or_else(|_| {
        panic!(
            "no test world (WORLD_{name} is not set): run `make e2e`, or with an operator image already there \
             `tests/world/world with cargo test --test e2e`"
        )
    })
}

/// Returns the value of the label on everything that this management cluster's operator creates in Docker.
pub fn manager() -> &'static str {
    static MANAGER: OnceLock<String> = OnceLock::new();
    MANAGER.get_or_init(|| {
        Kubectl::management().run(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"])
    })
}

/// Runs a command and returns its output; fails with its error output.
pub fn command(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    // It may exit without reading.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let out = child.wait_with_output().map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
    if out.status.success() {
        Ok(text)
    } else {
        let said = String::from_utf8_lossy(&out.stderr);
        Err(format!("{program} {}: {}{text}", args.join(" "), said.trim_end()))
    }
}

/// Runs the docker command line; a failure fails the test.
pub fn docker(args: &[&str]) -> String {
    try_docker(args).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs the docker command line.
pub fn try_docker(args: &[&str]) -> Result<String, String> {
    try_docker_at(&world("DOCKER_HOST"), args)
}

/// Runs the docker command line with one of several engines.
pub fn try_docker_at(engine: &str, args: &[&str]) -> Result<String, String> {
    command("docker", &[&["--host", engine], args].concat(), "")
}

/// Returns the addresses of the engines that the operator uses: one, or those of all hosts of `tests/world/hosts`.
pub fn engines() -> Vec<String> {
    let several = env::var("WORLD_HOST_SOCKETS").ok();
    several.map_or_else(|| vec![world("DOCKER_HOST")], |all| all.split(' ').map(str::to_owned).collect())
}

/// Builds an image from the directory `context`, or from a Dockerfile alone if it is `-`; returns its ID. Without the
/// cache: Docker looks for a match through all images on the same base, and fails when another test deletes one of them
/// at that moment.
pub fn build(image: &str, context: &str, dockerfile: &str) -> String {
    let args = ["--host", &world("DOCKER_HOST"), "build", "--no-cache", "-q", "-t", image, context];
    command("docker", &args, dockerfile).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the address of the host on Docker's default network. The network itself does not show it before Docker's
/// second start.
pub fn gateway() -> Ipv4Addr {
    let subnet = docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "bridge"]);
    let subnet: ipnet::Ipv4Net = subnet.trim().parse().expect("a subnet");
    subnet.hosts().next().expect("it has addresses")
}

/// Returns the log of a container.
pub fn docker_logs(name: &str) -> String {
    let out = Command::new("docker").args(["--host", &world("DOCKER_HOST"), "logs", name]).output();
    out.map(|o| format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr)))
        .unwrap_or_default()
}

/// Returns `docker inspect` of a container; `None` if it does not exist.
pub fn inspect(name: &str) -> Option<Value> {
    inspect_at(&world("DOCKER_HOST"), name)
}

/// Returns `docker inspect` of a container of one of several engines; `None` if it does not exist.
pub fn inspect_at(engine: &str, name: &str) -> Option<Value> {
    let text = try_docker_at(engine, &["container", "inspect", name]).ok()?;
    serde_json::from_str::<Vec<Value>>(&text).ok()?.into_iter().next()
}

/// Returns the IDs of all objects of a kind on the engine; of volumes, the names.
pub fn ids(kind: &str) -> Vec<String> {
    let list = if kind == "container" { vec!["ps", "-aq"] } else { vec![kind, "ls", "-q"] };
    docker(&list).lines().map(str::to_owned).collect()
}

/// Returns `docker inspect` of all objects of a kind on the engine. Leaves out objects that are removed meanwhile,
/// since other tests share the engine; any other failure fails the test.
pub fn inspect_all(kind: &str) -> String {
    let of = |id: &str| match try_docker(&[kind, "inspect", id]) {
        Ok(text) => text,
        Err(e) => {
            assert!(!ids(kind).iter().any(|other| other == id), "{e}");
            String::new()
        }
    };
    ids(kind).iter().map(|id| of(id)).collect::<Vec<_>>().join("\n")
}

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// Creates a kubectl for the management cluster.
    pub fn management() -> Self {
        Self { kubeconfig: world("KUBECONFIG").into() }
    }

    /// Creates a kubectl with this kubeconfig.
    pub fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    /// Runs kubectl; a failure fails the test.
    pub fn run(&self, args: &[&str]) -> String {
        self.attempt(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs kubectl.
    pub fn attempt(&self, args: &[&str]) -> Result<String, String> {
        self.input(args, "")
    }

    /// Runs `kubectl apply` with this YAML.
    pub fn apply(&self, yaml: &str) -> String {
        // Input that begins with a brace is parsed as JSON.
        self.input(&["apply", "-f", "-"], &format!("---\n{yaml}")).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
    }

    /// Runs kubectl with input.
    pub fn input(&self, args: &[&str], input: &str) -> Result<String, String> {
        let path = self.kubeconfig.to_str().expect("the path is UTF-8");
        command("kubectl", &[&["--kubeconfig", path], args].concat(), input)
    }

    /// Runs `kubectl get … -o json`.
    pub fn json(&self, args: &[&str]) -> Result<Value, String> {
        let text = self.attempt(&[&["get", "-o", "json"], args].concat())?;
        serde_json::from_str(&text).map_err(|e| format!("{args:?}: {e}"))
    }
}

/// Blocks for a time. These tests have no async runtime that it could block.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// Polls until the result is `Ok`; after the time limit, the last error fails the test.
pub fn eventually<T>(seconds: u64, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if began.elapsed() > Duration::from_secs(seconds) => {
                panic!("not within {seconds} s: {what}: {why}")
            }
            Err(_) => pause(if began.elapsed() < LATER { POLL } else { POLL_LATER }),
        }
    }
}

/// Returns `Ok` if the condition holds.
pub fn holds(condition: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(why()) }
}

/// Returns the body of an HTTP response from a port of this machine.
pub fn http_get(port: u64, path: &str) -> Result<String, String> {
    let answer = http("GET", port, path, "")?;
    holds(answer.status == 200, || format!("port {port}: {}", answer.head))?;
    Ok(answer.body.trim().to_owned())
}

/// A response from a port of this machine.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends a request with additional headers to a port of this machine.
pub fn http(method: &str, port: u64, path: &str, head: &str) -> Result<Answer, String> {
    let addr = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).map_err(|e| e.to_string())?));
    let limit = Duration::from_secs(2);
    let failed = |e: std::io::Error| format!("port {port}: {e}");
    let mut stream = TcpStream::connect_timeout(&addr, limit).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    let length = if method == "GET" || method == "HEAD" { "" } else { "Content-Length: 0\r\n" };
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{length}{head}\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(format!("port {port}: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or(format!("port {port}: {head}"))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Returns a free port of this machine that is only allocated on request: the operator allocates ports from 20000 on,
/// and the kernel allocates those from 32768 on to connections.
pub fn free_port() -> u16 {
    const PORTS: Range<u32> = 17_000..20_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let port = || {
        let number = std::process::id() + GIVEN.fetch_add(1, Ordering::Relaxed);
        u16::try_from(PORTS.start + number % PORTS.len() as u32).expect("it is one of them")
    };
    iter::repeat_with(port)
        .take(PORTS.len())
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("a port is free")
}

/// Installs the operator with the newest image in the management cluster through deploy/, once.
pub fn install() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/world");
        let said = command(script, &["install"], "").unwrap_or_else(|e| panic!("{e}"));
        println!("{said}");
    });
}

/// Returns the path of a file of this run, which `world down` may remove.
pub fn scratch(name: &str) -> PathBuf {
    shared_file(&format!("e2e-{}-{name}", std::process::id()))
}

/// Returns the path of a file that all test runs of this checkout share.
pub fn shared_file(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(dir).expect("cargo's directory for temporary files can be created");
    dir.join(name)
}

/// Returns the time of the Docker engine in a format that `docker events` and Kubernetes parse.
pub fn now() -> String {
    docker(&["info", "-f", "{{.SystemTime}}"])
}

/// Returns an image with containers that start at once and do nothing, for tests of containers without K3s.
pub fn idle_image() -> &'static str {
    const NAME: &str = "localhost/e2e-idle:1";
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let run = r#"ENTRYPOINT ["sh", "-c", "trap 'exit 0' TERM; sleep 2147483 & wait"]"#;
        build(NAME, "-", &format!("FROM {}\n{run}\n", world("BUSYBOX_IMAGE")));
    });
    NAME
}

/// A Docker object that the operator does not manage. Removed on drop.
pub struct Foreign {
    kind: &'static str,
    name: String,
}

impl Foreign {
    /// Creates an object with `docker KIND create ARGS`; the last argument is its name.
    pub fn create(kind: &'static str, args: &[&str], name: &str) -> Self {
        docker(&[&[kind, "create"], args, &[name]].concat());
        Self { kind, name: name.to_owned() }
    }

    /// Creates a container that waits, with these arguments of `docker run`.
    pub fn container(args: &[&str], name: &str) -> Self {
        Self::of_image(idle_image(), args, name)
    }

    /// Creates a container of this image, with these arguments of `docker run`.
    pub fn of_image(image: &str, args: &[&str], name: &str) -> Self {
        Self::program(image, args, name, &[])
    }

    /// Creates a container of this image that runs this command, with these arguments of `docker run`.
    pub fn program(image: &str, args: &[&str], name: &str, command: &[&str]) -> Self {
        docker(&[&["run", "-d", "--name", name], args, &[image], command].concat());
        Self { kind: "container", name: name.to_owned() }
    }

    /// Returns its state, which changes when anything modifies it.
    pub fn state(&self) -> String {
        let format = if self.kind == "container" {
            "{{.Id}} {{.State.StartedAt}} {{.State.Status}}"
        } else {
            "{{json .}}"
        };
        docker(&[self.kind, "inspect", "-f", format, &self.name])
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let force: &[&str] = if self.kind == "container" { &["-fv"] } else { &[] };
        let _ = try_docker(&[&[self.kind, "rm"], force, &[self.name.as_str()]].concat());
    }
}
