//! The join token. K3s encrypts its data with it, so the token that a server uses takes precedence over the Secret.

use std::collections::BTreeMap;

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
            let secret = Secret { name, owner, labels: BTreeMap::new(), data };
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
        (Some(given), Some(in_use)) if given != in_use => {
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
