//! The Secret with the kubeconfig of a created cluster.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    desired::{Allocation, Desired},
    observed::Reached,
    secret::{Existing, Secret},
    settings::Settings,
    steps::{Action, Plan},
    subject::Subject,
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    child::path::Path,
    k3s::{API_PORT, certificate, kubeconfig},
};

/// Time before the expiry of a certificate at which a Warning reports it. At its start, K3s renews certificates that
/// expire within 120 days.
const CERTIFICATE_NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Returns the name of the Secret.
pub fn name(cluster: &str) -> String {
    format!("{cluster}-kubeconfig")
}

/// Returns the URL of the API on the Docker host. Clients cannot connect to the unspecified address.
pub fn host_url(settings: &Settings, host_ip: &str, port: i32) -> String {
    let engine = settings.engine_host.as_deref().unwrap_or("127.0.0.1");
    let host = if host_ip == "0.0.0.0" { engine } else { host_ip };
    format!("https://{host}:{port}")
}

/// Returns the URL of the API on the network of the cluster.
pub fn network_url(allocation: &Allocation) -> String {
    format!("https://{}:{API_PORT}", allocation.addresses.load_balancer())
}

/// Plans the Secret, and returns its name if the status may refer to it.
pub fn plan(
    plan: &mut Plan,
    subject: &Subject<'_>,
    allocation: &Allocation,
    desired: &Desired,
    observed: &Reached,
) -> Option<String> {
    let Some(credentials) = &observed.kubeconfig.credentials else {
        plan.waits(ConditionType::KubeconfigReady, Reason::Pending, "the servers have not written it yet");
        return subject.previous.kubeconfig_secret.clone();
    };
    let existing = observed.kubeconfig.secret.as_ref();
    let name = name(subject.owner.name());
    if existing.is_some_and(|existing| !existing.is_owned(subject.owner)) {
        let message = format!(
            "the Secret {name} exists and is not managed by this object; it is left unchanged. Remove or rename it, or \
             use another name for the cluster"
        );
        plan.stalls(ConditionType::KubeconfigReady, Reason::SecretInvalid, message);
        return None;
    }
    let management = management_url(subject, desired, observed);
    let urls = Urls {
        host: host_url(subject.settings, &subject.valid.api_ip.to_string(), allocation.api_port.into()),
        management: management.unwrap_or_else(|| network_url(allocation)),
    };
    let secret = secret(subject, desired, credentials, &urls);
    let (reason, why) = match existing {
        Some(existing) if existing.is(&secret) => return Some(name),
        Some(_) => (Reason::Updating, "its content changed"),
        None => (Reason::Creating, "it did not exist"),
    };
    plan.waits(ConditionType::KubeconfigReady, reason, format!("writing the Secret {name}: {why}"));
    plan.step(Action::ApplySecret(secret), &[], why);
    existing.and(Some(name))
}

/// URLs of the API in the Secret.
struct Urls {
    /// URL on the Docker host.
    host: String,
    /// URL for Pods of the management cluster.
    management: String,
}

/// Returns the desired Secret.
fn secret(
    subject: &Subject<'_>,
    desired: &Desired,
    credentials: &kubeconfig::Credentials,
    urls: &Urls,
) -> Secret {
    let cluster = subject.owner.name();
    let render = |server: &str| {
        let balancer = &desired.load_balancer.name;
        kubeconfig::render(credentials, &desired.names.cluster, server, balancer).into_bytes()
    };
    Secret {
        name: name(cluster),
        owner: subject.owner.clone(),
        labels: BTreeMap::from([
            ("cluster.x-k8s.io/cluster-name".to_owned(), cluster.to_owned()),
            ("reconcile.fluxcd.io/watch".to_owned(), "Enabled".to_owned()),
        ]),
        data: BTreeMap::from([
            ("value".to_owned(), render(&urls.management)),
            ("kubeconfig".to_owned(), render(&urls.host)),
        ]),
    }
}

/// Returns the URL of the API for Pods of the management cluster. If its Node is a container of this engine, Docker
/// assigns the address of the load balancer on the network of that Node, and assigns another one when the load balancer
/// is recreated. While it has none, the URL in the Secret is kept. Otherwise, it is where the operator reaches the API
/// itself; `None` if it does not, or only where Pods do not.
fn management_url(subject: &Subject<'_>, desired: &Desired, observed: &Reached) -> Option<String> {
    let own = observed.network_of(desired.addresses.subnet);
    let own = own.map(|n| n.id.as_str()).unwrap_or_default();
    let (settings, manager) = (&subject.settings.management, &subject.owner.manager);
    let kept = || kept_url(observed.kubeconfig.secret.as_ref()?);
    match (settings.place(observed, manager, own, &desired.load_balancer.name), observed.kubeconfig.path) {
        (Some(Some(ip)), _) => Some(format!("https://{ip}:{API_PORT}")),
        (Some(None), _) | (None, None) => kept(),
        (None, Some(Path::Direct(address))) if !address.ip().is_loopback() => {
            Some(format!("https://{address}"))
        }
        (None, Some(Path::Direct(_) | Path::Tunnel)) => None,
    }
}

fn kept_url(existing: &Existing) -> Option<String> {
    kubeconfig::server(std::str::from_utf8(existing.data.get("value")?).ok()?).map(str::to_owned)
}

/// Returns the warning about a client certificate that expires soon. A server renews it when it starts, and the operator
/// then updates the Secret. Nothing else renews it, and the time of a restart is the user's choice.
pub fn ends_soon(observed: &Reached, now: Timestamp, desired: &Desired) -> Option<String> {
    let certificate = &observed.kubeconfig.credentials.as_ref()?.certificate;
    let end = certificate::end(certificate).filter(|end| end.duration_since(now) < CERTIFICATE_NEAR)?;
    let server = &desired.servers.first()?.container.name;
    Some(format!(
        "the certificate in the kubeconfig expires at {end}: K3s renews it only when it starts; restart the server at a \
         suitable time with `docker restart {server}`"
    ))
}
