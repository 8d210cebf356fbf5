//! What the operator asks of a created cluster's API, in its own words, so that tests can stand in for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::state::{ChildState, ClusterConfigMap, Found, NodeConfig};
use crate::k3s::manifests::ObjectRef;

/// How a created cluster is reached.
#[derive(Clone)]
pub struct Access {
    /// The admin kubeconfig that K3s wrote (its server URL is not used).
    pub kubeconfig: String,
    /// The addresses to try, best first.
    pub candidates: Vec<SocketAddr>,
    /// The name in the serving certificate that proves the other side, whatever the address.
    pub tls_server_name: String,
}

/// A call that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No candidate answered as this cluster's API. It may be starting.
    #[error("{0}")]
    Unreachable(String),
    /// The API answered with a refusal.
    #[error("{0}")]
    Api(String),
    /// The API answered that it can't do this: what it asks itself, such as an admission webhook, does not do its part.
    #[error("{0}")]
    Failed(String),
    /// The API answers, and what was asked for takes longer.
    #[error("{0}")]
    Waits(String),
}

/// A created cluster's API.
#[async_trait]
pub trait ChildApi: Send + Sync {
    /// What the cluster is now. Fails when its `/readyz` does not answer `ok`.
    async fn observe(&self) -> Result<ChildState, Error>;
    /// Marks a Node as drained by this operator since `now`, closes it for new Pods and asks all Pods that can move
    /// to leave it. To be called again until none is left.
    async fn drain(&self, node: &str, now: Timestamp) -> Result<(), Error>;
    /// Takes the mark and the closure of [`ChildApi::drain`] back.
    async fn uncordon(&self, node: &str) -> Result<(), Error>;
    /// Gives a Node these labels and taints, and takes those away that an earlier call gave and that are no longer
    /// among them. All others stay.
    async fn configure(&self, node: &str, config: &NodeConfig) -> Result<(), Error>;
    /// Deletes a Node and the Secret with its password, so that a new node of the same name can join at once.
    /// Success when both are gone, now or already.
    async fn delete_node(&self, node: &str) -> Result<(), Error>;
    /// Deletes the Secret with a Node's password, so that a node that lost its own is let in with another one. Success
    /// when it is gone, now or already.
    async fn forget_password(&self, node: &str) -> Result<(), Error>;
    /// Has K3s take a server out of etcd while it runs. Success when it is on its way, or its Node is gone.
    async fn leave_etcd(&self, node: &str) -> Result<(), Error>;
    /// Gives a Lease of K3s's own controllers back, as its holder itself would: whoever asks next has it. Success also
    /// when somebody has written to it since this version, or it is not there.
    async fn release_lease(&self, name: &str, version: &str) -> Result<(), Error>;
    /// Gives a key of a ConfigMap its content, or takes the key away, and with it a ConfigMap that nobody else has
    /// anything in. Tells the Pods that read it. Refused when the key is somebody else's and not claimed.
    async fn set_config(&self, wanted: &ClusterConfigMap) -> Result<(), Error>;
    /// Those of these objects that are there. One of a kind that the cluster has not is not there.
    async fn there(&self, objects: &BTreeSet<ObjectRef>) -> Result<BTreeMap<ObjectRef, Found>, Error>;
    /// Has the object with this UID deleted, and what it owns after it. Success when it is gone already.
    async fn delete_object(&self, object: &ObjectRef, uid: &str) -> Result<(), Error>;
    /// Ends when the connection does; an item for every change of a Node that matters, and of a ConfigMap that this
    /// operator keeps.
    async fn changes(&self) -> Result<BoxStream<'static, ()>, Error>;
}

/// Makes a [`ChildApi`] of an [`Access`].
#[async_trait]
pub trait Connect: Send + Sync {
    /// Finds the first candidate that proves to be the cluster, within `limit`.
    async fn connect(&self, access: &Access, limit: Duration) -> Result<Arc<dyn ChildApi>, Error>;
}
