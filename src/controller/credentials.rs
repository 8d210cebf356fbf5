//! The Secret with a created cluster's kubeconfig.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

use super::{
    context::Context,
    kube_io::{self, Error},
    report, resolve,
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus,
        condition::{reasons, types},
    },
    k3s::kubeconfig,
    plan::{
        cluster::{Allocation, Desired},
        steps::Plan,
    },
    status,
};

/// Keeps the kubeconfig Secret as it has to be, and answers its name once it is there.
pub async fn kubeconfig_secret(
    ctx: &Context,
    cluster: &LocalCluster,
    plan: &mut Plan,
    previous: &LocalClusterStatus,
    desired: &Desired,
    allocation: &Allocation,
    credentials: Option<kubeconfig::Credentials>,
) -> Result<Option<String>, Error> {
    let name = format!("{}-kubeconfig", cluster.name_any());
    let Some(credentials) = credentials else {
        plan.waits(types::KUBECONFIG_READY, reasons::PENDING, "the servers have not written it yet");
        return Ok(previous.kubeconfig_secret.clone());
    };
    let host = status::host_url(&cluster.spec.api.host_ip, allocation.api_port.into());
    let render = |server: &str| {
        kubeconfig::render(&credentials, &desired.names.cluster, server, &desired.load_balancer.name)
            .into_bytes()
    };
    let data = BTreeMap::from([
        ("value".to_owned(), render(&status::network_url(allocation))),
        ("kubeconfig".to_owned(), render(&host)),
    ]);
    let mut secret = resolve::secret_of(cluster, &name, data);
    secret.labels_mut().insert("cluster.x-k8s.io/cluster-name".into(), cluster.name_any());
    secret.labels_mut().insert("reconcile.fluxcd.io/watch".into(), "Enabled".into());
    let namespace = cluster.namespace().unwrap_or_default();
    let existing = kube_io::secret(&ctx.client, &namespace, &name).await?;
    if let Some(existing) = &existing {
        let ours = existing.owner_references().iter().any(|o| Some(&o.uid) == cluster.metadata.uid.as_ref());
        if !ours {
            let message = format!(
                "the Secret {name} belongs to somebody else and is left alone: rename or delete it, or give the \
                 cluster another name"
            );
            plan.stalls(types::KUBECONFIG_READY, reasons::SECRET_INVALID, message);
            return Ok(None);
        }
        let labelled = secret.labels().iter().all(|(k, v)| existing.labels().get(k) == Some(v));
        if existing.data == secret.data && labelled {
            return Ok(Some(name));
        }
    }
    kube_io::apply_secret(&ctx.client, &secret).await?;
    let what = if existing.is_some() { "Update" } else { "Create" };
    report::event(ctx, &cluster.object_ref(&()), what, &format!("{what} Secret {name}"));
    Ok(Some(name))
}
