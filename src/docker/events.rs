//! Events of the engine, converted from the records of bollard.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    Docker,
    models::{EventMessage, EventMessageTypeEnum},
    query_parameters::EventsOptionsBuilder,
};
use futures::{
    StreamExt,
    future::ready,
    stream::{self, BoxStream},
};
use tokio::time::timeout;

use super::{
    engine::{Event, Result, Subject},
    error::Error,
    fault,
};
use crate::api::names;

/// Limit of the time that an exit waits for the engine to show it.
const SETTLED: Duration = Duration::from_secs(3);
/// Labels of containers that objects depend on: managed ones, unmanaged ones with consent, and registries of k3d.
const NEEDED: [&str; 3] = [names::UID, names::ALLOW_NAMESPACES, names::ROLE];
/// Number of events that wait at a time, and whose order may change. They say that something changed, not what it is now.
const SETTLING: usize = 64;

/// Returns the events since this time of the engine's clock. The last item is always an error with the reason for the
/// end, so that an end is not mistaken for silence.
///
/// Filtered by type, since a record of a type that is unknown to bollard ends the stream; not by label, since records
/// of networks have none.
pub fn stream(
    docker: &Docker,
    since: Option<String>,
    own: Arc<OwnExecs>,
) -> BoxStream<'static, Result<Event>> {
    let types = std::collections::HashMap::from([("type", vec!["container", "network", "volume", "image"])]);
    let mut options = EventsOptionsBuilder::default().filters(&types);
    if let Some(since) = &since {
        options = options.since(since);
    }
    let records = docker.events(Some(options.build()));
    let events = records.filter_map(move |record| {
        ready(match record {
            Ok(message) => event(message, &own).map(Ok),
            Err(error) => Some(Err(fault::error("events", error))),
        })
    });
    let docker = docker.clone();
    let events = events.map(move |item| settled(docker.clone(), item)).buffer_unordered(SETTLING);
    let end = stream::once(async { Err(Error::Unavailable("the event stream ended".into())) });
    let mut over = false;
    events
        .chain(end)
        // Items after the first error are not reliable.
        .take_while(move |item| {
            let go_on = !over;
            over |= item.is_err();
            async move { go_on }
        })
        .boxed()
}

/// Passes the exit of a container that an object depends on when the engine shows it. The engine writes the event first,
/// and for the time it takes to release the container's networks, its lists show the container as running. It is locked
/// meanwhile, so that an inspection waits.
async fn settled(docker: Docker, item: Result<Event>) -> Result<Event> {
    if let Ok(event) = &item
        && let Subject::Container(id) = &event.subject
        && event.is_exit()
        && NEEDED.iter().any(|label| event.labels.contains_key(*label))
    {
        // Whatever it returns, the event is true.
        drop(timeout(SETTLED, docker.inspect_container(id, None)).await);
    }
    item
}

/// Converts a time of an engine (RFC 3339) to the format of `since`.
pub fn since(time: &str) -> Option<String> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

/// Converts a record; `None` if it is not relevant.
fn event(message: EventMessage, own: &OwnExecs) -> Option<Event> {
    let action = message.action?;
    let actor = message.actor?;
    let id = actor.id?;
    let mut attributes: BTreeMap<String, String> = actor.attributes.unwrap_or_default().into_iter().collect();
    let subject = match message.typ? {
        EventMessageTypeEnum::CONTAINER if of_container(&action) => {
            if attributes.get("execID").is_some_and(|id| own.contains(id)) {
                return None;
            }
            attributes.retain(|name, _| !matches!(name.as_str(), "image" | "name"));
            return Some(Event { subject: Subject::Container(id), action, labels: attributes });
        }
        EventMessageTypeEnum::NETWORK if of_network(&action) => Subject::Network {
            id,
            name: attributes.remove("name").unwrap_or_default(),
            container: attributes.remove("container"),
        },
        EventMessageTypeEnum::VOLUME if of_volume(&action) => Subject::Volume(id),
        // The ID may be the reference; the name is without a tag then.
        EventMessageTypeEnum::IMAGE if of_image(&action) => {
            Subject::Image([id].into_iter().chain(attributes.remove("name")).collect())
        }
        _ => return None,
    };
    Some(Event { subject, action, labels: BTreeMap::new() })
}

/// Commands in containers that the operator itself ran last, by the engine's IDs. Their ends are no news.
#[derive(Default)]
pub struct OwnExecs(Mutex<VecDeque<String>>);

impl OwnExecs {
    /// Number of IDs that are kept, of which few run at the same time.
    const KEPT: usize = 256;

    /// Records a command that is about to start.
    pub fn note(&self, id: &str) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() == Self::KEPT {
            ids.pop_front();
        }
        ids.push_back(id.to_owned());
    }

    fn contains(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|own| own == id)
    }
}

/// Reports whether an action changes anything that a plan depends on. Many others occur, and some of them are caused by
/// mere observation: reading a file emits `archive-path` for the container, and `mount` and `unmount` for each of its
/// volumes. `kill` is only the signal: what it ends emits `die`. Reacting to these would make every observation cause the next one. Of the three `exec_*` events of a command,
/// the last one counts, since it may have changed files.
fn of_container(action: &str) -> bool {
    let known = [
        "create", "start", "die", "died", "stop", "oom", "pause", "unpause", "restart", "rename", "update",
        "destroy", "remove",
    ];
    let of_files = ["exec_die", "extract-to-dir"];
    known.contains(&action) || of_files.contains(&action) || action.starts_with("health_status")
}

fn of_network(action: &str) -> bool {
    matches!(action, "create" | "connect" | "disconnect" | "destroy" | "remove")
}

fn of_volume(action: &str) -> bool {
    matches!(action, "create" | "destroy" | "remove")
}

/// Reports whether an action may give a name to another image. `save` and `push` only read. Docker 29 with containerd's
/// store reports a build without a name as `create`.
fn of_image(action: &str) -> bool {
    matches!(action, "tag" | "load" | "pull" | "import" | "create")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Option<Event> {
        event(serde_json::from_str(json).unwrap(), &OwnExecs::default())
    }

    #[test]
    fn commands_of_others_may_have_changed_files() {
        let ended = |id: &str| {
            let own = OwnExecs::default();
            (0..300).for_each(|n| own.note(&format!("e{n}")));
            let attributes = format!(r#"{{"execID":"{id}","exitCode":"0"}}"#);
            let json = format!(
                r#"{{"Type":"container","Action":"exec_die","Actor":{{"ID":"c1","Attributes":{attributes}}}}}"#
            );
            event(serde_json::from_str(&json).unwrap(), &own)
        };
        assert!(ended("theirs").unwrap().is_of_files());
        assert_eq!(ended("e299"), None);
        assert_eq!(ended("e44"), None);
        assert!(ended("e43").is_some(), "it is kept for ever");
        let copied = record(r#"{"Type":"container","Action":"extract-to-dir","Actor":{"ID":"c1"}}"#);
        assert!(copied.unwrap().is_of_files());
    }

    #[test]
    fn a_container_brings_its_labels() {
        let event = record(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"image":"i","name":"n","exitCode":"1","owner":"o"}}}"#,
        );
        let labels = [("exitCode", "1"), ("owner", "o")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(
            event,
            Some(Event {
                subject: Subject::Container("c1".into()),
                action: "die".into(),
                labels: labels.into()
            })
        );
    }

    #[test]
    fn a_network_tells_who_was_disconnected() {
        let event = record(
            r#"{"Type":"network","Action":"disconnect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"net","type":"bridge"}}}"#,
        );
        let subject = Subject::Network { id: "n1".into(), name: "net".into(), container: Some("c1".into()) };
        assert_eq!(event, Some(Event { subject, action: "disconnect".into(), labels: BTreeMap::new() }));
    }

    #[test]
    fn looking_is_no_news() {
        for (kind, action) in [
            ("container", "exec_create: sh -c true"),
            ("container", "exec_start: sh -c true"),
            ("container", "archive-path"),
            ("container", "top"),
            ("volume", "mount"),
            ("volume", "unmount"),
            ("image", "save"),
            ("image", "push"),
        ] {
            let json =
                format!(r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"x","Attributes":{{}}}}}}"#);
            assert_eq!(record(&json), None, "{kind} {action}");
        }
    }

    #[test]
    fn health_and_volumes_are_news() {
        let json = r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"x"}}"#;
        assert_eq!(record(json).unwrap().action, "health_status: healthy");
        let json = r#"{"Type":"volume","Action":"destroy","Actor":{"ID":"v"}}"#;
        assert_eq!(record(json).unwrap().subject, Subject::Volume("v".into()));
    }

    #[test]
    fn a_new_image_is_news_with_its_names() {
        let image = |action: &str, id: &str, name: &str| {
            let attributes = format!(r#"{{"name":"{name}"}}"#);
            let json = format!(
                r#"{{"Type":"image","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{attributes}}}}}"#
            );
            record(&json).map(|event| event.subject)
        };
        let names = |all: [&str; 2]| Some(Subject::Image(all.map(str::to_owned).into()));
        assert_eq!(image("tag", "sha256:1", "app:1"), names(["sha256:1", "app:1"]));
        assert_eq!(image("pull", "app:1", "app"), names(["app:1", "app"]));
        assert_eq!(image("untag", "sha256:1", "app:1"), None);
    }

    #[test]
    fn since_is_in_seconds_and_nanoseconds() {
        assert_eq!(since("2026-11-25T03:10:28.5Z").as_deref(), Some("1795576228.500000000"));
        assert_eq!(since("2026-11-25T05:10:28.000000001+02:00").as_deref(), Some("1795576228.000000001"));
        assert_eq!(since("never"), None);
    }
}
