//! The operator with hundreds of objects: its memory, its requests while nothing happens, and what it does when all
//! containers end at once. `make bench-scale CLUSTERS=500 REGISTRIES=100`
//!
//! The operator is the real binary in a process of its own, and the management cluster a real one. Docker is a fake that
//! speaks its protocol at a socket, and has containers without processes; the APIs of the created clusters are fakes
//! behind real TLS. Both are in this process, so that nothing of them counts as the operator's.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Parser;
use http::{Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    runtime::Runtime,
};
use tokio_util::sync::CancellationToken;

#[path = "scale/authority.rs"]
mod authority;
#[path = "scale/child.rs"]
mod child;
#[path = "scale/counts.rs"]
mod counts;
#[path = "scale/engine.rs"]
mod engine;
#[allow(dead_code)] // the benches of real clusters use the rest
#[path = "bench/figures.rs"]
mod figures;
#[allow(dead_code)] // the unit tests use the rest
#[path = "support/fakes/kubernetes.rs"]
mod kubernetes;
#[path = "support/live/mod.rs"]
mod live;
#[path = "scale/operator.rs"]
mod operator;
#[path = "scale/shapes.rs"]
mod shapes;
#[path = "scale/tls.rs"]
mod tls;
#[path = "scale/wire.rs"]
mod wire;

use authority::Authority;
use engine::Engine;
use figures::Report;
use live::{Kubectl, eventually, holds, pause};
use operator::Operator;

/// The network of all clusters, at which this machine answers itself.
const POOL: &str = "10.64.0.0/14";
const NAMESPACES: usize = 10;
/// How long the engine is down when it restarts.
const DOWN: Duration = Duration::from_secs(5);

/// Measures the operator with many objects.
#[derive(Parser)]
struct Args {
    #[arg(long, env = "CLUSTERS", default_value_t = 500)]
    clusters: usize,
    #[arg(long, env = "REGISTRIES", default_value_t = 100)]
    registries: usize,
    /// Minutes without a change
    #[arg(long, env = "IDLE", default_value_t = 6)]
    idle: u64,
    /// The operator's binary. A debug build needs more memory than what users run
    #[arg(long, env = "OPERATOR")]
    operator: PathBuf,
}

fn main() {
    let args = Args::parse();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's target directory");
    let path = target.join("scale.jsonl");
    let mut report = Report::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let runtime = Runtime::new().expect("a runtime");
    let scene = Scene::new(&runtime, args);
    let began = Instant::now();
    report.begin("scale");
    let operator = scene.create(&mut report);
    drop(operator);
    let operator = scene.begin_again(&mut report);
    scene.idle(&operator, &mut report);
    scene.all_end(&operator, &mut report);
    scene.docker_restarts(&operator, &mut report);
    scene.delete(&operator, &mut report);
    println!("\nfigures: {} after {:?}", path.display(), began.elapsed());
}

/// The route by which this machine answers at all addresses of the pool, until it is dropped.
struct Route;

impl Route {
    fn new() -> Self {
        let ended = Command::new("ip").args(["route", "replace", "local", POOL, "dev", "lo"]).status();
        assert!(ended.expect("ip is there").success(), "there is no route to {POOL}: only root can make one");
        Self
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["route", "del", "local", POOL, "dev", "lo"]).status();
    }
}

struct Scene<'a> {
    runtime: &'a Runtime,
    args: Args,
    engine: Arc<Engine>,
    socket: PathBuf,
    kubeconfig: PathBuf,
    /// Ends what serves Docker's API.
    docker: Mutex<CancellationToken>,
    _directory: tempfile::TempDir,
    _route: Route,
}

impl<'a> Scene<'a> {
    fn new(runtime: &'a Runtime, args: Args) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("docker.sock");
        let authority = Authority::new();
        let tls = authority.server();
        let engine = Engine::new(authority);
        let route = Route::new();
        let docker = Mutex::new(CancellationToken::new());
        let (apis, registries) = runtime.block_on(async {
            let listen = |port| async move {
                TcpListener::bind(("0.0.0.0", port)).await.unwrap_or_else(|e| panic!("port {port}: {e}"))
            };
            (listen(6443).await, listen(5000).await)
        });
        let (of_apis, of_registries) = (engine.clone(), engine.clone());
        runtime.spawn(each(apis, move |tcp, ip| api(of_apis.clone(), tls.clone(), tcp, ip)));
        runtime.spawn(each(registries, move |tcp, ip| registry(of_registries.clone(), tcp, ip)));
        let kubeconfig = operator::account();
        let scene =
            Self { runtime, args, engine, socket, kubeconfig, docker, _directory: directory, _route: route };
        scene.start_docker();
        scene
    }

    fn start_docker(&self) {
        let end = CancellationToken::new();
        *self.docker.lock().unwrap() = end.clone();
        let _ = fs::remove_file(&self.socket);
        let _inside = self.runtime.enter();
        let listener = UnixListener::bind(&self.socket).expect("the socket is ours");
        let engine = self.engine.clone();
        self.runtime.spawn(async move {
            while let Some(Ok((io, _))) = end.run_until_cancelled(listener.accept()).await {
                let engine = engine.clone();
                let answer = move |request| wire::answer(engine.clone(), request);
                tokio::spawn(wire::serve(io, answer, end.clone()));
            }
        });
    }

    fn start(&self) -> Operator {
        Operator::start(&self.args.operator, &self.kubeconfig, &self.socket, POOL)
    }

    fn objects(&self) -> usize {
        self.args.clusters + self.args.registries
    }

    fn containers(&self) -> usize {
        2 * self.args.clusters + self.args.registries
    }

    /// Applies all objects, and waits until they are Ready.
    fn create(&self, report: &mut Report) -> Operator {
        let k = Kubectl::management();
        k.run(&["apply", "--server-side", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")]);
        k.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
        let namespaces = (0..NAMESPACES)
            .map(|n| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space(n)}}));
        apply(&k, namespaces.collect());
        let object = |kind: &str, name: String, n: usize, spec: Value| {
            let metadata = json!({"name": name, "namespace": space(n)});
            json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
        };
        let clusters = (0..self.args.clusters).map(|n| object("LocalCluster", format!("c{n}"), n, json!({})));
        let registries = (0..self.args.registries).map(|n| object("Registry", format!("r{n}"), n, json!({})));
        apply(&k, clusters.chain(registries).collect());
        let operator = self.start();
        let began = Instant::now();
        self.all_ready(&operator, 3600);
        report.values("created: until all are Ready", &[began.elapsed().as_secs_f64()], "s");
        self.memory("created", &operator, report);
        self.told("created", &operator, report);
        operator
    }

    /// Starts another process, which finds everything as it is to be.
    fn begin_again(&self, report: &mut Report) -> Operator {
        self.engine.counts.take();
        let began = Instant::now();
        let operator = self.start();
        let watches = |counts: &BTreeMap<String, usize>| {
            counts
                .iter()
                .filter(|(kind, _)| kind.contains("WATCH /api/v1/nodes"))
                .map(|(_, n)| n)
                .sum::<usize>()
        };
        let mut seen = 0;
        eventually(600, "all clusters are watched", || {
            let taken = self.engine.counts.take();
            seen += watches(&taken.by_kind);
            holds(seen >= self.args.clusters, || format!("{seen} watches"))
        });
        report.values("a new process: until it watches all clusters", &[began.elapsed().as_secs_f64()], "s");
        self.memory("a new process", &operator, report);
        operator
    }

    /// Lets time pass in which nothing happens.
    fn idle(&self, operator: &Operator, report: &mut Report) {
        // What follows from the start is not idle.
        pause(Duration::from_secs(60));
        let (before, cpu, began) = (operator.looks(), operator.cpu(), Timestamp::now());
        operator.forget_peak();
        self.engine.counts.take();
        let minutes = self.args.idle;
        let mut sizes = Vec::new();
        for _ in 0..minutes {
            pause(Duration::from_secs(60));
            sizes.push(operator.rss());
        }
        let hourly = |count: f64| count * 60.0 / f64::from(u32::try_from(minutes).expect("a few"));
        let taken = self.engine.counts.take();
        report.values("idle: CPU time in an hour", &[hourly(operator.cpu() - cpu)], "s");
        report.values("idle: memory in each minute", &sizes, "MiB");
        self.memory("idle", operator, report);
        report.values("idle: open sockets", &[number(operator.sockets())], "count");
        for (request, count) in operator::requests(began) {
            report.values(&format!("idle: an hour: management {request}"), &[hourly(number(count))], "count");
        }
        let after = operator.looks();
        let new = after
            .iter()
            .map(|(kind, count)| (kind.clone(), count - before.get(kind).copied().unwrap_or_default()));
        for (kind, count) in new.chain(taken.by_kind.clone()).filter(|(_, count)| *count > 0) {
            report.values(&format!("idle: an hour: {kind}"), &[hourly(number(count))], "count");
        }
        for side in ["docker", "cluster"] {
            report.values(
                &format!("idle: an hour: all of {side}"),
                &[hourly(number(taken.of(side)))],
                "count",
            );
        }
        report.values("idle: an hour: answers of Docker", &[hourly(number(taken.bytes) / 1e6)], "MB");
    }

    /// All containers end, and Docker starts none of them: as after `docker kill` of all.
    fn all_end(&self, operator: &Operator, report: &mut Report) {
        self.storm("all end", operator, report, || self.engine.end_all());
    }

    /// Docker restarts, and starts all containers again, as it does without `live-restore`.
    fn docker_restarts(&self, operator: &Operator, report: &mut Report) {
        self.storm("Docker restarts", operator, report, || {
            self.docker.lock().unwrap().cancel();
            let ran = self.engine.running();
            self.engine.end_all();
            pause(DOWN);
            let engine = self.engine.clone();
            self.start_docker();
            self.runtime.spawn(async move { engine.start_all(ran).await });
        });
    }

    /// Measures until everything runs and is Ready again.
    fn storm(&self, name: &str, operator: &Operator, report: &mut Report, happens: impl FnOnce()) {
        operator.forget_peak();
        let cpu = operator.cpu();
        self.engine.counts.take();
        let began = Instant::now();
        happens();
        eventually(3600, "all containers run", || {
            let running = self.engine.running().len();
            holds(running == self.containers(), || format!("{running} run"))
        });
        report.values(&format!("{name}: until all run"), &[began.elapsed().as_secs_f64()], "s");
        self.all_ready(operator, 3600);
        report.values(&format!("{name}: until all are Ready"), &[began.elapsed().as_secs_f64()], "s");
        report.values(&format!("{name}: CPU time"), &[operator.cpu() - cpu], "s");
        self.memory(name, operator, report);
        self.told(name, operator, report);
    }

    fn delete(&self, _: &Operator, report: &mut Report) {
        let (k, began) = (Kubectl::management(), Instant::now());
        for n in 0..NAMESPACES {
            k.run(&["-n", &space(n), "delete", "localclusters,registries", "--all", "--wait=false"]);
        }
        eventually(1800, "nothing is left", || {
            let state = self.engine.state();
            let left = (state.containers.len(), state.networks.len() - 1, state.volumes.len());
            // Data of registries stays if their specs say so; these do not.
            holds(left.0 == 0 && left.1 == 0, || format!("{left:?} containers, networks and volumes"))
        });
        report.values("deleted: until nothing is left", &[began.elapsed().as_secs_f64()], "s");
        for n in 0..NAMESPACES {
            k.run(&["delete", "namespace", &space(n), "--wait=false"]);
        }
    }

    fn memory(&self, name: &str, operator: &Operator, report: &mut Report) {
        report.values(&format!("{name}: memory"), &[operator.rss()], "MiB");
        report.values(&format!("{name}: memory without the binary's"), &[operator.own()], "MiB");
        report.values(&format!("{name}: peak of memory"), &[operator.peak()], "MiB");
    }

    /// Reports what was asked since the last time.
    fn told(&self, name: &str, operator: &Operator, report: &mut Report) {
        let taken = self.engine.counts.take();
        for (kind, count) in &taken.by_kind {
            report.values(&format!("{name}: {kind}"), &[number(*count)], "count");
        }
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "{name}: load {}, {} sockets, {} MB of answers",
            load.trim(),
            operator.sockets(),
            taken.bytes / 1_000_000
        );
        let seconds: Vec<f64> = taken.seconds.iter().map(|count| number(*count)).collect();
        report.values(&format!("{name}: requests to Docker in a second"), &seconds, "count");
        let tens: Vec<usize> = taken.seconds.chunks(10).map(|ten| ten.iter().sum()).collect();
        println!("{name}: requests to Docker in each 10 s: {tens:?}");
        report.values(
            &format!("{name}: containers that start at a time, at most"),
            &[number(taken.most_starting)],
            "count",
        );
    }

    fn all_ready(&self, operator: &Operator, seconds: u64) {
        let k = Kubectl::management();
        let began = Instant::now();
        let mut last = 0;
        loop {
            let path =
                r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
            let told = k
                .attempt(&["get", "localclusters,registries", "-A", "-o", path])
                .unwrap_or_else(|e| panic!("{e}"));
            let ready = told.lines().filter(|line| *line == "True").count();
            if ready == self.objects() {
                return;
            }
            if ready != last {
                println!(
                    "  {ready} of {} are Ready after {:?}, {:.1} MiB",
                    self.objects(),
                    began.elapsed(),
                    operator.rss()
                );
                last = ready;
            }
            assert!(
                began.elapsed() < Duration::from_secs(seconds),
                "only {ready} of {} are Ready",
                self.objects()
            );
            pause(Duration::from_secs(2));
        }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("few things are counted"))
}

fn space(n: usize) -> String {
    format!("scale-{}", n % NAMESPACES)
}

/// Applies objects as users do.
fn apply(k: &Kubectl, objects: Vec<Value>) {
    for some in objects.chunks(50) {
        k.apply(&json!({"apiVersion": "v1", "kind": "List", "items": some}).to_string());
    }
}

/// Serves each connection by the address that it was made to.
async fn each<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream, Ipv4Addr) -> F,
) {
    loop {
        // There may be too many open files for a moment.
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let Ok(SocketAddr::V4(address)) = tcp.local_addr() else { continue };
        tokio::spawn(serve(tcp, *address.ip()));
    }
}

/// Serves the API of a cluster at the address of its load balancer. While there is none, the connection is closed.
async fn api(engine: Arc<Engine>, tls: Arc<rustls::ServerConfig>, tcp: TcpStream, ip: Ipv4Addr) {
    engine.counts.note("connection to a cluster".to_owned());
    let Some((_, [balancer, server])) = engine.child(ip) else { return };
    let end = server.ended.child_token();
    let (plain, carried) = tls::accept(tcp, tls);
    let answer = move |request: Request<Incoming>| {
        let engine = engine.clone();
        async move {
            match engine.child(ip) {
                Some((child, _)) => child.answer(&engine.counts, request).await,
                None => Response::builder().status(503).body(wire::full("")).expect("it is valid"),
            }
        }
    };
    let served = async {
        tokio::select! {
            _ = carried => {}
            () = wire::serve(plain, answer, end) => {}
        }
    };
    balancer.ended.run_until_cancelled(served).await;
}

/// Serves a registry, if it runs.
async fn registry(engine: Arc<Engine>, tcp: TcpStream, ip: Ipv4Addr) {
    if !engine.runs_at(ip) {
        return;
    }
    let answer = move |_: Request<Incoming>| {
        let engine = engine.clone();
        async move {
            engine.counts.note("registry GET /v2/".to_owned());
            Response::new(wire::full("{}"))
        }
    };
    wire::serve(tcp, answer, CancellationToken::new()).await;
}
