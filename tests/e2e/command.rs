//! The command for people, `localcluster`, from nothing to a cluster and back.

use std::{fs, path::PathBuf};

use localcluster_operator::k3s::images;

use crate::live::{
    Kubectl, command, docker,
    harness::Group,
    holds, install,
    scene::{LIMIT, Scene},
    scratch, world,
};

pub const GROUP: Group = Group {
    name: "command",
    setup: || {
        install();
        Scene::new("cmd")
    },
    tests: &[("from_create_to_delete", from_create_to_delete), ("wrong_input_is_told", wrong_input_is_told)],
};

/// A user with a kubeconfig of the management cluster.
struct User<'a> {
    scene: &'a Scene,
    kubeconfig: PathBuf,
}

impl<'a> User<'a> {
    fn new(scene: &'a Scene, name: &str) -> Self {
        let kubeconfig = scratch(&format!("{}-{name}.kubeconfig", scene.namespace));
        fs::copy(world("KUBECONFIG"), &kubeconfig).expect("it can be copied");
        Self { scene, kubeconfig }
    }

    fn input(&self, args: &[&str], input: &str) -> Result<String, String> {
        let file = format!("--kubeconfig={}", self.kubeconfig.display());
        let more = ["-n", &self.scene.namespace, &file];
        // What follows -- is a command in a container.
        let end = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        command(env!("CARGO_BIN_EXE_localcluster"), &[&args[..end], &more, &args[end..]].concat(), input)
    }

    fn run(&self, args: &[&str]) -> String {
        self.input(args, "").unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a command that must fail, and returns what it said.
    fn fails(&self, args: &[&str], input: &str) -> String {
        self.input(args, input).expect_err("it fails")
    }

    /// kubectl with the user's kubeconfig, in its current context.
    fn kubectl(&self, args: &[&str]) -> String {
        Kubectl::new(self.kubeconfig.clone()).run(args)
    }

    fn contexts(&self) -> (String, String) {
        (
            self.kubectl(&["config", "current-context"]),
            self.kubectl(&["config", "get-contexts", "-o", "name"]),
        )
    }
}

fn from_create_to_delete(scene: &Scene) {
    let user = User::new(scene, "user");
    let before = user.contexts();
    let timeout = format!("--timeout={LIMIT}s");
    let args = "--k3s-arg=--disable=traefik,metrics-server,servicelb";
    user.run(&["create", "c", "--agents=1", "--port=30080", args, &timeout]);
    assert_eq!(user.contexts().0, scene.network("c"), "the context has the name that k3d would give it");
    let nodes = user.kubectl(&["get", "nodes", "-o", "name"]);
    assert_eq!(nodes.lines().count(), 2, "{nodes}");

    // The current context is that of the cluster; the management cluster is found all the same.
    let (list, table) = (user.run(&["list"]), scene.run(&["get", "lc"]));
    assert_eq!(list.lines().next(), table.lines().next(), "{list}\n{table}");
    let row: Vec<&str> = list.lines().nth(1).expect("there is a cluster").split_whitespace().collect();
    assert_eq!(row[..3], ["c", "True", "Ready"], "{list}");
    assert_eq!(row[4..6], ["1/1", "1/1"], "servers and agents: {list}");
    assert_eq!(user.run(&["list", "-o", "name"]), scene.run(&["get", "lc", "-o", "name"]));
    let status = user.run(&["status", "c"]);
    let server = format!("{}-server-0", scene.network("c"));
    for word in [": Ready", "✓ ControlPlaneReady", &server, "tcp-30080", "last Events", "https://127.0.0.1:"]
    {
        assert!(status.contains(word), "{word} is not in\n{status}");
    }
    inside(&user);
    diagnosis(&user);
    let again = user.fails(&["create", "c"], "");
    assert!(again.contains("the LocalCluster c exists in the namespace"), "{again}");

    user.run(&["stop", "c", &timeout]);
    assert!(scene.picture().values().all(|seen| !seen.running), "{:?}", scene.picture());
    let stopped = user.fails(&["status", "c"], "");
    assert!(stopped.contains("start it with `localcluster start c`"), "{stopped}");
    let shell = user.fails(&["shell", "c", &host(), "--", "true"], "");
    assert!(shell.contains("start it with `localcluster start c`"), "{shell}");
    user.run(&["logs", "c", &host(), "--tail=1"]);
    user.run(&["start", "c", &timeout]);
    user.kubectl(&["get", "--raw", "/readyz"]);

    user.run(&["delete", "c", &timeout]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(user.contexts(), before);
}

/// The engine that the operator uses.
fn host() -> String {
    format!("--docker-host={}", world("DOCKER_HOST"))
}

/// Logs and commands of nodes, and images that get into them.
fn inside(user: &User<'_>) {
    let host = host();
    // Docker's own name for the node is that which the command means.
    let name = user.run(&["shell", "c", "agent-0", &host, "--", "cat", "/etc/hostname"]);
    assert_eq!(name, format!("{}-agent-0", user.scene.network("c")));
    let typed = user.input(&["shell", "c", &host, "--", "sh", "-c", "cat; exit 0"], "typed\n");
    assert_eq!(typed.as_deref(), Ok("typed"));
    user.fails(&["shell", "c", &host, "--", "sh", "-c", "exit 7"], "");
    user.run(&["logs", "c", "agent-0", &host, "--tail=3", "--since=1h"]);
    let told = user.fails(&["logs", "c", "agent-7", &host], "");
    assert!(told.contains("c has no node agent-7; it has agent-0, server-0, serverlb"), "{told}");

    let image = format!("{}-imported:1", user.scene.namespace);
    let tar = scratch("imported.tar");
    docker(&["tag", &world("BUSYBOX_IMAGE"), &image]);
    docker(&["save", "-o", &tar.display().to_string(), &image]);
    docker(&["rmi", &image]);
    user.run(&["import-image", "c", &tar.display().to_string(), &host, &format!("--timeout={LIMIT}s")]);
    let list = images::list();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let images = user.run(&[&["shell", "c", "agent-0", &host, "--"], &list[..]].concat());
    assert!(images.contains(image.trim_end_matches(":1")), "{images}");
    docker(&["rmi", &image]);
    let _ = fs::remove_file(tar);
}

/// What helps to find what is wrong, where nothing is.
fn diagnosis(user: &User<'_>) {
    let host = host();
    let found = user.run(&["check", &host]);
    let levels = found.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    let levels: Vec<_> = levels.filter(|words| words.len() == 2).map(|words| (words[1], words[0])).collect();
    for check in ["docker", "cgroups", "management", "definitions"] {
        assert!(levels.contains(&(check, "ok")), "{check}: {found}");
    }
    for check in ["inotify", "disk", "subnets", "dns"] {
        assert!(levels.iter().any(|(about, _)| *about == check), "{check}: {found}");
    }
    let file = scratch("report.tar.gz");
    let _ = fs::remove_file(&file);
    let path = file.display().to_string();
    user.run(&["report", "-o", &path, &host]);
    let text = command("tar", &["-xzOf", &path], "").expect("it is an archive");
    assert!(text.contains("\"reason\": \"Ready\""), "{text}");
    let names = command("tar", &["-tzf", &path], "").expect("it is an archive");
    let server = format!("{}-server-0", user.scene.network("c"));
    for part in [format!("docker/containers/{server}.json"), format!("docker/logs/{server}.log")] {
        assert!(names.contains(&part), "{part} is not in {names}");
    }
    let kubeconfig = user.run(&["kubeconfig", "get", "c"]);
    let token = user.run(&["shell", "c", &host, "--", "cat", "/var/lib/rancher/k3s/server/token"]);
    let keys = kubeconfig.lines().filter_map(|line| line.trim().strip_prefix("client-key-data: "));
    for secret in keys.chain([token.trim()]).filter(|secret| !secret.is_empty()) {
        assert!(!text.contains(secret), "the report has a secret");
    }
    let _ = fs::remove_file(file);
}

fn wrong_input_is_told(scene: &Scene) {
    let user = User::new(scene, "wrong");
    let before = fs::read(&user.kubeconfig).expect("it can be read");
    let cluster = |spec: &str| {
        format!(
            "{{apiVersion: localcluster.dev/v1alpha1, kind: LocalCluster, metadata: {{name: wrong}}, spec: {spec}}}"
        )
    };
    let from_file = ["create", "-f", "-", "--timeout=60s"];
    let told = user.fails(&from_file, &cluster("{agent: {count: 2}}"));
    assert!(told.contains("cannot apply the LocalCluster wrong: ") && told.contains("spec.agent"), "{told}");
    let told = user.fails(&["create", "wrong", "--servers=2"], "");
    assert!(told.contains("the LocalCluster wrong is invalid: "), "{told}");
    let left = scene.run(&["get", "lc", "-o", "name"]);
    holds(left.is_empty(), || left.clone()).unwrap_or_else(|e| panic!("{e}"));

    // The API server accepts it, and the operator does not.
    let told = user.fails(&from_file, &cluster("{network: {subnet: 192.0.2.0/24}}"));
    assert!(told.contains("wrong cannot become as desired: SubnetNotAllowed: "), "{told}");
    let told = user.fails(&["status", "wrong"], "");
    assert!(told.contains("wrong needs you: SubnetNotAllowed: "), "{told}");
    user.run(&["delete", "wrong"]);
    assert_eq!(fs::read(&user.kubeconfig).expect("it can be read"), before);
}
