//! Registries that the operator does not manage, with certificates, passwords and a token server, of the same
//! software that companies run. Also records every secret that tests create for them, for the search at the end.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    Foreign, build, command, docker, docker_logs, eventually, free_port, holds, http, scene::Scene, scratch,
    try_docker, world,
};

/// Secrets that may only be in Secrets and in files that only root can read, each with a description.
static SECRETS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Records a secret.
pub fn note(what: &str, value: &str) {
    let mut all = SECRETS.lock().unwrap_or_else(|e| e.into_inner());
    if !all.iter().any(|(_, v)| v == value) {
        all.push((what.to_owned(), value.to_owned()));
    }
}

/// Returns all secrets so far with their descriptions.
pub fn secrets() -> Vec<(String, String)> {
    SECRETS.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// A user name and a password, and the bcrypt hash that registries store: not every machine has a program that
/// creates it.
#[derive(Clone, Copy)]
pub struct Login {
    pub user: &'static str,
    password: &'static str,
    hash: &'static str,
}

/// A user.
pub const FIRST: Login = Login {
    user: "first",
    password: "e2e-first-password",
    hash: "$2y$05$uIedT4dSd1Wg6ERQNBj4l.eNcDagJCacoq3SI7WKAzDsB.8FgG5bu",
};
/// Another user.
pub const SECOND: Login = Login {
    user: "second",
    password: "e2e-second-password",
    hash: "$2y$05$5bZad4CoHHnXl4Ny5KpS0.iq8XbzbCZ11cXiXJ3IZ0ePDaH1nBTaC",
};
/// A user that no registry knows.
pub const NOBODY: Login = Login { user: "nobody", password: "e2e-nobodys-password", hash: "" };

impl Login {
    /// Returns the password.
    pub fn password(&self) -> &'static str {
        note(&format!("the password of {}", self.user), self.password);
        self.password
    }

    /// Returns both in base64, as in HTTP and in Docker's configuration.
    pub fn basic(&self) -> String {
        let basic = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password()));
        note(&format!("the login of {} in base64", self.user), &basic);
        basic
    }

    /// Returns the line of an htpasswd file.
    pub fn htpasswd(&self) -> String {
        note(&format!("the hash of {}'s password", self.user), self.hash);
        format!("{}:{}\n", self.user, self.hash)
    }

    /// Returns a Docker configuration with this login for one registry.
    pub fn docker_config(&self, registry: &str) -> String {
        format!("{{\"auths\": {{\"{registry}\": {{\"auth\": \"{}\"}}}}}}", self.basic())
    }
}

/// A directory of this run, removed on drop.
pub struct Dir(PathBuf);

impl Dir {
    /// Creates an empty directory.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let path = scratch(&format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).expect("a directory can be created");
        Self(path)
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner can read, atomically: a registry may read it at any time.
    pub fn write(&self, name: &str, content: &str) -> String {
        let (new, path) = (self.0.join(format!("{name}.new")), self.0.join(name));
        fs::write(&new, content).expect("a file can be written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        fs::rename(new, &path).expect("a file can be renamed");
        path.display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, in PEM.
pub struct Certificate {
    pub crt: String,
    pub key: String,
}

impl Certificate {
    fn read(dir: &Dir, name: &str) -> Self {
        let read =
            |end: &str| fs::read_to_string(dir.path().join(format!("{name}.{end}"))).expect("it was created");
        let one = Self { crt: read("crt"), key: read("key") };
        // One line of it, since programs write different line ends.
        note(&format!("the key of {name}"), one.key.lines().nth(5).expect("a key has many lines"));
        one
    }
}

/// A certificate authority that only the tests know.
pub struct Authority {
    dir: Dir,
    /// Its certificate, in PEM.
    pub pem: String,
}

fn openssl(dir: &Dir, args: &str, more: &[&str]) {
    let path = |word: &str| word.replace("@/", &format!("{}/", dir.path().display()));
    let words: Vec<String> = args.split_whitespace().chain(more.iter().copied()).map(path).collect();
    command("openssl", &words.iter().map(String::as_str).collect::<Vec<_>>(), "")
        .unwrap_or_else(|e| panic!("{e}"));
}

impl Authority {
    /// Creates a new authority.
    pub fn new(name: &str) -> Self {
        let dir = Dir::new(&format!("ca-{name}"));
        let subject = format!("/CN={name}");
        openssl(
            &dir,
            "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout @/ca.key -out @/ca.crt",
            &["-subj", &subject],
        );
        let pem = Certificate::read(&dir, "ca").crt;
        Self { dir, pem }
    }

    /// Issues a certificate for these DNS names, for servers and clients.
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|n| format!("DNS:{n}")).collect();
        let more = format!("subjectAltName={}\nextendedKeyUsage=serverAuth,clientAuth\n", names.join(","));
        self.dir.write("more", &more);
        openssl(&self.dir, "req -newkey rsa:2048 -nodes -subj /CN=e2e -keyout @/tls.key -out @/tls.csr", &[]);
        let sign =
            "x509 -req -in @/tls.csr -CA @/ca.crt -CAkey @/ca.key -CAcreateserial -days 30 -extfile @/more";
        openssl(&self.dir, sign, &["-out", "@/tls.crt"]);
        Certificate::read(&self.dir, "tls")
    }
}

/// Configuration of a registry.
#[derive(Default)]
pub struct Setup<'a> {
    /// Serves HTTPS with this certificate.
    pub tls: Option<&'a Certificate>,
    /// Requires client certificates of this authority.
    pub clients: Option<&'a str>,
    /// Accepts only these users.
    pub users: &'a [Login],
    /// Accepts users that this token server knows.
    pub token: Option<&'a TokenServer>,
    /// Has the images of this registry, for registries that cannot be pushed to directly.
    pub images_of: Option<&'a Upstream>,
    /// Docker network from the start. Defaults to Docker's own.
    pub network: Option<&'a str>,
}

/// A registry of another owner. Removed on drop.
pub struct Upstream {
    container: Foreign,
    dir: Dir,
    /// Name of its container.
    pub name: String,
    /// Its port on this machine.
    pub port: u16,
}

impl Upstream {
    /// Starts a registry and waits until it responds.
    pub fn start(name: &str, setup: &Setup<'_>) -> Self {
        let (dir, port) = (Dir::new(name), free_port());
        let mut args = vec![
            format!("-p=127.0.0.1:{port}:5000"),
            format!("-v={}:/e2e:ro", dir.path().display()),
            "--label=localcluster.dev/allow-namespaces=*".to_owned(),
        ];
        let mut env = |name: &str, value: &str| args.push(format!("-e=REGISTRY_{name}={value}"));
        if let Some(tls) = setup.tls {
            dir.write("tls.crt", &tls.crt);
            dir.write("tls.key", &tls.key);
            env("HTTP_TLS_CERTIFICATE", "/e2e/tls.crt");
            env("HTTP_TLS_KEY", "/e2e/tls.key");
        }
        if let Some(clients) = setup.clients {
            dir.write("clients.crt", clients);
            env("HTTP_TLS_CLIENTCAS", "[/e2e/clients.crt]");
        }
        if !setup.users.is_empty() {
            env("AUTH", "htpasswd");
            env("AUTH_HTPASSWD_REALM", "e2e");
            env("AUTH_HTPASSWD_PATH", "/e2e/users");
        }
        if let Some(server) = setup.token {
            dir.write("roots.crt", &server.roots);
            env("AUTH", "token");
            env("AUTH_TOKEN_REALM", &server.realm());
            env("AUTH_TOKEN_SERVICE", name);
            env("AUTH_TOKEN_ISSUER", TokenServer::ISSUER);
            env("AUTH_TOKEN_ROOTCERTBUNDLE", "/e2e/roots.crt");
        }
        args.extend(setup.network.map(|n| format!("--network={n}")));
        args.extend(setup.images_of.map(|other| format!("--volumes-from={}:rw", other.name)));
        let users: String = setup.users.iter().map(Login::htpasswd).collect();
        dir.write("users", &users);
        // Its own directory replaces that of the other registry, which it inherits with the images.
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let container = Foreign::of_image(&world("REGISTRY_IMAGE"), &args, name);
        let upstream = Self { container, dir, name: name.to_owned(), port };
        upstream.answers(setup);
        upstream
    }

    /// Without a certificate it cannot be probed if clients need one.
    fn answers(&self, setup: &Setup<'_>) {
        eventually(30, &format!("{} responds", self.name), || {
            if setup.tls.is_some() {
                let said = docker_logs(&self.name);
                return holds(said.contains("listening on"), || said);
            }
            http("GET", u64::from(self.port), "/v2/", "").map(drop)
        });
    }

    /// Returns the name under which this machine pushes.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Returns its name and port on its networks.
    pub fn inside(&self) -> String {
        format!("{}:5000", self.name)
    }

    /// Accepts only these users from now on.
    pub fn admit(&self, users: &[Login]) {
        self.dir.write("users", &users.iter().map(Login::htpasswd).collect::<String>());
    }

    /// Serves this certificate from its next start on.
    pub fn serve(&self, tls: &Certificate) {
        self.dir.write("tls.crt", &tls.crt);
        self.dir.write("tls.key", &tls.key);
    }

    /// Connects it to a network under these additional names.
    pub fn join(&self, network: &str, aliases: &[&str]) {
        let aliases = aliases.iter().map(|a| format!("--alias={a}")).collect::<Vec<_>>();
        let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
        docker(&[&["network", "connect"], &aliases[..], &[network, &self.name]].concat());
    }

    /// Stops or starts it.
    pub fn control(&self, verb: &str) {
        docker(&[verb, "--", &self.name]);
    }

    /// Returns its state, which changes when anything modifies it.
    pub fn state(&self) -> String {
        self.container.state()
    }

    /// Returns the number of requests with a log line that contains all of these words.
    pub fn requests(&self, words: &[&str]) -> usize {
        let log = docker_logs(&self.name);
        // Every request has two or three lines; this one exists in every version.
        let answered = log.lines().filter(|l| l.contains("response completed"));
        answered.filter(|l| words.iter().all(|w| l.contains(w))).count()
    }
}

/// Connects the container of an upstream to the network of a Registry, once it exists: a cache resolves names there.
pub fn join_registry(scene: &Scene, registry: &str, container: &str) {
    let network = format!("bridge-{}", scene.registry(registry));
    eventually(60, &format!("{container} is on {network}"), || {
        try_docker(&["network", "connect", &network, container]).map(drop)
    });
}

/// A token server, where clients of registries log in.
pub struct TokenServer {
    _container: Foreign,
    _dir: Dir,
    /// Name of its container.
    pub name: String,
    roots: String,
}

impl TokenServer {
    const ISSUER: &'static str = "e2e-issuer";
    /// A token that a client may use in place of a password.
    const IDENTITY: &'static str = "e2e-identity-token";

    /// Starts a token server that knows `FIRST`, on a network of its clients.
    pub fn start(name: &str, network: &str) -> Self {
        let dir = Dir::new(name);
        openssl(
            &dir,
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=token -keyout @/tls.key -out @/tls.crt",
            &[],
        );
        let roots = Certificate::read(&dir, "tls").crt;
        dir.write(
            "users",
            &format!("{}:{}\n{}:{}\n", FIRST.user, FIRST.password(), FIRST.user, Self::identity()),
        );
        let mount = format!("-v={}:/e2e:ro", dir.path().display());
        let network = format!("--network={network}");
        let program = ["/e2e", Self::ISSUER];
        let container = Foreign::program(&world("TOKEN_IMAGE"), &[&mount, &network], name, &program);
        Self { _container: container, _dir: dir, name: name.to_owned(), roots }
    }

    /// Returns the token that it accepts in place of a password.
    pub fn identity() -> &'static str {
        note("the identity token", Self::IDENTITY);
        Self::IDENTITY
    }

    fn realm(&self) -> String {
        format!("http://{}:5001/token", self.name)
    }

    /// Returns the requests that it received.
    pub fn log(&self) -> String {
        docker_logs(&self.name)
    }
}

/// Builds an image with unique content that waits when it runs, and pushes it under this full name. It has a single
/// layer, so every pull transfers all of it, regardless of earlier pulls.
pub fn push(image: &str, login: Option<&Login>) -> Result<(), String> {
    let dir = busybox();
    dir.write("root/e2e", &format!("{image} {}", super::now()));
    push_from(&dir, image, login)
}

/// Creates a directory for an image with one layer that waits when it runs: a Dockerfile and its files in `root`.
pub fn busybox() -> Dir {
    let dir = Dir::new("push");
    dir.write("Dockerfile", "FROM scratch\nCOPY root /\nCMD [\"tail\", \"-f\", \"/dev/null\"]\n");
    let root = dir.path().join("root").display().to_string();
    let (docker, from) = (format!("docker --host {}", world("DOCKER_HOST")), world("BUSYBOX_IMAGE"));
    let unpack = format!(
        "set -e; mkdir {root}; id=$({docker} create {from}); {docker} export $id | tar -x -C {root}; {docker} rm $id"
    );
    command("sh", &["-c", &unpack], "").unwrap_or_else(|e| panic!("{e}"));
    dir
}

/// Builds an image from a directory with a Dockerfile and pushes it under this full name. Leaves nothing of it in
/// Docker.
pub fn push_from(dir: &Dir, image: &str, login: Option<&Login>) -> Result<(), String> {
    build(image, &dir.path().display().to_string(), "");
    let config = Dir::new("docker-config");
    let registry = image.split('/').next().unwrap_or_default();
    let text = login.map_or_else(|| "{}".to_owned(), |l| l.docker_config(registry));
    config.write("config.json", &text);
    let config = config.path().display().to_string();
    let pushed = try_docker(&["--config", &config, "push", "-q", image]);
    docker(&["rmi", image]);
    pushed.map(drop)
}
