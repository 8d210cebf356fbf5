//! The spec of a LocalCluster with what its host and its HostPolicy fill in.

use kube::ResourceExt;

use super::{
    pass::{Pass, Stop},
    place, placed,
};
use crate::{
    api::LocalCluster,
    plan::{
        kubeconfig,
        validate::{self, Valid},
    },
};

impl Pass<'_, LocalCluster> {
    /// Validates the spec, with the name that the cluster already has on the host, if it has one.
    pub(super) fn validate(&self, called: Option<&str>) -> Result<Valid, Stop> {
        let (namespace, name) = (self.object.namespace().unwrap_or_default(), self.object.name_any());
        let spec = place::spec(self.ctx.hosting.as_ref(), &self.object.spec);
        let valid = match called {
            Some(called) => validate::local_cluster_called(&namespace, &name, &spec, called),
            None => validate::local_cluster(&namespace, &name, &spec),
        };
        let valid = valid.map_err(Stop::Invalid)?;
        let default = kubeconfig::default_ttl(&spec.kubeconfig, self.object.status.as_ref(), &self.standing);
        let kubeconfig = valid.kubeconfig.or_for(spec.kubeconfig.access, default);
        Ok(Valid { restart: placed::restart(self.ctx, self.object), kubeconfig, ..valid })
    }
}
