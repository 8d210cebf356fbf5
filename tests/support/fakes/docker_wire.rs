//! A scripted Docker daemon: it answers each request with what a function says and keeps what it was asked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use localcluster_operator::{
    api::local_cluster::NodeRole,
    docker::{
        bollard::BollardEngine,
        engine::RegistryAuth,
        spec::{ContainerSpec, Role},
    },
};
use tokio::{net::UnixListener, task::JoinHandle};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and path, without the query.
    pub call: String,
    pub query: String,
    pub auth: Option<String>,
    pub body: Bytes,
}

/// What is answered.
pub enum Reply {
    /// A status and a body.
    Json(u16, String),
    /// 200 and this header.
    Header(&'static str, String),
    /// 200 and a body in these very pieces, that then ends.
    Pieces(Vec<Vec<u8>>),
    /// 200 and a body in these very pieces, that then goes on in silence.
    Hang(Vec<Vec<u8>>),
    /// 200 and a body that breaks off after these pieces.
    Cut(Vec<Vec<u8>>),
    /// Not even headers.
    Silence,
}

pub fn json(status: u16, body: &str) -> Reply {
    Reply::Json(status, body.into())
}

/// An error as Docker writes it.
pub fn error(status: u16, message: &str) -> Reply {
    Reply::Json(status, serde_json::json!({ "message": message }).to_string())
}

pub fn pieces<const N: usize>(pieces: [&str; N]) -> Vec<Vec<u8>> {
    pieces.map(|piece| piece.as_bytes().to_vec()).into()
}

/// A daemon at a socket, until it is dropped.
pub struct Daemon {
    seen: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
    socket: PathBuf,
    /// Where the socket is, if nobody else keeps it.
    _directory: Option<tempfile::TempDir>,
}

impl Daemon {
    /// A daemon and an engine that talks to it.
    pub fn with_engine(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Self, BollardEngine) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let mut daemon = Self::at(&socket, script);
        daemon._directory = Some(directory);
        (daemon, engine(&socket))
    }

    /// A daemon at this socket.
    pub fn at(socket: &Path, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let script = Arc::new(script);
        let app = Router::new().fallback(move |request: Request| {
            let (log, script) = (log.clone(), script.clone());
            async move {
                let seen = read(request).await;
                log.lock().unwrap().push(seen.clone());
                answer(script(&seen)).await
            }
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { seen, server, socket: socket.to_owned(), _directory: None }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn calls(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.call).collect()
    }

    /// Ends it. Its socket is left over, as after a crash.
    pub async fn crash(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// An engine whose timeouts no test reaches, however busy the machine is.
pub fn engine(socket: &Path) -> BollardEngine {
    BollardEngine::connect(&format!("unix://{}", socket.display())).unwrap()
}

async fn read(request: Request) -> Seen {
    let (head, body) = request.into_parts();
    let auth = head.headers.get("x-registry-auth").map(|value| value.to_str().unwrap().to_owned());
    Seen {
        call: format!("{} {}", head.method, head.uri.path()),
        query: head.uri.query().unwrap_or_default().to_owned(),
        auth,
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    }
}

async fn answer(reply: Reply) -> Response {
    let items = |pieces: Vec<Vec<u8>>| stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
    match reply {
        Reply::Json(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Reply::Header(name, value) => ([(name, value)], "").into_response(),
        // Each piece becomes a chunk of the body of its own, which is how it arrives at bollard's decoder.
        Reply::Pieces(pieces) => Body::from_stream(items(pieces).map(unfailing)).into_response(),
        Reply::Hang(pieces) => {
            Body::from_stream(items(pieces).map(unfailing).chain(stream::pending())).into_response()
        }
        Reply::Cut(pieces) => {
            let cut = stream::iter([Err(std::io::Error::other("the daemon is gone"))]);
            Body::from_stream(items(pieces).chain(cut)).into_response()
        }
        Reply::Silence => std::future::pending().await,
    }
}

fn unfailing(piece: std::io::Result<Bytes>) -> std::io::Result<Bytes> {
    piece
}

/// A container with a secret in its environment.
pub fn spec() -> ContainerSpec {
    ContainerSpec {
        env: BTreeMap::from([("TOKEN".into(), "hunter2-secret".into())]),
        ..ContainerSpec::bare("c", Role::Node(NodeRole::Server), "i:1")
    }
}

/// Credentials with a password that plain Base64 and that for URLs encode differently.
pub fn auth() -> RegistryAuth {
    RegistryAuth {
        server: "r.example".into(),
        username: "u".into(),
        password: "hunter2-??>>~~".into(),
        identity_token: None,
    }
}
