//! ServiceAccounts of kubeconfigs in a created cluster: their observation, and the calls that change them.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec, TokenReview, TokenReviewSpec},
    core::v1::ServiceAccount,
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use super::{
    account::{Account, AccountRole, AccountToken, Binding, NAMESPACE},
    api::Error,
    call::{bounded, call, get, unless_gone},
    config::FIELD_MANAGER,
};
use crate::api::names::MANAGED_BY;

/// Returns the label selector of everything that the operator creates for kubeconfigs.
pub fn selector() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// Returns the existing ServiceAccounts with their bindings.
pub async fn observe(client: &Client) -> Result<BTreeMap<AccountRole, Account>, Error> {
    let own = ListParams::default().labels(&selector());
    let (accounts, bindings) = (accounts(client), bindings(client));
    let (accounts, bindings) = tokio::try_join!(
        get("list of ServiceAccounts in kube-system", accounts.list_metadata(&own)),
        get("list of ClusterRoleBindings", bindings.list(&own)),
    )?;
    let mut all: BTreeMap<AccountRole, Account> = BTreeMap::new();
    for account in accounts.items.iter().filter(|a| a.metadata.deletion_timestamp.is_none()) {
        if let Some(role) = AccountRole::of_account(&account.name_any()) {
            all.entry(role).or_default().uid = account.uid();
        }
    }
    for found in &bindings.items {
        if let Some(role) = AccountRole::of_account(&found.name_any()) {
            let exact = found.role_ref == wanted_binding(role).role_ref
                && found.subjects == wanted_binding(role).subjects;
            all.entry(role).or_default().binding = if exact { Binding::Exact } else { Binding::Other };
        }
    }
    Ok(all)
}

/// Creates the ServiceAccount and its binding, or corrects them.
pub async fn grant(client: &Client, role: AccountRole) -> Result<(), Error> {
    let (name, params) = (role.account(), PatchParams::apply(FIELD_MANAGER).force());
    let account = object("v1", "ServiceAccount", json!({"name": name, "namespace": NAMESPACE}));
    call(accounts(client).patch(name, &params, &Patch::Apply(account))).await?;
    let (bindings, wanted) = (bindings(client), wanted_binding(role));
    // The role of a binding is immutable.
    let found = call(bindings.get_opt(name)).await?;
    if let Some(other) = found.filter(|found| found.role_ref != wanted.role_ref) {
        unless_gone(bounded(bindings.delete(name, &same(other.uid()))).await?.map(drop))?;
    }
    let mut binding = object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", json!({"name": name}));
    binding["roleRef"] = json!(wanted.role_ref);
    binding["subjects"] = json!(wanted.subjects);
    call(bindings.patch(name, &params, &Patch::Apply(binding))).await.map(drop)
}

/// Deletes the ServiceAccount with this UID, with which its tokens become invalid, and its binding.
pub async fn revoke(client: &Client, role: AccountRole, uid: Option<&str>) -> Result<(), Error> {
    let (name, bindings) = (role.account(), bindings(client));
    if let Some(uid) = uid {
        let deleted = bounded(accounts(client).delete(name, &same(Some(uid.to_owned())))).await?;
        unless_replaced(deleted.map(drop))?;
    }
    let own =
        |found: &ClusterRoleBinding| found.labels().get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1);
    if let Some(found) = call(bindings.get_opt(name)).await?.filter(own) {
        unless_replaced(bounded(bindings.delete(name, &same(found.uid()))).await?.map(drop))?;
    }
    Ok(())
}

/// Returns a new token of the ServiceAccount.
pub async fn issue(client: &Client, role: AccountRole, ttl: SignedDuration) -> Result<AccountToken, Error> {
    let spec = TokenRequestSpec { expiration_seconds: Some(ttl.as_secs()), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let (accounts, params) = (accounts(client), PostParams::default());
    let issued = call(accounts.create_token_request(role.account(), &params, &request)).await?;
    let token = issued.status.map(|status| AccountToken(status.token));
    token.ok_or_else(|| Error::Failed("the response to a TokenRequest has no token".to_owned()))
}

/// Reports whether the API accepts a token.
pub async fn accepts(client: &Client, token: &AccountToken) -> Result<bool, Error> {
    let spec = TokenReviewSpec { token: Some(token.0.clone()), ..TokenReviewSpec::default() };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviews = Api::<TokenReview>::all(client.clone());
    let reviewed = get("TokenReview", reviews.create(&PostParams::default(), &review)).await?;
    let status =
        reviewed.status.ok_or_else(|| Error::Failed("the response to a TokenReview is empty".to_owned()))?;
    Ok(status.authenticated == Some(true))
}

/// Returns the ServiceAccounts of the namespace.
fn accounts(client: &Client) -> Api<ServiceAccount> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Returns the ClusterRoleBindings.
fn bindings(client: &Client) -> Api<ClusterRoleBinding> {
    Api::all(client.clone())
}

fn object(api_version: &str, kind: &str, metadata: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    object["metadata"]["labels"] = json!({MANAGED_BY.0: MANAGED_BY.1});
    object
}

fn wanted_binding(role: AccountRole) -> ClusterRoleBinding {
    let group = "rbac.authorization.k8s.io";
    let parsed = serde_json::from_value(json!({
        "metadata": {},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role.cluster_role()},
        "subjects": [{"kind": "ServiceAccount", "name": role.account(), "namespace": NAMESPACE}],
    }));
    parsed.expect("it is a ClusterRoleBinding")
}

fn same(uid: Option<String>) -> DeleteParams {
    let preconditions = Some(Preconditions { uid, resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::background() }
}

/// Returns success if the object to delete is gone, or another one has its name.
fn unless_replaced(result: kube::Result<()>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        other => unless_gone(other),
    }
}
