//! The Secret with a created cluster's kubeconfig.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use super::{
    context::Context,
    kube_io::{self, Error},
    pass::Pass,
    report, resolve, times,
};
use crate::{
    api::{LocalCluster, LocalClusterStatus, condition::ConditionType, reason::Reason},
    k3s::{API_PORT, certificate, kubeconfig},
    plan::{
        desired::{Allocation, Desired},
        observed::Observed,
        steps::Plan,
    },
    status,
};

/// The cluster as it is to be and as it is.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// What was allocated.
    pub allocation: &'a Allocation,
    /// What there is.
    pub observed: &'a Observed,
}

/// Keeps the kubeconfig Secret as it has to be, and answers its name once it is there.
pub async fn kubeconfig_secret(
    pass: &Pass<'_, LocalCluster>,
    plan: &mut Plan,
    previous: &LocalClusterStatus,
    sight: Sight<'_>,
    credentials: Option<kubeconfig::Credentials>,
) -> Result<Option<String>, Error> {
    let Pass { ctx, object: cluster, .. } = *pass;
    let Sight { desired, allocation, .. } = sight;
    let name = format!("{}-kubeconfig", cluster.name_any());
    let Some(credentials) = credentials else {
        plan.waits(ConditionType::KubeconfigReady, Reason::Pending, "the servers have not written it yet");
        return Ok(previous.kubeconfig_secret.clone());
    };
    if let Some(note) = ends_soon(&credentials.certificate, (ctx.now)(), desired)
        && ctx.memory.record_once(&cluster.uid().unwrap_or_default(), &note)
    {
        report::warning(ctx, &cluster.object_ref(&()), "CertificateExpiring", &note);
    }
    let host = status::host_url(&cluster.spec.api.host_ip, allocation.api_port.into());
    let render = |server: &str| {
        kubeconfig::render(&credentials, &desired.names.cluster, server, &desired.load_balancer.name)
            .into_bytes()
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let existing = kube_io::secret(&ctx.client, &namespace, &name).await?;
    let management = management_url(ctx, sight, existing.as_ref());
    let management = management.unwrap_or_else(|| status::network_url(allocation));
    let data =
        BTreeMap::from([("value".to_owned(), render(&management)), ("kubeconfig".to_owned(), render(&host))]);
    let mut secret = resolve::secret_of(cluster, &name, data);
    secret.labels_mut().insert("cluster.x-k8s.io/cluster-name".into(), cluster.name_any());
    secret.labels_mut().insert("reconcile.fluxcd.io/watch".into(), "Enabled".into());
    if let Some(existing) = &existing {
        let ours = existing.owner_references().iter().any(|o| Some(&o.uid) == cluster.metadata.uid.as_ref());
        if !ours {
            let message = format!(
                "the Secret {name} belongs to somebody else and is left alone: rename or delete it, or give the \
                 cluster another name"
            );
            plan.stalls(ConditionType::KubeconfigReady, Reason::SecretInvalid, message);
            return Ok(None);
        }
        let labelled = secret.labels().iter().all(|(k, v)| existing.labels().get(k) == Some(v));
        if existing.data == secret.data && labelled {
            return Ok(Some(name));
        }
    }
    kube_io::apply_secret(&ctx.client, &secret).await?;
    let why = if existing.is_some() { "it was out of date" } else { "it did not exist" };
    report::event(ctx, &cluster.object_ref(&()), "AppliedSecret", &format!("Applied Secret {name}: {why}"));
    Ok(Some(name))
}

/// The URL of the API for the management cluster's Pods, when its Node is a container of this engine. Docker chooses the
/// load balancer's address on that Node's network, and chooses again when it is made anew. While it has none, what was
/// told of it stays.
fn management_url(ctx: &Context, sight: Sight<'_>, existing: Option<&Secret>) -> Option<String> {
    let Sight { desired, observed, .. } = sight;
    let own = observed.networks.iter().find(|n| n.subnets.contains(&desired.network.subnet));
    let own = own.map(|n| n.id.as_str()).unwrap_or_default();
    match ctx.settings.management.place(observed, &ctx.manager, own, &desired.load_balancer.name)? {
        Some(ip) => Some(format!("https://{ip}:{API_PORT}")),
        None => {
            let told = existing?.data.as_ref()?.get("value")?;
            kubeconfig::server(std::str::from_utf8(&told.0).ok()?).map(str::to_owned)
        }
    }
}

/// What is said of an admin certificate whose end is near. A server that is started renews it, and what it writes then
/// comes into the Secret by itself; nothing else renews it, and a restart is not the operator's to choose the time of.
fn ends_soon(certificate: &str, now: Timestamp, desired: &Desired) -> Option<String> {
    let end =
        certificate::end(certificate).filter(|end| end.duration_since(now) < times::CERTIFICATE_NEAR)?;
    let server = &desired.servers.first()?.container.name;
    Some(format!(
        "the certificate in the kubeconfig expires at {end}: K3s renews it only when it starts; restart the server at a \
         suitable time with `docker restart {server}`"
    ))
}
