//! HTTP server for the kubelet and Prometheus: `/healthz`, `/readyz` and `/metrics`.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use self::connections::Limited;
use crate::metrics::{Format, Metrics};

mod connections;

/// Limit of open connections. Probes and scrapes need a few; each takes some 20 KiB.
const CONNECTIONS: usize = 100;

/// Inputs of the readiness, set by their components and read by the server. Initially not ready.
#[derive(Debug, Default)]
pub struct Health {
    watches: AtomicBool,
    docker: AtomicBool,
    role: AtomicU8,
}

/// Role of this process among the processes of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// It has not tried to acquire the Lease yet.
    Starting = 0,
    /// Another process holds the Lease. This one waits without watches.
    Standby = 1,
    /// It holds the Lease.
    Leader = 2,
}

impl Health {
    /// Sets whether the watches of both kinds have listed all objects.
    pub fn set_watches(&self, ready: bool) {
        self.watches.store(ready, Ordering::Relaxed);
    }

    /// Sets whether the Docker Engine responds.
    pub fn set_docker(&self, reachable: bool) {
        self.docker.store(reachable, Ordering::Relaxed);
    }

    /// Sets the role.
    pub fn set_role(&self, role: Role) {
        self.role.store(role as u8, Ordering::Relaxed);
    }

    /// Returns the reasons why this process is not ready; empty if it is. A standby is ready without watches: it starts
    /// them when it becomes the leader.
    pub fn missing(&self) -> Vec<&'static str> {
        let role = self.role.load(Ordering::Relaxed);
        let mut missing = Vec::new();
        if role == Role::Starting as u8 {
            missing.push("the Lease has not been read yet");
        }
        if !self.docker.load(Ordering::Relaxed) {
            missing.push("the Docker Engine does not respond");
        }
        if role == Role::Leader as u8 && !self.watches.load(Ordering::Relaxed) {
            missing.push("LocalClusters and Registries have not been listed yet");
        }
        missing
    }
}

/// Serves on `listener` until `stop` completes and open requests are finished.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(Limited::new(listener, CONNECTIONS), router).with_graceful_shutdown(stop).await
}

/// Returns the responses to probes.
pub fn probes(health: Arc<Health>) -> Router {
    Router::new()
        // Responds as long as the runtime is running. It must not depend on Docker or the API: restarting this process
        // fixes neither.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(health))
}

/// Returns the responses to scrapes.
pub fn metrics(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(show).with_state(metrics))
}

async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let missing = health.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
    }
}

async fn show(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = format(&accepted.join(","));
    match metrics.encode_as(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// Returns the format for the value of an Accept header: the one that the client prefers of those that it names. Others
/// get the format that every scraper reads.
fn format(accept: &str) -> Format {
    let mut best = (0.0, Format::Prometheus);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut weight = 1.0;
        let mut version = None;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        let format = match (kind.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Format::OpenMetrics,
            ("text/plain", None | Some("0.0.4")) => Format::Prometheus,
            _ => continue,
        };
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };
    use tower::ServiceExt;

    use super::*;

    async fn ask(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn alive_at_once_and_ready_when_nothing_is_missing() {
        let health = Arc::new(Health::default());
        let router = probes(health.clone());
        assert_eq!(ask(&router, "/healthz").await.0, 200);

        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(body, "not ready: the Lease has not been read yet; the Docker Engine does not respond\n");

        health.set_role(Role::Standby);
        health.set_docker(true);
        assert_eq!(ask(&router, "/readyz").await.0, 200);

        health.set_role(Role::Leader);
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!((status, body.contains("Registries have not been listed")), (503, true));

        health.set_watches(true);
        assert_eq!(ask(&router, "/readyz").await, (200, "ok\n".to_owned()));

        health.set_docker(false);
        assert_eq!(ask(&router, "/readyz").await.0, 503);
    }

    #[tokio::test]
    async fn metrics_have_the_format_that_the_scraper_asks_for() {
        let router = metrics(Metrics::new());
        assert_eq!(ask(&router, "/healthz").await.0, 404);
        let scrape = async |accept: &str| {
            let request =
                Request::get("/metrics").header(header::ACCEPT, accept).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), 200);
            let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (kind, String::from_utf8(body.to_vec()).unwrap())
        };
        // That of Prometheus 3.
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;\
                          version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;\
                          q=0.3,*/*;q=0.2";
        let (kind, body) = scrape(prometheus).await;
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert!(body.ends_with("# EOF\n"), "{body}");
        for plain in
            ["*/*", "", "text/plain", "text/plain;q=0.9, application/openmetrics-text;q=0.1", "text/html"]
        {
            let (kind, body) = scrape(plain).await;
            assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{plain}");
            assert!(!body.contains("# EOF"), "{body}");
        }
        assert_eq!(format("application/openmetrics-text; version=2.0.0"), Format::Prometheus);
        assert_eq!(format("application/openmetrics-text"), Format::OpenMetrics);
    }

    #[tokio::test]
    async fn stops_when_cancelled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stopped = serve(listener, probes(Arc::default()), async {}).await;
        assert!(stopped.is_ok());
    }

    /// The kubelet must get through whatever others hold open.
    #[tokio::test]
    async fn a_new_connection_closes_the_oldest_beyond_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = probes(Arc::default());
        tokio::spawn(async { axum::serve(Limited::new(listener, 3), router).await });
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        for closed in 0..5 {
            let mut probe = TcpStream::connect(address).await.unwrap();
            probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            probe.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{closed}: {answer}");
        }
        let mut byte = [0];
        assert_eq!(silent[0].read(&mut byte).await.unwrap(), 0, "the oldest is closed");
        for open in &mut silent[1..] {
            let waits = timeout(Duration::from_millis(50), open.read(&mut byte)).await;
            assert!(waits.is_err(), "connections that have ended count no longer");
        }
    }
}
