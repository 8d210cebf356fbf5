//! Images of the Docker host for nodes that ask for them: a listener in the load balancer of each cluster that wants it,
//! and the answers.
//!
//! A node asks the operator for the manifest of an image before it asks a registry. If the Docker host has the image, it is
//! imported into that node, and the answer is the manifest that containerd has by then, so that it finds everything else
//! in its own store and downloads nothing. Everything else is answered with 404 at once, and containerd goes on.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    backoff::{Backoff, jitter},
    preload::{Manifest, Preloads},
    times,
};
use crate::{
    api::names,
    docker::{
        engine::{ContainerDetail, Engine, Result, State},
        error::Error,
        listener::{self, CONNECTIONS, Incoming},
        share,
        tunnel::Stream,
        tunnels::Tunnels,
    },
    k3s::images,
    plan::{
        observed::Listening,
        owner::Owner,
        policy::{host_images::allows, rules::Rules},
        settings::Settings,
    },
};

/// Header with the digest of a manifest.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Maximum size of the head of a request.
const HEAD: usize = 16 << 10;

/// Listeners and answers of one engine.
pub struct HostImages {
    tunnels: Arc<Tunnels>,
    answers: Arc<Answers>,
    clusters: Mutex<HashMap<String, Served>>,
}

/// What the nodes of a cluster get.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Owner of the nodes.
    pub owner: Owner,
    /// Name of the cluster's network.
    pub network: String,
    /// Registries whose images come from nowhere else.
    pub own: BTreeSet<String>,
    /// Rules of the policy.
    pub rules: Rules,
    /// Settings within it.
    pub settings: Settings,
}

/// Called when the state of a listener has changed.
pub type Turned = Box<dyn Fn() + Send>;

/// A cluster with a listener, which ends when this is dropped.
struct Served {
    place: Place,
    shared: Arc<Shared>,
    _ends: DropGuard,
}

/// Where a listener runs: one start of a load balancer.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    container: String,
    started: Option<Timestamp>,
    address: SocketAddr,
}

/// What a listener and the passes over its cluster share.
struct Shared {
    terms: Mutex<Arc<Terms>>,
    state: Mutex<Listening>,
}

impl Shared {
    fn terms(&self) -> Arc<Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> MutexGuard<'_, Listening> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostImages {
    /// Creates an instance that serves no cluster.
    pub fn new(engine: Arc<dyn Engine>, tunnels: Arc<Tunnels>, preloads: Preloads) -> Self {
        let answers = Arc::new(Answers { engine, preloads, refused: Mutex::default() });
        Self { tunnels, answers, clusters: Mutex::default() }
    }

    /// Starts or keeps the listener of a cluster at this address of its load balancer, and returns its state. Without a
    /// running load balancer there is none.
    pub fn observe(
        &self,
        balancer: Option<&ContainerDetail>,
        address: SocketAddr,
        terms: Terms,
        turned: Turned,
    ) -> Option<Listening> {
        let uid = terms.owner.uid.clone();
        let Some(running) = balancer.filter(|d| d.container.state == State::Running) else {
            self.forget(&uid);
            return None;
        };
        let place = Place { container: running.container.id.clone(), started: running.started_at, address };
        let mut clusters = self.lock();
        if let Some(served) = clusters.get(&uid).filter(|served| served.place == place) {
            *served.shared.terms.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(terms);
            return Some(served.shared.state().clone());
        }
        let shared =
            Arc::new(Shared { terms: Mutex::new(Arc::new(terms)), state: Mutex::new(Listening::Starting) });
        let end = CancellationToken::new();
        let work = listen(self.tunnels.clone(), self.answers.clone(), place.clone(), shared.clone(), turned);
        let until = end.clone();
        share::spawn(async move { until.run_until_cancelled(work).await });
        clusters.insert(uid, Served { place, shared, _ends: end.drop_guard() });
        Some(Listening::Starting)
    }

    /// Ends the listener of a cluster, if there is one.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Served>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens and answers, again and again.
async fn listen(
    tunnels: Arc<Tunnels>,
    answers: Arc<Answers>,
    place: Place,
    shared: Arc<Shared>,
    turned: Turned,
) {
    let backoff = Backoff::new(times::LISTEN);
    loop {
        let why = match tunnels.listen(&place.container, place.address).await {
            Ok(incoming) => {
                *shared.state() = Listening::Up;
                turned();
                tracing::debug!(container = place.container, "listening for nodes that ask for images");
                let began = Instant::now();
                serve(incoming, &answers, &shared).await;
                if began.elapsed() > times::LISTEN.last {
                    // The connection to Docker ended. It may be possible again at once.
                    backoff.cleared(&());
                    *shared.state() = Listening::Starting;
                    continue;
                }
                "the listener in the load balancer ended".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if answers.engine.inspect(&place.container).await.is_ok_and(|found| found.is_none()) {
            // There will never be a container with this ID again.
            return;
        }
        tracing::warn!(container = place.container, why, "nodes cannot ask for images of the Docker host");
        *shared.state() = Listening::Failed(why);
        turned();
        sleep(backoff.failed((), Instant::now(), jitter())).await;
    }
}

/// Answers the connections to a listener until it ends.
async fn serve(mut incoming: Incoming, answers: &Arc<Answers>, shared: &Arc<Shared>) {
    let mut open = JoinSet::new();
    while let Some(stream) = incoming.next().await {
        while open.try_join_next().is_some() {}
        // One that finds no room is closed.
        if open.len() < CONNECTIONS {
            let answered = answer(answers.clone(), shared.terms(), stream);
            open.spawn(share::on_behalf_of(share::Caller::current(), answered));
        }
    }
}

/// Answers one request. The errors of a connection are those of its node.
async fn answer(answers: Arc<Answers>, terms: Arc<Terms>, mut stream: Stream) {
    let Ok(peer) = listener::peer(&mut stream).await else { return };
    let service = service_fn(|request| {
        let (answers, terms) = (answers.clone(), terms.clone());
        async move { Ok::<_, std::convert::Infallible>(answers.respond(&terms, peer.ip(), &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times::NODE_ASKS)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a node did not get its answer");
    }
}

/// The answers to nodes.
struct Answers {
    engine: Arc<dyn Engine>,
    preloads: Preloads,
    /// Containers and images whose import failed, with the time.
    refused: Mutex<HashMap<(String, String), Instant>>,
}

impl Answers {
    async fn respond<B>(
        self: &Arc<Self>,
        terms: &Terms,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Response<Full<Bytes>> {
        let uri = request.uri();
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        let asked = images::requested(uri.path(), uri.query().unwrap_or_default());
        let asked = asked.filter(|(registry, _)| reads && !terms.own.contains(registry));
        let found = match asked {
            Some((_, image)) => self.find(terms, peer, &image).await.unwrap_or_else(|error| {
                tracing::warn!(image, %peer, %error, "a node did not get an image of the Docker host");
                None
            }),
            None => None,
        };
        match found {
            Some(manifest) => of_manifest(manifest),
            None => not_found(),
        }
    }

    /// Returns the manifest of an image in the node that asks for it; `None` if it does not get it from here.
    async fn find(self: &Arc<Self>, terms: &Terms, peer: IpAddr, image: &str) -> Result<Option<Manifest>> {
        let names = self.engine.image_names(image).await?;
        let Some(names) = names.filter(|names| allows(&terms.rules, &terms.settings, image, names)) else {
            return Ok(None);
        };
        let Some(node) = self.node(terms, peer).await? else { return Ok(None) };
        let key = (node, image.to_owned());
        if self.lock().get(&key).is_some_and(|at| at.elapsed() < times::IMPORT_REFUSED) {
            return Ok(None);
        }
        let this = self.clone();
        // It goes on if the node gives up: it will ask again.
        let provided = share::spawn(async move {
            let provided = this.preloads.provide(&key.0, &key.1, &names.id).await;
            let mut refused = this.lock();
            refused.retain(|_, at| at.elapsed() < times::IMPORT_REFUSED);
            if provided.is_err() {
                refused.insert(key, Instant::now());
            }
            provided
        });
        provided.await.map_err(|error| Error::Engine(error.to_string()))?.map(Some)
    }

    /// Returns the ID of the cluster's node with this address on its network.
    async fn node(&self, terms: &Terms, peer: IpAddr) -> Result<Option<String>> {
        let IpAddr::V4(peer) = peer else { return Ok(None) };
        let all = self.engine.containers().await?;
        let node = all.into_iter().find(|container| {
            let role = container.labels.get(names::ROLE).map(String::as_str);
            let mut here = container.networks.values().filter(|n| n.network_name == terms.network);
            terms.owner.owns(&container.labels)
                && matches!(role, Some("server" | "agent"))
                && here.any(|network| network.ip == Some(peer))
        });
        Ok(node.map(|node| node.id))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Instant>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_manifest(manifest: Manifest) -> Response<Full<Bytes>> {
    let Manifest { kind, digest, content } = manifest;
    let response = Response::builder().header(header::CONTENT_TYPE, kind).header(DIGEST, digest);
    // What containerd says of an image may be anything: a user has root in the node.
    response.body(Full::from(content)).unwrap_or_else(|_| not_found())
}

fn not_found() -> Response<Full<Bytes>> {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not an image of the Docker host"}]}"#;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
