//! Docker's API over HTTP, as far as the operator uses it.

use std::{convert::Infallible, io::Read, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::broadcast::error::RecvError,
};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Engine, Refusal},
    shapes,
};

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a request is answered with.
enum Reply {
    Json(Value),
    Empty(u16),
    Raw(Vec<u8>),
    /// The header that tells of a path, and an archive.
    Archive(String, Vec<u8>),
    Events,
    /// The output of a command, in place of the connection's protocol.
    Attached(String),
}

type Answer = Result<Reply, Refusal>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// Returns a body of these pieces, as they come.
pub fn pieces(pieces: impl futures::Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// Serves a connection until it ends, or `end` is cancelled.
pub async fn serve<F>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F,
    end: CancellationToken,
) where
    F: Future<Output = Response<Body>> + Send,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades();
    // That a client goes is no failure.
    drop(end.run_until_cancelled(connection).await);
}

/// Answers a request to Docker.
pub async fn answer(engine: Arc<Engine>, mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = head.uri.path().trim_start_matches('/');
    let path: Vec<String> = path.split('/').map(decoded).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = |name: &str| {
        let pairs = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    };
    engine.counts.note(format!("docker {} {}", head.method, endpoint(&path)));
    let reply = match path.as_slice() {
        ["containers", rest @ ..] => containers(&engine, (&head.method, rest), &query, &body).await,
        ["networks" | "volumes", ..] => others(&engine, &head.method, &path, &body),
        _ => rest(&engine, &head.method, &path, &body),
    };
    let respond = |status: u16, body: Bytes| {
        engine.counts.answered(body.len());
        let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
        response.body(full(body)).expect("it is valid")
    };
    match reply {
        Ok(Reply::Json(json)) => {
            respond(if head.method == Method::POST { 201 } else { 200 }, json.to_string().into())
        }
        Ok(Reply::Empty(status)) => Response::builder().status(status).body(full("")).expect("it is valid"),
        Ok(Reply::Raw(bytes)) => respond(200, bytes.into()),
        Ok(Reply::Archive(stat, bytes)) => {
            let mut response = respond(200, bytes.into());
            response
                .headers_mut()
                .insert("X-Docker-Container-Path-Stat", stat.parse().expect("it is base64"));
            response
        }
        Ok(Reply::Events) => Response::new(pieces(events(&engine))),
        Ok(Reply::Attached(output)) => {
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    attach(upgraded, &output).await;
                }
            });
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            let response = response.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
            response.body(full("")).expect("it is valid")
        }
        Err((status, message)) => respond(status, json!({"message": message}).to_string().into()),
    }
}

/// Writes the output as Docker multiplexes it.
async fn attach(upgraded: Upgraded, output: &str) {
    let mut io = TokioIo::new(upgraded);
    let length = u32::try_from(output.len()).expect("it is short").to_be_bytes();
    let frame = [&[1, 0, 0, 0], &length[..], output.as_bytes()].concat();
    // The operator may have given up.
    let _ = io.write_all(&frame).await;
    let _ = io.shutdown().await;
}

fn events(engine: &Engine) -> impl futures::Stream<Item = Bytes> + Send + 'static {
    let events = engine.events.subscribe();
    stream::unfold(events, |mut events| async {
        match events.recv().await {
            Ok(event) => Some((event, events)),
            Err(RecvError::Lagged(_) | RecvError::Closed) => None,
        }
    })
}

async fn containers(
    engine: &Engine,
    (method, path): (&Method, &[&str]),
    query: &impl Fn(&str) -> Option<String>,
    body: &[u8],
) -> Answer {
    let parsed = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    let (get, post) = (method == Method::GET, method == Method::POST);
    match path {
        ["json"] => Ok(Reply::Json(
            engine.state().containers.values().map(shapes::summary).collect::<Vec<_>>().into(),
        )),
        ["create"] => {
            let id = engine.create_container(&query("name").unwrap_or_default(), parsed())?;
            Ok(Reply::Json(json!({"Id": id, "Warnings": []})))
        }
        [id, "json"] => engine.state().container(id).map(|c| Reply::Json(shapes::detail(c))),
        [id, "start"] => Ok(Reply::Empty(if engine.start(id).await? { 204 } else { 304 })),
        [id, "stop"] => Ok(Reply::Empty(if engine.end(id, 0)? { 204 } else { 304 })),
        [id, "kill"] if query("signal").is_some_and(|signal| signal.ends_with("HUP")) => {
            engine.state().container(id).map(|_| Reply::Empty(204))
        }
        [id, "kill"] => engine.end(id, 137).map(|_| Reply::Empty(204)),
        [id, "update"] => {
            let change = parsed();
            engine.state().container(id)?.body["HostConfig"]["RestartPolicy"] =
                change["RestartPolicy"].clone();
            Ok(Reply::Raw(br#"{"Warnings":[]}"#.to_vec()))
        }
        [id, "logs"] => engine.state().container(id).map(|_| Reply::Raw(Vec::new())),
        [id, "archive"] if method == Method::PUT => {
            unpack(engine, id, body)?;
            Ok(Reply::Empty(200))
        }
        [id, "archive"] => {
            let path = query("path").unwrap_or_default();
            let content = engine.read(id, &path)?;
            let content =
                content.ok_or_else(|| (404, format!("Could not find the file {path} in container {id}")))?;
            Ok(archive(&path, &content, get))
        }
        [id, "exec"] if post => {
            let config = parsed();
            let command = config["Cmd"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let (exec, command) = (engine.fresh_id(), command.map(str::to_owned).collect());
            let mut state = engine.state();
            let container = state.container(id)?;
            if container.run.is_none() {
                return Err((409, format!("container {id} is not running")));
            }
            let id = container.id.clone();
            state.execs.insert(exec.clone(), (id, command));
            Ok(Reply::Json(json!({"Id": exec})))
        }
        [id] if method == Method::DELETE => engine.remove_container(id).map(|()| Reply::Empty(204)),
        _ => unknown(method, path),
    }
}

fn unknown(method: &Method, path: &[&str]) -> Answer {
    eprintln!("the fake of Docker does not know {method} {path:?}");
    Err((501, "not implemented".into()))
}

fn others(engine: &Engine, method: &Method, path: &[&str], body: &[u8]) -> Answer {
    let parsed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let (get, delete) = (method == Method::GET, method == Method::DELETE);
    match path {
        ["networks"] => {
            Ok(Reply::Json(engine.state().networks.values().map(shapes::network).collect::<Vec<_>>().into()))
        }
        ["networks", "create"] => {
            Ok(Reply::Json(json!({"Id": engine.create_network(parsed)?, "Warning": ""})))
        }
        ["networks", id, "connect"] => engine.connect(id, &parsed).map(|()| Reply::Empty(200)),
        ["networks", id, "disconnect"] => engine.disconnect(id, &parsed).map(|()| Reply::Empty(200)),
        ["networks", id] if delete => engine.remove_network(id).map(|()| Reply::Empty(204)),
        ["networks", id] if get => engine.state().network(id).map(|n| Reply::Json(shapes::network(n))),
        ["volumes"] => {
            let volumes: Vec<Value> = engine.state().volumes.values().cloned().collect();
            Ok(Reply::Json(json!({"Volumes": volumes, "Warnings": null})))
        }
        ["volumes", "create"] => Ok(Reply::Json(engine.create_volume(&parsed))),
        ["volumes", name] if delete => engine.remove_volume(name).map(|()| Reply::Empty(204)),
        _ => unknown(method, path),
    }
}

fn rest(engine: &Engine, method: &Method, path: &[&str], _: &[u8]) -> Answer {
    match path {
        ["info"] => Ok(Reply::Json(shapes::info())),
        ["events"] => Ok(Reply::Events),
        ["images", reference @ .., "json"] => Ok(Reply::Json(shapes::image(&reference.join("/")))),
        ["exec", id, "start"] => {
            let found = engine.state().execs.get(*id).cloned();
            let (container, command) = found.ok_or_else(|| (404, format!("No such exec instance: {id}")))?;
            run(engine, &container, &command).map(Reply::Attached)
        }
        ["exec", id, "json"] => {
            // The operator asks once, at the end.
            engine.state().execs.remove(*id);
            Ok(Reply::Json(json!({"ID": id, "Running": false, "ExitCode": 0, "Pid": 0})))
        }
        _ => unknown(method, path),
    }
}

/// Where the operator copies its program to, for a connection that has no route.
const FORWARDER: &str = "/usr/local/bin/localcluster-forward-";

/// Runs a command in a container, and returns its output.
fn run(engine: &Engine, container: &str, command: &[String]) -> Result<String, Refusal> {
    if command.first().is_some_and(|program| program.starts_with(FORWARDER)) {
        engine.counts.note("docker: programs that forward".to_owned());
    }
    // The one that writes the hosts file.
    if let [_, _, script, _, content] = command
        && let Some((_, file)) = script.rsplit_once('>')
    {
        engine
            .state()
            .container(container)?
            .files
            .insert(file.trim().to_owned(), content.clone().into_bytes());
    }
    let limits = command == localcluster_operator::plan::host_limits::COMMAND;
    Ok(if limits { "65536\n1000000 900000\n".into() } else { String::new() })
}

fn unpack(engine: &Engine, id: &str, bytes: &[u8]) -> Result<(), Refusal> {
    let bad = |error: std::io::Error| (400, error.to_string());
    for entry in tar::Archive::new(bytes).entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = format!("/{}", entry.path().map_err(bad)?.display());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(bad)?;
        if path.starts_with(FORWARDER) {
            engine.counts.note("docker: copies of the operator's program".to_owned());
            // Its content is of no use here.
            content.clear();
        }
        engine.state().container(id)?.files.insert(path, content);
    }
    Ok(())
}

/// A file as Docker downloads it, or what it tells of it alone.
fn archive(path: &str, content: &[u8], whole: bool) -> Reply {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stat = json!({"name": name, "size": content.len(), "mode": 0o644, "mtime": "2026-11-01T00:00:00Z", "linkTarget": ""});
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).expect("it is small"));
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, content).expect("it is in memory");
    let bytes = builder.into_inner().expect("it is in memory");
    Reply::Archive(BASE64_STANDARD.encode(stat.to_string()), if whole { bytes } else { Vec::new() })
}

/// The endpoint of a path, without what it is called for.
fn endpoint(path: &[&str]) -> String {
    match path {
        ["containers", "json" | "create"] | ["networks" | "volumes", "create"] | [_] => path.join("/"),
        [kind, _] => format!("{kind}/{{id}}"),
        [kind, .., last] => format!("{kind}/{{id}}/{last}"),
        [] => String::new(),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        left = rest;
        let hex = rest.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                left = &rest[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
