//! The command for people against a fake of the Kubernetes API: what it writes there, into kubeconfigs and to its user.

#[path = "localcluster/adopt.rs"]
mod adopt;
#[path = "localcluster/docker.rs"]
mod docker;
#[path = "localcluster/engine.rs"]
mod engine;
#[path = "support/fakes/kubernetes.rs"]
mod kubernetes;

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use kube::client::Body;
use kubernetes::{Failure, Hooks, KubernetesApi};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

const DEV: &str = "/apis/localcluster.dev/v1alpha1/namespaces/default/localclusters/dev";
const SECRET: &str = "/api/v1/namespaces/default/secrets/dev-kubeconfig";

/// Counts how often the cluster was read.
#[derive(Default)]
struct Looks(AtomicUsize);

impl Hooks for Looks {
    fn gate(&self, call: &str, _: bool) -> Option<Failure> {
        if call == format!("GET {DEV}") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        None
    }
}

/// A user with a kubeconfig for a management cluster.
struct Desk {
    api: KubernetesApi,
    looks: Arc<Looks>,
    home: TempDir,
    server: String,
}

impl Desk {
    async fn new() -> Self {
        let looks = Arc::new(Looks::default());
        let api = KubernetesApi::with(looks.clone());
        let client = api.client();
        let answer = tower::service_fn(move |request: Request| {
            let client = client.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let request = axum::http::Request::from_parts(head, Body::from(body.to_vec()));
                let (head, body) = client.send(request).await.unwrap().into_parts();
                Ok::<_, Infallible>(Response::from_parts(head, axum::body::Body::new(body)))
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback_service(answer)).await });
        let desk = Self { api, looks, home: tempfile::tempdir().unwrap(), server };
        fs::create_dir(desk.home.path().join(".kube")).unwrap();
        let kubeconfig = format!(
            "current-context: work\nx-mine: kept\ncontexts: [{{name: work, context: {{cluster: work, user: me}}}}]\n\
             clusters: [{{name: work, cluster: {{server: '{}'}}}}]\nusers: [{{name: me, user: {{}}}}]\n",
            desk.server
        );
        fs::write(desk.file(), kubeconfig).unwrap();
        desk
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(".kube/config")
    }

    fn kubeconfig(&self) -> Value {
        serde_saphyr::from_str(&fs::read_to_string(self.file()).unwrap()).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster"));
        command.env_clear().env("HOME", self.home.path()).args(args);
        command
    }

    /// Runs the command, and returns its exit code, what it printed, and what it said.
    async fn run(&self, args: &[&str]) -> (i32, String, String) {
        told(self.command(args).output().await.unwrap())
    }

    /// Runs the command while an operator writes these statuses of the cluster, one after the other.
    async fn with_operator(&self, args: &[&str], statuses: &[Value]) -> (i32, String, String) {
        let operator = async {
            let looks = || self.looks.0.load(Ordering::SeqCst);
            for status in statuses {
                loop {
                    if let Some(mut dev) = self.api.get(DEV) {
                        dev["status"] = status.clone();
                        self.api.put(DEV, dev);
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // One look may be on its way.
                let seen = looks() + 2;
                while looks() < seen {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            told = self.run(args) => told,
            () = operator => unreachable!(),
        }
    }

    fn secret(&self, server: &str) {
        let file = format!(
            "current-context: k3d-dev\ncontexts: [{{name: k3d-dev, context: {{cluster: k3d-dev, user: admin@k3d-dev}}}}]\n\
             clusters: [{{name: k3d-dev, cluster: {{server: '{server}'}}}}]\nusers: [{{name: admin@k3d-dev, user: {{token: hush}}}}]\n"
        );
        let data = {
            use base64::Engine;
            base64::prelude::BASE64_STANDARD.encode(file)
        };
        self.api.put(SECRET, json!({"metadata": {"name": "dev-kubeconfig"}, "data": {"kubeconfig": data}}));
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-30T00:00:00Z"})
}

fn status(conditions: &[Value]) -> Value {
    json!({"observedGeneration": 9, "conditions": conditions, "endpoint": "https://127.0.0.1:24067",
        "kubeconfigSecret": "dev-kubeconfig"})
}

fn ready() -> Value {
    status(&[
        condition("Ready", "True", "Ready", ""),
        condition("NetworkReady", "True", "Ready", "it exists"),
    ])
}

#[tokio::test]
async fn from_nothing_to_a_context_and_back() {
    let desk = Desk::new().await;
    let before = desk.kubeconfig();
    desk.secret("https://127.0.0.1:24067");
    let pulls = condition("Ready", "False", "ImagePulling", "pulls k3s");
    let statuses = [status(&[pulls, condition("Accepted", "True", "Accepted", "")]), ready()];
    let create = ["create", "dev", "--agents", "2", "-p", "8080:80", "-v"];
    let (code, out, said) = desk.with_operator(&create, &statuses).await;
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    for line in [
        "LocalCluster dev applied in the namespace default",
        "s] ✓ Accepted\n",
        "s] … ImagePulling: pulls k3s\n",
        "s] ✓ NetworkReady: it exists\n",
        "https://127.0.0.1:24067\n",
        "context k3d-dev in ~/.kube/config, the current context\n",
        "a copy of the file before this command's first change: ~/.kube/config.before-localcluster\n",
        "next: kubectl get nodes\n",
        "+ kubectl --context=work -n default apply --server-side --field-manager=localcluster -f -",
        "+ kubectl --context=work -n default wait --for=condition=Ready lc/dev --timeout=300s\n",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert!(!said.contains("hush"), "{said}");
    let dev = desk.api.get(DEV).unwrap();
    assert_eq!(dev["metadata"]["namespace"], "default");
    let ports = json!([{"name": "tcp-80", "port": 80, "hostPort": 8080}]);
    let spec = json!({"agents": {"count": 2}, "ports": ports, "images": {"fromDockerHost": true}});
    assert_eq!((&dev["spec"], &dev["metadata"]["name"]), (&spec, &"dev".into()));
    let merged = desk.kubeconfig();
    assert_eq!((&merged["current-context"], &merged["x-mine"]), (&"k3d-dev".into(), &"kept".into()));

    // The current context is that of the cluster now, and the management cluster is still found.
    let (code, out, said) = desk.run(&["status", "dev"]).await;
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("LocalCluster default/dev: Ready\n") && out.contains("✓ NetworkReady"), "{out}");
    assert!(!out.contains('\x1b'), "no colours: {out}");
    let (code, out, _) = desk.run(&["kubeconfig", "get", "dev"]).await;
    assert!(code == 0 && out.contains("token: hush"), "{out}");
    let (code, _, said) = desk.run(&["create", "dev"]).await;
    assert!(code == 1 && said.contains("the LocalCluster dev exists in the namespace default"), "{said}");

    let (code, _, said) = desk.run(&["delete", "dev"]).await;
    assert_eq!(
        (code, said.as_str()),
        (0, "LocalCluster dev deleted\ncontext k3d-dev removed; the current context is work\n")
    );
    assert!(desk.api.get(DEV).is_none());
    let mut after = desk.kubeconfig();
    for key in ["apiVersion", "kind"] {
        after.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn what_needs_the_user_ends_with_its_reason() {
    let desk = Desk::new().await;
    let conflict = "port 8080 is in use; choose another";
    let stalled = status(&[
        condition("Ready", "False", "PortConflict", conflict),
        condition("Stalled", "True", "PortConflict", conflict),
    ]);
    let (code, _, said) = desk.with_operator(&["create", "dev"], &[stalled]).await;
    let error = format!(
        "error: dev cannot become as desired: PortConflict: {conflict}; see `localcluster status dev`\n"
    );
    assert!(code == 3 && said.ends_with(&error), "{said}");
    assert_eq!(desk.kubeconfig()["current-context"], "work");
    let (code, out, said) = desk.run(&["status", "dev"]).await;
    assert_eq!((code, said), (3, format!("error: dev needs you: PortConflict: {conflict}\n")));
    assert!(out.contains("└─ what to do\n"), "{out}");
}

/// The operator has not seen yet what the user did just before, such as the creation of a HostPolicy.
#[tokio::test]
async fn what_needs_the_user_for_a_moment_only_is_waited_for() {
    let desk = Desk::new().await;
    desk.secret("https://127.0.0.1:1");
    let refused = status(&[
        condition("Ready", "False", "NoPolicy", "no HostPolicy selects the namespace"),
        condition("Stalled", "True", "NoPolicy", "no HostPolicy selects the namespace"),
    ]);
    let (code, _, said) = desk.with_operator(&["create", "dev"], &[refused, ready()]).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn waiting_ends() {
    let desk = Desk::new().await;
    let (code, _, said) = desk.run(&["create", "dev", "--timeout", "1s"]).await;
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("error: dev is not as desired after 1s: no operator has processed it yet"),
        "{said}"
    );
    let (code, _, said) = desk.run(&["create", "two", "--wait=false"]).await;
    assert_eq!((code, said.as_str()), (0, "LocalCluster two applied in the namespace default\n"));
    let mut dev = desk.api.get(DEV).unwrap();
    dev["metadata"]["finalizers"] = json!(["localcluster.dev/docker"]);
    dev["status"] = status(&[condition("Ready", "False", "Deleting", "waits for Docker")]);
    desk.api.put(DEV, dev);
    let (code, _, said) = desk.run(&["delete", "dev", "--timeout=1s"]).await;
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("error: dev still exists after 1s: Deleting: waits for Docker; "), "{said}");
}

#[tokio::test]
async fn a_cluster_stops_and_starts() {
    let desk = Desk::new().await;
    let (code, _, said) = desk.run(&["stop", "dev"]).await;
    assert!(code == 1 && said.starts_with("error: no LocalCluster dev: "), "{said}");
    desk.run(&["create", "dev", "--wait=false"]).await;
    let stopped = status(&[condition("Stopped", "True", "Stopped", "")]);
    let (code, _, said) = desk.with_operator(&["stop", "dev", "-v"], &[stopped]).await;
    assert!(code == 0 && said.contains("dev is stopped after "), "{said}");
    assert!(
        said.contains("patch localclusters dev --type=merge -p '{\"spec\":{\"state\":\"Stopped\"}}'"),
        "{said}"
    );
    assert_eq!(desk.api.get(DEV).unwrap()["spec"]["state"], "Stopped");
    let (code, out, said) = desk.run(&["status", "dev"]).await;
    assert_eq!(code, 3, "{out}");
    assert!(said.contains("start it with `localcluster start dev`"), "{said}");
    let (code, _, said) = desk.with_operator(&["start", "dev"], &[ready()]).await;
    assert!(code == 0 && said.contains("dev is Ready after "), "{said}");
    assert_eq!(desk.api.get(DEV).unwrap()["spec"]["state"], "Running");
}

#[tokio::test]
async fn contexts_of_others_stay() {
    let desk = Desk::new().await;
    let mut mine = desk.kubeconfig();
    let contexts = mine["contexts"].as_array_mut().unwrap();
    contexts.push(json!({"name": "k3d-dev", "context": {"cluster": "c", "user": "me"}}));
    let clusters = mine["clusters"].as_array_mut().unwrap();
    clusters.push(json!({"name": "c", "cluster": {"server": "https://elsewhere"}}));
    fs::write(desk.file(), mine.to_string()).unwrap();
    desk.secret("https://127.0.0.1:24067");
    let (code, _, said) = desk.with_operator(&["create", "dev"], &[ready()]).await;
    let words = [
        "dev is Ready, but the kubeconfig has another context",
        "https://elsewhere",
        "kubeconfig merge dev` merges its context later",
    ];
    assert!(code == 1 && words.iter().all(|word| said.contains(word)), "{said}");
    assert_eq!(desk.kubeconfig(), mine);
    let (code, _, said) = desk.run(&["kubeconfig", "merge", "dev", "--as", "mine"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(desk.kubeconfig()["current-context"], "work");
    let (code, _, said) = desk.run(&["kubeconfig", "use", "dev", "--force"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(desk.kubeconfig()["current-context"], "k3d-dev");
    // Both names are those of the cluster.
    let (code, _, said) = desk.run(&["delete", "dev"]).await;
    assert!(
        code == 0 && said.contains("context mine removed") && said.contains("context k3d-dev removed"),
        "{said}"
    );
}

#[tokio::test]
async fn errors_are_one_line_with_what_to_do() {
    let desk = Desk::new().await;
    for (args, code, expected) in [
        (
            &["status", "none"][..],
            1,
            "error: no LocalCluster none: the namespace default of the context work has none",
        ),
        (&["status", "none", "--context", "x"], 1, "error: cannot use the context x: "),
        (
            &["create", "dev", "-p", "8080:http"],
            1,
            "error: -p 8080:http: a port is a number from 1 to 65535; write ",
        ),
        (&["create", "dev", "--servers", "2"], 1, "error: the LocalCluster dev is invalid: "),
        (&["create", "-f", "/none"], 1, "error: cannot read /none: "),
        (&["create"], 2, "error: the following required arguments"),
        (
            &["create", "dev", "--agents", "2", "-f", "x"],
            2,
            "error: the argument '--agents <N>' cannot be used with",
        ),
        (
            &["create", "dev", "--timeout", "5"],
            2,
            "error: invalid value '5' for '--timeout <DURATION>': it is not a duration; ",
        ),
    ] {
        let (exit, out, said) = desk.run(args).await;
        assert_eq!((exit, out.as_str()), (code, ""), "{args:?}: {said}");
        assert!(said.starts_with(expected) && (code == 2 || said.lines().count() == 1), "{args:?}: {said}");
    }
    desk.api.refuse("GET /apis/localcluster.dev", 403);
    let (_, _, said) = desk.run(&["status", "dev"]).await;
    assert!(
        said.starts_with("error: cannot read the LocalCluster dev: ") && said.contains("for the right"),
        "{said}"
    );
    let nobody = "current-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n\
        clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: x, user: {}}]\n";
    fs::write(desk.file(), nobody).unwrap();
    let (code, _, said) = desk.run(&["list"]).await;
    assert!(code == 1 && said.lines().count() == 1, "{said}");
    assert!(said.contains("the management cluster x at http://127.0.0.1:1 does not answer: "), "{said}");
    fs::remove_file(desk.file()).unwrap();
    let (_, _, said) = desk.run(&["list"]).await;
    assert!(
        said.starts_with("error: no management cluster: the kubeconfig has no current context; "),
        "{said}"
    );
}

#[tokio::test]
async fn a_dry_run_needs_no_cluster() {
    let desk = Desk::new().await;
    fs::remove_file(desk.file()).unwrap();
    let args = [
        "create",
        "dev",
        "--agents=2",
        "-p=8080:80",
        "--registry=r",
        "-n=team",
        "--dry-run=client",
        "-o=yaml",
    ];
    let (code, out, said) = desk.run(&args).await;
    assert_eq!((code, said.as_str()), (0, ""));
    insta::assert_snapshot!("dry_run", out);
    let again = desk.home.path().join("again.yaml");
    fs::write(&again, &out).unwrap();
    let file = again.to_str().unwrap();
    assert_eq!(desk.run(&["create", "-f", file, "--dry-run=client"]).await.1, out);
}

#[tokio::test]
async fn kubectl_finds_it_as_a_plugin() {
    let desk = Desk::new().await;
    let plugin = desk.home.path().join("kubectl-localcluster");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_localcluster"), &plugin).unwrap();
    let usage = |program: &Path| {
        let output = Command::new(program).args(["delete", "--help"]).output();
        async move { told(output.await.unwrap()).1 }
    };
    assert!(usage(&plugin).await.contains("Usage: kubectl localcluster delete "));
    assert!(
        usage(Path::new(env!("CARGO_BIN_EXE_localcluster"))).await.contains("Usage: localcluster delete ")
    );
    let (code, out, _) = desk.run(&["completion", "bash"]).await;
    assert!(code == 0 && out.contains("complete -F _localcluster"), "{out}");
    assert!(["import-image", "--since", "--off"].iter().all(|word| out.contains(word)), "{out}");
}

/// Files of other tools, and what they become. `UPDATE=1` writes the results.
#[tokio::test]
async fn files_of_other_tools_are_converted() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/convert");
    let mut seen = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(golden) = name.strip_suffix(".in.yaml").map(|name| dir.join(format!("{name}.out.yaml")))
        else {
            continue;
        };
        seen += 1;
        let desk = Desk::new().await;
        let (code, out, said) = desk.run(&["convert", path.to_str().unwrap()]).await;
        let text = if code == 0 { out.clone() } else { format!("{out}# exit code {code}: {}", said) };
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&golden).unwrap_or_default(), "{name}");
        assert!(!text.contains("hush"), "{name}: a secret is in the result");
        // What is valid can be created as it is.
        let clusters = out.matches("kind: LocalCluster").count();
        if code == 0 && clusters == 1 {
            fs::write(desk.home.path().join("f"), &out).unwrap();
            let file = desk.home.path().join("f");
            let (code, _, said) =
                desk.run(&["create", "-f", file.to_str().unwrap(), "--dry-run=client"]).await;
            assert_eq!(code, 0, "{name}: {said}");
        }
    }
    assert!(seen >= 20, "{seen}");
}

#[tokio::test]
async fn what_cannot_be_converted_is_told() {
    let desk = Desk::new().await;
    let file = desk.home.path().join("f");
    for (text, expected) in [
        ("a: [hush", "it is no YAML: "),
        ("", "it is empty; "),
        ("[1]", "it has a \"\" of \"\"; it can convert "),
        (
            "{apiVersion: k3d.io/v1alpha1, kind: Simple, token: hush}",
            "it has a \"Simple\" of \"k3d.io/v1alpha1\"; ",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let (code, out, said) = desk.run(&["convert", file.to_str().unwrap()]).await;
        assert_eq!((code, out.as_str()), (1, ""), "{said}");
        let expected = format!("error: cannot convert {}: {expected}", file.display());
        assert!(said.starts_with(&expected) && !said.contains("hush") && said.lines().count() == 1, "{said}");
    }
}
