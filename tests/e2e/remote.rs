//! An engine on another machine: in a network namespace from which only its own address is reached, over TLS.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::{
    live::{
        Kubectl, command, docker, docker_logs, eventually,
        harness::Group,
        holds, install,
        operator::Absence,
        scene::{Scene, condition},
        scratch, world,
    },
    topology,
};

pub const GROUP: Group = Group {
    name: "remote",
    setup: || {
        install();
        Scene::new("remote")
    },
    tests: &[("engine_on_another_machine", engine_on_another_machine)],
};

const HERE: &str = "10.98.77.1";
const THERE: &str = "10.98.77.2";

fn sh(script: &str) -> String {
    try_sh(script).unwrap_or_else(|e| panic!("{e}"))
}

fn try_sh(script: &str) -> Result<String, String> {
    command("sh", &["-ec", script], "")
}

/// The machine, which is removed on drop.
struct Machine {
    name: String,
    dir: PathBuf,
    engine: Option<Child>,
}

impl Machine {
    fn new() -> Self {
        let name = format!("lco-e2e-{}", std::process::id());
        let dir = scratch("remote");
        // Paths of sockets have at most 107 characters.
        let this = Self { dir, engine: None, name };
        let (name, link) = (&this.name, this.link());
        sh(&format!(
            "mkdir -p {dir}/certs {run}; ip netns add {name}; ip link add {link} type veth peer name eth0 netns {name}; ip \
             address add {HERE}/30 dev {link}; ip link set {link} up; ip -n {name} address add {THERE}/30 dev eth0; ip -n \
             {name} link set eth0 up; ip -n {name} link set lo up",
            dir = this.dir.display(),
            run = this.run(),
        ));
        this.certify();
        this
    }

    fn link(&self) -> String {
        format!("e2e{}", std::process::id())
    }

    fn run(&self) -> String {
        format!("/run/{}", self.name)
    }

    fn certificates(&self) -> String {
        format!("{}/certs", self.dir.display())
    }

    /// Makes a CA, and certificates of the engine and a client.
    fn certify(&self) {
        let sign = |name: &str, extension: &str| {
            format!(
                "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out \
                 {name}.csr; echo {extension} >{name}.ext; openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key \
                 -CAcreateserial -days 1 -extfile {name}.ext -out {name}.crt; "
            )
        };
        sh(&format!(
            "cd {}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=e2e -keyout \
             ca.key -out ca.pem; {}{}mv client.crt cert.pem; mv client.key key.pem",
            self.certificates(),
            sign("engine", &format!("subjectAltName=IP:{THERE}")),
            sign("client", "extendedKeyUsage=clientAuth"),
        ));
    }

    /// Starts its engine.
    fn start(&mut self) {
        let (run, certs) = (self.run(), self.certificates());
        // Where privileged containers need a wrapper of runc, this machine's engine has it.
        let wrapper = docker(&["info", "-f", "{{with index .Runtimes \"wrap\"}}{{.Path}}{{end}}"]);
        let runtime = if wrapper.is_empty() {
            String::new()
        } else {
            format!("--add-runtime wrap={wrapper} --default-runtime wrap")
        };
        let args = format!(
            "--host unix://{run}/docker.sock --host tcp://{THERE}:2376 --tlsverify --tlscacert {certs}/ca.pem --tlscert \
             {certs}/engine.crt --tlskey {certs}/engine.key --pidfile {run}/docker.pid --exec-root {run}/exec --data-root \
             {}/data {runtime}",
            self.dir.display()
        );
        let log = fs::File::create(self.dir.join("dockerd.log")).expect("it can be created");
        let engine = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("dockerd")
            .args(args.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("dockerd can be started");
        self.engine = Some(engine);
        eventually(60, "the engine responds", || self.try_docker(&["version"]));
    }

    fn stop(&mut self) {
        if let Some(mut engine) = self.engine.take() {
            let _ = command("kill", &[&engine.id().to_string()], "");
            let _ = engine.wait();
        }
    }

    fn try_docker(&self, args: &[&str]) -> Result<String, String> {
        let host = format!("unix://{}/docker.sock", self.run());
        command("docker", &[&["--host", &host], args].concat(), "")
    }

    fn docker(&self, args: &[&str]) -> String {
        self.try_docker(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Copies images from this machine's engine.
    fn bring(&self, images: &[String]) {
        sh(&format!(
            "docker --host {} save {} | docker --host unix://{}/docker.sock load -q",
            world("DOCKER_HOST"),
            images.join(" "),
            self.run()
        ));
    }

    /// Returns all containers, networks and volumes. An engine that restarts recreates its own networks.
    fn objects(&self) -> [String; 3] {
        [&["ps", "-aq"][..], &["network", "ls", "--format", "{{.Name}}"], &["volume", "ls", "-q"]]
            .map(|list| self.docker(list))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        if let Ok(left) = self.try_docker(&["ps", "-aq"]) {
            for id in left.lines() {
                let _ = self.try_docker(&["rm", "-fv", id]);
            }
        }
        self.stop();
        let (name, dir) = (&self.name, self.dir.display());
        for script in [
            format!("ip link del {}", self.link()),
            format!("ip netns del {name}"),
            format!("rm -rf {dir} {}", self.run()),
        ] {
            if let Err(said) = try_sh(&script) {
                eprintln!("{said}");
            }
        }
    }
}

/// Waits until a condition has this status, and a message with these words.
fn is(scene: &Scene, type_: &str, status: &str, words: &str) {
    eventually(60, &format!("{type_} is {status}"), || {
        let found = condition(&scene.get("lc/c"), type_)?;
        let message = found["message"].as_str().unwrap_or_default();
        holds(found["status"] == status && message.contains(words), || found.to_string())
    });
}

fn engine_on_another_machine(scene: &Scene) {
    let mut machine = Machine::new();
    machine.start();
    machine.bring(&[world("NODE_IMAGE"), world("LB_IMAGE"), world("REGISTRY_IMAGE")]);
    let before = machine.objects();

    let _absence = Absence::begin();
    let name = format!("{}-operator", scene.namespace);
    let server = Kubectl::management().run(&[
        "config",
        "view",
        "--raw",
        "-o",
        "jsonpath={.clusters[0].cluster.server}",
    ]);
    let certificates = format!("{}:/certs:ro", machine.certificates());
    let host = format!("LOCALCLUSTER_DOCKER_HOST=tcp://{THERE}:2376");
    let more = [
        "--network=host",
        "-v",
        &certificates,
        "-e",
        &host,
        "-e",
        "LOCALCLUSTER_DOCKER_CERT_PATH=/certs",
        "-e",
        "LOCALCLUSTER_HTTP_LISTEN=127.0.0.1:0",
    ];
    // As in its image, since the program runs as the forwarder too.
    let _operator = topology::start(&name, &server, &more.map(str::to_owned));
    scene.apply("Registry", "r", "{}");
    let spec = "{servers: {count: 1, args: [\"--disable=traefik,metrics-server,servicelb\"]}, registries: {use: [{name: \
                r}]}}";
    scene.apply("LocalCluster", "c", spec);
    scene.ready("lreg/r");
    scene.ready("lc/c");
    let connected = |path: &str| {
        let line = |l: &str| l.contains("connected to the API of the cluster") && l.contains(path);
        let log = docker_logs(&name);
        assert!(log.lines().any(line), "{log}");
    };
    connected("path=through Docker");
    is(scene, "ReachableFromPods", "False", "set spec.api.hostIP to 0.0.0.0");
    is(scene, "HostReady", "True", "");

    // A port that others reach is used at once, without a restart of the operator.
    scene.patch("lc/c", r#"{"api": {"hostIP": "0.0.0.0"}}"#);
    is(scene, "ReachableFromPods", "True", "");
    scene.ready("lc/c");
    connected(&format!("path={THERE}:"));
    let host = scene.get("lc/c")["status"]["endpoints"]["host"].as_str().unwrap_or_default().to_owned();
    assert!(host.starts_with(&format!("https://{THERE}:")), "{host}");
    scene.child("c").run(&["get", "nodes"]);
    assert!(scene.kubeconfig("c", "value").contains(&format!("server: {host}\n")), "{host}");

    // The engine goes and comes, and the cluster with it.
    machine.stop();
    is(scene, "DockerReachable", "False", "");
    machine.start();
    is(scene, "DockerReachable", "True", "");
    scene.ready("lc/c");

    scene.run(&["delete", "lc/c", "lreg/r", "--timeout=120s"]);
    assert_eq!(machine.objects(), before);
}
