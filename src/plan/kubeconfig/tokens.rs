//! Kubeconfigs with a token: which ServiceAccounts the created cluster has for them, and when a token is replaced.
//!
//! A token says itself when it expires, by the clock of the API. Whether it works, only the API can tell, which is asked
//! about the token in the Secret in each pass. The time of its renewal is recorded by the clock of the operator, so that
//! clocks that differ neither miss it nor renew a token again and again.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::template::{Template, until_renewal};
use crate::{
    api::{
        condition::ConditionType::KubeconfigReady, local_cluster::KubeconfigStatus, names::RENEW_AT,
        reason::Reason,
    },
    child::{
        account::{AccountRole, AccountToken, Binding, Claims, NAMESPACE},
        state::ChildState,
    },
    k3s::kubeconfig,
    plan::{
        observed::Reached,
        secret::Existing,
        steps::{Action, Plan},
    },
    time::after,
};

/// A token in the Secret.
struct Held {
    token: String,
    claims: Claims,
    renew_at: Option<Timestamp>,
}

impl Held {
    fn of(existing: &Existing) -> Option<Self> {
        let AccountToken(token) = token(existing)?;
        let renew_at = existing.annotations.get(RENEW_AT).and_then(|at| at.parse().ok());
        Some(Self { claims: Claims::of(&token)?, token, renew_at })
    }

    fn life(&self) -> SignedDuration {
        self.claims.expires.duration_since(self.claims.issued)
    }

    /// Returns the time of its renewal, unless that is unknown or, after a change of the annotation or of the clock, too
    /// late.
    fn renewal(&self, now: Timestamp) -> Option<Timestamp> {
        self.renew_at.filter(|at| *at <= after(now, until_renewal(self.life())))
    }
}

/// Returns the token in a Secret.
pub fn token(existing: &Existing) -> Option<AccountToken> {
    let text = std::str::from_utf8(existing.data.get("kubeconfig")?).ok()?;
    kubeconfig::token(text).map(|token| AccountToken(token.to_owned()))
}

/// Returns the token in a Secret as the status reports it.
pub fn reported(existing: &Existing) -> Option<KubeconfigStatus> {
    let claims = Held::of(existing)?.claims;
    Some(KubeconfigStatus { access: claims.role.access(), expires_at: Time(claims.expires) })
}

/// Whether the token in the Secret can stay.
enum Verdict {
    /// Until this time.
    Good(Held, Timestamp),
    /// It works, but is replaced.
    Due(Held, String),
    /// There is none that works.
    Unusable(String),
}

/// Plans the deletion of all ServiceAccounts of kubeconfigs but that with these rights.
pub fn revoke(plan: &mut Plan, wanted: Option<AccountRole>, state: &ChildState) {
    for (&role, account) in state.accounts.iter().filter(|(role, _)| Some(**role) != wanted) {
        let message = format!("deleting the ServiceAccount {NAMESPACE}/{} in the cluster", role.account());
        plan.waits(KubeconfigReady, Reason::Updating, message);
        let uid = account.uid.clone();
        plan.step(Action::RevokeAccess { role, uid }, &[], "spec.kubeconfig does not request it");
    }
}

/// Plans the ServiceAccount, a new token if one is needed, and the Secret.
pub fn plan(plan: &mut Plan, template: Template, observed: &Reached, now: Timestamp) {
    let existing = observed.kubeconfig.secret.as_ref();
    let name = template.name().to_owned();
    let verdict = judge(&template, observed, now);
    let state = observed.child.state();
    if let Verdict::Good(_, renewal) = verdict {
        plan.look_again(renewal);
    }
    let granted: Vec<usize> = state.and_then(|state| grant(plan, template.role, state)).into_iter().collect();
    match (verdict, state) {
        (Verdict::Good(held, at), _) => rewrite(plan, &template, existing, (&held, at)),
        (Verdict::Due(_, why), Some(_)) => {
            // The cluster stays Ready meanwhile: the token works.
            plan.step(Action::IssueToken(Box::new(template)), &granted, why);
        }
        (Verdict::Unusable(why), Some(_)) => {
            let reason = if existing.is_some() { Reason::Updating } else { Reason::Creating };
            plan.waits(KubeconfigReady, reason, format!("writing a new token to the Secret {name}: {why}"));
            plan.step(Action::IssueToken(Box::new(template)), &granted, why);
        }
        (Verdict::Due(held, why), None) => {
            let message = format!(
                "waiting for the API of the cluster before writing a new token to the Secret {name}: {why}; the last one \
                 expires at {}",
                held.claims.expires
            );
            plan.waits(KubeconfigReady, Reason::ApiNotAnswering, message);
            let renewal = held.renew_at.unwrap_or(now);
            rewrite(plan, &template, existing, (&held, renewal));
        }
        (Verdict::Unusable(why), None) => {
            let message = format!(
                "waiting for the API of the cluster before writing a new token to the Secret {name}: {why}"
            );
            plan.waits(KubeconfigReady, Reason::ApiNotAnswering, message);
        }
    }
}

/// Plans the ServiceAccount and its binding, and returns the step.
fn grant(plan: &mut Plan, role: AccountRole, state: &ChildState) -> Option<usize> {
    let account = state.accounts.get(&role);
    let why = match (account.and_then(|a| a.uid.as_ref()), account.map(|a| a.binding)) {
        (Some(_), Some(Binding::Exact)) => return None,
        (None, _) => "it did not exist",
        (Some(_), Some(Binding::Other)) => "its ClusterRoleBinding had been changed",
        (Some(_), Some(Binding::Missing) | None) => "its ClusterRoleBinding did not exist",
    };
    let name = role.account();
    let message = format!("applying the ServiceAccount {NAMESPACE}/{name} in the cluster: {why}");
    plan.waits(KubeconfigReady, Reason::Updating, message);
    Some(plan.step(Action::GrantAccess { role }, &[], why))
}

/// Plans the Secret with the token that it has, if something else in it differs.
fn rewrite(
    plan: &mut Plan,
    template: &Template,
    existing: Option<&Existing>,
    (held, renewal): (&Held, Timestamp),
) {
    let secret = template.filled(&held.token, renewal);
    if existing.is_some_and(|existing| existing.is(&secret)) {
        return;
    }
    let (name, why) = (template.name(), "its content changed");
    plan.waits(KubeconfigReady, Reason::Updating, format!("writing the Secret {name}: {why}"));
    plan.step(Action::ApplySecret(secret), &[], why);
}

fn judge(template: &Template, observed: &Reached, now: Timestamp) -> Verdict {
    let unusable = |why: &str| Verdict::Unusable(why.to_owned());
    let Some(existing) = &observed.kubeconfig.secret else { return unusable("it did not exist") };
    let Some(held) = Held::of(existing) else { return unusable("it had no token") };
    let accepted = observed.kubeconfig.accepted;
    let account =
        observed.child.state().map(|s| s.accounts.get(&template.role).and_then(|a| a.uid.as_deref()));
    if held.claims.role != template.role {
        return unusable("its token had other rights");
    }
    if account.is_some_and(|uid| uid != Some(&held.claims.uid)) {
        return unusable("the ServiceAccount of its token had been deleted");
    }
    if accepted != Some(true) && now >= held.claims.expires {
        return Verdict::Unusable(format!("its token expired at {}", held.claims.expires));
    }
    if accepted == Some(false) {
        return unusable("the API rejected its token");
    }
    let due = |held, why: &str| Verdict::Due(held, why.to_owned());
    match held.renewal(now) {
        _ if held.life() > template.ttl => due(held, "the last one lived longer than spec.kubeconfig.ttl"),
        None => due(held, "the time of the renewal of the last one was unknown"),
        Some(at) if at <= now => due(held, "80 % of the life of the last one was over"),
        Some(at) => Verdict::Good(held, at),
    }
}

#[cfg(test)]
mod tests;
