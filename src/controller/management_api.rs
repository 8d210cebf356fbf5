//! Writes to the management cluster that are steps of a plan.

use async_trait::async_trait;

use crate::plan::{
    failures::WriteError, own_registry::OwnRegistry, secret::Secret, service::objects::ServiceChange,
};

/// API of the management cluster, as far as steps change it.
#[async_trait]
pub trait ManagementApi: Send + Sync {
    /// Creates a Secret. Fails with [`WriteError::Changed`] if it exists.
    async fn create_secret(&self, secret: &Secret) -> Result<(), WriteError>;
    /// Creates or updates a Secret.
    async fn apply_secret(&self, secret: &Secret) -> Result<(), WriteError>;
    /// Deletes a Secret with this UID. Succeeds if it does not exist.
    async fn delete_secret(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError>;
    /// Changes the Service that leads to the API of a created cluster, or its EndpointSlice. Fails with
    /// [`WriteError::Changed`] if there is another one than the change says.
    async fn change_service(&self, change: &ServiceChange) -> Result<(), WriteError>;
    /// Creates or updates the Registry of a LocalCluster.
    async fn apply_registry(&self, registry: &OwnRegistry) -> Result<(), WriteError>;
    /// Deletes a Registry with this UID. Succeeds if it does not exist.
    async fn delete_registry(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError>;
}
