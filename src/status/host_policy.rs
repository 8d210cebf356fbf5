//! Status of a HostPolicy.

use std::collections::{BTreeMap, BTreeSet};

use super::Moment;
use crate::{
    api::{
        HostPolicyStatus,
        condition::{self, ConditionType},
        host_policy,
        reason::Reason,
    },
    plan::policy::{
        rules,
        select::{Policy, ambiguous, select},
        usage::Usage,
    },
};

/// Number of objects that the status lists.
const LISTED: usize = 20;

/// An object in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyObject {
    /// Kind of the object.
    pub kind: &'static str,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Usage according to its spec.
    pub usage: Usage,
    /// True if its status says that it violates its policy.
    pub violates: bool,
}

/// Inputs of the status of all policies.
pub struct PolicyView<'a> {
    /// All policies.
    pub policies: &'a [Policy],
    /// Labels of all namespaces, by name.
    pub namespaces: &'a BTreeMap<String, BTreeMap<String, String>>,
    /// All objects.
    pub objects: &'a [PolicyObject],
}

/// Returns the status of a policy.
pub fn host_policy(
    previous: &HostPolicyStatus,
    policy: &Policy,
    view: &PolicyView<'_>,
    moment: Moment,
) -> HostPolicyStatus {
    let applies = |labels| select(view.policies, labels).is_some_and(|p| p.name == policy.name);
    let namespaces: BTreeSet<&String> =
        view.namespaces.iter().filter(|(_, labels)| applies(labels)).map(|(name, _)| name).collect();
    let objects: Vec<&PolicyObject> =
        view.objects.iter().filter(|o| namespaces.contains(&o.namespace)).collect();
    let usage = objects.iter().fold(Usage::default(), |sum, o| sum.plus(o.usage));
    let violating: BTreeSet<String> =
        objects.iter().filter(|o| o.violates).map(|o| format!("{}/{}", o.namespace, o.name)).collect();
    let mut conditions = previous.conditions.clone();
    let mut set = |type_, status: bool, reason, message: &str| {
        condition::set(&mut conditions, type_, (status, reason, message), moment);
    };
    if policy.errors.is_empty() {
        set(ConditionType::Accepted, true, Reason::Accepted, "");
        let audits = if policy.rules.audit { "mode Audit, nothing is refused: " } else { "" };
        let message = match violating.len() {
            0 => String::new(),
            1 => format!("{audits}1 object violates the policy; see status.violations"),
            n => format!("{audits}{n} objects violate the policy; see status.violations"),
        };
        set(ConditionType::Ready, true, Reason::Ready, &message);
    } else {
        let message = format!(
            "nothing is created in the namespaces that it selects: {}; correct the policy",
            policy.errors.join("; ")
        );
        set(ConditionType::Accepted, false, Reason::PolicyInvalid, &message);
        set(ConditionType::Ready, false, Reason::PolicyInvalid, &message);
    }
    match rivals(policy, view) {
        Some((namespace, others)) => {
            let message = format!(
                "the HostPolicies {others} select the namespace {namespace} with the same priority, and the first of \
                 them applies; give one of them a higher priority"
            );
            set(ConditionType::Ambiguous, true, Reason::SamePriority, &message);
        }
        None => set(ConditionType::Ambiguous, false, Reason::Unique, ""),
    }
    HostPolicyStatus {
        observed_generation: Some(moment.generation),
        conditions,
        namespaces: Some(count(namespaces.len())),
        usage: Some(reported(usage)),
        violations: violating.into_iter().take(LISTED).collect(),
    }
}

/// Returns a namespace that several policies with the priority of this one select, and their names.
fn rivals(policy: &Policy, view: &PolicyView<'_>) -> Option<(String, String)> {
    view.namespaces.iter().find_map(|(name, labels)| {
        let mut names: Vec<&str> = ambiguous(view.policies, labels).iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names.contains(&policy.name.as_str()).then(|| (name.clone(), rules::list(names)))
    })
}

fn reported(usage: Usage) -> host_policy::Usage {
    host_policy::Usage {
        clusters: count(usage.clusters),
        registries: count(usage.registries),
        nodes: count(usage.nodes),
        cpus: rules::cpus(usage.nano_cpus.into()),
        memory: rules::bytes(usage.memory.into()),
        host_ports: count(usage.host_ports),
    }
}

fn count(n: impl TryInto<i32>) -> i32 {
    n.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::HostPolicySpec, plan::policy::parse};

    fn policy(name: &str, yaml: &str) -> Policy {
        parse::policy(name, &serde_saphyr::from_str::<HostPolicySpec>(yaml).unwrap())
    }

    fn namespace(name: &str, tier: &str) -> (String, BTreeMap<String, String>) {
        (name.to_owned(), BTreeMap::from([("tier".to_owned(), tier.to_owned())]))
    }

    fn object(namespace: &str, name: &str, violates: bool) -> PolicyObject {
        let usage =
            Usage { clusters: 1, nodes: 2, nano_cpus: 1_500_000_000, memory: 1 << 30, ..Usage::default() };
        PolicyObject { kind: "LocalCluster", namespace: namespace.into(), name: name.into(), usage, violates }
    }

    #[test]
    fn it_tells_what_it_applies_to_and_what_violates_it() {
        let policies = [
            policy("b", "{priority: 1, namespaceSelector: {matchLabels: {tier: team}}}"),
            policy("a", "{priority: 1, namespaceSelector: {matchLabels: {tier: team}}}"),
            policy("rest", "{namespaceSelector: {}, quota: {memory: much}}"),
        ];
        let namespaces =
            BTreeMap::from([namespace("team-a", "team"), namespace("team-b", "team"), namespace("x", "")]);
        let mut objects =
            vec![object("team-a", "dev", false), object("team-b", "dev", true), object("x", "dev", true)];
        objects.extend((0..30).map(|i| object("team-a", &format!("n{i:02}"), true)));
        let view = PolicyView { policies: &policies, namespaces: &namespaces, objects: &objects };
        let moment = Moment { generation: 3, now: jiff::Timestamp::UNIX_EPOCH };
        let [b, a, rest] =
            policies.each_ref().map(|p| host_policy(&HostPolicyStatus::default(), p, &view, moment));
        let told = |status: &HostPolicyStatus, type_| {
            let condition = condition::get(&status.conditions, type_).unwrap().clone();
            (condition.status, condition.reason, condition.message)
        };
        assert_eq!((a.namespaces, b.namespaces, rest.namespaces), (Some(2), Some(0), Some(1)));
        let usage = a.usage.clone().unwrap();
        assert_eq!((usage.clusters, usage.cpus.as_str(), usage.memory.as_str()), (32, "48", "32Gi"));
        assert_eq!((a.violations.len(), a.violations[0].as_str()), (20, "team-a/n00"));
        assert!(told(&a, ConditionType::Ready).2.starts_with("31 objects violate"));
        assert_eq!(rest.violations, ["x/dev"]);
        for status in [&a, &b] {
            let (is, reason, message) = told(status, ConditionType::Ambiguous);
            assert_eq!((is.as_str(), reason.as_str()), ("True", "SamePriority"));
            assert!(message.contains("the HostPolicies a, b select the namespace team-a"), "{message}");
        }
        assert_eq!(told(&rest, ConditionType::Ambiguous).0, "False");
        let (is, reason, message) = told(&rest, ConditionType::Ready);
        assert_eq!((is.as_str(), reason.as_str()), ("False", "PolicyInvalid"));
        assert!(message.contains("spec.quota.memory: must be a quantity"), "{message}");
        assert!(rest.conditions.iter().all(|c| c.observed_generation == Some(3)));
    }
}
