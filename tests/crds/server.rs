//! The API server that the tests ask.

use http::Request;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::runtime::Runtime;

use super::*;

/// The API server, with the definitions applied, and a namespace that goes with it.
pub(super) struct Server {
    kubeconfig: PathBuf,
    /// Asks without kubectl, which takes longer to start than all API servers to answer.
    client: OnceLock<(Runtime, Client)>,
    pub(super) namespace: String,
}

pub(super) struct Output {
    pub(super) ok: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Server {
    pub(super) fn new(name: &str) -> Self {
        let default = root().join("target/world/mgmt.kubeconfig");
        let kubeconfig = env::var_os("WORLD_KUBECONFIG").map_or(default, PathBuf::from);
        assert!(
            kubeconfig.exists(),
            "there is no management cluster to test with ({}): run tests/world/world up",
            kubeconfig.display()
        );
        let namespace = format!("crds-{name}-{}", std::process::id());
        let server = Self { kubeconfig, client: OnceLock::new(), namespace };
        static APPLIED: OnceLock<()> = OnceLock::new();
        APPLIED.get_or_init(|| {
            let dir = root().join("crds");
            server.must(&["apply", "--server-side", "--force-conflicts", "-k", dir.to_str().unwrap()]);
            for (_, crd) in crds::all() {
                let crd = format!("crd/{}", crd.name_any());
                server.must(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
            }
        });
        server.must(&["create", "namespace", &server.namespace]);
        server
    }

    pub(super) fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl has to be installed");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    pub(super) fn must(&self, args: &[&str]) -> String {
        self.must_with(args, "")
    }

    pub(super) fn must_with(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        assert!(output.ok, "kubectl {}\n{input}\n{}", args.join(" "), output.stderr);
        output.stdout
    }

    pub(super) fn must_refuse(&self, args: &[&str], input: &str, says: &str) -> String {
        let output = self.run(args, input);
        assert!(!output.ok, "taken, instead of {says:?}: kubectl {}\n{input}", args.join(" "));
        assert!(
            words(&unescaped(&output.stderr)).contains(&words(says)),
            "kubectl {}\n{input}\nwants {says:?}, got {}",
            args.join(" "),
            output.stderr
        );
        output.stderr
    }

    /// Creates an object as `kubectl create --dry-run=server` does; returns what the API server says against it.
    fn refusal(&self, object: &str) -> Option<String> {
        let (runtime, client) = self.client.get_or_init(|| {
            let runtime = Runtime::new().unwrap();
            let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
            let client = runtime.block_on(async {
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
                Client::try_from(config).unwrap()
            });
            (runtime, client)
        });
        let body: Value = serde_saphyr::from_str(object).unwrap();
        let plural = match body["kind"].as_str().unwrap() {
            LC => "localclusters",
            REGISTRY => "registries",
            "LocalClusterPool" => "localclusterpools",
            "LocalClusterClaim" => "localclusterclaims",
            kind => panic!("{kind} has no plural here"),
        };
        let group = format!("{}/namespaces/{}", body["apiVersion"].as_str().unwrap(), self.namespace);
        let path = format!("/apis/{group}/{plural}?dryRun=All&fieldValidation=Strict");
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&body).unwrap()).unwrap();
        match runtime.block_on(client.request::<Value>(request)) {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.message),
            Err(e) => panic!("{object}\n{e}"),
        }
    }

    pub(super) fn must_take(&self, object: &str) {
        if let Some(why) = self.refusal(object) {
            panic!("{object}\n{why}");
        }
    }

    /// Returns what the API server says.
    pub(super) fn must_refuse_object(&self, object: &str, says: &str) -> String {
        let Some(said) = self.refusal(object) else { panic!("taken, instead of {says:?}: {object}") };
        assert!(words(&unescaped(&said)).contains(&words(says)), "{object}\nwants {says:?}, got {said}");
        said
    }

    pub(super) fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.must(&["get", what, "-o", "json"])).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without waiting: the namespace goes by itself, since paused objects hold nothing.
        let _ = self.run(&["delete", "namespace", &self.namespace, "--wait=false", "--ignore-not-found"], "");
    }
}

/// Some refusals quote the message.
fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"")
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
