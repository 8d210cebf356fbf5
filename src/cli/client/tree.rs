//! **Pure**: a cluster as a tree in words.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Condition};

use super::{
    list::columns,
    progress::{self, Outcome, sentence},
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus,
        condition::{self, ConditionType, Status},
        local_cluster::{AgentPoolStatus, NodePhase, PortStatus, Protocol},
        reason::Reason,
    },
    cli::paint::Paint,
};

/// The number of Events that are shown.
const LAST: usize = 8;

/// Conditions that are shown only if they are True.
const RARE: [ConditionType; 4] = [
    ConditionType::Reconciling,
    ConditionType::PolicyViolation,
    ConditionType::Paused,
    ConditionType::Stopped,
];

/// A branch: a line, and rows below it.
struct Branch {
    title: String,
    rows: Vec<String>,
}

/// Reports whether the cluster is Ready with its present spec.
pub(super) fn is_ready(cluster: &LocalCluster) -> bool {
    let status = cluster.status.as_ref();
    status.is_some_and(|status| condition::is_true(&status.conditions, ConditionType::Ready))
        && progress::outcome(cluster) == Outcome::Done
}

/// Renders a cluster with its Events.
pub(super) fn render(
    cluster: &LocalCluster,
    events: &Result<Vec<Event>, String>,
    now: Timestamp,
    paint: Paint,
) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&cluster.metadata.namespace), text(&cluster.metadata.name));
    let none = LocalClusterStatus::default();
    let status = cluster.status.as_ref().unwrap_or(&none);
    let (word, todo) = match progress::outcome(cluster) {
        Outcome::Done if is_ready(cluster) => (paint.good("Ready"), None),
        Outcome::Done => {
            (paint.open("stopped"), Some(format!("to start it: localcluster start {name} -n {namespace}")))
        }
        Outcome::Waits(why) => {
            (paint.open("not Ready"), Some(format!("wait; the operator goes on by itself: {why}")))
        }
        Outcome::NeedsUser(why) => (paint.bad("needs you"), Some(why)),
    };
    let branches = [
        conditions(&status.conditions, paint),
        nodes(status, paint),
        api(status, now),
        ports(&status.ports, paint),
        registries(status),
        recent(events, now, paint),
        todo.map(|todo| Branch { title: "what to do".into(), rows: vec![todo] }),
    ];
    let branches: Vec<Branch> = branches.into_iter().flatten().collect();
    let host = status.host.as_ref().map(|host| format!(" on the host {host}")).unwrap_or_default();
    let mut out = format!("LocalCluster {namespace}/{name}: {word}{host}\n");
    for (at, branch) in branches.iter().enumerate() {
        let last = at + 1 == branches.len();
        let (knee, line) = if last { ("└─", "  ") } else { ("├─", "│ ") };
        let _ = writeln!(out, "{knee} {}", branch.title);
        for row in &branch.rows {
            let _ = writeln!(out, "{line}   {row}");
        }
    }
    out
}

/// Returns rows of cells as aligned lines.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    columns(rows).lines().map(str::to_owned).collect()
}

fn conditions(conditions: &[Condition], paint: Paint) -> Option<Branch> {
    let summary = condition::get(conditions, ConditionType::Ready);
    // The head of the tree is the summary.
    let shown = |condition: &&Condition| {
        let is = |type_: ConditionType| condition.type_ == type_.as_str();
        let rare = RARE.into_iter().any(is);
        !is(ConditionType::Ready)
            && !is(ConditionType::Stalled)
            && (!rare || condition.status == Status::True.as_str())
    };
    let row = |condition: &Condition| {
        let is = |type_: ConditionType| condition.type_ == type_.as_str();
        let works = is(ConditionType::Reconciling);
        let wrong = is(ConditionType::PolicyViolation) || is(ConditionType::Paused);
        let holds = condition.status == Status::True.as_str();
        let good = holds && !works && !wrong;
        let mark = match () {
            () if good => paint.good("✓"),
            () if works => paint.open("…"),
            () if condition.status == Status::Unknown.as_str() => paint.open("?"),
            () => paint.bad("✗"),
        };
        // What the summary says is said below, and a condition that waits for another one says nothing.
        let said = summary.is_some_and(|ready| ready.message == condition.message)
            || condition.reason == Reason::Pending.as_str();
        let why = match (good, said) {
            (true, _) => condition.message.clone(),
            (false, true) => condition.reason.clone(),
            (false, false) => sentence(&condition.reason, &condition.message),
        };
        vec![format!("{mark} {}", condition.type_), why]
    };
    let rows: Vec<Vec<String>> = conditions.iter().filter(shown).map(row).collect();
    (!rows.is_empty()).then(|| Branch { title: "conditions".into(), rows: aligned(&rows) })
}

fn nodes(status: &LocalClusterStatus, paint: Paint) -> Option<Branch> {
    let row = |node: &crate::api::local_cluster::NodeStatus| {
        let phase = format!("{:?}", node.phase);
        let phase = if node.phase == NodePhase::Ready { paint.good(&phase) } else { paint.open(&phase) };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let repairs = node.repairs.as_ref().filter(|repairs| repairs.count > 0);
        let repairs = repairs.map(|repairs| format!("repaired {} times", repairs.count));
        vec![
            node.name.clone(),
            format!("{:?}", node.role),
            phase,
            text(&node.ip),
            text(&node.version),
            text(&repairs),
        ]
    };
    let rows: Vec<Vec<String>> = status.nodes.iter().map(row).collect();
    let count = |pool: &Option<crate::api::local_cluster::PoolStatus>, what| {
        let pool = pool.as_ref().filter(|pool| pool.desired > 0 || pool.replicas > 0)?;
        Some(format!("{} of {} {what} Ready", pool.ready, pool.desired))
    };
    let mut counts: Vec<String> =
        [count(&status.servers, "servers"), count(&status.agents, "agents")].into_iter().flatten().collect();
    let of = |pool: &AgentPoolStatus| format!("{} {} of {}", pool.name, pool.ready, pool.desired);
    let pools: Vec<String> = status.agent_pools.iter().map(of).collect();
    if let Some(agents) = counts.last_mut().filter(|_| !pools.is_empty()) {
        *agents = format!("{agents} ({})", pools.join(", "));
    }
    (!counts.is_empty())
        .then(|| Branch { title: format!("nodes: {}", counts.join(", ")), rows: aligned(&rows) })
}

fn api(status: &LocalClusterStatus, now: Timestamp) -> Option<Branch> {
    let endpoint = status.endpoint.as_ref()?;
    let secret = status.kubeconfig_secret.as_ref().map(|secret| format!("kubeconfig in the Secret {secret}"));
    let token = status.kubeconfig.as_ref().map(|token| {
        format!(
            "its token has the rights {:?} and expires in {}",
            token.access,
            until(now, token.expires_at.0)
        )
    });
    let expires = status.expires_at.as_ref().map(|at| format!("the cluster expires in {}", until(now, at.0)));
    let rows = [secret, token, expires].into_iter().flatten().collect();
    Some(Branch { title: format!("API: {endpoint}"), rows })
}

fn ports(ports: &[PortStatus], paint: Paint) -> Option<Branch> {
    let row = |port: &PortStatus| {
        let range = |first: i32| match port.end_port.filter(|end| *end > port.port) {
            Some(end) => format!("{first}-{}", first + (end - port.port)),
            None => first.to_string(),
        };
        let protocol = if port.protocol == Protocol::Udp { "/udp" } else { "" };
        let problem = port.problem.as_ref().map(|problem| paint.bad(problem));
        vec![
            port.name.clone(),
            format!("{}:{} → {}{protocol}", port.host_ip, range(port.host_port), range(port.port)),
            problem.unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = ports.iter().map(row).collect();
    (!rows.is_empty()).then(|| Branch { title: "ports".into(), rows: aligned(&rows) })
}

fn registries(status: &LocalClusterStatus) -> Option<Branch> {
    let row = |registry: &crate::api::local_cluster::UsedRegistryStatus| {
        let host = registry.host.as_ref().map(|host| format!("push to {host}"));
        let mirrors =
            (!registry.mirrors.is_empty()).then(|| format!("serves {}", registry.mirrors.join(", ")));
        vec![registry.name.clone(), host.unwrap_or_default(), mirrors.unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = status.registries.iter().map(row).collect();
    (!rows.is_empty()).then(|| Branch { title: "registries".into(), rows: aligned(&rows) })
}

/// Returns the time of an Event, whichever API it was written through.
fn time(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.or(last).or(first).or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

fn recent(events: &Result<Vec<Event>, String>, now: Timestamp, paint: Paint) -> Option<Branch> {
    let events = match events {
        Ok(events) => events,
        Err(why) => return Some(Branch { title: "Events".into(), rows: vec![why.clone()] }),
    };
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| time(event));
    let row = |event: &&Event| {
        let reason = event.reason.clone().unwrap_or_default();
        let reason = if event.type_.as_deref() == Some("Warning") { paint.bad(&reason) } else { reason };
        let age = time(event).map(|at| format!("{} ago", until(at, now)));
        vec![age.unwrap_or_default(), reason, event.message.clone().unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = events.iter().rev().take(LAST).rev().map(row).collect();
    (!rows.is_empty()).then(|| Branch { title: "last Events".into(), rows: aligned(&rows) })
}

/// Returns the time from one moment to another in its two largest units.
fn until(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{}h", hours % 24),
        () if hours > 0 => format!("{hours}h{}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
