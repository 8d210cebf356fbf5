//! A Docker engine and the APIs of created clusters, over one world.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use localcluster_operator::{
    child::{
        account::{AccountRole, AccountToken},
        api::{Access, ChildApi, Connect, Connection, Error as ChildError},
        path::Path,
        state::{ChildState, ClusterConfigMap, Found, Member, NodeConfig},
    },
    controller::probe::{Probe, Question, Target, Trouble},
    docker::{
        engine::{
            Attached, Container, ContainerDetail, Ended, Engine, EngineInfo, Event, ImageNames, Network,
            PathInfo, RegistryAuth, Result, State, Update, Volume,
        },
        error::Error,
        listener,
        spec::{ContainerSpec, EndpointSettings, NetworkSpec, VolumeSpec},
        tunnel,
    },
    k3s::{etcd, manifests::ObjectRef},
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_util::{compat::TokioAsyncWriteCompatExt, io::ReaderStream};

use super::faults::{Fault, Faults, Side};
use crate::support::model::{
    observe,
    world::{World, runtimes},
};

#[derive(Clone)]
pub struct Fake {
    pub world: Arc<Mutex<World>>,
    pub faults: Arc<Faults>,
}

/// Listens as the program does in a container. It says why it does not to standard error, which is not a stream of this
/// process.
async fn listen(address: SocketAddr, stdin: DuplexStream, mut stdout: DuplexStream) {
    let address = if address.ip().is_loopback() { address } else { SocketAddr::from(([127, 0, 0, 1], 0)) };
    if let Err(error) = std::net::TcpListener::bind(address) {
        let words = format!("error: cannot listen on {address}: {error}\n");
        stdout.write_all(words.as_bytes()).await.unwrap();
        return;
    }
    drop(listener::listen(address, stdin, stdout).await);
}

impl Fake {
    async fn read<T>(&self, call: &str, f: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.call(call, false, f).await
    }

    async fn write<T>(&self, call: &str, f: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.call(call, true, f).await
    }

    async fn call<T>(&self, call: &str, writes: bool, f: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        if self.faults.is_away() {
            return Err(Error::Unavailable("connection refused".into()));
        }
        self.faults.take_time().await;
        let fault = self.faults.gate(Side::Docker, call.to_owned(), writes);
        if fault == Some(Fault::Late) {
            self.faults.is_late().await;
        }
        let mut world = self.world.lock().unwrap();
        match fault {
            None | Some(Fault::Late) => f(&mut world),
            Some(Fault::NotFound) => Err(Error::NotFound("no such thing".into())),
            Some(Fault::Conflict) if call.starts_with("create") => {
                Err(Error::Conflict("name is taken".into()))
            }
            Some(Fault::Conflict) => Err(Error::Busy("in progress".into())),
            Some(Fault::Refused) => Err(Error::Engine("server error".into())),
            Some(Fault::Timeout) => Err(Error::Timeout(call.into())),
            Some(Fault::Lost) => {
                drop(f(&mut world));
                Err(Error::Timeout(call.into()))
            }
            Some(Fault::Void) => f(&mut world.clone()),
        }
    }
}

/// What does not exist is gone, as the client of the real engine has it.
fn gone(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Engine for Fake {
    async fn info(&self) -> Result<EngineInfo> {
        self.read("info", |_| {
            Ok(EngineInfo {
                id: "engine".into(),
                version: "29".into(),
                cpus: 2,
                architecture: "x86_64".into(),
                ..runtimes()
            })
        })
        .await
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        self.read("containers", |w| Ok(w.containers.iter().map(|(id, c)| w.listed(id, c)).collect())).await
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerDetail>> {
        let name = self.world.lock().unwrap().containers.get(id).map(|c| c.name.clone());
        self.faults.hold(&format!("inspect {}", name.as_deref().unwrap_or(id))).await;
        self.read("inspect", |w| Ok(w.id(id).map(|id| w.detail(&id, &w.containers[&id])))).await
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        self.read("networks", |w| Ok(w.networks.iter().map(|(id, n)| observe::network(id, n)).collect()))
            .await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        self.read("volumes", |w| {
            let volume = |(name, v): (&String, &crate::support::model::world::Volume)| Volume {
                name: name.clone(),
                labels: (*v.labels).clone(),
            };
            Ok(w.volumes.iter().map(volume).collect())
        })
        .await
    }

    async fn image(&self, reference: &str) -> Result<Option<String>> {
        self.read("image", |w| Ok(w.image_id(reference))).await
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        let user = auth.map(|auth| format!(" as {}", auth.username)).unwrap_or_default();
        self.faults.hold(&format!("pull {reference}{user}")).await;
        self.write(&format!("pull {reference}"), |w| w.pull(reference)).await
    }

    async fn image_names(&self, reference: &str) -> Result<Option<ImageNames>> {
        self.read("image names", |w| Ok(w.image_names(reference))).await
    }

    async fn check_access(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        self.read("check access", |w| w.check_access(reference, auth)).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        self.faults.hold(&format!("create network {}", spec.name)).await;
        self.write(&format!("create network {}", spec.name), |w| w.create_network(spec)).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.write(&format!("remove network {id}"), |w| gone(w.remove_network(id))).await
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()> {
        self.write(&format!("connect {network} {container}"), |w| w.connect(network, container, endpoint))
            .await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        self.write(&format!("disconnect {network} {container}"), |w| gone(w.disconnect(network, container)))
            .await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        self.write(&format!("create volume {}", spec.name), |w| w.create_volume(spec)).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.write(&format!("remove volume {name}"), |w| gone(w.remove_volume(name))).await
    }

    async fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<String> {
        self.write(&format!("create container {}", spec.name), |w| w.create_container(spec, network)).await
    }

    async fn upload(&self, container: &str, archive: Vec<u8>) -> Result<()> {
        let mut paths = Vec::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            paths.push(entry.unwrap().path().unwrap().display().to_string());
        }
        let call = format!("upload {container} {}", paths.join(" "));
        self.faults.hold(&call).await;
        self.write(&call, |w| {
            for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
                let mut entry = entry.unwrap();
                let path = format!("/{}", entry.path().unwrap().display());
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                w.write(container, &path, &content)?;
            }
            Ok(())
        })
        .await
    }

    async fn read_file(&self, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read("read file", |w| match w.read(container, path).map(|c| c.to_vec()) {
            Some(content) if content.len() > limit => Err(Error::Invalid(format!("{path} is too large"))),
            content => Ok(content),
        })
        .await
    }

    async fn read_tree(
        &self,
        container: &str,
        path: &str,
        limit: usize,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        self.read("read tree", |w| {
            let tree = w.tree(container, path);
            let size: usize = tree.values().map(Vec::len).sum();
            if size > limit { Err(Error::Invalid(format!("{path} is too large"))) } else { Ok(tree) }
        })
        .await
    }

    async fn path_info(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        self.read("path info", |w| Ok(w.path_info(container, path))).await
    }

    async fn start(&self, container: &str) -> Result<()> {
        self.faults.hold("start").await;
        self.write(&format!("start {container}"), |w| w.start(container)).await
    }

    async fn stop(&self, container: &str, _: u32) -> Result<()> {
        self.write(&format!("stop {container}"), |w| gone(w.end(container, 0))).await
    }

    async fn unpause(&self, container: &str) -> Result<()> {
        self.write(&format!("unpause {container}"), |w| w.unpause(container)).await
    }

    async fn signal(&self, container: &str, _: &str) -> Result<()> {
        self.write(&format!("signal {container}"), |w| w.hangup(container)).await
    }

    async fn update(&self, container: &str, change: &Update) -> Result<()> {
        self.write(&format!("update {container}"), |w| w.update(container, change)).await
    }

    async fn exec(&self, container: &str, command: &[String]) -> Result<Ended> {
        let reads = ["get", "list", "du"].iter().any(|read| command.iter().any(|word| word == read));
        let reads = reads || etcd::asks(command);
        self.call(&format!("exec {container} {}", command.join(" ")), !reads, |w| w.exec(container, command))
            .await
    }

    async fn exec_within(&self, container: &str, command: &[String], limit: Duration) -> Result<Ended> {
        let late = |_| Err(Error::Timeout(format!("exec {container}")));
        timeout(limit, self.exec(container, command)).await.unwrap_or_else(late)
    }

    async fn pipe_image(&self, reference: &str, container: &str, _: &[String]) -> Result<Ended> {
        self.write(&format!("pipe image {reference} {container}"), |w| w.pipe_image(reference, container))
            .await
    }

    /// The forwarder runs in this process, if its program was copied into the container.
    async fn attach_exec(&self, container: &str, command: &[String]) -> Result<Attached> {
        self.write(&format!("attach exec {container} {}", command.join(" ")), |w| {
            let is_there = w.read(container, &command[0]).is_some();
            let (input, stdin) = duplex(64 << 10);
            let (stdout, output) = duplex(64 << 10);
            let output = ReaderStream::new(output).boxed();
            if is_there {
                match command.get(2).map(|address| address.parse().unwrap()) {
                    None => drop(tokio::spawn(tunnel::forward(stdin, stdout))),
                    Some(address) => drop(tokio::spawn(listen(address, stdin, stdout))),
                }
                return Ok(Attached { input: Box::pin(input.compat_write()), output });
            }
            let failed = futures::stream::iter([Err(std::io::Error::other("exec failed: no such file"))]);
            Ok(Attached { input: Box::pin(input.compat_write()), output: failed.boxed() })
        })
        .await
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        self.faults.hold("remove container").await;
        self.write(&format!("remove container {container}"), |w| gone(w.remove_container(container))).await
    }

    async fn logs(&self, container: &str, _: u32) -> Result<Vec<String>> {
        self.read("logs", |w| Ok(w.log(container))).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<Event>>> {
        Ok(self.faults.listen().map(Ok).boxed())
    }
}

/// The API of one created cluster.
struct FakeChild {
    fake: Fake,
    cluster: String,
    kubeconfig: String,
}

impl FakeChild {
    fn call<T>(
        &self,
        call: &str,
        writes: bool,
        f: impl FnOnce(&mut World) -> std::result::Result<T, String>,
    ) -> std::result::Result<T, ChildError> {
        let fault = self.fake.faults.gate(Side::Child, call.to_owned(), writes);
        if self.fake.faults.unreachable.load(Ordering::Relaxed) {
            return Err(ChildError::Unreachable("no route to host".into()));
        }
        let mut world = self.fake.world.lock().unwrap();
        let reached = world.reach(&self.cluster, &self.kubeconfig).map_err(ChildError::Unreachable);
        let answer = |world: &mut World| {
            reached?;
            f(world).map_err(crate::support::model::k3s::told)
        };
        match fault {
            None => answer(&mut world),
            Some(Fault::Timeout) => Err(ChildError::Unreachable("no answer".into())),
            Some(Fault::Lost) => {
                drop(answer(&mut world));
                Err(ChildError::Unreachable("no answer".into()))
            }
            Some(Fault::Void) => answer(&mut world.clone()),
            Some(fault) => Err(ChildError::Api(format!("{fault:?}"))),
        }
    }
}

#[async_trait]
impl ChildApi for FakeChild {
    async fn observe(&self) -> std::result::Result<ChildState, ChildError> {
        if self.fake.faults.silent.load(Ordering::Relaxed) {
            futures::future::pending::<()>().await;
        }
        self.call("observe", false, |w| w.state(&self.cluster, &self.kubeconfig))
    }

    async fn drain(&self, node: &str, _: Timestamp) -> std::result::Result<(), ChildError> {
        self.call(&format!("drain {node}"), true, |w| w.drain(node))
    }

    async fn uncordon(&self, node: &str) -> std::result::Result<(), ChildError> {
        self.call(&format!("uncordon {node}"), true, |w| w.uncordon(node))
    }

    async fn configure(&self, node: &str, config: &NodeConfig) -> std::result::Result<(), ChildError> {
        self.call(&format!("configure {node}"), true, |w| w.configure(node, config))
    }

    async fn delete_node(&self, node: &str) -> std::result::Result<(), ChildError> {
        self.call(&format!("delete node {node}"), true, |w| w.delete_node(node))
    }

    async fn forget_password(&self, node: &str) -> std::result::Result<(), ChildError> {
        self.call(&format!("forget password {node}"), true, |w| w.forget_password(node))
    }

    async fn leave_etcd(&self, node: &str) -> std::result::Result<(), ChildError> {
        self.call(&format!("leave etcd {node}"), true, |w| w.leave_etcd(node))
    }

    async fn remove_member(&self, member: &Member) -> std::result::Result<(), ChildError> {
        self.call(&format!("remove member {}", member.node), true, |w| w.remove_member(member))
    }

    async fn release_lease(&self, _: &str, version: &str) -> std::result::Result<(), ChildError> {
        self.call("release lease", true, |w| w.release_lease(&self.cluster, version))
    }

    async fn set_config(&self, wanted: &ClusterConfigMap) -> std::result::Result<(), ChildError> {
        self.call(&format!("set config {}", wanted.key.name), true, |w| w.set_config(&self.cluster, wanted))
    }

    async fn there(
        &self,
        objects: &BTreeSet<ObjectRef>,
    ) -> std::result::Result<BTreeMap<ObjectRef, Found>, ChildError> {
        self.call("there", false, |w| w.there(&self.cluster, objects))
    }

    async fn delete_object(&self, object: &ObjectRef, _: &str) -> std::result::Result<(), ChildError> {
        self.call(&format!("delete object {object}"), true, |w| w.delete_object(&self.cluster, object))
    }

    async fn grant(&self, role: AccountRole) -> std::result::Result<(), ChildError> {
        self.call(&format!("grant {}", role.account()), true, |w| w.grant(&self.cluster, role))
    }

    async fn revoke(&self, role: AccountRole, uid: Option<&str>) -> std::result::Result<(), ChildError> {
        self.call(&format!("revoke {}", role.account()), true, |w| w.revoke(&self.cluster, role, uid))
    }

    async fn issue(
        &self,
        role: AccountRole,
        ttl: SignedDuration,
    ) -> std::result::Result<AccountToken, ChildError> {
        self.call(&format!("issue {}", role.account()), true, |w| w.issue(&self.cluster, role, ttl))
    }

    async fn accepts(&self, token: &AccountToken) -> std::result::Result<bool, ChildError> {
        self.call("review token", false, |w| w.accepts(&self.cluster, token))
    }

    async fn changes(&self, _: bool) -> std::result::Result<BoxStream<'static, ()>, ChildError> {
        Ok(futures::stream::pending().boxed())
    }
}

#[async_trait]
impl Connect for Fake {
    async fn connect(&self, access: &Access, _: Duration) -> std::result::Result<Connection, ChildError> {
        let name = access.tls_server_name.strip_prefix("k3d-").and_then(|n| n.strip_suffix("-serverlb"));
        let cluster = name.expect("a load balancer's name").to_owned();
        let kubeconfig = access.kubeconfig.clone();
        let child = FakeChild { fake: self.clone(), cluster, kubeconfig };
        child.call("connect", false, |_| Ok(()))?;
        let path = access.candidates.first().map_or(Path::Tunnel, |address| Path::Direct(*address));
        Ok(Connection { child: Arc::new(child), path })
    }
}

#[async_trait]
impl Probe for Fake {
    async fn ask(&self, question: &Question<'_>) -> std::result::Result<u16, Trouble> {
        let Target::Address(address) = &question.to else {
            return Err(Trouble::Silent("the forwarder in the container does not start".into()));
        };
        let world = self.world.lock().unwrap();
        let listens = world.containers.iter().find(|(_, c)| {
            c.state == State::Running
                && c.networks.values().any(|p| p.ip.is_some_and(|ip| address.ip() == ip))
        });
        let Some((id, container)) = listens else { return Err(Trouble::Silent("connection refused".into())) };
        assert_eq!(container.name, question.hostname);
        let read = |path: &str| world.read(id, path).map(|c| String::from_utf8_lossy(&c).into_owned());
        let config = read("/etc/localcluster/registry.yml").expect("a registry has a configuration");
        if config.contains("tls:") != question.ca.is_some() {
            return Err(Trouble::Silent("the other end speaks another protocol".into()));
        }
        if !config.contains("htpasswd:") {
            return Ok(200);
        }
        // The model's hash of a password is the password.
        let users = read("/etc/localcluster/htpasswd").expect("the users are there");
        let known = question.login.is_some_and(|l| {
            users.lines().any(|line| {
                line.split_once(':')
                    .is_some_and(|(name, hash)| name == l.username && hash.ends_with(&l.password))
            })
        });
        Ok(if known { 200 } else { 401 })
    }
}
