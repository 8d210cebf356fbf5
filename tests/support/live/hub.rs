//! A hub of the command `localcluster`, beside the management cluster of the tests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::{command, docker, inspect, operator::settings, scratch, try_docker, world};

/// A hub with names of its own; removed on drop, whatever is left of it.
pub struct Hub {
    pub name: String,
    pub kubeconfig: PathBuf,
}

impl Hub {
    /// Nothing of it exists before [`Self::up`].
    pub fn new(name: &str) -> Self {
        let kubeconfig = scratch(&format!("{name}.kubeconfig"));
        let _ = std::fs::remove_file(&kubeconfig);
        Self { name: name.to_owned(), kubeconfig }
    }

    /// Returns the name of a container.
    pub fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// Runs a verb that is about the hub, and returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new(env!("CARGO_BIN_EXE_localcluster"))
            .args(args)
            .args(["--name", &self.name, "--docker-host", &world("DOCKER_HOST")])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .expect("it can be started");
        let told = told(&out);
        println!("        localcluster {}: {told}", args[0]);
        if out.status.success() { Ok(told) } else { Err(told) }
    }

    /// Arguments of `up` with the images and settings of the world.
    fn up_args() -> Vec<String> {
        let images = [("--image", "NODE_IMAGE"), ("--operator-image", "OPERATOR_IMAGE")];
        let images = images.map(|(flag, name)| format!("{flag}={}", world(name)));
        let settings = settings().into_iter().filter_map(|(name, value)| {
            let flag = name.strip_prefix("LOCALCLUSTER_")?.to_lowercase().replace('_', "-");
            Some(format!("--operator-arg=--{flag}={value}"))
        });
        images.into_iter().chain(settings).collect()
    }

    /// Brings it up.
    pub fn up(&self) -> String {
        let args = Self::up_args();
        let args: Vec<&str> = ["up"].into_iter().chain(args.iter().map(String::as_str)).collect();
        self.run(&args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a script of the GitHub action as a runner does, which has this directory; returns what it printed.
    pub fn action(&self, script: &str, runner: &Path, variables: &[(&str, &str)]) -> String {
        let up = [
            Self::up_args(),
            vec![format!("--name={}", self.name), format!("--docker-host={}", world("DOCKER_HOST"))],
        ];
        // What the action has put into the path before, comes first.
        let paths = fs::read_to_string(runner.join("path")).unwrap_or_default();
        let paths = format!("{}:{}", paths.trim(), env::var("PATH").unwrap_or_default());
        let out = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("action").join(script))
            .env("PATH", paths.trim_start_matches(':'))
            .env("RUNNER_TEMP", runner)
            .env("GITHUB_PATH", runner.join("path"))
            .env("GITHUB_OUTPUT", runner.join("output"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PROGRAM", env!("CARGO_BIN_EXE_localcluster"))
            .env("UP_ARGS", up.concat().join("\n"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("it can be started");
        let told = told(&out);
        assert!(out.status.success(), "action/{script}: {told}");
        told
    }

    /// Runs a verb that is about what the hub manages, and returns what it printed.
    pub fn client(&self, args: &[&str]) -> String {
        self.try_client(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs such a verb, which may fail.
    pub fn try_client(&self, args: &[&str]) -> Result<String, String> {
        let file = format!("--kubeconfig={}", self.kubeconfig.display());
        let args = [args, &["--context", &self.name, &file]].concat();
        command(env!("CARGO_BIN_EXE_localcluster"), &args, "")
    }

    /// IDs and start times of both containers.
    pub fn containers(&self) -> Vec<String> {
        let of = |part: &str| docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &self.part(part)]);
        ["hub", "operator"].map(of).into()
    }

    /// Everything on the engine that has its name or that its clusters made.
    pub fn left(&self) -> Vec<String> {
        let filter = format!("name={}", self.name);
        let of = |list: &[&str]| docker(&[list, &["--filter", &filter, "--format", "{{.Name}}"]].concat());
        let containers = docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let all = [containers, of(&["volume", "ls"]), of(&["network", "ls"])].join("\n");
        all.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The anonymous volumes of its containers.
    pub fn anonymous(&self) -> Vec<String> {
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

/// Returns all that a program printed.
fn told(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
