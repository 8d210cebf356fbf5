//! The operator as a process of this machine in place of the Pod, so that tests can kill it and disconnect it from
//! Docker.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{DEPLOYMENT, Kubectl, SYSTEM, eventually, holds, scratch, world};

/// The process to kill, if it runs.
pub type Victim = Arc<Mutex<Option<Child>>>;

/// The absence of the operator's Pod, which is restored on drop.
pub struct Absence;

impl Absence {
    /// Scales the Pod down, and waits until it is deleted.
    pub fn begin() -> Self {
        let k = Kubectl::management();
        k.run(&["-n", SYSTEM, "scale", DEPLOYMENT, "--replicas=0"]);
        eventually(60, "the operator's Pod is deleted", || {
            let pods = k.attempt(&["-n", SYSTEM, "get", "pods", "-o", "name"])?;
            holds(pods.is_empty(), || pods)
        });
        Self
    }
}

impl Drop for Absence {
    fn drop(&mut self) {
        let k = Kubectl::management();
        // The holder of the Lease has exited, so its expiry need not be awaited.
        let _ = k.attempt(&["-n", SYSTEM, "delete", "lease", "localcluster-operator"]);
        let _ = k.attempt(&["-n", SYSTEM, "scale", DEPLOYMENT, "--replicas=1"]);
        let _ = k.attempt(&["-n", SYSTEM, "rollout", "status", DEPLOYMENT, "--timeout=60s"]);
    }
}

/// Returns the settings of an operator that is not the Pod.
pub fn settings() -> [(&'static str, String); 5] {
    [
        ("POD_NAMESPACE", SYSTEM.to_owned()),
        ("LOCALCLUSTER_NODE_IMAGE_REPOSITORY", world("NODE_IMAGE_REPOSITORY")),
        ("LOCALCLUSTER_DEFAULT_VERSION", world("NODE_VERSION")),
        ("LOCALCLUSTER_LOAD_BALANCER_IMAGE", world("LB_IMAGE")),
        ("LOCALCLUSTER_REGISTRY_IMAGE", world("REGISTRY_IMAGE")),
    ]
}

/// Replaces the Pod, which is restored on drop.
pub struct Operator {
    _absence: Absence,
    docker_host: String,
    args: Vec<String>,
    victim: Victim,
    log: PathBuf,
    pool: bool,
    kubeconfig: PathBuf,
}

impl Operator {
    /// Scales the Pod down, with `docker_host` as the Docker engine of the process. Does not start the process yet.
    pub fn new(docker_host: &str, args: &[&str], victim: Victim) -> Self {
        let absence = Absence::begin();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let log = scratch(&format!("operator-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        let (docker_host, kubeconfig) = (docker_host.to_owned(), world("KUBECONFIG").into());
        Self { _absence: absence, docker_host, args, victim, log, pool: true, kubeconfig }
    }

    /// Has Docker choose the subnets, as by default.
    pub fn without_pool(mut self) -> Self {
        self.pool = false;
        self
    }

    /// Has it use the management cluster as somebody else.
    pub fn with_kubeconfig(mut self, kubeconfig: PathBuf) -> Self {
        self.kubeconfig = kubeconfig;
        self
    }

    /// Starts the process.
    pub fn start(&self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be written");
        let child = Command::new(env!("CARGO_BIN_EXE_localcluster-operator"))
            .arg("run")
            .args(&self.args)
            .env_remove("NODE_NAME")
            .env_remove("HOST_IP")
            .env("KUBECONFIG", &self.kubeconfig)
            // Gives it the same identity at each start, as a Pod's container has.
            .env("HOSTNAME", "e2e-process")
            .env("LOCALCLUSTER_HTTP_LISTEN", "127.0.0.1:0")
            .env("LOCALCLUSTER_DOCKER_HOST", &self.docker_host)
            .envs(settings())
            .envs(self.pool.then_some(("LOCALCLUSTER_NETWORK_POOL", "10.231.0.0/16")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("the operator can be started");
        *self.victim.lock().unwrap() = Some(child);
    }

    /// Kills it with SIGKILL, as the kernel does when memory runs out. Reports whether it was running.
    pub fn kill(&self) -> bool {
        kill(&self.victim)
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Sends SIGKILL and reports whether there was a process.
pub fn kill(victim: &Victim) -> bool {
    let Some(mut child) = victim.lock().unwrap_or_else(|e| e.into_inner()).take() else { return false };
    let _ = child.kill();
    let _ = child.wait();
    true
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}
