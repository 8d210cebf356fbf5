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

#[tokio::test]
async fn access_to_an_image_is_asked_by_digest_with_credentials_and_without_pulling() {
    let (daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "GET /images/r.example/i:1/json" => json(
            200,
            r#"{"Id": "sha256:1", "RepoTags": ["r.example/i:1"], "RepoDigests": ["r.example/i@sha256:ab"]}"#,
        ),
        "GET /distribution/r.example/i@sha256:ab/json" => json(
            200,
            r#"{"Descriptor": {"mediaType": "m", "digest": "sha256:ab", "size": 1}, "Platforms": []}"#,
        ),
        call if call.starts_with("GET /distribution/") => error(401, "unauthorized: hunter2-secret is wrong"),
        _ => error(404, "No such image"),
    });
    let names = engine.image_names("r.example/i:1").await.unwrap().unwrap();
    assert_eq!(
        (names.id.as_str(), names.digests.as_slice()),
        ("sha256:1", &["r.example/i@sha256:ab".to_owned()][..])
    );
    assert_eq!(engine.image_names("none:1").await, Ok(None));
    engine.check_access(&names.digests[0], Some(&auth())).await.unwrap();
    let asked = daemon.seen().into_iter().next_back().unwrap();
    assert!(URL_SAFE.decode(asked.auth.unwrap()).is_ok(), "the alphabet for URLs");
    let secret = RegistryAuth { password: "hunter2-secret".into(), ..auth() };
    let refused = engine.check_access("r.example/other@sha256:ab", Some(&secret)).await.unwrap_err();
    assert!(refused.is_refusal() && !refused.to_string().contains("hunter2"), "{refused}");
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_not_waited_for_without_end() {
    let (_daemon, engine) = Daemon::with_engine(|_| Reply::Silence);
    let engine = engine.with_timeouts(Timeouts { quick: BLINK, ..Timeouts::default() });
    let failure = engine.check_access("r.example/i@sha256:ab", None).await.unwrap_err();
    assert!(matches!(failure, Error::Timeout(_)), "{failure:?}");
}
