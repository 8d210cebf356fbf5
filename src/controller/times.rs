//! Delays and timeouts of the operator.

use std::time::Duration;

use jiff::SignedDuration;

use super::backoff::Limits;

/// Shortest delay until the next reconciliation while a change without a watch is in progress.
pub const SOON: Duration = Duration::from_millis(250);
/// Longest such delay.
pub const LATER: Duration = Duration::from_secs(5);
/// Delay until the next reconciliation of an object that needs its user, where no watch reports a change.
pub const STALLED: Duration = Duration::from_secs(15);
/// Delay until the next reconciliation of an object that is being deleted.
pub const DELETING: Duration = Duration::from_millis(500);
/// Period in which several Docker events about one object lead to one reconciliation, for records that arrive together:
/// each repair begins this much later. Events during a reconciliation lead to one more in any case.
pub const DEBOUNCE: Duration = Duration::from_millis(10);
/// Period after a panic without reconciliations, unless the spec changes.
pub const PANICKED: Duration = Duration::from_secs(5 * 60);

/// Delay of a step that had no effect.
pub const NO_EFFECT: Limits = Limits { first: Duration::from_millis(500), last: Duration::from_secs(15) };
/// Delay of a drain, which repeats the same step until the last Pod is evicted.
pub const DRAIN: Limits = Limits { first: Duration::from_millis(250), last: Duration::from_secs(5) };
/// Period for which a step that is no longer planned is remembered after it was due: a step without effect may lead to
/// another one, and that one to the first again.
pub const REMEMBERED: Duration = Duration::from_secs(2);
/// Delay of an object after a failed Docker call.
pub const DOCKER: Limits = Limits { first: Duration::from_secs(1), last: Duration::from_secs(30) };
/// Longest time of a pass, which holds one of the workers of its namespace. Longer than any one call to Docker.
pub const PASS: Duration = Duration::from_secs(180);
/// Delay of an object whose pass took longer.
pub const OVERDUE: Limits = Limits { first: Duration::from_secs(5), last: Duration::from_secs(120) };
/// Delay after the Docker event stream ends.
pub const RECONNECT: Limits = Limits { first: Duration::from_millis(500), last: Duration::from_secs(10) };
/// Delay after a failed pull.
pub const PULL: Limits = Limits { first: Duration::from_secs(2), last: Duration::from_secs(60) };
/// Period for which a proof of access to an image counts.
pub const ACCESS_PROVEN: Duration = Duration::from_secs(3600);
/// Time after which a failed pull that nobody repeats is forgotten.
pub const PULL_FORGOTTEN: Duration = Duration::from_secs(10 * 60);
/// Delay after a failed import of an image into a node.
pub const IMPORT: Limits = Limits { first: Duration::from_secs(2), last: Duration::from_secs(60) };
/// Period in which an image whose import into a node failed is not imported again when the node asks for it.
pub const IMPORT_REFUSED: Duration = Duration::from_secs(10);
/// Delays after the listener for nodes that ask for images of the Docker host ended.
pub const LISTEN: Limits = Limits { first: Duration::from_secs(1), last: Duration::from_secs(60) };
/// Time in which a node sends a request for an image after it connected.
pub const NODE_ASKS: Duration = Duration::from_secs(10);
/// Delay until occupied host ports are tried again.
pub const TRY_PORTS: Duration = Duration::from_secs(10);
/// Longest time a cluster counts as starting without becoming ready, and longest time that a cluster stays in the queue
/// without asking again.
pub const TURN: Duration = Duration::from_secs(90);

/// Time after which a cluster in the queue that has not asked again no longer delays others. It asks every few seconds
/// unless its reconciliation hangs.
pub const ASKS: Duration = Duration::from_secs(20);
/// Time after which a pull no longer counts for the number of pulls on the host: a registry may take any time.
pub const SLOW_PULL: Duration = Duration::from_secs(5 * 60);

/// Number of resyncs after which the files of containers are read again if nothing is known to have changed them.
pub const RESYNCS_OF_FILES: u32 = 12;
/// Delay until the log of a running container is read again.
pub const LOG_AGAIN: Duration = Duration::from_secs(5);
/// Delay until the log of a container that ended is read again. It does not change until the next start.
pub const LOG_ENDED: Duration = Duration::from_secs(60);
/// Delay until a missing file is looked for again, at first.
pub const FILE_MISSING: Duration = Duration::from_millis(500);
/// Longest such delay.
pub const FILE_NEVER: Duration = Duration::from_secs(5 * 60);
/// Period after its start in which a container may still write one of its files.
pub const FILE_STARTING: Duration = Duration::from_secs(60);
/// Delay until such a file is read again.
pub const FILE_YOUNG: Duration = Duration::from_secs(2);
/// Period after its start in which a node is expected to register. Afterwards its log is searched for the reason why
/// the cluster rejects it.
pub const TO_REPORT: SignedDuration = SignedDuration::from_secs(10);

/// Timeout of a call to the management cluster's API. kube's own retries can last for minutes (kube-rs/kube#2007).
pub const API_CALL: Duration = Duration::from_secs(15);
/// Timeout of the connection to the API of a created cluster.
pub const CONNECT: Duration = Duration::from_secs(3);
/// Period in which a connection through Docker is used before direct ones are tried again.
pub const TRY_DIRECT: Duration = Duration::from_secs(5 * 60);
/// Minimum time between the starts of two watches of a created cluster.
pub const WATCH_AGAIN: Duration = Duration::from_secs(1);
/// Period after its start in which a load balancer that refuses connections is expected to accept them soon, because
/// the first server is starting.
pub const API_STARTING: SignedDuration = SignedDuration::from_secs(60);
/// The same period for a registry, which starts faster.
pub const REGISTRY_STARTING: SignedDuration = SignedDuration::from_secs(3);
/// Timeout of writing an Event, which nothing waits for.
pub const EVENT: Duration = Duration::from_secs(10);
/// Timeout of a node's response about its Services and Pods.
pub const NODE_ANSWER: Duration = Duration::from_secs(10);
/// Timeout of a server's response about its own API. `--request-timeout` limits only the request.
pub const SERVER_ANSWER: Duration = Duration::from_secs(15);
/// Timeout of a server's response about its etcd.
pub const LEADER_ANSWER: Duration = Duration::from_secs(4);
/// Delay until a server is asked about its etcd again.
pub const ASK_LEADER: Duration = Duration::from_secs(5);
/// Period for which its response is trusted.
pub const LEADER_TRUSTED: Duration = Duration::from_secs(30);
/// Interval at which a cache is looked at for what it tells of its upstream: no event of Docker tells that.
pub const UPSTREAM: SignedDuration = SignedDuration::from_secs(60);
/// Timeout of a registry's response.
pub const REGISTRY_ANSWER: Duration = Duration::from_secs(2);
/// Period for which the measured size of a storage is trusted. A little less than the default resync.
pub const MEASURED: Duration = Duration::from_secs(4 * 60);
/// Timeout of a measurement, which reads every directory of the storage.
pub const MEASURE: Duration = Duration::from_secs(120);
/// Pause before changes of HostPolicies and of what they apply to take effect, in which they are collected.
pub const POLICY_STATUS: Duration = Duration::from_millis(500);
/// Interval at which an agent looks for placeholders that are being deleted and whose objects are gone.
pub const ENDINGS: Duration = Duration::from_secs(2);
/// Period in which several changes lead to one look at the placement of all objects.
pub const PLACE: Duration = Duration::from_millis(200);
/// Interval at which the placement of all objects is looked at without a change: heartbeats may have stopped.
pub const PLACE_AGAIN: Duration = Duration::from_secs(5);
/// Time after which a placeholder that the API server refused is tried again.
pub const REFUSED: Duration = Duration::from_secs(10);
/// Interval at which all pools are looked at without a change.
pub const POOLS_AGAIN: Duration = Duration::from_secs(60);
/// Delay after a failed call for a pool.
pub const POOLS_RETRY: Duration = Duration::from_secs(2);
/// Time after which what the API server refused of a pool or a claim is tried again.
pub const POOLS_REFUSED: Duration = Duration::from_secs(30);
/// Number of pools that are looked at at a time.
pub const POOLS_AT_ONCE: usize = 8;
