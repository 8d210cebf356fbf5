//! How long a look at a created cluster takes through the engine, next to a direct connection in the same run.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use localcluster_operator::{
    child::{
        api::{Access, Connect, Connection},
        connect::KubeConnector,
    },
    docker::{bollard::BollardEngine, engine::Engine, tunnels::Tunnels},
};

use crate::{
    Scale,
    clock::clock,
    figures::Report,
    live::{cluster::container, docker, inspect, scene::Scene, scratch, world},
    small_cluster,
};

const LOOKS: usize = 200;
const CONNECTIONS: usize = 20;
const LIMIT: Duration = Duration::from_secs(10);

/// Measures it.
pub fn run(_: &Scale, report: &mut Report) {
    let scene = Scene::new("paths");
    scene.apply("LocalCluster", "c", &small_cluster(1, ""));
    scene.ready("lc/c");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let paths = Paths::of(&scene);
    let [direct, through] = runtime.block_on(paths.measure());
    report.seconds("connect, directly", &direct.connects);
    report.compared("connect, through Docker", &through.connects, "connect, directly");
    report.seconds("look, directly", &direct.looks);
    report.compared("look, through Docker", &through.looks, "look, directly");
    scene.end();
}

/// Seconds on a path.
#[derive(Default)]
struct Figures {
    connects: Vec<f64>,
    looks: Vec<f64>,
}

/// What the two connections differ in.
struct Paths {
    direct: Access,
    through: Access,
}

impl Paths {
    fn of(scene: &Scene) -> Self {
        let balancer = container(scene, "serverlb");
        let port = scene.get("lc/c")["status"]["apiPort"]["hostPort"].as_u64().expect("it has a port");
        let port = u16::try_from(port).expect("it is a port");
        let direct = Access {
            kubeconfig: scene.kubeconfig("c", "kubeconfig"),
            candidates: vec![SocketAddr::from(([127, 0, 0, 1], port))],
            tunnel: None,
            is_due: true,
            tls_server_name: balancer.clone(),
            token: None,
        };
        let engine: Arc<dyn Engine> =
            Arc::new(BollardEngine::connect(&world("DOCKER_HOST")).expect("the engine has a socket"));
        let id = inspect(&balancer).expect("it exists")["Id"].as_str().expect("it has an ID").to_owned();
        let tunnel = Tunnels::new(engine, program()).to(&id, SocketAddr::from(([127, 0, 0, 1], 6443)));
        let through = Access { candidates: Vec::new(), tunnel: Some(tunnel), ..direct.clone() };
        Self { direct, through }
    }

    /// Measures both in turn, so that both have the same load.
    async fn measure(&self) -> [Figures; 2] {
        let accesses = [&self.direct, &self.through];
        let mut figures = [Figures::default(), Figures::default()];
        // The first one copies the forwarder and starts it.
        let mut connections = [connect(accesses[0]).await, connect(accesses[1]).await];
        for _ in 0..CONNECTIONS {
            for ((access, figures), connection) in accesses.iter().zip(&mut figures).zip(&mut connections) {
                let began = clock();
                *connection = connect(access).await;
                figures.connects.push(clock() - began);
            }
        }
        for _ in 0..LOOKS {
            for (connection, figures) in connections.iter().zip(&mut figures) {
                let began = clock();
                connection.child.observe().await.expect("the API responds");
                figures.looks.push(clock() - began);
            }
        }
        figures
    }
}

async fn connect(access: &Access) -> Connection {
    KubeConnector::default().connect(access, LIMIT).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the operator's program as it is in its image, which runs in every container.
fn program() -> PathBuf {
    let image = world("OPERATOR_IMAGE");
    let entrypoint = docker(&["image", "inspect", "-f", "{{index .Config.Entrypoint 0}}", &image]);
    let path = scratch("operator");
    let id = docker(&["create", &image]);
    docker(&["cp", &format!("{id}:{entrypoint}"), path.to_str().expect("the path is UTF-8")]);
    docker(&["rm", &id]);
    path
}
