//! ServiceAccounts of kubeconfigs in the created cluster, and what their tokens say: plain values. Pure.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;

use crate::api::local_cluster::KubeconfigAccess;

/// Namespace of the ServiceAccounts.
pub const NAMESPACE: &str = "kube-system";

/// Rights of a kubeconfig with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountRole {
    /// All rights.
    Admin,
    /// Rights of the ClusterRole `edit`.
    Edit,
    /// Rights of the ClusterRole `view`.
    View,
}

impl AccountRole {
    /// All rights that a token can have.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Edit, Self::View];

    /// Returns the name of the ServiceAccount and of its ClusterRoleBinding.
    pub fn account(self) -> &'static str {
        match self {
            Self::Admin => "localcluster-kubeconfig-admin",
            Self::Edit => "localcluster-kubeconfig-edit",
            Self::View => "localcluster-kubeconfig-view",
        }
    }

    /// Returns the rights of a ServiceAccount.
    pub fn of_account(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.account() == name)
    }

    /// Returns the ClusterRole that the ServiceAccount is bound to.
    pub fn cluster_role(self) -> &'static str {
        match self {
            Self::Admin => "cluster-admin",
            Self::Edit => "edit",
            Self::View => "view",
        }
    }

    /// Returns the name of the user in a kubeconfig.
    pub fn user(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Edit => "edit",
            Self::View => "view",
        }
    }

    /// Returns the access as the spec names it.
    pub fn access(self) -> KubeconfigAccess {
        match self {
            Self::Admin => KubeconfigAccess::Admin,
            Self::Edit => KubeconfigAccess::Edit,
            Self::View => KubeconfigAccess::View,
        }
    }
}

/// A ServiceAccount of a kubeconfig with its ClusterRoleBinding, of which at least one exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// UID of the ServiceAccount; `None` if it does not exist or is being deleted.
    pub uid: Option<String>,
    /// Its ClusterRoleBinding.
    pub binding: Binding,
}

/// State of a ClusterRoleBinding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Binding {
    /// It does not exist.
    #[default]
    Missing,
    /// It binds something else.
    Other,
    /// It binds the ServiceAccount to its ClusterRole, and nothing else.
    Exact,
}

/// A token of a ServiceAccount.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountToken(pub String);

impl fmt::Debug for AccountToken {
    /// Omits the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountToken")
    }
}

/// What a token says about itself. Whether it is true, only the API can tell, which verifies the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Rights of its ServiceAccount.
    pub role: AccountRole,
    /// UID of its ServiceAccount.
    pub uid: String,
    /// Time at which it was issued, by the clock of the API.
    pub issued: Timestamp,
    /// Time at which it expires, by the clock of the API.
    pub expires: Timestamp,
}

impl Claims {
    /// Parses the claims of a token; `None` if it is not one of a ServiceAccount of a kubeconfig.
    pub fn of(token: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload {
            sub: String,
            iat: i64,
            exp: i64,
            #[serde(rename = "kubernetes.io")]
            kubernetes: Kubernetes,
        }
        #[derive(Deserialize)]
        struct Kubernetes {
            serviceaccount: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            uid: String,
        }
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let payload: Payload = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let name =
            payload.sub.strip_prefix("system:serviceaccount:")?.strip_prefix(NAMESPACE)?.strip_prefix(':')?;
        let (issued, expires) =
            (Timestamp::from_second(payload.iat).ok()?, Timestamp::from_second(payload.exp).ok()?);
        (issued < expires && parts.next().is_none()).then_some(Self {
            role: AccountRole::of_account(name)?,
            uid: payload.kubernetes.serviceaccount.uid,
            issued,
            expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn token(payload: &Value) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    /// What K3s v1.36 puts into one.
    fn payload() -> Value {
        json!({
            "aud": ["https://kubernetes.default.svc.cluster.local", "k3s"],
            "exp": 1_700_086_400, "iat": 1_700_000_000, "nbf": 1_700_000_000,
            "iss": "https://kubernetes.default.svc.cluster.local", "jti": "3f",
            "kubernetes.io": {"namespace": "kube-system", "serviceaccount": {"name": "localcluster-kubeconfig-view", "uid": "u1"}},
            "sub": "system:serviceaccount:kube-system:localcluster-kubeconfig-view",
        })
    }

    #[test]
    fn a_token_says_whose_it_is_and_how_long_it_lives() {
        let claims = Claims::of(&token(&payload())).unwrap();
        assert_eq!((claims.role, claims.uid.as_str()), (AccountRole::View, "u1"));
        assert_eq!(claims.expires.duration_since(claims.issued).as_hours(), 24);
    }

    #[test]
    fn nothing_else_is_one() {
        let changed = |change: fn(&mut Value)| {
            let mut payload = payload();
            change(&mut payload);
            token(&payload)
        };
        for none in [
            String::new(),
            "a.b.c".into(),
            "e30.e30.c2ln".into(),
            token(&payload()) + ".more",
            changed(|p| p["sub"] = json!("system:serviceaccount:default:localcluster-kubeconfig-view")),
            changed(|p| p["sub"] = json!("system:serviceaccount:kube-system:traefik")),
            changed(|p| p["exp"] = json!(i64::MAX)),
            changed(|p| p["exp"] = json!(1_600_000_000)),
            changed(|p| p["kubernetes.io"] = json!({})),
        ] {
            assert_eq!(Claims::of(&none), None, "{none}");
        }
    }

    #[test]
    fn no_token_is_printed() {
        assert_eq!(format!("{:?}", AccountToken("hunter2".into())), "AccountToken");
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_secret_is_looked_at(text: String, payload in prop::collection::vec(any::<u8>(), 0..64)) {
            Claims::of(&text);
            Claims::of(&format!("a.{}.c", BASE64_URL_SAFE_NO_PAD.encode(payload)));
        }
    }
}
