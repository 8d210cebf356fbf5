//! Operations on the API of a created cluster, as an interface that tests can implement.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};

pub use super::error::Error;
use super::{
    account::{AccountRole, AccountToken},
    path::Path,
    state::{ChildState, ClusterConfigMap, Found, Member, NodeConfig},
};
use crate::{docker::tunnel::Dial, k3s::manifests::ObjectRef};

/// Addresses and credentials of a created cluster.
#[derive(Clone)]
pub struct Access {
    /// Admin kubeconfig from K3s (its server URL is not used).
    pub kubeconfig: String,
    /// Addresses to try, best first.
    pub candidates: Vec<SocketAddr>,
    /// Connection through the engine, tried last.
    pub tunnel: Option<Arc<dyn Dial>>,
    /// True if the load balancer should have accepted connections for a while. Before, a refused connection only means
    /// that it is starting, and does not lead to a tunnel.
    pub is_due: bool,
    /// Name in the serving certificate that verifies the server, regardless of the address.
    pub tls_server_name: String,
    /// Secret of the token of servers, for the members of etcd; `None` for a cluster without etcd.
    pub token: Option<String>,
}

/// The API of a created cluster.
#[async_trait]
pub trait ChildApi: Send + Sync {
    /// Observes the cluster. Fails if its `/readyz` does not return `ok`.
    async fn observe(&self) -> Result<ChildState, Error>;
    /// Annotates a Node as drained by this operator since `now`, cordons it and evicts all Pods that must leave it.
    /// Must be called again until none is left.
    async fn drain(&self, node: &str, now: Timestamp) -> Result<(), Error>;
    /// Removes the annotation of [`ChildApi::drain`] and uncordons the Node.
    async fn uncordon(&self, node: &str) -> Result<(), Error>;
    /// Sets these labels and taints of a Node, and removes those that an earlier call set and that are no longer among
    /// them. All others are kept.
    async fn configure(&self, node: &str, config: &NodeConfig) -> Result<(), Error>;
    /// Deletes a Node and the Secret with its password, so that a new node with the same name can join immediately.
    /// Succeeds when both are gone, now or before.
    async fn delete_node(&self, node: &str) -> Result<(), Error>;
    /// Deletes the Secret with the password of a Node, so that a node that lost its password can join with a new one.
    /// Succeeds when it is gone, now or before.
    async fn forget_password(&self, node: &str) -> Result<(), Error>;
    /// Requests that K3s removes a server from etcd while it is running. Succeeds when the request is recorded, or the
    /// Node is gone.
    async fn leave_etcd(&self, node: &str) -> Result<(), Error>;
    /// Requests that K3s removes an etcd member that no Node reports. K3s knows the member of a server only by the
    /// annotations of its Node, so one is created for it. Succeeds without effect if the Node exists.
    async fn remove_member(&self, member: &Member) -> Result<(), Error>;
    /// Releases a Lease of the K3s controllers as its holder would, so that the next candidate acquires it. Also
    /// succeeds if the Lease was updated since this version or does not exist.
    async fn release_lease(&self, name: &str, version: &str) -> Result<(), Error>;
    /// Sets the content of a key in a ConfigMap, or removes the key, and with it a ConfigMap without content of other
    /// owners. Notifies the Pods that read it. Rejected if another owner has set the key and it is not claimed.
    async fn set_config(&self, wanted: &ClusterConfigMap) -> Result<(), Error>;
    /// Returns which of these objects exist. An object of a kind that the cluster does not have does not exist.
    async fn there(&self, objects: &BTreeSet<ObjectRef>) -> Result<BTreeMap<ObjectRef, Found>, Error>;
    /// Deletes the object with this UID and its dependents in the background. Succeeds if it is gone already.
    async fn delete_object(&self, object: &ObjectRef, uid: &str) -> Result<(), Error>;
    /// Creates or corrects the ServiceAccount of a kubeconfig and its ClusterRoleBinding.
    async fn grant(&self, role: AccountRole) -> Result<(), Error>;
    /// Deletes the ServiceAccount of a kubeconfig with this UID and its ClusterRoleBinding. The API rejects its tokens
    /// from then on. Succeeds if they are gone already.
    async fn revoke(&self, role: AccountRole, uid: Option<&str>) -> Result<(), Error>;
    /// Returns a new token of such a ServiceAccount, which is valid for this time, or for less if the API limits it.
    async fn issue(&self, role: AccountRole, ttl: SignedDuration) -> Result<AccountToken, Error>;
    /// Reports whether the API accepts a token. Changes nothing.
    async fn accepts(&self, token: &AccountToken) -> Result<bool, Error>;
    /// Subscribes to relevant changes of Nodes and of ConfigMaps that this operator manages, and if `accounts` also of
    /// ServiceAccounts of kubeconfigs. The stream ends with the connection.
    async fn changes(&self, accounts: bool) -> Result<BoxStream<'static, ()>, Error>;
}

/// A connection to the API of a created cluster.
#[derive(Clone)]
pub struct Connection {
    /// Its client.
    pub child: Arc<dyn ChildApi>,
    /// Its path.
    pub path: Path,
}

/// Creates a [`Connection`] from an [`Access`].
#[async_trait]
pub trait Connect: Send + Sync {
    /// Returns the first candidate that is verified to be the cluster, within `limit`, or the tunnel.
    async fn connect(&self, access: &Access, limit: Duration) -> Result<Connection, Error>;
}
