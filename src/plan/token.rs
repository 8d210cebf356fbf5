//! The join token. K3s encrypts its data with it, so the token that a server uses takes precedence over the Secret.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    owner::Owner,
    secret::{Existing, Secret},
    steps::{Action, Plan},
    validate::Valid,
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    k3s,
};

/// Observed tokens of a cluster.
pub struct Tokens {
    /// Token that a server uses.
    pub in_use: Option<Vec<u8>>,
    /// Secret with the token; `None` if it does not exist.
    pub secret: Option<Existing>,
    /// Random token for a cluster that has none.
    pub fresh: Option<Vec<u8>>,
}

/// Token of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Token that nodes use.
    pub current: Vec<u8>,
    /// Token that replaces it.
    pub next: Option<Vec<u8>>,
}

/// What the servers of a cluster say about its token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OfServers {
    /// Token that a server uses.
    pub in_use: Option<Vec<u8>>,
    /// Hash of the CA, if all servers that wrote one agree. Nodes that join by another one are refused.
    pub ca_hash: Option<String>,
}

/// Tokens in the files of a server.
#[derive(Clone, Default)]
pub struct Files {
    /// Token that K3s wrote. Its data is encrypted with the secret in it.
    pub written: Option<Vec<u8>>,
    /// Token that the server was created with.
    pub given: Option<Vec<u8>>,
}

/// Returns what the files of all servers say.
pub fn of_servers(servers: &[Files]) -> OfServers {
    let used = |files: &Files| {
        let written = files.written.as_deref().and_then(k3s::token::secret_of).map(<[u8]>::to_vec);
        written.or_else(|| files.given.clone().filter(|given| !given.is_empty()))
    };
    let hash = |files: &Files| files.written.as_deref().and_then(k3s::token::ca_hash_of).map(str::to_owned);
    let hashes: BTreeSet<String> = servers.iter().filter_map(hash).collect();
    let ca_hash = if hashes.len() == 1 { hashes.into_iter().next() } else { None };
    OfServers { in_use: servers.iter().find_map(used), ca_hash }
}

/// Returns the name of the Secret with the token, and the key in it.
pub fn place(valid: &Valid, owner: &Owner) -> (String, String) {
    match &valid.token {
        Some(token) => (token.secret_name.clone(), token.key.clone()),
        None => (format!("{}-token", owner.name()), "token".to_owned()),
    }
}

/// Returns the token, and plans the Secret of a generated one. `None` if there is no token yet: a generated one is used
/// once its Secret exists.
pub fn plan(plan: &mut Plan, valid: &Valid, owner: &Owner, tokens: Tokens) -> Option<Token> {
    let Tokens { in_use, secret, fresh } = tokens;
    let (name, key) = place(valid, owner);
    let kept = |in_use: Option<Vec<u8>>| in_use.map(|current| Token { current, next: None });
    let Some(secret) = secret else {
        if valid.token.is_some() {
            let namespace = owner.namespace();
            let message = format!("there is no Secret {name} in namespace {namespace} with the join token");
            plan.waits(ConditionType::ResolvedRefs, Reason::SecretNotFound, message);
        } else if let Some(token) = in_use.clone().or(fresh) {
            if in_use.is_none() {
                let message = format!("creating the Secret {name} with the join token");
                plan.waits(ConditionType::ResolvedRefs, Reason::Creating, message);
            }
            let (owner, data) = (owner.clone(), BTreeMap::from([(key, token)]));
            let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
            let secret = Secret { name, owner, labels, annotations, data };
            plan.step(Action::CreateSecret(secret), &[], "the cluster has no Secret with its join token");
        }
        return kept(in_use);
    };
    let given = secret.data.get(&key).map(|value| value.trim_ascii().to_vec()).filter(|v| !v.is_empty());
    match (given, in_use) {
        (None, in_use) => {
            let message = format!("the Secret {name} has no key {key} with a token in it");
            plan.waits(ConditionType::ResolvedRefs, Reason::SecretInvalid, message);
            kept(in_use)
        }
        (Some(given), Some(in_use)) if !k3s::token::is_same(&given, &in_use) => {
            if k3s::token::is_bare(&given) {
                return Some(Token { current: in_use, next: Some(given) });
            }
            let message = format!(
                "the Secret {name} has a token that the cluster can't change to: write letters, digits, hyphens, \
                 underscores and dots only"
            );
            plan.stalls(ConditionType::ResolvedRefs, Reason::SecretInvalid, message);
            kept(Some(in_use))
        }
        (Some(given), _) => kept(Some(given)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{LocalClusterSpec, local_cluster::SecretKeyRef},
        plan::{steps::Problem, validate},
    };

    fn owner() -> Owner {
        Owner { uid: "u".into(), manager: "m".into(), object: "team/dev".into() }
    }

    /// Tokens (current, next), steps and problems.
    type Planned = (Option<(String, Option<String>)>, Vec<String>, Vec<String>);

    /// Plans with `spec.token`, or without.
    fn planned(named: bool, tokens: Tokens) -> Planned {
        let mut spec: LocalClusterSpec = serde_json::from_str("{}").unwrap();
        spec.token = named.then(|| SecretKeyRef { secret_name: "mine".into(), key: "token".into() });
        let valid = validate::local_cluster("team", "dev", &spec).unwrap();
        let mut made = Plan::default();
        let token = plan(&mut made, &valid, &owner(), tokens);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let token = token.map(|t| (text(t.current), t.next.map(text)));
        let steps = made.steps.iter().map(|s| format!("{} ({})", s.action, s.why)).collect();
        let problem = |p: &Problem| format!("{} {}: {}", p.condition, p.reason, p.message);
        (token, steps, made.problems.iter().map(problem).collect())
    }

    fn existing(value: &str) -> Option<Existing> {
        let data = BTreeMap::from([("token".to_owned(), value.as_bytes().to_vec())]);
        Some(Existing { data, ..Existing::default() })
    }

    fn tokens(in_use: Option<&str>, secret: Option<Existing>) -> Tokens {
        Tokens { in_use: in_use.map(|t| t.as_bytes().to_vec()), secret, fresh: Some(b"fresh".to_vec()) }
    }

    #[test]
    fn a_generated_token_is_used_once_its_secret_exists() {
        let (token, steps, problems) = planned(false, tokens(None, None));
        assert_eq!(token, None);
        assert_eq!(steps, ["CreateSecret dev-token (the cluster has no Secret with its join token)"]);
        assert_eq!(problems, ["ResolvedRefs Creating: creating the Secret dev-token with the join token"]);
        let (token, steps, problems) = planned(false, tokens(None, existing("fresh\n")));
        assert_eq!((token, steps, problems), (Some(("fresh".into(), None)), vec![], vec![]));
    }

    #[test]
    fn the_ca_is_known_where_servers_agree_on_it() {
        let whole = |ca: &str, secret: &str| format!("K10{}::server:{secret}\n", ca.repeat(32)).into_bytes();
        let said = |servers: &[Files]| {
            let OfServers { in_use, ca_hash } = of_servers(servers);
            (in_use.map(|token| String::from_utf8(token).unwrap()), ca_hash)
        };
        let given = |token: &str| Files { given: Some(token.into()), written: None };
        let both = |ca, token: &str| Files { written: Some(whole(ca, "a")), ..given(token) };
        let token = Some("a".to_owned());
        assert_eq!(said(&[]), (None, None));
        assert_eq!(said(&[given("")]), (None, None));
        assert_eq!(said(&[given("a")]), (token.clone(), None), "it did not start yet");
        assert_eq!(said(&[both("0f", "old")]), (token.clone(), Some("0f".repeat(32))));
        assert_eq!(said(&[both("0f", "old"), given("a")]), (token.clone(), Some("0f".repeat(32))));
        assert_eq!(said(&[both("0f", "old"), both("aa", "a")]), (token, None));
    }

    /// A complete token of the user is the one in use, whatever CA it names.
    #[test]
    fn a_complete_token_is_no_other_one() {
        let full = format!("K10{}::server:used", "0f".repeat(32));
        let (token, _, problems) = planned(true, tokens(Some("used"), existing(&full)));
        assert_eq!((token, problems), (Some((full, None)), vec![]));
    }

    /// A Secret that was deleted gets the token that the servers use, since the data is encrypted with it.
    #[test]
    fn a_deleted_secret_is_created_with_the_token_in_use() {
        let mut made = Plan::default();
        let spec = serde_json::from_str("{}").unwrap();
        let valid = validate::local_cluster("team", "dev", &spec).unwrap();
        let token = plan(&mut made, &valid, &owner(), tokens(Some("used"), None)).unwrap();
        assert!(token.current == b"used" && token.next.is_none());
        let [step] = made.steps.as_slice() else { panic!("{:?}", made.steps) };
        let Action::CreateSecret(secret) = &step.action else { panic!("{}", step.action) };
        assert_eq!(secret.data["token"], b"used");
        assert!(made.problems.is_empty(), "nodes wait for nothing: {:?}", made.problems);
    }

    #[test]
    fn a_secret_of_the_user_is_never_written() {
        for (secret, problem) in [
            (None, "SecretNotFound: there is no Secret mine in namespace team with the join token"),
            (existing(" "), "SecretInvalid: the Secret mine has no key token with a token in it"),
        ] {
            for in_use in [None, Some("used")] {
                let (token, steps, problems) = planned(true, tokens(in_use, secret.clone()));
                assert_eq!(token, in_use.map(|t| (t.to_owned(), None)), "a running cluster keeps its token");
                assert!(steps.is_empty(), "{steps:?}");
                assert_eq!(problems, [format!("ResolvedRefs {problem}")]);
            }
        }
    }

    #[test]
    fn another_token_is_the_next_one_if_k3s_can_change_to_it() {
        let (token, _, problems) = planned(true, tokens(Some("used"), existing("other")));
        assert_eq!((token, problems), (Some(("used".into(), Some("other".into()))), vec![]));
        let (token, _, problems) = planned(true, tokens(Some("used"), existing("two words")));
        assert_eq!(token, Some(("used".into(), None)));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(
            problem.starts_with(
                "ResolvedRefs SecretInvalid: the Secret mine has a token that the cluster can't"
            )
        );
    }
}
