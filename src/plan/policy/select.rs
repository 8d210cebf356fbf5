//! Selection of the HostPolicy that applies to a namespace.

use std::{cmp::Reverse, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::rules::Rules;

/// A HostPolicy as a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name of the policy.
    pub name: String,
    /// Its priority.
    pub priority: i32,
    /// Namespaces that it selects; `None` if that is not known, which may be all of them.
    pub selector: Option<Selector>,
    /// Its rules; without meaning if there are errors.
    pub rules: Rules,
    /// Errors in the policy, which then allows nothing.
    pub errors: Vec<String>,
}

/// A valid selector of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label has none of these values, or does not exist.
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Parses a selector.
    pub fn parse(selector: &LabelSelector) -> Result<Self, String> {
        let labels = selector.match_labels.iter().flatten();
        let labels = labels.map(|(key, value)| Ok(Requirement::In(key.clone(), vec![value.clone()])));
        let expressions = selector.match_expressions.iter().flatten().enumerate();
        let expressions = expressions.map(|(i, expression)| {
            requirement(expression).map_err(|e| format!("spec.namespaceSelector.matchExpressions[{i}]: {e}"))
        });
        labels.chain(expressions).collect::<Result<_, _>>().map(Self)
    }

    /// Reports whether it selects these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => !labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, String> {
    let LabelSelectorRequirement { key, operator, values } = expression;
    let (key, values) = (key.clone(), values.clone().unwrap_or_default());
    match (operator.as_str(), values.is_empty()) {
        ("In", false) => Ok(Requirement::In(key, values)),
        ("NotIn", false) => Ok(Requirement::NotIn(key, values)),
        ("Exists", true) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", true) => Ok(Requirement::DoesNotExist(key)),
        _ => Err("must be In or NotIn with values, or Exists or DoesNotExist without".to_owned()),
    }
}

impl Policy {
    /// Reports whether it selects a namespace with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.selects(labels))
    }

    /// Returns its place among others, the highest first. One that may select anything refuses rather than leaves it to
    /// another one.
    fn rank(&self) -> (bool, i32, Reverse<&str>) {
        (self.selector.is_none(), self.priority, Reverse(&self.name))
    }
}

/// Returns the policy that applies to a namespace with these labels.
pub fn select<'a>(policies: &'a [Policy], labels: &BTreeMap<String, String>) -> Option<&'a Policy> {
    policies.iter().filter(|p| p.selects(labels)).max_by_key(|p| p.rank())
}

/// Returns the policies that select a namespace with the highest priority, if there are several.
pub fn ambiguous<'a>(policies: &'a [Policy], labels: &BTreeMap<String, String>) -> Vec<&'a Policy> {
    let Some(first) = select(policies, labels) else { return Vec::new() };
    let same = |p: &&Policy| p.selects(labels) && p.priority == first.priority && p.selector.is_some();
    let all: Vec<&Policy> = policies.iter().filter(same).collect();
    if all.len() > 1 { all } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, priority: i32, selector: Option<&str>) -> Policy {
        let selector = selector.map(|yaml| {
            let selector: LabelSelector = serde_saphyr::from_str(yaml).unwrap();
            Selector::parse(&selector).unwrap()
        });
        Policy { name: name.into(), priority, selector, rules: Rules::default(), errors: Vec::new() }
    }

    fn labels(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let team = labels(&[("tier", "team"), ("env", "ci")]);
        for (selector, selects) in [
            ("{}", true),
            ("{matchLabels: {tier: team}}", true),
            ("{matchLabels: {tier: other}}", false),
            ("{matchLabels: {tier: team, none: x}}", false),
            ("{matchExpressions: [{key: env, operator: In, values: [ci, dev]}]}", true),
            ("{matchExpressions: [{key: env, operator: NotIn, values: [ci, dev]}]}", false),
            ("{matchExpressions: [{key: none, operator: NotIn, values: [x]}]}", true),
            ("{matchExpressions: [{key: none, operator: In, values: [x]}]}", false),
            ("{matchExpressions: [{key: env, operator: Exists}]}", true),
            ("{matchExpressions: [{key: env, operator: DoesNotExist}]}", false),
            ("{matchLabels: {tier: team}, matchExpressions: [{key: none, operator: Exists}]}", false),
        ] {
            assert_eq!(policy("p", 0, Some(selector)).selects(&team), selects, "{selector}");
        }
        for bad in [
            "{matchExpressions: [{key: a, operator: in, values: [x]}]}",
            "{matchExpressions: [{key: a, operator: In}]}",
            "{matchExpressions: [{key: a, operator: Exists, values: [x]}]}",
        ] {
            let selector: LabelSelector = serde_saphyr::from_str(bad).unwrap();
            assert!(Selector::parse(&selector).unwrap_err().contains("matchExpressions[0]"), "{bad}");
        }
    }

    #[test]
    fn the_highest_priority_applies_alone() {
        let all = [
            policy("low", 1, Some("{}")),
            policy("b", 5, Some("{matchLabels: {tier: team}}")),
            policy("a", 5, Some("{matchLabels: {tier: team}}")),
            policy("other", 9, Some("{matchLabels: {tier: other}}")),
        ];
        let chosen = |of: &[(&str, &str)]| select(&all, &labels(of)).map(|p| p.name.as_str());
        assert_eq!(chosen(&[("tier", "team")]), Some("a"));
        assert_eq!((chosen(&[]), chosen(&[("tier", "other")])), (Some("low"), Some("other")));
        let names = |of: &[(&str, &str)]| {
            ambiguous(&all, &labels(of)).iter().map(|p| p.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!((names(&[("tier", "team")]), names(&[])), (vec!["b".into(), "a".into()], Vec::new()));
        assert_eq!(select(&all[1..], &labels(&[])), None);
        // One that cannot be read may be meant for this namespace.
        let unread = [policy("low", 1, Some("{}")), policy("unread", 0, None)];
        assert_eq!(select(&unread, &labels(&[])).unwrap().name, "unread");
    }
}
