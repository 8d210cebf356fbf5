//! Events, silence, and an engine that comes and goes.

use super::*;

#[tokio::test]
async fn events_end_with_the_reason() {
    let unknown = "{\"Type\":\"machine\",\"Action\":\"start\",\"Actor\":{\"ID\":\"m\"}}\n";
    let broken = "{\"Type\":7}\n";
    for (last, kind) in [(unknown, "Engine"), (broken, "Engine"), ("", "Unavailable")] {
        let (daemon, engine) = Daemon::with_engine(move |seen| match seen.call.as_str() {
            "GET /info" => json(200, INFO),
            _ => Reply::Pieces(pieces([START, last, START])),
        });
        let events: Vec<_> = engine.events().await.unwrap().collect().await;
        let (end, events) = events.split_last().unwrap();
        let first = events[0].as_ref().unwrap();
        assert_eq!(first.subject, Subject::Container("c".into()));
        assert_eq!(first.labels, BTreeMap::from([("owner".into(), "o".into())]));
        assert!(events.iter().all(Result::is_ok), "nothing comes after an error: {events:?}");
        let end = end.as_ref().unwrap_err();
        assert!(format!("{end:?}").starts_with(kind), "{end:?}");

        let asked = daemon.seen().pop().unwrap();
        assert_eq!(asked.call, "GET /events");
        assert!(asked.query.contains("since=1795576228.500000000"), "{}", asked.query);
        let types = ["container", "network", "volume"];
        assert!(types.iter().all(|kind| asked.query.contains(kind)), "{}", asked.query);
    }
}

#[tokio::test]
async fn events_last_through_silence_but_not_without_an_answer() {
    let limits = Timeouts { quick: Duration::from_secs(2), ..Timeouts::default() };
    let (_daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "GET /info" => json(200, INFO),
        _ => Reply::Silence,
    });
    let engine = engine.with_timeouts(limits);
    let end = engine.events().await.unwrap().next().await.unwrap();
    assert!(matches!(end, Err(Error::Timeout(_))), "{end:?}");

    let (_daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "GET /info" => json(200, INFO),
        _ => Reply::Hang(pieces([START])),
    });
    let engine = engine.with_timeouts(limits);
    let mut events = engine.events().await.unwrap();
    events.next().await.unwrap().unwrap();
    // Longer than any other call may take.
    assert!(tokio::time::timeout(limits.quick + BLINK, events.next()).await.is_err(), "the stream goes on");
}

/// The engine writes the event before its lists show the exit, and has the container locked meanwhile.
#[tokio::test]
async fn an_exit_that_objects_depend_on_is_told_when_an_inspection_returns() {
    let die = |labels: &str| {
        format!(
            "{{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{{\"ID\":\"c\",\"Attributes\":{labels}}}}}\n"
        )
    };
    for (labels, asked) in [
        (r#"{"localcluster.dev/uid":"u"}"#, true),
        (r#"{"localcluster.dev/allow-namespaces":"team-a"}"#, true),
        (r#"{"app":"k3d","k3d.role":"registry"}"#, true),
        ("{}", false),
    ] {
        let events = die(labels);
        let (daemon, engine) = Daemon::with_engine(move |seen| match seen.call.as_str() {
            "GET /info" => json(200, INFO),
            "GET /events" => Reply::Hang(pieces([&events])),
            _ => error(404, "No such container: c"),
        });
        engine.events().await.unwrap().next().await.unwrap().unwrap();
        let calls: Vec<String> = daemon.seen().into_iter().map(|seen| seen.call).collect();
        assert_eq!(calls.contains(&"GET /containers/c/json".to_owned()), asked, "{calls:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let limits = Timeouts { quick: BLINK, stop: BLINK, ..Timeouts::default() };
    for reply in [|| Reply::Silence, || Reply::Hang(pieces(["[{\"Id\":"]))] {
        let (_daemon, engine) = Daemon::with_engine(move |_| reply());
        let failure = engine.with_timeouts(limits).containers().await.unwrap_err();
        assert!(matches!(failure, Error::Timeout(_)), "{failure:?}");
    }
    let (_daemon, engine) = Daemon::with_engine(|_| Reply::Silence);
    let failure = engine.with_timeouts(limits).stop("c", 0).await.unwrap_err();
    assert!(matches!(failure, Error::Timeout(_)), "{failure:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_engine() {
    let (_daemon, engine) = Daemon::with_engine(|_| Reply::Cut(pieces(["[{\"Id\":"])));
    assert!(matches!(engine.containers().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn an_engine_may_come_later_go_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let engine = engine(&socket);
    let failure = engine.info().await.unwrap_err();
    assert!(matches!(&failure, Error::Unavailable(words) if words.contains("docker.sock")), "{failure:?}");
    assert!(engine.events().await.is_err());
    assert!(matches!(engine.pull("r.example/i:1", None).await, Err(Error::Unavailable(_))));

    let mut daemon = Daemon::at(&socket, |_| json(200, INFO));
    assert_eq!(engine.info().await.unwrap().version, "29.1.0");
    daemon.crash().await;
    let failure = engine.info().await.unwrap_err();
    assert!(matches!(&failure, Error::Unavailable(words) if words.contains("refused")), "{failure:?}");
    drop(daemon);
    assert!(matches!(engine.info().await, Err(Error::Unavailable(_))));
    let _daemon = Daemon::at(&socket, |_| json(200, INFO));
    engine.info().await.unwrap();
}
