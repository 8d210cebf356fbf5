//! Health check of a registry: at its address, with its certificate and its credentials.

use super::{
    context::Context,
    probe::{Question, Trouble},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::engine::State,
    plan::{
        registry::{Inputs, Subject},
        steps::Plan,
        validate::ValidRegistry,
    },
};

/// Checks whether the registry responds, accepts its users and rejects anonymous requests where it must.
pub async fn probe(ctx: &Context, inputs: &Inputs<'_>, plan: &mut Plan) {
    let Inputs { subject: Subject { valid, secrets, .. }, observed } = *inputs;
    let Some(detail) = observed.own_named(&valid.hostname) else { return };
    if detail.container.state != State::Running {
        return;
    }
    let shared = ctx.settings.management.network(observed, &ctx.manager, "");
    let mut addresses: Vec<_> =
        detail.container.networks.iter().filter_map(|(id, p)| Some((id, p.ip?))).collect();
    addresses.sort_by_key(|(id, _)| Some(id.as_str()) != shared.as_deref());
    let hostname = &valid.hostname;
    let ca = secrets.tls.as_ref().map(|tls| tls.ca.as_slice());
    let wanted = if secrets.htpasswd.is_some() { 401 } else { 200 };
    let mut last = (Reason::NotAnswering, format!("{hostname} does not answer: it has no address"));
    for (_, ip) in addresses {
        let mut question = Question { ip, hostname, ca, login: None };
        last = match ctx.probe.ask(&question).await {
            Ok(code) if code == wanted => {
                question.login = secrets.client.as_ref();
                if question.login.is_none() {
                    return;
                }
                match ctx.probe.ask(&question).await {
                    Ok(200) => return,
                    Ok(401) => (Reason::CredentialsRefused, refused(valid)),
                    other => {
                        (Reason::NotAnswering, format!("{hostname} does not answer: {}", describe(other)))
                    }
                }
            }
            Err(Trouble::Certificate(words)) => {
                let message = format!(
                    "the certificate in the Secret {} can't be trusted as {hostname} by its CA: {words}",
                    valid.tls.as_ref().map_or("", |tls| tls.secret_name.as_str())
                );
                (Reason::CertificateInvalid, message)
            }
            other => (Reason::NotAnswering, format!("{hostname} does not answer: {}", describe(other))),
        };
    }
    match last {
        (Reason::NotAnswering, message) => {
            plan.waits(ConditionType::Reachable, Reason::NotAnswering, message)
        }
        (reason, message) => plan.stalls(ConditionType::Reachable, reason, message),
    }
}

fn describe(answer: Result<u16, Trouble>) -> String {
    match answer {
        Ok(code) => format!("it answers /v2/ with {code}"),
        Err(Trouble::Silent(words) | Trouble::Certificate(words)) => words,
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
