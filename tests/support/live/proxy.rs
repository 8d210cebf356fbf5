//! A proxy between the operator and Docker: it counts calls, kills the operator at a call, or refuses connections.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};

use super::{
    operator::{Victim, kill},
    scratch, world,
};

/// When the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Before Docker receives the call.
    Before,
    /// After Docker carried it out and before the response.
    After,
}

/// A socket that forwards to Docker's.
pub struct Proxy {
    socket: PathBuf,
    shared: Arc<Shared>,
    /// All connections; `None` while Docker is unreachable.
    runtime: Option<Runtime>,
}

struct Shared {
    upstream: PathBuf,
    victim: Victim,
    calls: AtomicUsize,
    changes: AtomicUsize,
    /// The number of the change at which the operator is killed.
    kill: Mutex<Option<(usize, Kill)>>,
    /// The calls that change something, in order.
    recorded: Mutex<Vec<String>>,
}

impl Proxy {
    /// Creates an open proxy.
    pub fn new(victim: Victim) -> Self {
        let upstream = world("DOCKER_HOST").strip_prefix("unix://").expect("Docker is local").into();
        let shared = Arc::new(Shared {
            upstream,
            victim,
            calls: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            kill: Mutex::new(None),
            recorded: Mutex::default(),
        });
        let mut proxy = Self { socket: scratch("docker.sock"), shared, runtime: None };
        proxy.open();
        proxy
    }

    /// Returns its address, in the form of the operator's setting.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Makes Docker reachable again.
    pub fn open(&mut self) {
        let runtime = Runtime::new().expect("there are threads");
        let app = Router::new().fallback(forward).with_state(self.shared.clone());
        let _ = std::fs::remove_file(&self.socket);
        let listener =
            runtime.block_on(async { UnixListener::bind(&self.socket) }).expect("the socket is free");
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.runtime = Some(runtime);
    }

    /// Makes Docker unreachable: closes all connections and refuses new ones.
    pub fn close(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Kills the operator at its `number`th change from now on, counted from 1.
    pub fn arm(&self, number: usize, when: Kill) {
        self.shared.changes.store(0, Ordering::SeqCst);
        self.shared.recorded.lock().unwrap().clear();
        *self.shared.kill.lock().unwrap() = Some((number, when));
    }

    /// Reports whether the kill is still pending.
    pub fn is_armed(&self) -> bool {
        self.shared.kill.lock().unwrap().is_some()
    }

    /// Cancels the kill, and returns the changes since the last `arm`.
    pub fn disarm(&self) -> Vec<String> {
        *self.shared.kill.lock().unwrap() = None;
        std::mem::take(&mut self.shared.recorded.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Shared {
    /// Reports whether the operator is killed at this change.
    fn strikes(&self, number: usize, when: Kill) -> bool {
        let mut kill = self.kill.lock().unwrap();
        if *kill == Some((number, when)) {
            *kill = None;
            return true;
        }
        false
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.calls.fetch_add(1, Ordering::SeqCst);
    let mut number = 0;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        number = shared.changes.fetch_add(1, Ordering::SeqCst) + 1;
        shared.recorded.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        if shared.strikes(number, Kill::Before) {
            kill(&shared.victim);
            return StatusCode::GONE.into_response();
        }
    }
    let answer = match ask(&shared.upstream, request).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, error).into_response(),
    };
    if number > 0 && shared.strikes(number, Kill::After) {
        kill(&shared.victim);
    }
    answer
}

/// Uses one connection for each call: a broken one must not affect another call.
async fn ask(upstream: &Path, request: Request) -> Result<Response, String> {
    let stream = UnixStream::connect(upstream).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    Ok(answer.map(Body::new))
}
