//! The Secret with a kubeconfig as a value, with a credential or before it has one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::names::RENEW_AT,
    child::account::{AccountRole, AccountToken, Claims},
    k3s::kubeconfig::{self, Credentials, Place},
    plan::{owner::Owner, secret::Secret},
    time::after,
};

/// Everything in the Secret but the credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Name of the Secret.
    pub name: String,
    /// LocalCluster that owns it.
    pub owner: Owner,
    /// CA certificates of the cluster, in base64.
    pub ca: String,
    /// Name of the cluster on the Docker host.
    pub cluster: String,
    /// Name of the load balancer.
    pub balancer: String,
    /// URL of the API on the Docker host.
    pub host: String,
    /// URL of the API for Pods of the management cluster.
    pub management: String,
}

impl Frame {
    /// Returns the Secret with the client certificate of the admin.
    pub fn certified(&self, credentials: &Credentials) -> Secret {
        self.secret(|place| kubeconfig::render(credentials, place), BTreeMap::new())
    }

    fn secret(&self, render: impl Fn(Place<'_>) -> String, annotations: BTreeMap<String, String>) -> Secret {
        let content = |server: &str| {
            let place =
                Place { ca: &self.ca, cluster: &self.cluster, server, tls_server_name: &self.balancer };
            render(place).into_bytes()
        };
        Secret {
            name: self.name.clone(),
            owner: self.owner.clone(),
            labels: BTreeMap::from([
                ("cluster.x-k8s.io/cluster-name".to_owned(), self.owner.name().to_owned()),
                ("reconcile.fluxcd.io/watch".to_owned(), "Enabled".to_owned()),
            ]),
            annotations,
            data: BTreeMap::from([
                ("value".to_owned(), content(&self.management)),
                ("kubeconfig".to_owned(), content(&self.host)),
            ]),
        }
    }
}

/// The Secret before it has a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The rest of the Secret.
    pub frame: Frame,
    /// Rights of the token.
    pub role: AccountRole,
    /// Life of the token.
    pub ttl: SignedDuration,
}

impl Template {
    /// Returns the name of the Secret.
    pub fn name(&self) -> &str {
        &self.frame.name
    }

    /// Returns the owner of the Secret.
    pub fn owner(&self) -> &Owner {
        &self.frame.owner
    }

    /// Returns the Secret with a token that was issued at `now`. The time of its renewal is by the clock of the operator,
    /// which may differ from that of the API.
    pub fn issued(&self, token: &AccountToken, now: Timestamp) -> Secret {
        let life =
            Claims::of(&token.0).map_or(self.ttl, |claims| claims.expires.duration_since(claims.issued));
        self.filled(&token.0, after(now, until_renewal(life)))
    }

    /// Returns the Secret with a token that is renewed at this time.
    pub fn filled(&self, token: &str, renew_at: Timestamp) -> Secret {
        let annotations = BTreeMap::from([(RENEW_AT.to_owned(), renew_at.to_string())]);
        self.frame.secret(|place| kubeconfig::render_token(token, self.role.user(), place), annotations)
    }
}

/// Returns the time after which a token with this life is renewed: 80 % of it.
pub fn until_renewal(life: SignedDuration) -> SignedDuration {
    life / 5 * 4
}
