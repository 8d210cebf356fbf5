//! Pulls: what is judged, bounded and tried again.

use super::*;

/// A daemon that has no image, answers a pull with this and inspections of the image with that.
pub(super) fn pulling(
    pull: impl Fn() -> Reply + Send + Sync + 'static,
    present: bool,
) -> (Daemon, BollardEngine) {
    Daemon::with_engine(move |seen| match seen.call.as_str() {
        "POST /images/create" => pull(),
        "GET /images/r.example/i:1/json" if present => json(200, IMAGE),
        _ => error(404, "No such image: r.example/i:1"),
    })
}

#[tokio::test]
async fn an_error_record_in_a_pull_that_began_well_is_an_error() {
    let record = "{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\r\n";
    let (_daemon, engine) = pulling(move || Reply::Pieces(pieces([record])), false);
    assert_eq!(engine.pull("r.example/i:1", None).await, Err(Error::Pull("manifest unknown".into())));
}

#[tokio::test]
async fn a_pull_is_judged_by_the_image() {
    // The line end in two pieces, which bollard 0.21 takes for a broken stream.
    let split = || Reply::Pieces(pieces(["{\"status\":\"Pulling\"}\r\n", "{\"status\":\"Done\"}", "\r\n"]));
    let (daemon, engine) = pulling(split, true);
    assert_eq!(engine.pull("r.example/i:1", None).await, Ok(()));
    assert_eq!(daemon.calls(), ["POST /images/create", "GET /images/r.example/i:1/json"]);

    let (_daemon, engine) = pulling(|| error(500, "the registry is on fire"), true);
    assert_eq!(engine.pull("r.example/i:1", None).await, Ok(()), "somebody else brought it meanwhile");

    // Podman's errors have no detail, and pass bollard as progress.
    let podman = || Reply::Pieces(pieces(["{\"error\":\"denied\"}\n"]));
    let (_daemon, engine) = pulling(podman, false);
    let failure = engine.pull("r.example/i:1", None).await.unwrap_err();
    assert!(matches!(failure, Error::Pull(_)), "{failure:?}");
}

#[tokio::test]
async fn a_pull_is_bounded_by_silence() {
    for reply in [|| Reply::Hang(pieces(["{\"status\":\"Pulling\"}\r\n"])), || Reply::Silence] {
        let (_daemon, engine) = pulling(reply, false);
        let engine = engine.with_timeouts(Timeouts { pull: BLINK, ..Timeouts::default() });
        let failure = engine.pull("r.example/i:1", None).await.unwrap_err();
        assert!(matches!(failure, Error::Timeout(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_pull_that_is_cut_off_is_tried_again() {
    let (_daemon, engine) = pulling(|| Reply::Cut(pieces(["{\"status\":\"Pulling\"}\r\n"])), false);
    assert_eq!(engine.pull("r.example/i:1", None).await.unwrap_err().name(), "unavailable");
}

#[tokio::test]
async fn a_pull_names_one_tag_and_sends_credentials_that_the_engine_can_read() {
    let (daemon, engine) = Daemon::with_engine(|_| json(200, IMAGE));
    for (reference, query) in [
        ("r.example:5000/i", "fromImage=r.example%3A5000%2Fi&tag=latest&platform="),
        ("r.example:5000/i:1", "fromImage=r.example%3A5000%2Fi%3A1&platform="),
        ("i@sha256:ab", "fromImage=i%40sha256%3Aab&platform="),
    ] {
        engine.pull(reference, Some(&auth())).await.unwrap();
        let seen = daemon.seen();
        let pull = seen.iter().rfind(|seen| seen.call == "POST /images/create").unwrap();
        assert_eq!(pull.query, query);
        let sent = URL_SAFE.decode(pull.auth.as_ref().unwrap()).expect("the alphabet for URLs");
        let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent["password"], auth().password);
        assert_eq!((&sent["username"], &sent["serveraddress"]), (&"u".into(), &"r.example".into()));
    }
}

/// Two namespaces name the same private image, and one of them has no credentials for it.
#[tokio::test]
async fn a_pull_that_fails_delays_none_with_other_credentials() {
    use std::sync::atomic::AtomicBool;

    use localcluster_operator::{
        controller::pulls::{Login, Pulls},
        metrics::Metrics,
        plan::observed::ImageState,
    };
    let present = Arc::new(AtomicBool::new(false));
    let pulled = present.clone();
    let (daemon, engine) = Daemon::with_engine(move |seen| match seen.call.as_str() {
        "POST /images/create" if seen.auth.is_some() => {
            pulled.store(true, Ordering::SeqCst);
            Reply::Pieces(pieces(["{\"status\":\"Download complete\"}\r\n"]))
        }
        "POST /images/create" => error(404, "pull access denied for r.example/i"),
        "GET /images/r.example/i:1/json" if pulled.load(Ordering::SeqCst) => json(200, IMAGE),
        _ => error(404, "No such image: r.example/i:1"),
    });
    let pulls = Pulls::new(Arc::new(engine), Metrics::new());
    let pull = async |login: Option<Login>| {
        let (send, done) = tokio::sync::oneshot::channel();
        pulls.start("r.example/i:1", login, Box::new(move || send.send(()).unwrap()));
        done.await
    };
    let state = async |secret: Option<&str>| pulls.state("r.example/i:1", secret).await.unwrap();
    let login = |secret: &str| Login { secret: secret.into(), auth: auth() };
    pull(None).await.unwrap();
    assert!(matches!(state(None).await, ImageState::Failed(_)));
    // It is not due yet, and is not pulled again.
    assert!(pull(None).await.is_err());
    assert_eq!(state(Some("team-b/login")).await, ImageState::Absent);
    pull(Some(login("team-b/login"))).await.unwrap();
    assert_eq!(daemon.calls().iter().filter(|call| *call == "POST /images/create").count(), 2);
    assert!(present.load(Ordering::SeqCst));
    for secret in [None, Some("team-b/login"), Some("team-c/other")] {
        assert_eq!(state(secret).await, ImageState::Present, "{secret:?}");
    }
}
