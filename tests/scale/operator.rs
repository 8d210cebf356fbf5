//! The operator as a process of its own, and what it costs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::live::{Kubectl, SYSTEM, docker, free_port, http_get, scratch, world};

/// Ticks of the kernel in a second: `getconf CLK_TCK` on every Linux.
const TICKS: f64 = 100.0;
const NAME: &str = "localcluster-operator";

/// Makes the ServiceAccount that the operator has as a Pod, with the same permissions, and returns a kubeconfig with it. Its
/// requests, and no others, are in the audit log of the management cluster.
pub fn account() -> PathBuf {
    let (k, file) = (Kubectl::management(), scratch("scale.kubeconfig"));
    for objects in ["namespace", "rbac"] {
        k.run(&["apply", "-f", &format!("{}/deploy/{objects}.yaml", env!("CARGO_MANIFEST_DIR"))]);
    }
    let token = k.run(&["-n", SYSTEM, "create", "token", NAME, "--duration=12h"]);
    fs::copy(world("KUBECONFIG"), &file).expect("the world has a kubeconfig");
    let k = Kubectl::new(file.clone());
    k.run(&["config", "set-credentials", NAME, &format!("--token={token}")]);
    k.run(&["config", "set-context", "--current", &format!("--user={NAME}")]);
    file
}

/// Returns the operator's requests to the management cluster since this time, by verb and resource. A watch counts when it
/// ends.
pub fn requests(since: jiff::Timestamp) -> BTreeMap<String, usize> {
    let log = docker(&["exec", &world("MGMT_NODE"), "sh", "-c", "cat /var/log/audit*.log"]);
    let mut requests = BTreeMap::new();
    for request in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let at =
            request["requestReceivedTimestamp"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        if request["stage"] != "ResponseComplete" || at.is_none_or(|at| at < since) {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &request["objectRef"];
        let sub = of["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
        *requests.entry(format!("{} {}{sub}", text(&request["verb"]), text(&of["resource"]))).or_default() +=
            1;
    }
    requests
}

pub struct Operator {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Operator {
    /// Starts this binary with the Docker Engine at this socket.
    pub fn start(binary: &Path, kubeconfig: &Path, socket: &Path, pool: &str) -> Self {
        let (port, log) = (free_port(), scratch("scale.log"));
        let output = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let process = Command::new(binary)
            .arg("run")
            .env_remove("NODE_NAME")
            .env_remove("HOST_IP")
            .env("KUBECONFIG", kubeconfig)
            .env("HOSTNAME", "scale")
            .env("POD_NAMESPACE", SYSTEM)
            .env("LOCALCLUSTER_HTTP_LISTEN", format!("127.0.0.1:{port}"))
            .env("LOCALCLUSTER_DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("LOCALCLUSTER_NETWORK_POOL", pool)
            .env("LOCALCLUSTER_WITHOUT_POLICY", "Unrestricted")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be opened twice"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
        println!("operator: process {}, its log: {}", process.id(), log.display());
        Self { process, port, log }
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process.id());
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}; see {}", self.log.display()))
    }

    /// Returns a size of `/proc/PID/status` in MiB.
    fn size(&self, name: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells of it");
        line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<f64>().expect("a number") / 1024.0
    }

    /// Returns the memory that it holds, in MiB.
    pub fn rss(&self) -> f64 {
        self.size("VmRSS")
    }

    /// Returns the part of it that is not of its file, in MiB.
    pub fn own(&self) -> f64 {
        self.size("RssAnon")
    }

    /// Returns the most memory that it held since [`Self::forget_peak`], in MiB.
    pub fn peak(&self) -> f64 {
        self.size("VmHWM")
    }

    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("root may");
    }

    /// Returns the CPU time that it has had, in seconds.
    pub fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / TICKS
    }

    /// Returns how many sockets it has open.
    pub fn sockets(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").flatten();
        let ends = files.filter_map(|file| fs::read_link(file.path()).ok());
        ends.filter(|end| end.to_string_lossy().starts_with("socket:")).count()
    }

    /// Returns how often it has looked at objects, by kind.
    pub fn looks(&self) -> BTreeMap<String, usize> {
        let metrics = http_get(self.port.into(), "/metrics").unwrap_or_else(|e| panic!("{e}"));
        let lines =
            metrics.lines().filter_map(|line| line.strip_prefix("localcluster_reconciles_total{kind=\""));
        lines
            .map(|line| {
                let (kind, count) = line.split_once("\"} ").expect("it has one label");
                (format!("looks at a {kind}"), count.parse().expect("a number"))
            })
            .collect()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
