//! **Pure**: what a user who waits is told, and when the waiting ends.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{
        LocalCluster,
        condition::{self, ConditionType, Status},
        local_cluster::ClusterState,
        reason::{Class, Reason},
    },
    cli::paint::Paint,
};

/// Conditions that sum up others, or are neutral.
const NO_PHASE: [ConditionType; 9] = [
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::PolicyViolation,
    ConditionType::Ambiguous,
    ConditionType::Paused,
    ConditionType::HostReady,
    ConditionType::ReachableFromPods,
    ConditionType::Stopped,
];

/// Whether to go on waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The cluster is not as desired yet, and why.
    Waits(String),
    /// It is as desired.
    Done,
    /// It will not be before a user changes something, and why.
    NeedsUser(String),
}

/// What the user was told.
#[derive(Debug)]
pub(super) struct Progress {
    paint: Paint,
    phases: BTreeSet<String>,
    waits: Option<String>,
}

impl Progress {
    /// Returns a progress of which nothing was told.
    pub fn new(paint: Paint) -> Self {
        Self { paint, phases: BTreeSet::new(), waits: None }
    }

    /// Returns the lines that are new since the last look, and whether to go on.
    pub fn look(&mut self, cluster: &LocalCluster) -> (Vec<String>, Outcome) {
        let outcome = outcome(cluster);
        let mut lines = Vec::new();
        let Some(conditions) = current(cluster) else { return (lines, outcome) };
        for done in conditions.iter().filter(|c| c.status == Status::True.as_str() && is_phase(c)) {
            if self.phases.insert(done.type_.clone()) {
                lines.push(format!("{} {}", self.paint.good("✓"), sentence(&done.type_, &done.message)));
            }
        }
        // What takes long or fails, and only once: how far it is changes every second.
        let told = condition::get(conditions, ConditionType::Ready).filter(|ready| {
            let reason = Reason::parse(&ready.reason);
            matches!(reason, Some(Reason::Queued | Reason::ImagePulling))
                || reason.is_some_and(|reason| reason.class() == Class::Retry)
        });
        if let Some(ready) = told.filter(|_| matches!(outcome, Outcome::Waits(_)))
            && self.waits.as_ref() != Some(&ready.reason)
        {
            self.waits = Some(ready.reason.clone());
            lines.push(format!("{} {}", self.paint.open("…"), sentence(&ready.reason, &ready.message)));
        }
        (lines, outcome)
    }
}

fn is_phase(condition: &Condition) -> bool {
    !NO_PHASE.iter().any(|type_| condition.type_ == type_.as_str())
}

/// Returns a name and a message.
pub(super) fn sentence(name: &str, message: &str) -> String {
    if message.is_empty() { name.to_owned() } else { format!("{name}: {message}") }
}

/// Returns the conditions, if they are those of the present spec.
fn current(cluster: &LocalCluster) -> Option<&[Condition]> {
    let status = cluster.status.as_ref()?;
    (status.observed_generation? >= cluster.metadata.generation?).then_some(&status.conditions)
}

/// Returns whether the cluster is as its spec desires: Ready, or stopped.
pub(super) fn outcome(cluster: &LocalCluster) -> Outcome {
    if cluster.metadata.deletion_timestamp.is_some() {
        return Outcome::NeedsUser("it is being deleted".into());
    }
    let Some(conditions) = current(cluster) else {
        let why = "no operator has processed it yet; check that one runs and that a HostPolicy selects the namespace";
        return Outcome::Waits(why.into());
    };
    let get = |type_| condition::get(conditions, type_);
    let wanted = match cluster.spec.state {
        ClusterState::Running => ConditionType::Ready,
        ClusterState::Stopped => ConditionType::Stopped,
    };
    if condition::is_true(conditions, wanted) {
        return Outcome::Done;
    }
    let told = |condition: &Condition| sentence(&condition.reason, &condition.message);
    if let Some(paused) = get(ConditionType::Paused).filter(|c| c.status == Status::True.as_str()) {
        return Outcome::NeedsUser(told(paused));
    }
    let summary = get(ConditionType::Ready).or(get(wanted));
    if let Some(stalled) = get(ConditionType::Stalled).filter(|c| c.status == Status::True.as_str()) {
        return Outcome::NeedsUser(told(summary.unwrap_or(stalled)));
    }
    Outcome::Waits(summary.map_or_else(|| "its status has no condition Ready yet".into(), told))
}

/// Returns what the user should know of a cluster that is Ready.
pub(super) fn warnings(cluster: &LocalCluster) -> Vec<String> {
    let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let bad = [(ConditionType::HostReady, Status::False), (ConditionType::PolicyViolation, Status::True)];
    let found = bad
        .into_iter()
        .filter_map(|(type_, bad)| condition::get(conditions, type_).filter(|c| c.status == bad.as_str()));
    found.map(|condition| sentence(&condition.reason, &condition.message)).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;

    fn cluster(
        spec: Value,
        generations: (i64, i64),
        conditions: &[(&str, &str, &str, &str)],
    ) -> LocalCluster {
        let condition = |(type_, status, reason, message): &(&str, &str, &str, &str)| {
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-11-30T00:00:00Z"})
        };
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        serde_json::from_value(json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
            "metadata": {"name": "dev", "generation": generations.0}, "spec": spec,
            "status": {"observedGeneration": generations.1, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn each_phase_is_told_once() {
        let mut progress = Progress::new(Paint::none());
        let mut look =
            |conditions: &[(&str, &str, &str, &str)]| progress.look(&cluster(json!({}), (1, 1), conditions));
        let pulls = ("Ready", "False", "ImagePulling", "pulls k3s, 10 %");
        let (lines, outcome) =
            look(&[pulls, ("Accepted", "True", "Accepted", ""), ("NetworkReady", "False", "Creating", "")]);
        assert_eq!(lines, ["✓ Accepted", "… ImagePulling: pulls k3s, 10 %"]);
        assert_eq!(outcome, Outcome::Waits("ImagePulling: pulls k3s, 10 %".into()));
        let more = ("Ready", "False", "ImagePulling", "pulls k3s, 20 %");
        let (lines, _) = look(&[
            more,
            ("Accepted", "True", "Accepted", ""),
            ("NetworkReady", "True", "Ready", "it exists"),
        ]);
        assert_eq!(lines, ["✓ NetworkReady: it exists"]);
        let (lines, outcome) =
            look(&[("Ready", "True", "Ready", ""), ("NetworkReady", "True", "Ready", "it exists")]);
        assert_eq!((lines, outcome), (vec![], Outcome::Done));
    }

    #[test]
    fn only_the_present_spec_counts() {
        let ready = [("Ready", "True", "Ready", "")];
        for (spec, generations, conditions, expected) in [
            (json!({}), (1, -1), &[][..], "Waits"),
            (json!({}), (2, 1), &ready[..], "Waits"),
            (json!({}), (2, 2), &ready[..], "Done"),
            (json!({"state": "Stopped"}), (2, 2), &ready[..], "Waits"),
            (json!({"state": "Stopped"}), (2, 2), &[("Stopped", "True", "Stopped", "")][..], "Done"),
            (json!({}), (2, 2), &[("Stopped", "True", "Stopped", "")][..], "Waits"),
        ] {
            let seen = cluster(spec, generations, conditions);
            assert!(format!("{:?}", outcome(&seen)).starts_with(expected), "{seen:?}");
        }
    }

    #[test]
    fn what_needs_the_user_ends_the_waiting() {
        let ready = ("Ready", "False", "PortConflict", "port 80 is in use; choose another");
        let stalled = ("Stalled", "True", "PortConflict", "");
        let told = Outcome::NeedsUser("PortConflict: port 80 is in use; choose another".into());
        assert_eq!(outcome(&cluster(json!({}), (1, 1), &[ready, stalled])), told);
        // A dependency that may come back is waited for.
        let waits = ("Ready", "False", "SecretNotFound", "the Secret x does not exist");
        let seen = cluster(json!({}), (1, 1), &[waits, ("Stalled", "False", "NotStalled", "")]);
        assert_eq!(
            Progress::new(Paint::none()).look(&seen).0,
            ["… SecretNotFound: the Secret x does not exist"]
        );
        let paused = ("Paused", "True", "Paused", "remove the annotation");
        let seen = cluster(json!({}), (1, 1), &[("Ready", "Unknown", "Paused", ""), paused]);
        assert_eq!(outcome(&seen), Outcome::NeedsUser("Paused: remove the annotation".into()));
        let mut deleted = cluster(json!({}), (1, 1), &[("Ready", "True", "Ready", "")]);
        deleted.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(outcome(&deleted), Outcome::NeedsUser("it is being deleted".into()));
        let mut new = deleted.clone();
        (new.metadata.deletion_timestamp, new.status) = (None, None);
        assert!(
            matches!(outcome(&new), Outcome::Waits(why) if why.starts_with("no operator has processed it"))
        );
    }

    #[test]
    fn a_full_disk_is_told_of_a_cluster_that_is_ready() {
        let low = ("HostReady", "False", "DiskSpaceLow", "free some");
        assert_eq!(warnings(&cluster(json!({}), (1, 1), &[low])), ["DiskSpaceLow: free some"]);
        assert!(warnings(&cluster(json!({}), (1, 1), &[("HostReady", "True", "Ready", "")])).is_empty());
    }
}
