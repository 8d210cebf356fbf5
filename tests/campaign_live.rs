//! A campaign of random edits on real parts: each edit is generated from the schema of the CRD, and the API server, which
//! knows the CEL rules, refuses those that no user could make. What remains is applied, one after the other, to a few
//! objects that live through all of it. When an object is Ready, it must be what a new object with the same spec is: its
//! twin is created beside it, compared line by line, and deleted. When it is not Ready, since the spec asks for what
//! there is not, the edit is taken back, and the object must be what it was before.
//!
//! The method is that of Acto (SOSP '23). `make campaign SEED=1 EDITS=500`; without, a short one.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use localcluster_operator::api::crds;
use serde_json::{Value, json};

#[path = "campaign/edits.rs"]
mod edits;
#[path = "support/live/mod.rs"]
mod live;
#[path = "campaign/picture.rs"]
mod picture;

use edits::Edits;
use live::{
    eventually, holds, install, pause,
    registries::{Authority, FIRST},
    scene::{Scene, condition, is_ready},
    world,
};
use picture::{Picture, Subject};

/// How long an edit may take: each node may be replaced, one after the other.
const LIMIT: Duration = Duration::from_secs(600);
/// How long an object that is not Ready may have the same message until its edit counts as one that cannot be done.
const STUCK: Duration = Duration::from_secs(30);
/// In how many seconds conditions follow that Ready does not depend on.
const FOLLOWS: u64 = 90;
/// How many edits are tried on one object before another, which begins anew, takes its place.
const LIFE: usize = 40;

fn main() -> ExitCode {
    if env::args().any(|a| a == "--list") {
        println!("campaign: test");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u64| {
        let text = env::var(name).ok().filter(|text| !text.is_empty());
        text.map_or(default, |t| t.parse().unwrap_or_else(|_| panic!("{name} is a number and not {t}")))
    };
    let (seed, edits) = (number("SEED", 1), number("EDITS", 8) as usize);
    let twin = number("TWIN_EVERY", if edits > 8 { 3 } else { 4 }) as usize;
    install();
    let scene = Scene::new("campaign");
    provide(&scene);
    let kinds = ["LocalCluster", "Registry"].into_iter().cycle();
    let campaigns: Vec<_> = kinds.take(number("OBJECTS", 2) as usize).enumerate().collect();
    let share = edits.div_ceil(campaigns.len());
    let began = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let run = |(index, kind): &(usize, &'static str)| {
            let mut campaign = Campaign::new(&scene, kind, *index, seed, twin);
            scope.spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| campaign.run(share)));
                (campaign.report(), ended.is_ok())
            })
        };
        let all: Vec<_> = campaigns.iter().map(run).collect();
        all.into_iter().map(|t| t.join().expect("it catches its panics")).collect()
    });
    println!("campaign: SEED={seed} EDITS={edits} in {} s", began.elapsed().as_secs());
    results.iter().for_each(|(report, _)| println!("{report}"));
    let good = results.iter().all(|(_, good)| *good);
    if good {
        scene.end();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Creates the Secrets and ConfigMaps that specs refer to, with the names in `edits.rs`.
fn provide(scene: &Scene) {
    let authority = Authority::new("campaign");
    let certificate = authority.issue(&["*.campaign.example"]);
    let manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: campaign-a, namespace: default}, data: {k: file}}";
    let mirrors = "mirrors: {\"file.example\": {endpoint: [\"http://127.0.0.1:1\"]}}";
    scene.secret("manifest", "Opaque", &[("key", manifest)]);
    scene.config_map("manifest", &[("key", manifest)]);
    scene.secret("contents", "Opaque", &[("key", "from a Secret")]);
    scene.config_map("contents", &[("key", "from a ConfigMap")]);
    scene.secret("registries", "Opaque", &[("key", mirrors), ("registries.yaml", mirrors)]);
    scene.config_map("registries", &[("key", mirrors), ("registries.yaml", mirrors)]);
    scene.secret(
        "login",
        "kubernetes.io/basic-auth",
        &[("username", FIRST.user), ("password", FIRST.password())],
    );
    scene.secret("users", "Opaque", &[("htpasswd", &FIRST.htpasswd())]);
    scene.secret(
        "pull",
        "kubernetes.io/dockerconfigjson",
        &[(".dockerconfigjson", &FIRST.docker_config("a.example"))],
    );
    scene.secret("authority", "Opaque", &[("ca.crt", &authority.pem)]);
    scene.config_map("authority", &[("ca.crt", &authority.pem)]);
    scene.secret(
        "certificate",
        "kubernetes.io/tls",
        &[("tls.crt", &certificate.crt), ("tls.key", &certificate.key)],
    );
    scene.apply("Registry", "shared", "{allowedNamespaces: [\"*\"]}");
    scene.ready("lreg/shared");
}

/// One object and what was done to it.
struct Campaign<'a> {
    scene: &'a Scene,
    kind: &'static str,
    index: usize,
    edits: Edits,
    twin_every: usize,
    spec: Value,
    /// The object's number: its name.
    life: usize,
    log: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

/// Where an edit ended.
enum End {
    Ready,
    Stopped,
    /// It is not Ready, and says why.
    Waits(String),
}

impl<'a> Campaign<'a> {
    fn new(scene: &'a Scene, kind: &'static str, index: usize, seed: u64, twin_every: usize) -> Self {
        let words = [
            ("image", world("NODE_IMAGE")),
            ("registry-image", world("REGISTRY_IMAGE")),
            ("app-image", world("HTTP_IMAGE")),
            ("version", world("NODE_VERSION")),
            ("next-version", world("NODE_VERSION_2")),
        ];
        let schemas = crds::all().into_iter().find(|(_, crd)| crd.spec.names.kind == kind);
        let crd = json!(schemas.expect("it is one of ours").1);
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let edits = Edits::new(seed * 1000 + index as u64, &kind.to_lowercase(), schema.clone(), &words);
        Self {
            scene,
            kind,
            index,
            edits,
            twin_every,
            spec: first(kind),
            life: 0,
            log: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn run(&mut self, share: usize) {
        let mut since_twin = 0;
        self.begin();
        let mut before = None;
        for number in 1..=share {
            if number % LIFE == 0 {
                self.runs();
                self.twin();
                self.remove(&self.name());
                (self.spec, self.life, before) = (first(self.kind), self.life + 1, None);
                self.begin();
            }
            let spec = self.apply_edit();
            let end = self.end(&self.name(), &spec);
            since_twin += 1;
            match end {
                End::Ready => {
                    self.spec = spec;
                    before = None;
                    if since_twin >= self.twin_every {
                        since_twin = 0;
                        self.twin();
                    }
                }
                End::Stopped => {
                    self.count("stopped");
                    self.spec = spec;
                }
                End::Waits(why) => {
                    self.note(&format!("waits: {why}"));
                    self.count("taken back");
                    self.back(before.take());
                }
            }
            if before.is_none() && self.spec["state"] != "Stopped" {
                before = Some(self.subject(&self.name()).picture());
            }
        }
        self.runs();
        self.twin();
    }

    /// Lets a stopped cluster run again.
    fn runs(&mut self) {
        if self.spec["state"] == "Stopped" {
            self.spec.as_object_mut().expect("a spec is an object").remove("state");
            self.begin();
        }
    }

    fn name(&self) -> String {
        format!("{}{}-{}", if self.kind == "Registry" { "r" } else { "c" }, self.index, self.life)
    }

    fn subject<'b>(&'b self, name: &'b str) -> Subject<'b> {
        Subject { scene: self.scene, kind: self.kind, name }
    }

    fn begin(&mut self) {
        self.put(&self.name(), &self.spec.clone()).unwrap_or_else(|e| panic!("{e}"));
        let end = self.end(&self.name(), &self.spec.clone());
        assert!(matches!(end, End::Ready), "a new {} is not Ready", self.kind);
    }

    fn note(&mut self, line: &str) {
        println!("        {} {line}", self.name());
        self.log.push(line.to_owned());
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn put(&self, name: &str, spec: &Value) -> Result<String, String> {
        let object = json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": self.kind,
            "metadata": {"name": name, "namespace": self.scene.namespace}, "spec": spec,
        });
        self.scene.k.input(&["apply", "-f", "-"], &object.to_string())
    }

    /// Applies an edit that the API server admits, and returns the spec. A stopped cluster runs again at once: nothing
    /// would show whether it can be what else is changed meanwhile.
    fn apply_edit(&mut self) -> Value {
        loop {
            let mut spec = self.edits.edit(&self.spec);
            if self.spec["state"] == "Stopped" {
                spec.clone_from(&self.spec);
                spec["state"] = json!("Running");
            }
            match self.put(&self.name(), &spec) {
                Ok(_) => {
                    self.note(&difference(&self.spec, &spec));
                    self.count("edits");
                    return spec;
                }
                Err(refusal) => {
                    // What is refused names its field, so that its author finds it.
                    assert!(refusal.contains("spec"), "{refusal}");
                    self.count("refused by the API server");
                }
            }
        }
    }

    /// Waits until the object is what its spec says, or says why not.
    fn end(&self, name: &str, spec: &Value) -> End {
        let began = Instant::now();
        let (mut last, mut since) = (String::new(), Instant::now());
        loop {
            let seen = self.scene.get(&self.subject(name).object());
            if is_ready(&seen).is_ok() {
                return End::Ready;
            }
            let ready = condition(&seen, "Ready").unwrap_or_default();
            let current = ready["observedGeneration"] == seen["metadata"]["generation"];
            let stopped = condition(&seen, "Stopped").unwrap_or_default();
            let whole = stopped["observedGeneration"] == seen["metadata"]["generation"];
            if whole && spec["state"] == "Stopped" && stopped["status"] == "True" {
                return End::Stopped;
            }
            let stalled = condition(&seen, "Stalled").is_ok_and(|c| c["status"] == "True");
            let message = format!("{}: {}", ready["reason"], ready["message"]);
            if message != last {
                (last, since) = (message, Instant::now());
            } else if current && (stalled || since.elapsed() > STUCK) {
                return End::Waits(last);
            }
            assert!(began.elapsed() < LIMIT, "{name} is neither Ready nor at rest: {last}");
            pause(Duration::from_millis(500));
        }
    }

    /// Takes the last edit back.
    fn back(&mut self, before: Option<Picture>) {
        self.put(&self.name(), &self.spec.clone()).unwrap_or_else(|e| panic!("{e}"));
        let end = self.end(&self.name(), &self.spec.clone());
        if self.spec["state"] == "Stopped" {
            assert!(matches!(end, End::Stopped), "it does not stop after an edit was taken back");
            return;
        }
        if let End::Waits(why) = end {
            panic!("it is not Ready after an edit was taken back: {why}");
        }
        if let Some(before) = before {
            self.same("before the edit that was taken back", || before.clone());
        }
    }

    /// Compares the object with a new one that has the same spec.
    fn twin(&mut self) {
        const PORTS_FROM: u64 = 10_000;
        let name = format!("t{}", self.name());
        let mut spec = self.spec.clone();
        move_ports(&mut spec, PORTS_FROM);
        // A cluster cannot go back to an older default: it keeps its version then.
        if self.kind == "LocalCluster" && spec["version"].is_null() && spec["image"].is_null() {
            spec["image"] = self.scene.get(&self.subject(&self.name()).object())["status"]["image"].clone();
        }
        self.put(&name, &spec).unwrap_or_else(|e| panic!("{e}"));
        let end = self.end(&name, &spec);
        if let End::Waits(why) = end {
            panic!("the object is Ready, and a new one with its spec is not: {why}");
        }
        self.count("twins compared");
        self.same("of the twin", || self.subject(&name).picture());
        self.remove(&name);
    }

    /// Waits until the object is as expected: conditions that Ready does not depend on follow within seconds.
    fn same(&self, of: &str, expected: impl Fn() -> Picture) {
        let show = |mark: &str, lines: Vec<&String>| {
            lines.iter().take(40).map(|l| format!("{mark} {l}\n")).collect::<String>()
        };
        eventually(FOLLOWS, &format!("{} is as expected, with spec {}", self.name(), self.spec), || {
            let (expected, found) = (expected(), self.subject(&self.name()).picture());
            let (missing, more) =
                (expected.difference(&found).collect(), found.difference(&expected).collect());
            let text = show("-", missing) + &show("+", more);
            holds(text.is_empty(), || format!("it differs; - {of}, + the object:\n{text}"))
        });
    }

    fn remove(&self, name: &str) {
        let object = self.subject(name).object();
        self.scene.run(&["delete", &object, "--timeout=240s"]);
    }

    fn report(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(what, many)| format!("{many} {what}")).collect();
        let fields = self.edits.touched.len();
        format!("{} {}: {}; {fields} fields edited", self.kind, self.index, counts.join(", "))
    }
}

/// What an object begins with.
fn first(kind: &str) -> Value {
    match kind {
        // Without what takes a small machine most time.
        "LocalCluster" => {
            json!({"servers": {"count": 1, "args": ["--disable=traefik,metrics-server,servicelb"]}})
        }
        _ => json!({}),
    }
}

/// Two objects can't have the same explicit ports of the host.
fn move_ports(spec: &mut Value, by: u64) {
    match spec {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value.as_u64() {
            Some(port) if name == "hostPort" => *value = json!(port + by),
            _ => move_ports(value, by),
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| move_ports(item, by)),
        _ => {}
    }
}

/// Returns the fields that differ.
fn difference(from: &Value, to: &Value) -> String {
    match (from, to) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let changed = names.into_iter().filter(|n| a.get(*n) != b.get(*n));
            let part = |name: &String| {
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                format!("{name}.{}", difference(a, b))
            };
            changed.map(part).collect::<Vec<_>>().join(", ")
        }
        (a, b) => format!(" {a} -> {b}"),
    }
}
