//! All times that the operator waits: until it looks or tries again, and for an answer.

use std::time::Duration;

use jiff::SignedDuration;

use super::backoff::Limits;

/// The shortest time until the next look at an object while something is under way that nobody reports.
pub const SOON: Duration = Duration::from_millis(250);
/// The longest such time.
pub const LATER: Duration = Duration::from_secs(5);
/// The time until the next look at an object that needs its user, where no watch reports a change.
pub const STALLED: Duration = Duration::from_secs(15);
/// The time until the next look at an object that is being deleted.
pub const DELETING: Duration = Duration::from_millis(500);
/// The time during which several records of Docker about one object lead to one look. Docker reports a restart in five
/// records within half a second.
pub const DEBOUNCE: Duration = Duration::from_millis(50);
/// The time during which an object is left alone after a panic, unless its spec changes.
pub const PANICKED: Duration = Duration::from_secs(5 * 60);

/// The wait of a step that had no effect.
pub const NO_EFFECT: Limits = Limits { first: Duration::from_millis(500), last: Duration::from_secs(15) };
/// The wait of a drain, which continues with the same step until the last Pod has left.
pub const DRAIN: Limits = Limits { first: Duration::from_millis(250), last: Duration::from_secs(5) };
/// The time after its turn during which a step is remembered that is not planned any more: a step without effect may lead
/// to another one, and that to the first again.
pub const REMEMBERED: Duration = Duration::from_secs(2);
/// The wait of an object after a failed call of Docker.
pub const DOCKER: Limits = Limits { first: Duration::from_secs(1), last: Duration::from_secs(30) };
/// The wait after the end of a connection to Docker's stream of events.
pub const RECONNECT: Limits = Limits { first: Duration::from_millis(500), last: Duration::from_secs(10) };
/// The wait after a failed pull.
pub const PULL: Limits = Limits { first: Duration::from_secs(2), last: Duration::from_secs(60) };
/// The wait after a failed import of an image into a node.
pub const IMPORT: Limits = Limits { first: Duration::from_secs(2), last: Duration::from_secs(60) };
/// The time until host ports that others hold are tried again.
pub const TRY_PORTS: Duration = Duration::from_secs(10);
/// The longest turn of a cluster that does not become ready, and the longest place in the queue of one that asks no more.
pub const TURN: Duration = Duration::from_secs(90);

/// The time until a file that did not exist is looked for again.
pub const FILE_MISSING: Duration = Duration::from_millis(500);
/// The time after its start during which a container may still write a file of its own.
pub const FILE_STARTING: Duration = Duration::from_secs(60);
/// The time until such a file is read again.
pub const FILE_YOUNG: Duration = Duration::from_secs(2);
/// The time from its start in which a node reports, before its log is searched for why the cluster refuses it.
pub const TO_REPORT: SignedDuration = SignedDuration::from_secs(10);
/// The time before the expiry of a certificate at which a Warning reports it. K3s renews at a start what has less than 120
/// days left.
pub const CERTIFICATE_NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The limit of a call to the API of the management cluster. kube's own retries alone can last for minutes
/// (kube-rs/kube#2007).
pub const API_CALL: Duration = Duration::from_secs(15);
/// The limit of the connection to the API of a created cluster.
pub const CONNECT: Duration = Duration::from_secs(3);
/// The limit of an Event, which nothing waits for.
pub const EVENT: Duration = Duration::from_secs(10);
/// The limit of a node's answer about its Services and Pods.
pub const NODE_ANSWER: Duration = Duration::from_secs(10);
/// The limit of a server's answer about its own API. `--request-timeout` bounds only the request.
pub const SERVER_ANSWER: Duration = Duration::from_secs(15);
/// The limit of a registry's answer.
pub const REGISTRY_ANSWER: Duration = Duration::from_secs(2);
