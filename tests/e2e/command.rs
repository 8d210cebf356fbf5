//! The command for people, `localcluster`, from nothing to a cluster and back.

use std::{fs, path::PathBuf};

use crate::live::{
    Kubectl, command,
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
        command(env!("CARGO_BIN_EXE_localcluster"), &[args, &more].concat(), input)
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
    let again = user.fails(&["create", "c"], "");
    assert!(again.contains("the LocalCluster c exists in the namespace"), "{again}");

    user.run(&["stop", "c", &timeout]);
    assert!(scene.picture().values().all(|seen| !seen.running), "{:?}", scene.picture());
    let stopped = user.fails(&["status", "c"], "");
    assert!(stopped.contains("start it with `localcluster start c`"), "{stopped}");
    user.run(&["start", "c", &timeout]);
    user.kubectl(&["get", "--raw", "/readyz"]);

    user.run(&["delete", "c", &timeout]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(user.contexts(), before);
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
