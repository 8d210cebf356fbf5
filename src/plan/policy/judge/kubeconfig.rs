//! Judgement of `spec.kubeconfig`.

use super::Judge;
use crate::{
    api::{
        LocalCluster,
        local_cluster::{KubeconfigAccess, KubeconfigSpec},
    },
    plan::{
        expiry,
        policy::rules::{Rules, Violation, list},
        validate::Handout,
    },
};

/// Field of the rule for rights of kubeconfigs.
pub const ACCESS: &str = "kubeconfig.access";

/// Field of the rule for the life of tokens in kubeconfigs.
pub const TOKEN_TTL: &str = "kubeconfig.maxTTL";

/// Returns the rights of kubeconfigs that the rules allow, for a message.
pub fn access(rules: &Rules) -> String {
    list(rules.access.iter().flatten().map(|access| format!("{access:?}")))
}

/// Reports whether the rules allow kubeconfigs with these rights.
pub fn allows_access(rules: &Rules, access: KubeconfigAccess) -> bool {
    rules.access.as_ref().is_none_or(|allowed| allowed.contains(&access))
}

impl Judge<'_> {
    /// Judges the credential in the kubeconfig.
    pub(super) fn kubeconfig(&mut self, object: &LocalCluster) {
        let (rules, KubeconfigSpec { access, ttl }) = (self.rules, &object.spec.kubeconfig);
        self.check(allows_access(rules, *access), || {
            Violation::new(format!("spec.kubeconfig.access {access:?}"), ACCESS, self::access(rules))
        });
        let Some(max) = rules.max_token_ttl else { return };
        let (what, must) = match ttl {
            Some(ttl) => (format!("spec.kubeconfig.ttl {ttl}"), ""),
            None => ("no spec.kubeconfig.ttl".to_owned(), "must be set, "),
        };
        let ttl = ttl.as_deref().map_or(rules.token_ttl, expiry::parse);
        let holds = match Handout::of(*access, ttl) {
            Handout::Nothing => true,
            Handout::Token(_, life) => life <= max,
            Handout::Certificate => false,
        };
        self.check(holds, || Violation::new(what, TOKEN_TTL, format!("{must}at most {max:#}")));
    }
}
