//! Registries on the real Docker Engine at /var/run/docker.sock, configured as the operator configures them: what the
//! registry itself, and the engine, make of that. These tests fail where there is none; they never skip.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use localcluster_operator::{
    api::{
        RegistrySpec, RegistryStatus,
        registry::{AuthSpec, ProxySpec, RetentionSpec, TlsSpec},
    },
    controller::probe::{Http, Probe, Question, Target, Trouble},
    docker::{
        archive,
        engine::{Engine, State},
        error::Error,
        spec::{Bind, ContainerSpec, FileChange},
    },
    plan::{
        host_path,
        observed::{Host, HostPath},
        owner::Owner,
        registry::{
            self, Desired, collection,
            config::{Login, Secrets, Tls},
        },
        settings::{Settings, WithoutPolicy},
        steps::Plan,
        validate::{self, ValidRegistry},
    },
};

#[path = "registry_live/archives.rs"]
mod archives;
#[path = "registry_live/cache.rs"]
mod cache;
#[path = "registry_live/contents.rs"]
mod contents;
#[path = "registry_live/retention.rs"]
mod retention;
#[path = "registry_live/storage.rs"]
mod storage;
#[allow(dead_code)] // other tests use the rest
#[path = "support/live/docker.rs"]
mod support;
use support::{World, docker};

fn image() -> String {
    std::env::var("WORLD_REGISTRY_IMAGE").unwrap_or_else(|_| "standin/registry:2.8".into())
}

/// What the operator makes of a spec, under a name of the test's own and without a host port.
struct Subject {
    valid: ValidRegistry,
    secrets: Secrets,
    owner: Owner,
    settings: Settings,
}

impl Subject {
    fn new(world: &World, mut spec: RegistrySpec, secrets: Secrets) -> Self {
        spec.image = Some(image());
        spec.hostname = Some(world.name("r"));
        let owner = Owner { uid: world.name("uid"), manager: "lco-live".into(), object: "lco/live".into() };
        Self {
            valid: validate::registry("default", "r", &spec).unwrap(),
            secrets,
            owner,
            settings: Settings {
                node_image_repository: "k3s".into(),
                default_version: "v1.36.2+k3s1".into(),
                load_balancer_image: "nginx:1".into(),
                registry_image: image(),
                network_pool: None,
                allowed_subnets: Vec::new(),
                port_range: 20000..=20099,
                node_dns: Vec::new(),
                management: Default::default(),
                allowed_host_paths: vec!["/tmp".into()],
                engine_host: None,
                node_repair_after: None,
                pool_required: false,
                remove_orphans_after: None,
                node_defaults: Default::default(),
                node_isolation: Default::default(),
                without_policy: WithoutPolicy::Unrestricted,
                namespaces: Vec::new(),
            },
        }
    }

    fn with<T>(&self, f: impl FnOnce(&registry::Subject<'_>) -> T) -> T {
        f(&registry::Subject {
            valid: &self.valid,
            secrets: &self.secrets,
            owner: &self.owner,
            settings: &self.settings,
            previous: &RegistryStatus::default(),
            refused: &Default::default(),
            living: &Default::default(),
            used: None,
            request: None,
            created: None,
            now: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    fn desired(&self) -> Desired {
        let mut desired =
            self.with(|subject| registry::desired(&mut Plan::default(), subject, &Host::default())).unwrap();
        desired.container.ports.clear();
        desired
    }

    fn collector(&self) -> ContainerSpec {
        self.with(|subject| collection::collector(&self.desired(), subject, "1"))
    }
}

async fn make(world: &World, spec: &ContainerSpec) -> String {
    let id = world.engine.create_container(spec, None).await.unwrap();
    world.engine.upload(&id, archive::pack(&spec.files)).await.unwrap();
    id
}

async fn address(world: &World, id: &str) -> Ipv4Addr {
    world.listed(id).await.networks.values().find_map(|p| p.ip).expect("it runs")
}

fn at(ip: Ipv4Addr) -> Target {
    Target::Address(SocketAddr::from((ip, 5000)))
}

/// The first answer that is none of silence: a registry needs a moment to listen.
async fn ask(question: &Question<'_>) -> Result<u16, Trouble> {
    for _ in 0..100 {
        match Http.ask(question).await {
            Err(Trouble::Silent(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            answer => return answer,
        }
    }
    Http.ask(question).await
}

fn openssl(directory: &Path, args: &[&str]) {
    let out = Command::new("openssl").args(args).current_dir(directory).output().expect("openssl is there");
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A certificate for `name` that is its own CA, as `openssl req -x509` makes it.
fn self_signed(directory: &Path, name: &str) -> Tls {
    let (subject, san) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    let new =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key", "-out", "crt"];
    openssl(directory, &[&new[..], &["-subj", &subject, "-addext", &san]].concat());
    let read = |file: &str| fs::read(directory.join(file)).unwrap();
    Tls { certificate: read("crt"), key: read("key"), ca: read("crt") }
}

/// A certificate for `name` that a CA of its own signed.
fn signed(directory: &Path, name: &str) -> Tls {
    let ca = self_signed(directory, "an authority");
    fs::rename(directory.join("key"), directory.join("ca.key")).unwrap();
    fs::rename(directory.join("crt"), directory.join("ca.crt")).unwrap();
    let subject = format!("/CN={name}");
    openssl(
        directory,
        &["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "csr", "-subj", &subject],
    );
    fs::write(directory.join("ext"), format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n"))
        .unwrap();
    let sign =
        ["x509", "-req", "-in", "csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
    openssl(directory, &[&sign[..], &["-out", "crt", "-extfile", "ext"]].concat());
    let read = |file: &str| fs::read(directory.join(file)).unwrap();
    Tls { certificate: read("crt"), key: read("key"), ca: ca.certificate }
}

const FIRST: &str = "$2y$05$abcdefghijklmnopqrstuu3rQZA.e/048YzLTJ55aycWHfqo0a49W";
const SECOND: &str = "$2y$05$abcdefghijklmnopqrstuuKbPhTOR7Pvo59BRa0eQ090CMHpax.C6";
const THIRD: &str = "$2y$05$abcdefghijklmnopqrstuuR1YuGOa3D06CoGsQYQp3H6mmBDK55Nu";

#[tokio::test]
async fn a_registry_lets_in_its_users_and_takes_new_ones_at_once() {
    let world = World::new("users");
    let spec = RegistrySpec {
        auth: Some(AuthSpec { htpasswd_secret: "users".into(), client_secret: None }),
        ..RegistrySpec::default()
    };
    let htpasswd = Some(format!("ci:{FIRST}\n").into_bytes());
    let subject = Subject::new(&world, spec, Secrets { htpasswd, ..Secrets::default() });
    let wanted = subject.desired().container;
    let id = make(&world, &wanted).await;
    world.engine.start(&id).await.unwrap();
    let ip = address(&world, &id).await;
    let login = |password: &str| Login { username: "ci".into(), password: password.into() };
    let hostname = wanted.name.as_str();
    let answer =
        async |login: Option<&Login>| ask(&Question { to: at(ip), hostname, ca: None, login }).await.unwrap();
    assert_eq!(answer(None).await, 401);
    assert_eq!(answer(Some(&login("first"))).await, 200);
    assert_eq!(answer(Some(&login("second"))).await, 401);

    // Twice, mostly within one second: the registry tells by the time of the file.
    for (hash, good, bad) in [(SECOND, "second", "first"), (THIRD, "third", "second")] {
        let mut file = wanted.files.iter().find(|f| f.change == FileChange::Live).unwrap().clone();
        file.content = format!("ci:{hash}\n").into_bytes();
        world.engine.upload(&id, archive::pack(std::slice::from_ref(&file))).await.unwrap();
        assert_eq!(answer(Some(&login(good))).await, 200, "{good}");
        assert_eq!(answer(Some(&login(bad))).await, 401, "{bad}");
        assert_eq!(world.engine.read_file(&id, &file.path, 1 << 20).await.unwrap(), Some(file.content));
    }
    let inspected = docker(&["inspect", &id]);
    assert!(!inspected.contains("$2y$"));
    let mode = docker(&["exec", &id, "stat", "-c", "%a", "/etc/localcluster/htpasswd"]);
    assert_eq!(mode, "600");
}

#[tokio::test]
async fn a_registry_serves_https_that_only_its_ca_vouches_for() {
    for (thing, make_tls) in [("self", self_signed as fn(&Path, &str) -> Tls), ("signed", signed)] {
        let world = World::new(&format!("tls-{thing}"));
        let directory = tempfile::tempdir().unwrap();
        let tls = make_tls(directory.path(), &world.name("r"));
        let spec = RegistrySpec {
            tls: Some(TlsSpec { secret_name: "tls".into(), ca_secret_name: None }),
            ..RegistrySpec::default()
        };
        let subject = Subject::new(&world, spec, Secrets { tls: Some(tls.clone()), ..Secrets::default() });
        let wanted = subject.desired().container;
        let id = make(&world, &wanted).await;
        world.engine.start(&id).await.unwrap();
        let ip = address(&world, &id).await;
        let right = Question { to: at(ip), hostname: &wanted.name, ca: Some(&tls.ca), login: None };
        assert_eq!(ask(&right).await, Ok(200), "{thing}");
        let refused = |answer: Result<u16, Trouble>| match answer {
            Err(Trouble::Certificate(words)) => words,
            other => panic!("{thing}: {other:?}"),
        };
        let words = refused(ask(&Question { hostname: "another-name", ..right.clone() }).await);
        assert!(words.contains("not valid for"), "{words}");
        let other = make_tls(directory.path(), "other").ca;
        let words = refused(ask(&Question { ca: Some(&other), ..right.clone() }).await);
        let unknown = ["UnknownIssuer", "BadSignature", "not one that is trusted"];
        assert!(unknown.iter().any(|u| words.contains(u)), "{words}");
        assert!(refused(ask(&Question { ca: Some(b"none"), ..right.clone() }).await).contains("CA"));
        // A registry with HTTPS answers HTTP with 400.
        assert_ne!(ask(&Question { ca: None, ..right }).await, Ok(200));
    }
}

/// A directory that the engine's host sees, which is this one.
fn host_directory(world: &World) -> PathBuf {
    let path = PathBuf::from("/tmp").join(world.name("host"));
    fs::create_dir_all(&path).unwrap();
    path
}

struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_directory_of_the_host_is_looked_at_and_mounted() {
    let world = World::new("host");
    let base = host_directory(&world);
    let _cleared = Cleared(base.clone());
    fs::create_dir_all(base.join("deep/images")).unwrap();
    fs::write(base.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(base.join("deep"), base.join("link")).unwrap();
    std::os::unix::fs::symlink(base.join("nowhere"), base.join("dangling")).unwrap();

    let path = |rest: &str| format!("{}/{rest}", base.display());
    let mut spec = RegistrySpec::default();
    spec.storage.host_path = Some(path("deep/images"));
    let subject = Subject::new(&world, spec, Secrets::default());
    let desired = subject.desired();
    let look = subject.with(|subject| registry::host_path::look(&desired, subject)).unwrap();
    let id = world.engine.create_container(&look.looker, None).await.unwrap();
    let judged = async |path: &str| {
        let mut seen = Vec::new();
        for (inside, outside) in host_path::parts("/tmp", path) {
            seen.push((outside, world.engine.path_info(&id, &inside).await.unwrap()));
        }
        host_path::judge(path, &seen)
    };
    assert_eq!(judged(&path("deep/images")).await, HostPath::Directory);
    assert_eq!(judged(&path("none")).await, HostPath::Missing(path("none")));
    assert_eq!(judged(&path("link/images")).await, HostPath::Link(path("link")));
    assert_eq!(judged(&path("dangling")).await, HostPath::Link(path("dangling")));
    assert_eq!(judged(&path("file")).await, HostPath::File);
    // What is made later is seen too: the container waits as long as the path is wrong.
    fs::create_dir(base.join("none")).unwrap();
    assert_eq!(judged(&path("none")).await, HostPath::Directory);
    assert_eq!(world.listed(&id).await.state, State::Created);
    world.engine.remove_container(&id).await.unwrap();

    let id = make(&world, &desired.container).await;
    world.engine.start(&id).await.unwrap();
    let ip = address(&world, &id).await;
    let question = Question { to: at(ip), hostname: &desired.container.name, ca: None, login: None };
    assert_eq!(ask(&question).await, Ok(200));
    let target = docker(&["inspect", "-f", "{{range .Mounts}}{{.Type}} {{.Source}} {{.RW}}{{end}}", &id]);
    assert_eq!(target, format!("bind {} true", path("deep/images")));
    docker(&["exec", &id, "touch", "/var/lib/registry/written"]);
    world.engine.remove_container(&id).await.unwrap();
    assert!(base.join("deep/images/written").exists(), "what is there stays");

    let mut missing = desired.container;
    let bind = Bind { source: path("never"), read_only: false };
    missing.binds = BTreeMap::from([("/var/lib/registry".to_owned(), bind)]);
    let error = world.engine.create_container(&missing, None).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid(m) if m.contains("bind source path does not exist")),
        "{error:?}"
    );
    assert!(!base.join("never").exists(), "the engine makes none");
}
