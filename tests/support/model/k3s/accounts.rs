//! ServiceAccounts of kubeconfigs, and their tokens.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use localcluster_operator::child::account::{Account, AccountRole, AccountToken, Binding, Claims};
use serde_json::json;

use super::*;

impl World {
    fn cluster_of_api(&mut self, cluster: &str) -> Result<(u8, &mut Cluster), String> {
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
        Ok((incarnation, self.clusters.get_mut(&incarnation).unwrap()))
    }

    pub fn grant(&mut self, cluster: &str, role: AccountRole) -> Result<(), String> {
        let (incarnation, cluster) = self.cluster_of_api(cluster)?;
        cluster.made += 1;
        let fresh = || format!("{incarnation}-{}", cluster.made);
        let account = cluster.accounts.entry(role).or_default();
        account.uid.get_or_insert_with(fresh);
        account.binding = Binding::Exact;
        Ok(())
    }

    pub fn revoke(&mut self, cluster: &str, role: AccountRole, uid: Option<&str>) -> Result<(), String> {
        let (_, cluster) = self.cluster_of_api(cluster)?;
        if cluster.accounts.get(&role).is_some_and(|a| a.uid.is_none() || a.uid.as_deref() == uid) {
            cluster.accounts.remove(&role);
        }
        Ok(())
    }

    pub fn issue(
        &mut self,
        cluster: &str,
        role: AccountRole,
        ttl: SignedDuration,
    ) -> Result<AccountToken, String> {
        let clock = self.clock;
        let (_, cluster) = self.cluster_of_api(cluster)?;
        let Some(Account { uid: Some(uid), .. }) = cluster.accounts.get(&role) else {
            return Err("404 the ServiceAccount does not exist".into());
        };
        cluster.made += 1;
        let issued = clock + cluster.skew;
        let payload = json!({
            "iat": issued, "exp": issued + ttl.as_secs(), "jti": cluster.made,
            "sub": format!("system:serviceaccount:kube-system:{}", role.account()),
            "kubernetes.io": {"serviceaccount": {"uid": uid}},
        });
        let payload = BASE64_URL_SAFE_NO_PAD.encode(payload.to_string());
        Ok(AccountToken(format!("e30.{payload}.c2lnbmF0dXJl")))
    }

    pub fn accepts(&mut self, cluster: &str, token: &AccountToken) -> Result<bool, String> {
        let (incarnation, _) = self.cluster_of_api(cluster)?;
        Ok(self.account(incarnation, &token.0).is_some())
    }

    /// The account that a token is of, if it is valid, whatever that may do.
    fn account(&self, incarnation: u8, token: &str) -> Option<(AccountRole, Binding)> {
        let claims = Claims::of(token).filter(|_| token.ends_with(".c2lnbmF0dXJl"))?;
        let cluster = &self.clusters[&incarnation];
        let account = cluster.accounts.get(&claims.role)?;
        let lives = claims.expires.as_second() > self.clock + cluster.skew;
        let valid = lives && account.uid.as_ref() == Some(&claims.uid);
        valid.then_some((claims.role, account.binding))
    }

    /// The rights that a token has in any cluster.
    pub fn rights_of(&self, token: &str) -> Option<AccountRole> {
        let (role, binding) =
            self.clusters.keys().find_map(|incarnation| self.account(*incarnation, token))?;
        (binding == Binding::Exact).then_some(role)
    }
}
