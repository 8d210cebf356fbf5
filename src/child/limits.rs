//! Limits of what the API of a created cluster may answer. Whoever is root in a node can answer anything in its place.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use kube::{
    Api, Resource,
    api::{ListParams, Request as Query},
};
use serde::{Deserialize, de::DeserializeOwned};
use tower::{Layer, Service};

/// Maximum size of a response. A ConfigMap is at most 1 MiB, which JSON escapes may double.
const RESPONSE: usize = 4 << 20;
/// Maximum number of JSON objects in a response: `{}` becomes up to a kilobyte in memory. A Node or a Pod has up to about
/// 250.
const OBJECTS: usize = 32 << 10;
/// Maximum size of all events of a watch, which is renewed every minute.
const EVENTS: usize = 4 * RESPONSE;
/// Maximum number of objects in a list. A Node has at most 110 Pods unless the kubelet is configured for more.
const LISTED: usize = 2000;
/// Number of objects that are requested at once.
pub const PAGE: u32 = 100;

/// Error of a response that exceeds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exceeded {
    Size(usize),
    Objects,
    Listed,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(limit) => write!(
                f,
                "the response is larger than {} MiB, of which the operator reads no more",
                limit >> 20
            ),
            Self::Objects => write!(
                f,
                "the response has more than {OBJECTS} JSON objects, of which the operator reads no more"
            ),
            Self::Listed => write!(f, "there are more than {LISTED}, of which the operator reads no more"),
        }
    }
}

impl StdError for Exceeded {}

/// What was received of a response.
#[derive(Debug, Default)]
struct Received {
    watches: bool,
    bytes: usize,
    /// Of a watch: of the current event, which ends with its line.
    event: usize,
    objects: usize,
}

impl Received {
    /// Counts a part of the response.
    fn add(&mut self, part: &[u8]) -> Result<(), Exceeded> {
        self.bytes = self.bytes.saturating_add(part.len());
        let all = if self.watches { EVENTS } else { RESPONSE };
        if self.bytes > all {
            return Err(Exceeded::Size(all));
        }
        let mut events = part.split(|byte| *byte == b'\n');
        self.count(events.next().unwrap_or_default())?;
        for event in events {
            if self.watches {
                (self.event, self.objects) = (0, 0);
            }
            self.count(event)?;
        }
        Ok(())
    }

    fn count(&mut self, part: &[u8]) -> Result<(), Exceeded> {
        self.event += part.len();
        self.objects += part.iter().filter(|byte| **byte == b'{').count();
        if self.event > RESPONSE {
            return Err(Exceeded::Size(RESPONSE));
        }
        if self.objects > OBJECTS { Err(Exceeded::Objects) } else { Ok(()) }
    }
}

/// Layer of a client that fails responses which exceed the limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits;

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner }
    }
}

/// A client with [`Limits`].
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Limited<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<LimitedBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        let watches = query.split('&').any(|part| part.starts_with("watch="));
        let received = Received { watches, ..Received::default() };
        self.inner.call(request).map_ok(|r| r.map(|inner| LimitedBody { inner, received })).boxed()
    }
}

/// The body of a response.
#[derive(Debug)]
pub struct LimitedBody<B> {
    inner: B,
    received: Received,
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        Pin::new(&mut this.inner).poll_frame(cx).map(|frame| {
            Some(frame?.map_err(Into::into).and_then(|frame| {
                frame.data_ref().map_or(Ok(()), |data| this.received.add(data))?;
                Ok(frame)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
struct Page<K> {
    #[serde(default)]
    metadata: PageMeta,
    /// Null for none, as Go encodes an empty list.
    items: Option<Vec<K>>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    more: Option<String>,
}

/// Returns the objects of a list, which is requested in pages.
pub async fn list<K>(api: &Api<K>, params: &ListParams) -> kube::Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned,
{
    let (mut all, mut pages, mut params) = (Vec::new(), 0, params.clone().limit(PAGE));
    loop {
        let request = Query::new(api.resource_url()).list(&params);
        let page: Page<K> =
            api.clone().into_client().request(request.map_err(kube::Error::BuildRequest)?).await?;
        all.extend(page.items.into_iter().flatten());
        pages += 1;
        // A page may be shorter than requested, and the API of an intruder may have nothing but empty ones.
        if all.len() > LISTED || pages > LISTED {
            return Err(kube::Error::Service(Exceeded::Listed.into()));
        }
        match page.metadata.more.filter(|more| !more.is_empty()) {
            Some(more) => params.continue_token = Some(more),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};
    use k8s_openapi::api::core::v1::Node;
    use kube::Client;

    use super::*;
    use crate::child::call;

    /// A client of an API that answers each request with these parts, over and over.
    fn client(first: &str, again: &str, last: &str, times: usize) -> Client {
        let parts: Arc<[Bytes]> = [first, again, last].map(|part| Bytes::from(part.to_owned())).into();
        let service = tower::service_fn(move |_: Request<kube::client::Body>| {
            let parts = parts.clone();
            async move {
                let all = (0..times + 2).map(move |i| match i {
                    0 => parts[0].clone(),
                    i if i <= times => parts[1].clone(),
                    _ => parts[2].clone(),
                });
                let frames = all.map(|part| Ok::<_, Infallible>(Frame::data(part)));
                Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(frames)).boxed()))
            }
        });
        Client::new(Limits.layer(service), "default")
    }

    async fn refused(client: Client) -> String {
        let api = Api::<Node>::all(client);
        let error = list(&api, &ListParams::default()).await.expect_err("it is listed");
        call::words(&error).to_string()
    }

    #[tokio::test]
    async fn a_list_without_end_is_an_error() {
        let mebibyte = format!("{:?},", "x".repeat(1 << 20));
        let huge = client(r#"{"items": [{"x": ["#, &mebibyte, "0]}]}", 300);
        assert_eq!(
            refused(huge).await,
            "the response is larger than 4 MiB, of which the operator reads no more"
        );
        let deep = client(r#"{"items": [{"status": {"conditions": ["#, &"{},".repeat(1000), "{}]}}]}", 400);
        assert_eq!(
            refused(deep).await,
            "the response has more than 32768 JSON objects, of which the operator reads no more"
        );
        let many = client(r#"{"items": ["#, &"{},".repeat(10), "{}]}", 300);
        assert_eq!(refused(many).await, "there are more than 2000, of which the operator reads no more");
        let pages = client(r#"{"metadata": {"continue": "x"}, "items": ["#, &"{},".repeat(10), "{}]}", 1);
        assert_eq!(refused(pages).await, "there are more than 2000, of which the operator reads no more");
        // It has no object, and no end either.
        let empty = client(r#"{"metadata": {"continue": "x"}, "items": []}"#, "", "", 0);
        assert_eq!(refused(empty).await, "there are more than 2000, of which the operator reads no more");
    }

    #[tokio::test]
    async fn what_a_cluster_answers_is_read() {
        for none in [r#"{"items": null}"#, r#"{"items": []}"#] {
            let api = Api::<Node>::all(client(none, "", "", 0));
            assert!(list(&api, &ListParams::default()).await.unwrap().is_empty());
        }
        let node = |i| format!(r#"{{"metadata": {{"name": "n{i}"}}}}"#);
        let nodes = (0..200).map(node).collect::<Vec<_>>().join(",");
        let api = Api::<Node>::all(client(r#"{"items": ["#, &nodes, "]}", 1));
        assert_eq!(list(&api, &ListParams::default()).await.unwrap().len(), 200);
    }

    #[test]
    fn events_are_limited_each_and_together() {
        let watch = || Received { watches: true, ..Received::default() };
        let event = format!("{}\n", "{}".repeat(OBJECTS));
        let mut received = watch();
        let added: usize = (0..1000).take_while(|_| received.add(event.as_bytes()).is_ok()).count();
        assert_eq!(added, EVENTS / event.len());
        assert_eq!(watch().add(&vec![b'{'; OBJECTS + 1]), Err(Exceeded::Objects));
        let mut received = watch();
        let line = vec![b' '; 1 << 20];
        assert!((0..4).all(|_| received.add(&line).is_ok()));
        assert_eq!(received.add(b" "), Err(Exceeded::Size(RESPONSE)));
        // Lines are no events in a response that is none of a watch.
        let mut received = Received::default();
        assert_eq!((0..1000).find_map(|_| received.add(event.as_bytes()).err()), Some(Exceeded::Objects));
    }
}
