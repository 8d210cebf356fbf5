//! What makes a cluster of one node: the bare node image, `localcluster` with its hub, and other tools where their programs
//! are given by path.

use std::{cell::RefCell, env, fs, path::PathBuf};

use crate::{
    clock::promptly,
    live::{Foreign, Kubectl, command, docker, free_port, hub::Hub, scratch, try_docker, world},
};

/// What K3s leaves out, so that a cluster has as little as possible besides Kubernetes.
const DISABLE: &str = "--disable=traefik,metrics-server,servicelb";
/// How long K3s may take to write its kubeconfig, in seconds.
const LIMIT: u64 = 180;

/// Runs the bare node image in a container with this name, and more arguments of `docker run`.
pub fn bare(name: &str, more: &[&str]) -> Foreign {
    let label = format!("--label=localcluster.dev/world={}", world("NETWORK"));
    let hostname = format!("--hostname={name}");
    // K3s ends when one of its parts fails. It starts again then, as the operator's containers do.
    let restart = "--restart=unless-stopped";
    let args = [&label, &hostname, restart, "--privileged", "--tmpfs=/run", "--tmpfs=/var/run"];
    let mut server = vec!["server", DISABLE];
    // K3s refuses a machine with cgroup v1 otherwise.
    server.extend((world("CGROUP_VERSION") != "2").then_some("--kubelet-arg=fail-cgroupv1=false"));
    Foreign::program(&world("NODE_IMAGE"), &[&args, more].concat(), name, &server)
}

/// A cluster that a tool has made; removed on drop.
pub struct Made<'a> {
    /// kubectl as its user has it.
    pub kubectl: Kubectl,
    /// Brings an image of the Docker host into it.
    pub bring: Box<dyn Fn(&str) + 'a>,
    remove: Box<dyn Fn() + 'a>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        (self.remove)();
    }
}

/// Runs a program that must not fail.
fn must(program: &str, args: &[&str]) -> String {
    command(program, args, "").unwrap_or_else(|e| panic!("{e}"))
}

/// Returns a file for the kubeconfig of a cluster, which does not exist.
fn kubeconfig(name: &str) -> PathBuf {
    let path = scratch(&format!("{name}.kubeconfig"));
    let _ = fs::remove_file(&path);
    path
}

/// Runs the bare image with a published API. Its user fetches the kubeconfig as soon as it is there.
pub fn docker_run(name: &str) -> Made<'static> {
    let (name, path, port) = (name.to_owned(), kubeconfig(name), free_port());
    let container = bare(&name, &[&format!("--publish=127.0.0.1:{port}:6443")]);
    let text = promptly(LIMIT, "the kubeconfig", || {
        let text = try_docker(&["exec", &name, "cat", "/etc/rancher/k3s/k3s.yaml"])?;
        // It is written in steps.
        if text.contains("client-key-data") { Ok(text) } else { Err(text) }
    });
    fs::write(&path, text.replace(":6443", &format!(":{port}"))).expect("the file can be written");
    // The archive is not written to a file.
    let bring = move |image: &str| {
        let script = format!(
            "docker save {image} | docker exec -i {name} ctr -a /run/k3s/containerd/containerd.sock -n k8s.io images import -"
        );
        must("sh", &["-c", &script]);
    };
    let container = RefCell::new(Some(container));
    let remove = move || drop(container.take());
    Made { kubectl: Kubectl::new(path), bring: Box::new(bring), remove: Box::new(remove) }
}

/// Runs `localcluster create`; an Ephemeral cluster is written in a file. Nodes get images of the Docker host by themselves.
pub fn create<'a>(hub: &'a Hub, name: &str, ephemeral: bool) -> Made<'a> {
    let name = name.to_owned();
    if ephemeral {
        let path = scratch(&format!("{name}.yaml"));
        let spec = format!(
            "{{durability: Ephemeral, images: {{fromDockerHost: true}}, servers: {{args: [\"{DISABLE}\"]}}}}"
        );
        let text = format!(
            "apiVersion: localcluster.dev/v1alpha1\nkind: LocalCluster\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        );
        fs::write(&path, text).expect("the file can be written");
        hub.client(&["create", "-f", path.to_str().expect("the path is UTF-8")]);
    } else {
        hub.client(&["create", &name, &format!("--k3s-arg={DISABLE}")]);
    }
    let kubectl = Kubectl::new(hub.kubeconfig.clone());
    Made {
        kubectl,
        bring: Box::new(|_| ()),
        // What it leaves, `down` refuses.
        remove: Box::new(move || drop(hub.try_client(&["delete", &name]))),
    }
}

/// Another tool, by the path of its program.
pub struct Other {
    /// Name in the figures.
    pub name: &'static str,
    program: String,
    make: fn(&str, &str) -> Made<'static>,
}

impl Other {
    /// Returns those whose programs the environment gives. One that is given and fails, fails the bench.
    pub fn given() -> Vec<Self> {
        type Make = fn(&str, &str) -> Made<'static>;
        let of = |name: &'static str, variable: &str, make: Make| {
            let program = env::var(variable).ok().filter(|path| !path.is_empty())?;
            Some(Self { name, program, make })
        };
        [of("k3d", "K3D", k3d), of("kind", "KIND", kind)].into_iter().flatten().collect()
    }

    /// Makes a cluster.
    pub fn make(&self, name: &str) -> Made<'static> {
        (self.make)(&self.program, name)
    }
}

fn k3d(program: &str, name: &str) -> Made<'static> {
    let (program, name, path) = (program.to_owned(), name.to_owned(), kubeconfig(name));
    let image = format!("--image={}", world("NODE_IMAGE"));
    let arg = format!("--k3s-arg={DISABLE}@server:*");
    let mut args = vec!["cluster", "create", &name, &image, "--kubeconfig-update-default=false", &arg];
    args.extend(
        (world("CGROUP_VERSION") != "2").then_some("--k3s-arg=--kubelet-arg=fail-cgroupv1=false@server:*"),
    );
    let removal = (program.clone(), name.clone());
    let remove = move || drop(command(&removal.0, &["cluster", "delete", &removal.1], ""));
    let bring = {
        let (program, name) = (program.clone(), name.clone());
        move |image: &str| drop(must(&program, &["image", "import", "--cluster", &name, image]))
    };
    let made = Made { kubectl: Kubectl::new(path.clone()), bring: Box::new(bring), remove: Box::new(remove) };
    must(&program, &args);
    fs::write(path, must(&program, &["kubeconfig", "get", &name])).expect("the file can be written");
    made
}

/// It has a node image of its own; KIND_IMAGE names another one.
fn kind(program: &str, name: &str) -> Made<'static> {
    let (program, name, path) = (program.to_owned(), name.to_owned(), kubeconfig(name));
    let file = format!("--kubeconfig={}", path.display());
    let image =
        env::var("KIND_IMAGE").ok().filter(|image| !image.is_empty()).map(|image| format!("--image={image}"));
    let removal = (program.clone(), name.clone(), file.clone());
    let remove =
        move || drop(command(&removal.0, &["delete", "cluster", "--name", &removal.1, &removal.2], ""));
    let bring = {
        let (program, name) = (program.clone(), name.clone());
        move |image: &str| drop(must(&program, &["load", "docker-image", image, "--name", &name]))
    };
    let made = Made { kubectl: Kubectl::new(path), bring: Box::new(bring), remove: Box::new(remove) };
    let mut args = vec!["create", "cluster", "--name", &name, &file];
    args.extend(image.as_deref());
    must(&program, &args);
    made
}

/// Returns what was measured on: the time, the processors, the engine and the load.
pub fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let of = "{{.SystemTime}}, {{.NCPU}} CPUs, Docker {{.ServerVersion}}, kernel {{.KernelVersion}}";
    format!("{}, load {load}", docker(&["info", "-f", of]))
}
