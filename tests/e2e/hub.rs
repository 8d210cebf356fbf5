//! `localcluster up` and `down`: a hub beside the management cluster of the tests, from nothing to nothing.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::live::{
    Kubectl, docker, eventually, harness::Group, inspect, operator::settings, scene::Scene, scratch,
    try_docker, world,
};

pub const GROUP: Group = Group {
    name: "hub",
    setup: || Scene::new("hub"),
    tests: &[("a_hub_comes_works_is_repaired_and_goes", a_hub_comes_works_is_repaired_and_goes)],
};

/// A hub with names of its own; removed on drop, whatever is left of it.
struct Hub {
    name: String,
    kubeconfig: PathBuf,
}

impl Hub {
    fn new(scene: &Scene) -> Self {
        let name = format!("{}-try", scene.namespace);
        let kubeconfig = scratch(&format!("{name}.kubeconfig"));
        let _ = std::fs::remove_file(&kubeconfig);
        Self { name, kubeconfig }
    }

    fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// Runs a verb, and returns what it printed.
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new(env!("CARGO_BIN_EXE_localcluster"))
            .args(args)
            .args(["--name", &self.name, "--docker-host", &world("DOCKER_HOST")])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .expect("it can be started");
        let told =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        println!("        localcluster {}: {told}", args[0]);
        if out.status.success() { Ok(told) } else { Err(told) }
    }

    fn up(&self) -> String {
        let image = world("NODE_IMAGE");
        let operator = world("OPERATOR_IMAGE");
        let mut args =
            vec!["up".to_owned(), "--image".to_owned(), image, "--operator-image".to_owned(), operator];
        for (name, value) in settings() {
            if let Some(flag) = name.strip_prefix("LOCALCLUSTER_") {
                let flag = flag.to_lowercase().replace('_', "-");
                args.push(format!("--operator-arg=--{flag}={value}"));
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.run(&args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// IDs and start times of both containers.
    fn containers(&self) -> Vec<String> {
        let of = |part: &str| docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &self.part(part)]);
        ["hub", "operator"].map(of).into()
    }

    /// Everything on the engine that has its name or that its clusters made.
    fn left(&self) -> Vec<String> {
        let filter = format!("name={}", self.name);
        let of = |list: &[&str]| docker(&[list, &["--filter", &filter, "--format", "{{.Name}}"]].concat());
        let containers = docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let all = [containers, of(&["volume", "ls"]), of(&["network", "ls"])].join("\n");
        all.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The anonymous volumes of its containers.
    fn anonymous(&self) -> Vec<String> {
        let inspected = inspect(&self.part("hub")).expect("the hub exists");
        let mounts = inspected["Mounts"].as_array().cloned().unwrap_or_default();
        mounts.iter().filter_map(|m| m["Name"].as_str()).map(str::to_owned).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for part in ["hub", "operator"] {
                let _ = try_docker(&["logs", "--tail", "20", &self.part(part)]).map(|log| eprintln!("{log}"));
            }
            let _ = self.run(&["down", "--delete-clusters"]);
        }
        for part in ["operator", "hub"] {
            let _ = try_docker(&["rm", "-fv", &self.part(part)]);
        }
        let _ = try_docker(&["volume", "rm", &self.part("hub")]);
        let _ = try_docker(&["network", "rm", &self.part("hub")]);
    }
}

/// The name of a cluster that no other test has.
fn cluster_of(hub: &Hub) -> String {
    format!("{}-c", hub.name)
}

/// The hub is lost with all that it kept. A new one takes over the cluster, which runs on.
fn lost(hub: &Hub, k: &Kubectl, cluster: &str) {
    let of_cluster = || -> Vec<String> {
        let filter = format!("name=k3d-{cluster}-");
        let listed =
            docker(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"]);
        // The container that shows the resolvers of the host is there for a moment now and then.
        let lasting = listed.lines().filter(|line| !line.ends_with("-resolvers"));
        let ids: Vec<&str> = lasting.filter_map(|line| line.split(' ').next()).collect();
        let args = [&["inspect", "-f", "{{.Name}} {{.Id}} {{.State.StartedAt}}"], &ids[..]].concat();
        let mut all: Vec<String> = docker(&args).lines().map(str::to_owned).collect();
        all.sort();
        all
    };
    // Its record is written once all else is done.
    let keeper = format!("k3d-{cluster}-serverlb");
    eventually(30, "the record of the cluster", || {
        try_docker(&["cp", &format!("{keeper}:/etc/localcluster/object.json"), "-"]).map(drop)
    });
    let before = of_cluster();
    docker(&["rm", "-fv", &hub.part("operator"), &hub.part("hub")]);
    docker(&["volume", "rm", &hub.part("hub")]);
    hub.up();
    let listed = k.run(&["get", "lc", "-A", "-o", "name"]);
    assert_eq!(listed, "", "the new hub knows nothing");

    let host = format!("--docker-host={}", world("DOCKER_HOST"));
    let adopt = |args: &[&str]| {
        let file = format!("--kubeconfig={}", hub.kubeconfig.display());
        let args = [&["adopt", &host, "--context", &hub.name, &file], args].concat();
        crate::live::command(env!("CARGO_BIN_EXE_localcluster"), &args, "").unwrap_or_else(|e| panic!("{e}"))
    };
    let listed = adopt(&["-n", "default"]);
    let row = listed.lines().find(|line| line.contains(cluster)).unwrap_or_else(|| panic!("{listed}"));
    assert!(row.ends_with("the object is created again from its record"), "{listed}");
    // Others use the engine, so not all.
    adopt(&[cluster, "-n", "default", "--timeout=180s"]);
    assert_eq!(of_cluster(), before, "the same containers run on");
    k.run(&["wait", "--for=condition=Ready", &format!("lc/{cluster}"), "--timeout=10s"]);
}

fn a_hub_comes_works_is_repaired_and_goes(scene: &Scene) {
    let hub = Hub::new(scene);
    let told = hub.up();
    assert!(told.contains(&format!("hub {} is ready", hub.name)), "{told}");
    let inspected = inspect(&hub.part("hub")).expect("the hub runs");
    assert_eq!(inspected["HostConfig"]["Privileged"], false);
    let volumes = hub.anonymous();

    // What it is for.
    let k = Kubectl::new(hub.kubeconfig.clone());
    let cluster = cluster_of(&hub);
    k.apply(&format!(
        "apiVersion: localcluster.dev/v1alpha1\nkind: LocalCluster\nmetadata: {{name: {cluster}}}\n\
         spec: {{servers: {{args: [\"--disable=traefik,metrics-server,servicelb\"]}}}}\n"
    ));
    k.run(&["wait", "--for=condition=Ready", &format!("lc/{cluster}"), "--timeout=300s"]);

    // Again: nothing changes.
    let before = hub.containers();
    let told = hub.up();
    assert!(told.contains("nothing had to be changed"), "{told}");
    assert_eq!(hub.containers(), before);

    // Repairs keep what is in the hub, and the cluster runs on. The operator may take the address of the hub meanwhile.
    let node = format!("k3d-{cluster}-server-0");
    let runs = docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &node]);
    docker(&["kill", &hub.part("hub")]);
    docker(&["restart", "-t", "0", &hub.part("operator")]);
    hub.up();
    docker(&["rm", "-fv", &hub.part("operator")]);
    docker(&["rm", "-fv", &hub.part("hub")]);
    hub.up();
    k.run(&["wait", "--for=condition=Ready", &format!("lc/{cluster}"), "--timeout=120s"]);
    assert_eq!(docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &node]), runs);

    // No secret where `docker inspect` shows it.
    let token = k.run(&[
        "-n",
        "localcluster-system",
        "get",
        "secret",
        "localcluster-operator-token",
        "-o",
        "jsonpath={.data.token}",
    ]);
    let shown = docker(&["inspect", &hub.part("hub"), &hub.part("operator")]);
    assert!(token.len() > 100 && !shown.contains(&token), "{shown}");
    assert!(!shown.contains("K3S_TOKEN"), "{shown}");

    lost(&hub, &k, &cluster);

    let refused = hub.run(&["down"]).expect_err("there is a cluster");
    assert!(refused.contains(&format!("LocalCluster default/{cluster}")), "{refused}");
    let volumes = [volumes, hub.anonymous()].concat();
    hub.run(&["down", "--delete-clusters"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(hub.left(), Vec::<String>::new());
    for volume in volumes {
        assert!(try_docker(&["volume", "inspect", &volume]).is_err(), "volume {volume} is left");
    }
    let kubeconfig = std::fs::read_to_string(&hub.kubeconfig).unwrap_or_default();
    assert!(!kubeconfig.contains(&hub.name), "its context is left: {kubeconfig}");
    let told = hub.run(&["down"]).unwrap_or_else(|e| panic!("{e}"));
    assert!(told.contains("nothing had to be removed"), "{told}");
}
