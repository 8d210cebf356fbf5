//! Health check of a registry: at its address, with its certificate and its credentials.

use std::net::{Ipv4Addr, SocketAddr};

use futures::future::join_all;

use super::{
    context::Context,
    probe::{Question, Target, Trouble},
    reach::host_addresses,
    times,
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::engine::{ContainerDetail, State},
    k3s::registries::REGISTRY_PORT,
    plan::{
        observed::Host,
        owner::Owner,
        registry::{Inputs, Subject},
        steps::Plan,
        validate::ValidRegistry,
    },
    time,
};

/// Checks whether the registry responds, accepts its users and rejects anonymous requests where it must. Direct paths
/// are tried first, unless they failed a short time ago, and the tunnel through the engine last.
pub async fn probe(ctx: &Context, inputs: &Inputs<'_>, plan: &mut Plan) {
    let Inputs { subject: Subject { valid, owner, now, .. }, observed } = *inputs;
    let Some(detail) = observed.own_named(&valid.hostname) else { return };
    if detail.container.state != State::Running {
        return;
    }
    let skipped = ctx.memory.is_tunnelled(&owner.uid);
    let addresses = if skipped { Vec::new() } else { addresses(ctx, observed, detail) };
    let direct = addresses.iter().map(|address| judge(ctx, inputs, Target::Address(*address)));
    let mut verdicts = join_all(direct).await;
    let is_direct = verdicts.contains(&Verdict::Good);
    // On the loopback address, anything may respond: for a Pod it is its own.
    let is_certain = addresses
        .iter()
        .zip(&verdicts)
        .any(|(address, verdict)| matches!(verdict, Verdict::Wrong(..)) && !address.ip().is_loopback());
    let is_due = detail.started_at.is_some_and(|at| time::after(at, times::REGISTRY_STARTING) < now);
    if !is_direct && !is_certain && (is_due || addresses.is_empty()) {
        let registry = SocketAddr::from((Ipv4Addr::LOCALHOST, REGISTRY_PORT));
        let tunnel = ctx.tunnels.to(&detail.container.id, registry);
        // Before those of loopback addresses.
        verdicts.insert(0, judge(ctx, inputs, Target::Tunnel(tunnel)).await);
    }
    if verdicts.contains(&Verdict::Good) {
        connected(ctx, owner, is_direct);
        return;
    }
    ctx.memory.try_direct(&owner.uid);
    let wrong = verdicts.iter().find_map(|verdict| match verdict {
        Verdict::Wrong(reason, message) => Some((*reason, message.clone())),
        Verdict::Good | Verdict::Silent(_) => None,
    });
    match wrong {
        Some((reason @ (Reason::CertificateInvalid | Reason::CredentialsRefused), message)) => {
            plan.stalls(ConditionType::Reachable, reason, message);
        }
        Some((reason, message)) => plan.waits(ConditionType::Reachable, reason, message),
        None => {
            plan.waits(ConditionType::Reachable, Reason::NotAnswering, silence(&valid.hostname, &verdicts))
        }
    }
}

/// Records the path of a successful check.
fn connected(ctx: &Context, owner: &Owner, is_direct: bool) {
    let path = if is_direct { "direct" } else { "tunnel" };
    ctx.metrics.connected("Registry", path);
    if ctx.memory.connected(&owner.uid, path, !is_direct) {
        tracing::info!(registry = owner.object, path, "connected to the registry");
    }
}

/// Returns the addresses of a registry, best first: those of its container, and those where it is published. Where the Node
/// of the management cluster is a container, only the networks that it is on have a route from here. There are none on
/// another machine.
fn addresses(ctx: &Context, observed: &Host, detail: &ContainerDetail) -> Vec<SocketAddr> {
    if ctx.settings.engine_host.is_some() {
        return Vec::new();
    }
    let management = &ctx.settings.management;
    let around = management.container(observed, &ctx.manager).map(|node| &node.networks);
    // A Node that is a container has an address at which nothing is published.
    let node = management.ip().filter(|_| around.is_none());
    let container = &detail.container;
    let near = container.networks.iter().filter(|(id, _)| around.is_none_or(|on| on.contains_key(*id)));
    let own = near.filter_map(|(_, place)| Some(SocketAddr::from((place.ip?, REGISTRY_PORT))));
    let published = container.ports.iter().filter(|p| p.port == REGISTRY_PORT).flat_map(|port| {
        let ips = port.host_ip.parse().map(|ip| host_addresses(ip, node)).unwrap_or_default();
        ips.into_iter().map(|ip| SocketAddr::from((ip, port.host_port)))
    });
    own.chain(published).collect()
}

/// Result of a check on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The registry responds as it should.
    Good,
    /// The registry responds in another way.
    Wrong(Reason, String),
    /// Nothing responds.
    Silent(String),
}

async fn judge(ctx: &Context, inputs: &Inputs<'_>, to: Target) -> Verdict {
    let Subject { valid, secrets, .. } = inputs.subject;
    let hostname = &valid.hostname;
    let ca = secrets.tls.as_ref().map(|tls| tls.ca.as_slice());
    let wanted = if secrets.htpasswd.is_some() { 401 } else { 200 };
    let mut question = Question { to, hostname, ca, login: None };
    let wrong = |code: u16| {
        let message = format!("{hostname} does not answer: it answers /v2/ with {code}");
        Verdict::Wrong(Reason::NotAnswering, message)
    };
    let verdict = |answer| match answer {
        Ok(code) => wrong(code),
        Err(Trouble::Silent(words)) => Verdict::Silent(words),
        Err(Trouble::Certificate(words)) => {
            let message = format!(
                "the certificate in the Secret {} can't be trusted as {hostname} by its CA: {words}",
                valid.tls.as_ref().map_or("", |tls| tls.secret_name.as_str())
            );
            Verdict::Wrong(Reason::CertificateInvalid, message)
        }
    };
    match ctx.probe.ask(&question).await {
        Ok(code) if code == wanted => {}
        other => return verdict(other),
    }
    question.login = secrets.client.as_ref();
    if question.login.is_none() {
        return Verdict::Good;
    }
    match ctx.probe.ask(&question).await {
        Ok(200) => Verdict::Good,
        Ok(401) => Verdict::Wrong(Reason::CredentialsRefused, refused(valid)),
        other => verdict(other),
    }
}

/// Returns the message about a registry that responds on no path: the reason of the first, and the number of others.
fn silence(hostname: &str, verdicts: &[Verdict]) -> String {
    let mut words = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Silent(words) => Some(words.as_str()),
        Verdict::Good | Verdict::Wrong(..) => None,
    });
    let first = words.next().unwrap_or("it has no address");
    let cause = format!("{hostname} does not answer: {first}");
    match words.count() {
        0 => cause,
        1 => format!("{cause} (1 other path failed too)"),
        others => format!("{cause} ({others} other paths failed too)"),
    }
}

fn refused(valid: &ValidRegistry) -> String {
    let auth = valid.auth.as_ref();
    let client = auth.and_then(|a| a.client_secret.as_deref()).unwrap_or_default();
    let users = auth.map_or("", |a| a.htpasswd_secret.as_str());
    format!(
        "the registry refuses the username and password in the Secret {client}: put what `htpasswd -Bbn USERNAME \
         PASSWORD` prints for them into the key htpasswd of the Secret {users}"
    )
}
