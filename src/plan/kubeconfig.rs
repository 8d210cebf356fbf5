//! The Secret with the kubeconfig of a created cluster.

pub mod template;
pub mod tokens;

use jiff::{SignedDuration, Timestamp};

use template::{Frame, Template};

use super::{
    desired::{Allocation, Desired},
    expiry,
    observed::Reached,
    policy::standing::Standing,
    secret::{Existing, Secret},
    service::{self, FromPods},
    settings::Settings,
    steps::{Action, Plan},
    subject::Subject,
    validate::Handout,
};
use crate::{
    api::{
        LocalClusterStatus,
        condition::ConditionType,
        local_cluster::{KubeconfigAccess, KubeconfigSpec, KubeconfigStatus},
        reason::Reason,
    },
    k3s::{API_PORT, certificate, kubeconfig},
};

/// Time before the expiry of a certificate at which a Warning reports it. At its start, K3s renews certificates that
/// expire within 120 days.
const CERTIFICATE_NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Returns the name of the Secret.
pub fn name(cluster: &str) -> String {
    format!("{cluster}-kubeconfig")
}

/// Reports whether a Secret hands out a client certificate.
pub fn hands_out_certificate(secret: &Secret) -> bool {
    let text = secret.data.get("kubeconfig").and_then(|file| std::str::from_utf8(file).ok());
    text.and_then(kubeconfig::certificate).is_some()
}

/// Returns the life of tokens that the policy sets for a cluster without one of its own. `status` is the last one: while it is
/// unknown which rules apply, the life stays, and what would be handed out without it is not.
pub fn default_ttl(
    spec: &KubeconfigSpec,
    status: Option<&LocalClusterStatus>,
    standing: &Standing,
) -> Option<SignedDuration> {
    if spec.ttl.is_some() || spec.access == KubeconfigAccess::None {
        return None;
    }
    let no_rules = standing.policy.is_none() && standing.problem.is_some();
    if no_rules || standing.is_unknown() {
        return expiry::parse(status?.effective.as_ref()?.kubeconfig_ttl.as_deref()?);
    }
    standing.rules.token_ttl
}

/// Returns the URL of the API on the Docker host: by the name in the spec, or else by the address. Clients cannot connect to
/// the unspecified address.
pub fn host_url(settings: &Settings, name: Option<&str>, host_ip: &str, port: i32) -> String {
    let engine = settings.engine_host.as_deref().unwrap_or("127.0.0.1");
    let host = name.unwrap_or(if host_ip == "0.0.0.0" { engine } else { host_ip });
    format!("https://{host}:{port}")
}

/// Returns the URL of the API on the network of the cluster.
pub fn network_url(allocation: &Allocation) -> String {
    format!("https://{}:{API_PORT}", allocation.addresses.load_balancer())
}

/// What the Secret hands out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handed {
    /// Name of the Secret if the status may refer to it.
    pub secret: Option<String>,
    /// Its token, if it has one.
    pub token: Option<KubeconfigStatus>,
    /// Warning about a client certificate in it, which stays valid although the spec does not request it any more.
    pub certificate: Option<String>,
}

/// Plans the Secret and what its credential requires in the created cluster.
pub fn plan(
    plan: &mut Plan,
    subject: &Subject<'_>,
    allocation: &Allocation,
    desired: &Desired,
    observed: &Reached,
) -> Handed {
    let (wanted, previous) = (subject.valid.kubeconfig, subject.previous);
    if let Some(state) = observed.child.state() {
        tokens::revoke(plan, wanted.role(), state);
    }
    let existing = observed.kubeconfig.secret.as_ref();
    let own = existing.filter(|existing| existing.is_owned(subject.owner));
    let name = name(subject.owner.name());
    let handed = Handed {
        secret: own.map(|_| name.clone()),
        token: own.and_then(tokens::reported),
        certificate: own.filter(|_| wanted != Handout::Certificate).and_then(|own| stays_valid(own, &name)),
    };
    if wanted == Handout::Nothing {
        withhold(plan, subject, own, name);
        return Handed { secret: None, ..handed };
    }
    let Some(credentials) = &observed.kubeconfig.credentials else {
        plan.waits(ConditionType::KubeconfigReady, Reason::Pending, "the servers have not written it yet");
        let (secret, token) = (previous.kubeconfig_secret.clone(), previous.kubeconfig.clone());
        return Handed { secret, token, ..handed };
    };
    if existing.is_some() && own.is_none() {
        let message = format!(
            "the Secret {name} exists and is not managed by this object; it is left unchanged. Remove or rename it, or \
             use another name for the cluster"
        );
        plan.stalls(ConditionType::KubeconfigReady, Reason::SecretInvalid, message);
        return Handed::default();
    }
    let management = management_url(subject, desired, observed);
    let frame = Frame {
        name,
        owner: subject.owner.clone(),
        ca: credentials.ca.clone(),
        cluster: desired.names.cluster.clone(),
        balancer: desired.load_balancer.name.clone(),
        host: host_url(
            subject.settings,
            subject.valid.server_name.as_deref(),
            &subject.valid.api_ip.to_string(),
            allocation.api_port.into(),
        ),
        management: management.unwrap_or_else(|| network_url(allocation)),
    };
    match wanted {
        Handout::Token(role, ttl) => tokens::plan(plan, Template { frame, role, ttl }, observed, subject.now),
        Handout::Certificate | Handout::Nothing => certify(plan, frame.certified(credentials), existing),
    }
    handed
}

/// Plans the Secret with the client certificate.
fn certify(plan: &mut Plan, secret: Secret, existing: Option<&Existing>) {
    let (reason, why) = match existing {
        Some(existing) if existing.is(&secret) => return,
        Some(_) => (Reason::Updating, "its content changed"),
        None => (Reason::Creating, "it did not exist"),
    };
    let message = format!("writing the Secret {}: {why}", secret.name);
    plan.waits(ConditionType::KubeconfigReady, reason, message);
    plan.step(Action::ApplySecret(secret), &[], why);
}

/// Plans the deletion of the Secret. One of another owner is left unchanged.
fn withhold(plan: &mut Plan, subject: &Subject<'_>, own: Option<&Existing>, name: String) {
    let Some(own) = own else { return };
    let (namespace, uid) = (subject.owner.namespace().to_owned(), own.uid.clone());
    let why = "spec.kubeconfig.access is None";
    plan.waits(
        ConditionType::KubeconfigReady,
        Reason::Updating,
        format!("deleting the Secret {name}: {why}"),
    );
    plan.step(Action::DeleteSecret { namespace, name, uid }, &[], why);
}

/// Returns the warning about a client certificate in the Secret that the spec does not request any more.
fn stays_valid(own: &Existing, name: &str) -> Option<String> {
    let certificate = kubeconfig::certificate(std::str::from_utf8(own.data.get("kubeconfig")?).ok()?)?;
    let end = certificate::end(certificate).map_or_else(|| "it expires".to_owned(), |end| end.to_string());
    Some(format!(
        "the client certificate that the Secret {name} has handed out stays valid until {end}, or until the cluster has \
         another CA: Kubernetes cannot revoke certificates; if someone who must not have all rights in the cluster may \
         have a copy, replace the cluster by a new one"
    ))
}

/// Returns the URL of the API for Pods of the management cluster: that of the Service if there is one, or else the address.
/// While the address is not known, the URL in the Secret is kept. `None` if Pods do not reach the API.
fn management_url(subject: &Subject<'_>, desired: &Desired, observed: &Reached) -> Option<String> {
    let service = service::url(subject, observed);
    service.or_else(|| match service::from_pods(subject, desired, observed) {
        FromPods::At(address) => Some(format!("https://{address}")),
        FromPods::Unknown => kept_url(observed.kubeconfig.secret.as_ref()?),
        FromPods::Nowhere => None,
    })
}

fn kept_url(existing: &Existing) -> Option<String> {
    kubeconfig::server(std::str::from_utf8(existing.data.get("value")?).ok()?).map(str::to_owned)
}

/// Returns the end of the client certificate that K3s has written; `None` if it is not known.
pub fn certificate_end(observed: &Reached) -> Option<Timestamp> {
    certificate::end(&observed.kubeconfig.credentials.as_ref()?.certificate)
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
