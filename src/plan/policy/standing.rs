//! Standing of an object under the policy of its namespace: its rules, and why nothing of it may be created if it violates
//! them.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{
    rules::{Rules, Violation, list},
    select::{Policy, select},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    plan::{settings::WithoutPolicy, steps::Problem},
};

/// Standing of an object under the policy of its namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Name of the policy, if there is one.
    pub policy: Option<String>,
    /// Its rules.
    pub rules: Rules,
    /// Why nothing of the object may be created or replaced.
    pub problem: Option<Problem>,
    /// What the policy does not allow and only reports, since its mode is Audit.
    pub audited: Option<Problem>,
}

/// Rules that restrict nothing.
static NONE: LazyLock<Rules> = LazyLock::new(Rules::default);

impl Standing {
    /// Returns the rules that steps are held to: none of a policy that only reports violations.
    pub fn enforced(&self) -> &Rules {
        if self.rules.audit { &NONE } else { &self.rules }
    }

    /// Reports whether it is unknown which rules apply. What a policy ends is not ended then, and what it ended does not
    /// begin again.
    pub fn is_unknown(&self) -> bool {
        self.problem.as_ref().is_some_and(|p| matches!(p.reason, Reason::Pending | Reason::PolicyInvalid))
    }

    /// Returns the standing of the objects in a namespace with these labels, before their specs are judged. The labels
    /// are `None` while they are unknown.
    pub fn of(
        policies: &[Policy],
        (namespace, labels): (&str, Option<&BTreeMap<String, String>>),
        without: WithoutPolicy,
    ) -> Self {
        let Some(labels) = labels else {
            let message =
                format!("waiting for the labels of the namespace {namespace}, which select its HostPolicy");
            let problem = Problem::waits(ConditionType::Accepted, Reason::Pending, message);
            return Self { problem: Some(problem), ..Self::default() };
        };
        let Some(policy) = select(policies, labels) else {
            let refuses = without == WithoutPolicy::Refuse;
            return Self { problem: refuses.then(|| without_policy(namespace)), ..Self::default() };
        };
        let invalid = (!policy.errors.is_empty()).then(|| invalid(policy));
        Self {
            policy: Some(policy.name.clone()),
            rules: policy.rules.clone(),
            problem: invalid,
            audited: None,
        }
    }

    /// Returns the standing of an object with these violations. An earlier problem is kept.
    pub fn judged(mut self, violations: &[Violation]) -> Self {
        if self.problem.is_none() && !violations.is_empty() {
            let found = Some(self.violated(violations));
            if self.rules.audit {
                self.audited = found;
            } else {
                self.problem = found;
            }
        }
        self
    }

    /// Returns the problem of violations.
    pub fn violated(&self, violations: &[Violation]) -> Problem {
        let policy = self.policy.as_deref().unwrap_or_default();
        if self.rules.audit {
            let message = format!(
                "only audited, nothing is refused: the HostPolicy {policy} does not allow {}; before its mode becomes \
                 Enforce, change the spec, or have an administrator change the policy",
                list(violations)
            );
            return Problem::waits(ConditionType::PolicyViolation, Reason::PolicyAudited, message);
        }
        let message = format!(
            "nothing of it is created or replaced: the HostPolicy {policy} does not allow {}; change the spec, or have an \
             administrator change the policy",
            list(violations)
        );
        Problem::stalls(ConditionType::Accepted, Reason::PolicyViolation, message)
    }
}

fn without_policy(namespace: &str) -> Problem {
    let message = format!(
        "nothing of it is created or replaced: no HostPolicy selects the namespace {namespace}; have an administrator label \
         the namespace for an existing policy, or apply one with spec.namespaceSelector {{matchLabels: \
         {{kubernetes.io/metadata.name: {namespace}}}}}"
    );
    Problem::stalls(ConditionType::Accepted, Reason::NoPolicy, message)
}

fn invalid(policy: &Policy) -> Problem {
    let message = format!(
        "nothing of it is created or replaced: the HostPolicy {} is invalid ({}); have an administrator correct it",
        policy.name,
        list(&policy.errors)
    );
    Problem::stalls(ConditionType::Accepted, Reason::PolicyInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::HostPolicySpec,
        plan::{policy::parse, steps::Verdict},
    };

    fn policy(yaml: &str) -> Policy {
        parse::policy("teams", &serde_saphyr::from_str::<HostPolicySpec>(yaml).unwrap())
    }

    fn of(policies: &[Policy], tier: Option<&str>, without: WithoutPolicy) -> Standing {
        let labels = tier.map(|tier| BTreeMap::from([("tier".to_owned(), tier.to_owned())]));
        Standing::of(policies, ("team-a", labels.as_ref()), without)
    }

    #[test]
    fn what_is_unknown_or_invalid_refuses() {
        let good = policy("{namespaceSelector: {matchLabels: {tier: team}}, quota: {clusters: 1}}");
        let bad = policy("{priority: 1, namespaceSelector: {matchLabels: {tier: bad}}, quota: {memory: x}}");
        let all = [good, bad];
        let told = |tier, without| of(&all, tier, without).problem.map(|p| (p.reason, p.message));
        let (refuse, unrestricted) = (WithoutPolicy::Refuse, WithoutPolicy::Unrestricted);
        assert_eq!(told(Some("team"), refuse), None);
        assert_eq!(of(&all, Some("team"), refuse).rules.quota.clusters, Some(1));
        let (reason, message) = told(Some("none"), refuse).unwrap();
        assert_eq!(reason, Reason::NoPolicy);
        assert!(message.contains("{matchLabels: {kubernetes.io/metadata.name: team-a}}"), "{message}");
        assert_eq!(told(Some("none"), unrestricted), None);
        // Its labels may come with a policy.
        for without in [refuse, unrestricted] {
            assert_eq!(told(None, without).unwrap().0, Reason::Pending);
            let (reason, message) = told(Some("bad"), without).unwrap();
            assert!(
                reason == Reason::PolicyInvalid && message.contains("spec.quota.memory: must be"),
                "{message}"
            );
        }
        let unread = [all[0].clone(), parse::unreadable("new", "unknown field `colour`")];
        let problem = of(&unread, Some("team"), unrestricted).problem.unwrap();
        assert!(problem.message.contains("HostPolicy new is invalid"), "{problem:?}");
    }

    #[test]
    fn a_violation_that_is_audited_refuses_nothing() {
        let violation = Violation::new("spec.image x:1", "nodes.images", "docker.io/**");
        let all = [policy("{namespaceSelector: {}, mode: Audit, nodes: {images: ['docker.io/**']}}")];
        let standing = of(&all, Some(""), WithoutPolicy::Refuse).judged(&[violation]);
        let audited = standing.audited.clone().unwrap();
        assert_eq!((standing.problem.clone(), audited.reason), (None, Reason::PolicyAudited));
        assert_eq!(
            audited.message,
            "only audited, nothing is refused: the HostPolicy teams does not allow spec.image x:1 (nodes.images: \
             docker.io/**); before its mode becomes Enforce, change the spec, or have an administrator change the policy"
        );
        assert!(standing.enforced().node_images.is_none() && standing.rules.node_images.is_some());
        // What it selects may not be what was meant.
        let invalid = policy("{namespaceSelector: {}, mode: Audit, quota: {memory: much}}");
        let problem = of(&[invalid], Some(""), WithoutPolicy::Refuse).problem.unwrap();
        assert_eq!(problem.reason, Reason::PolicyInvalid);
    }

    #[test]
    fn a_violation_names_policy_value_rule_and_cure() {
        let all = [policy("{namespaceSelector: {}}")];
        let standing = of(&all, Some(""), WithoutPolicy::Refuse);
        let violation = Violation::new("spec.image x:1", "nodes.images", "docker.io/**");
        let problem = standing.judged(&[violation]).problem.unwrap();
        assert_eq!((problem.reason, problem.verdict), (Reason::PolicyViolation, Verdict::Stalls));
        assert_eq!(
            problem.message,
            "nothing of it is created or replaced: the HostPolicy teams does not allow spec.image x:1 (nodes.images: \
             docker.io/**); change the spec, or have an administrator change the policy"
        );
    }
}
