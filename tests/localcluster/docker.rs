//! A Docker Engine at a socket, for what the command asks one itself: containers, logs, commands, and images.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

/// What a command writes to standard output and to standard error, and its exit code.
pub type Ended = (String, String, i64);

/// The engine. Clones share their state.
#[derive(Clone)]
pub struct Docker {
    pub state: Arc<Mutex<State>>,
    dir: Arc<TempDir>,
}

#[derive(Default)]
pub struct State {
    pub info: Value,
    /// Containers as `docker inspect` describes them.
    pub containers: Vec<Value>,
    /// Files in containers, by container ID and path.
    pub files: Vec<(String, String, Vec<u8>)>,
    /// Log of all containers.
    pub log: (String, String),
    /// IDs of images by name.
    pub images: Vec<(String, String)>,
    /// What a load of an archive tells.
    pub loads: String,
    /// Commands in containers, the last one first.
    pub commands: Vec<Vec<String>>,
    /// Requests for them.
    pub execs: Vec<Value>,
    /// All requests, with their queries.
    pub calls: Vec<String>,
    /// What commands do, with what they read.
    pub run: Option<fn(&[String], &str) -> Ended>,
    code: i64,
}

impl Docker {
    pub fn start() -> Self {
        let docker = Self { state: Arc::default(), dir: Arc::new(tempfile::tempdir().unwrap()) };
        let listener = UnixListener::bind(docker.dir.path().join("s")).unwrap();
        let engine = docker.clone();
        let app = Router::new().fallback(move |request: Request| {
            let engine = engine.clone();
            async move { engine.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        docker.set(|state| {
            state.info =
                json!({"ID": "A:B", "ServerVersion": "29.1.0", "CgroupVersion": "2", "MemoryLimit": true})
        });
        docker
    }

    pub fn host(&self) -> String {
        format!("--docker-host=unix://{}", self.dir.path().join("s").display())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn set<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }

    /// Adds a container of an object.
    pub fn add(&self, name: &str, uid: &str, role: &str, state: &str) {
        self.set(|all| {
            all.containers.push(json!({
                "Id": format!("id-{name}"), "Name": format!("/{name}"),
                "State": {"Status": state, "Running": state == "running"},
                "Config": {"Image": "k3s:1", "Env": ["HUSH=hush-of-env"], "Labels": {
                    "localcluster.dev/uid": uid, "k3d.role": role, "k3d.cluster": "dev"}},
            }))
        });
    }

    async fn answer(&self, request: Request) -> Response {
        let (path, query) =
            (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        self.set(|state| state.calls.push(format!("{} {path}?{query}", request.method())));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let known = |value: Option<Value>| match value {
            Some(value) => value.to_string().into_response(),
            None => (StatusCode::NOT_FOUND, json!({"message": "no such thing"}).to_string()).into_response(),
        };
        match (request.method().as_str(), &parts[..]) {
            ("GET", ["info"]) => known(Some(self.set(|state| state.info.clone()))),
            ("GET", ["version"]) => known(Some(json!({"Version": "29.1.0"}))),
            ("GET", ["containers", "json"]) => {
                let all = self.set(|state| state.containers.iter().map(summary).collect::<Vec<_>>());
                known(Some(all.into()))
            }
            ("GET", ["networks"]) => known(Some(json!([]))),
            ("GET", ["volumes"]) => known(Some(json!({"Volumes": []}))),
            ("GET", ["containers", id, "json"]) => {
                known(self.set(|state| state.containers.iter().find(|c| c["Id"] == *id).cloned()))
            }
            ("GET", ["containers", id, "archive"]) => {
                let path = query.split('&').find_map(|part| part.strip_prefix("path=")).unwrap_or_default();
                let path = path.replace("%2F", "/");
                let file = self.set(|state| {
                    let mut files = state.files.iter();
                    files.find(|(of, at, _)| of == id && *at == path).map(|(_, _, content)| content.clone())
                });
                file.map_or_else(|| known(None), |content| archive(&path, &content).into_response())
            }
            ("GET", ["containers", _, "logs"]) => {
                let (out, err) = self.set(|state| state.log.clone());
                Body::from([frame(1, &out), frame(2, &err)].concat()).into_response()
            }
            ("POST", ["containers", _, "exec"]) => {
                let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let command = serde_json::from_value(body["Cmd"].clone()).unwrap();
                self.set(|state| {
                    state.commands.insert(0, command);
                    state.execs.insert(0, body);
                });
                (StatusCode::CREATED, json!({"Id": "e"}).to_string()).into_response()
            }
            ("POST", ["exec", "e", "start"]) => self.started(request),
            ("POST", ["exec", "e", "resize"]) => StatusCode::OK.into_response(),
            ("GET", ["exec", "e", "json"]) => known(Some(json!({"ExitCode": self.set(|state| state.code)}))),
            ("GET", ["images", name @ .., "json"]) => {
                let name = name.join("/");
                let id = self
                    .set(|state| state.images.iter().find(|(of, _)| *of == name).map(|(_, id)| id.clone()));
                known(id.map(|id| json!({"Id": id})))
            }
            ("POST", ["images", "load"]) => {
                axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                known(Some(json!({"stream": self.set(|state| state.loads.clone())})))
            }
            _ => known(None),
        }
    }

    fn started(&self, request: Request) -> Response {
        let (command, run, exec) =
            self.set(|state| (state.commands[0].clone(), state.run, state.execs[0].clone()));
        let docker = self.clone();
        tokio::spawn(async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let mut read = String::new();
            let has_terminal = exec["Tty"] == true;
            if has_terminal {
                // A terminal has no end: a key ends it.
                let mut key = [0; 1];
                while stream.read(&mut key).await.unwrap() > 0 && key != *b"q" {
                    read.push(key[0].into());
                }
            } else if command[0] == "cat" {
                stream.read_to_string(&mut read).await.unwrap();
            }
            let (out, err, code) = run.map_or_else(Default::default, |run| run(&command, &read));
            docker.set(|state| state.code = code);
            let written =
                if has_terminal { out.into_bytes() } else { [frame(1, &out), frame(2, &err)].concat() };
            stream.write_all(&written).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let head = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "tcp");
        head.body(Body::empty()).unwrap()
    }
}

/// The archive of a file.
fn archive(path: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path.rsplit('/').next().unwrap(), content).unwrap();
    archive.into_inner().unwrap()
}

/// A container in a list.
fn summary(inspected: &Value) -> Value {
    json!({"Id": inspected["Id"], "Names": [inspected["Name"]], "State": inspected["State"]["Status"],
        "Labels": inspected["Config"]["Labels"], "Image": inspected["Config"]["Image"]})
}

/// A piece of an output as Docker multiplexes it.
fn frame(stream: u8, text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
}
