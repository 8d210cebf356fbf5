//! Kubeconfig of a LocalCluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Kubeconfig in the Secret `<name>-kubeconfig`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::kubeconfig_without_ttl())]
pub struct KubeconfigSpec {
    /// Rights in the created cluster: Admin, Edit, View or None. Admin has all rights. Edit and View have those of the
    /// ClusterRoles `edit` and `view` in all namespaces; Edit can create privileged Pods and use the ServiceAccounts of
    /// K3s, so it protects against mistakes only. With None there is no Secret. Defaults to Admin.
    #[serde(default)]
    pub access: KubeconfigAccess,
    /// Life of the token in the kubeconfig, 10m to 8760h: `24h`. The operator replaces the token after 80 % of it; clients
    /// read the Secret again then. Defaults to 24h for Edit and View. Admin without a `ttl` has no token, but the client
    /// certificate of K3s, which is valid for a year and cannot be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::token_ttl())]
    pub ttl: Option<String>,
}

/// Rights of a kubeconfig.
#[derive(
    JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum KubeconfigAccess {
    /// All rights.
    #[default]
    Admin,
    /// Rights of the ClusterRole `edit` in all namespaces.
    Edit,
    /// Rights of the ClusterRole `view` in all namespaces.
    View,
    /// There is no kubeconfig.
    None,
}

/// Token in the kubeconfig.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigStatus {
    /// Rights of the token.
    pub access: KubeconfigAccess,
    /// Time at which the token expires. The operator replaces it before.
    pub expires_at: Time,
}
