//! Credential in the kubeconfig Secret: `spec.kubeconfig`.

use std::ops::RangeInclusive;

use jiff::SignedDuration;

use super::checker::Checker;
use crate::{
    api::{
        local_cluster::{KubeconfigAccess, KubeconfigSpec},
        rules::text,
    },
    child::account::AccountRole,
    plan::expiry,
};

/// Life of a token without a `ttl` in the spec.
pub const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Shortest life of a token, which Kubernetes requires, and longest one: that of the client certificate of K3s.
pub const TOKEN_LIVES: RangeInclusive<SignedDuration> =
    SignedDuration::from_mins(10)..=SignedDuration::from_hours(8760);

/// Credential in the kubeconfig Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handout {
    /// The client certificate of K3s.
    Certificate,
    /// Tokens with these rights and this life.
    Token(AccountRole, SignedDuration),
    /// None: there is no Secret.
    Nothing,
}

impl Handout {
    /// Returns the credential of a spec. `ttl` is the life of the token, if the spec or its HostPolicy sets one.
    pub fn of(access: KubeconfigAccess, ttl: Option<SignedDuration>) -> Self {
        let token = |role| Self::Token(role, ttl.unwrap_or(TOKEN_LIFE));
        match access {
            KubeconfigAccess::Admin if ttl.is_none() => Self::Certificate,
            KubeconfigAccess::Admin => token(AccountRole::Admin),
            KubeconfigAccess::Edit => token(AccountRole::Edit),
            KubeconfigAccess::View => token(AccountRole::View),
            KubeconfigAccess::None => Self::Nothing,
        }
    }

    /// Returns this credential, or one with these rights and the life that a HostPolicy sets, if it sets one.
    pub fn or_for(self, access: KubeconfigAccess, default: Option<SignedDuration>) -> Self {
        default.map_or(self, |ttl| Self::of(access, Some(ttl)))
    }

    /// Returns the rights of the tokens.
    pub fn role(self) -> Option<AccountRole> {
        match self {
            Self::Token(role, _) => Some(role),
            Self::Certificate | Self::Nothing => None,
        }
    }
}

impl Checker {
    /// Parses the credential.
    pub(super) fn kubeconfig(&mut self, kubeconfig: &KubeconfigSpec) -> Handout {
        let KubeconfigSpec { access, ttl } = kubeconfig;
        let life = ttl.as_deref().and_then(expiry::parse).filter(|ttl| TOKEN_LIVES.contains(ttl));
        self.check(ttl.is_none() || life.is_some(), "spec.kubeconfig.ttl", text::TOKEN_TTL);
        let none = *access == KubeconfigAccess::None;
        self.check(!none || ttl.is_none(), "spec.kubeconfig.ttl", text::KUBECONFIG_WITHOUT_TTL);
        Handout::of(*access, life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::validate::tests::problems;

    fn parsed(access: KubeconfigAccess, ttl: Option<&str>) -> Handout {
        Checker::default().kubeconfig(&KubeconfigSpec { access, ttl: ttl.map(str::to_owned) })
    }

    #[test]
    fn admin_has_a_token_only_with_a_ttl() {
        use KubeconfigAccess::{Admin, Edit, None as Nothing, View};
        let token = |role, hours| Handout::Token(role, SignedDuration::from_hours(hours));
        assert_eq!(parsed(Admin, None), Handout::Certificate);
        assert_eq!(parsed(Admin, Some("8h")), token(AccountRole::Admin, 8));
        assert_eq!(parsed(Edit, None), token(AccountRole::Edit, 24));
        assert_eq!(parsed(View, Some("8760h")), token(AccountRole::View, 8760));
        assert_eq!(parsed(Nothing, None), Handout::Nothing);
    }

    #[test]
    fn a_life_that_no_token_has_is_refused() {
        for ttl in ["", "0h", "9m59s", "8760h1s", "1d", "-1h"] {
            let found = problems(|s| s.kubeconfig.ttl = Some(ttl.into()));
            assert_eq!(found, [format!("spec.kubeconfig.ttl: {}", text::TOKEN_TTL)], "{ttl}");
        }
        let found = problems(|s| {
            s.kubeconfig = KubeconfigSpec { access: KubeconfigAccess::None, ttl: Some("24h".into()) };
        });
        assert_eq!(found, [format!("spec.kubeconfig.ttl: {}", text::KUBECONFIG_WITHOUT_TTL)]);
    }
}
