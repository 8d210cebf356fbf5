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
