use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::{
    child::{account::Account, state::Child},
    plan::{kubeconfig::template::Frame, owner::Owner},
};

const BEGIN: i64 = 1_700_000_000;
const DAY: i64 = 24 * 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + seconds).unwrap()
}

fn token_of(role: AccountRole, uid: &str, (issued, life): (i64, i64)) -> AccountToken {
    let payload = json!({
        "iat": BEGIN + issued, "exp": BEGIN + issued + life,
        "sub": format!("system:serviceaccount:kube-system:{}", role.account()),
        "kubernetes.io": {"serviceaccount": {"uid": uid}},
    });
    AccountToken(format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload.to_string())))
}

fn template() -> Template {
    let text = |text: &str| text.to_owned();
    let frame = Frame {
        name: text("dev-kubeconfig"),
        owner: Owner::default(),
        ca: text("Q0E="),
        cluster: text("dev"),
        balancer: text("k3d-dev-serverlb"),
        host: text("https://127.0.0.1:20001"),
        management: text("https://172.31.0.2:6443"),
    };
    Template { frame, role: AccountRole::View, ttl: SignedDuration::from_secs(DAY) }
}

/// A cluster with the Secret and the ServiceAccount of a token that was issued at the beginning.
struct Seen {
    secret: Option<Existing>,
    accounts: Option<BTreeMap<AccountRole, Account>>,
    accepted: Option<bool>,
    template: Template,
}

impl Seen {
    fn new() -> Self {
        let template = template();
        let token = token_of(AccountRole::View, "u1", (0, DAY));
        let account = Account { uid: Some("u1".into()), binding: Binding::Exact };
        Self {
            secret: Some(existing(&template, &token, 0)),
            accounts: Some(BTreeMap::from([(AccountRole::View, account)])),
            accepted: Some(true),
            template,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut seen = Self::new();
        change(&mut seen);
        seen
    }

    fn unreachable(mut self) -> Self {
        (self.accounts, self.accepted) = (None, None);
        self
    }

    fn annotate(mut self, value: Option<String>) -> Self {
        let annotations = &mut self.secret.as_mut().unwrap().annotations;
        annotations.remove(RENEW_AT);
        annotations.extend(value.map(|value| (RENEW_AT.to_owned(), value)));
        self
    }

    fn plan(&self, now: i64) -> Plan {
        let mut observed = Reached::default();
        observed.kubeconfig.secret.clone_from(&self.secret);
        observed.kubeconfig.accepted = self.accepted;
        if let Some(accounts) = &self.accounts {
            observed.child =
                Child::Reachable(ChildState { accounts: accounts.clone(), ..ChildState::default() });
        }
        let mut plan = Plan::default();
        if let Some(state) = observed.child.state() {
            revoke(&mut plan, Some(self.template.role), state);
        }
        super::plan(&mut plan, self.template.clone(), &observed, at(now));
        plan
    }

    /// The steps, each with its reason, and the problems.
    fn told(&self, now: i64) -> (Vec<String>, Vec<String>) {
        let plan = self.plan(now);
        let steps = plan.steps.iter().map(|s| format!("{} ({})", s.action, s.why)).collect();
        (steps, plan.problems.iter().map(|p| format!("{}: {}", p.reason, p.message)).collect())
    }
}

fn existing(template: &Template, token: &AccountToken, now: i64) -> Existing {
    let secret = template.issued(token, at(now));
    Existing {
        labels: secret.all_labels(),
        annotations: secret.annotations,
        data: secret.data,
        ..Existing::default()
    }
}

const ISSUE: &str = "IssueToken dev-kubeconfig";
const WRITING: &str = "writing a new token to the Secret dev-kubeconfig";

#[test]
fn a_token_stays_for_four_fifths_of_its_life() {
    let seen = Seen::new();
    for now in [0, DAY / 2, DAY * 4 / 5 - 1] {
        let plan = seen.plan(now);
        assert!(plan.is_settled(), "{now}: {:?}", plan.steps);
        assert_eq!(plan.again, Some(at(DAY * 4 / 5)));
    }
    // It works meanwhile, so that the cluster stays Ready.
    for now in [DAY * 4 / 5, DAY - 1] {
        let told = seen.told(now);
        assert_eq!(told, (vec![format!("{ISSUE} (80 % of the life of the last one was over)")], vec![]));
    }
    let seen = Seen { accepted: None, ..seen };
    assert_eq!(seen.told(DAY).1, [format!("Updating: {WRITING}: its token expired at {}", at(DAY))]);
}

#[test]
fn what_does_not_work_is_replaced_at_once() {
    let other = |role, uid: &'static str| {
        move |seen: &mut Seen| {
            seen.secret = Some(existing(&seen.template, &token_of(role, uid, (0, DAY)), 0));
        }
    };
    for (seen, why) in [
        (Seen::with(|s| s.secret = None), "it did not exist"),
        (Seen::with(|s| s.secret.as_mut().unwrap().data.clear()), "it had no token"),
        (Seen::with(other(AccountRole::Admin, "u1")), "its token had other rights"),
        (Seen::with(other(AccountRole::View, "u2")), "the ServiceAccount of its token had been deleted"),
        (Seen::with(|s| s.accepted = Some(false)), "the API rejected its token"),
    ] {
        let (steps, problems) = seen.told(1);
        assert_eq!(steps, [format!("{ISSUE} ({why})")]);
        assert!(problems.len() == 1 && problems[0].contains(&format!("{WRITING}: {why}")), "{problems:?}");
    }
}

#[test]
fn nothing_is_known_of_a_cluster_that_does_not_respond() {
    let seen = Seen::new().unreachable();
    assert!(seen.plan(1).is_settled());
    let told = seen.told(DAY * 4 / 5);
    let waiting = "APINotAnswering: waiting for the API of the cluster before writing a new token to the Secret \
                   dev-kubeconfig";
    let why = format!("80 % of the life of the last one was over; the last one expires at {}", at(DAY));
    assert_eq!(told, (vec![], vec![format!("{waiting}: {why}")]));
    assert_eq!(seen.told(DAY).1, [format!("{waiting}: its token expired at {}", at(DAY))]);
    // What else is in the Secret is written all the same, and nothing is lost that still works.
    for now in [1, DAY * 4 / 5] {
        let mut moved = Seen::new().unreachable();
        moved.template.frame.host = "https://127.0.0.1:20002".into();
        let plan = moved.plan(now);
        let [Action::ApplySecret(secret)] =
            &plan.steps.iter().map(|s| s.action.clone()).collect::<Vec<_>>()[..]
        else {
            panic!("{:?}", plan.steps)
        };
        let text = std::str::from_utf8(&secret.data["kubeconfig"]).unwrap();
        assert_eq!(kubeconfig::token(text), Some(token_of(AccountRole::View, "u1", (0, DAY)).0.as_str()));
    }
    let missing = Seen::with(|s| s.secret = None).unreachable();
    assert_eq!(missing.told(1), (vec![], vec![format!("{waiting}: it did not exist")]));
}

#[test]
fn an_account_is_granted_before_its_token_and_others_go() {
    let none = Seen::with(|s| (s.secret, s.accounts) = (None, Some(BTreeMap::new())));
    let plan = none.plan(0);
    assert_eq!(
        none.told(0).0,
        [
            "GrantAccess localcluster-kubeconfig-view (it did not exist)".to_owned(),
            format!("{ISSUE} (it did not exist)"),
        ]
    );
    assert_eq!(plan.steps[1].after, [0]);
    for (binding, why) in [
        (Binding::Missing, "its ClusterRoleBinding did not exist"),
        (Binding::Other, "its ClusterRoleBinding had been changed"),
    ] {
        let seen = Seen::with(|s| {
            s.accounts.as_mut().unwrap().get_mut(&AccountRole::View).unwrap().binding = binding;
        });
        assert_eq!(
            seen.told(0).0,
            [format!("GrantAccess localcluster-kubeconfig-view ({why})")],
            "the token stays"
        );
        assert_eq!(seen.plan(0).problems.len(), 1);
    }
    let more = Seen::with(|s| {
        let binding = Account { uid: None, binding: Binding::Exact };
        s.accounts.as_mut().unwrap().insert(AccountRole::Admin, binding);
    });
    let (steps, problems) = more.told(0);
    assert_eq!(steps, ["RevokeAccess localcluster-kubeconfig-admin (spec.kubeconfig does not request it)"]);
    assert_eq!(
        problems,
        ["Updating: deleting the ServiceAccount kube-system/localcluster-kubeconfig-admin in the cluster"]
    );
}

/// The clock of the API is ahead or behind by hours: the token is renewed after four fifths of its life all the same,
/// and only once.
#[test]
fn clocks_may_differ() {
    for skew in [-DAY * 3, -3600, 3600, DAY * 3] {
        let mut seen = Seen::new();
        let token = token_of(AccountRole::View, "u1", (skew, DAY));
        seen.secret = Some(existing(&seen.template, &token, 0));
        assert!(seen.plan(0).is_settled(), "{skew}");
        assert!(seen.plan(DAY * 4 / 5 - 1).is_settled(), "{skew}");
        assert_eq!(seen.told(DAY * 4 / 5).0.len(), 1, "{skew}");
    }
}

#[test]
fn a_renewal_cannot_be_put_off() {
    // The annotation was changed or removed, or the clock of the operator was put back.
    for value in [None, Some("never".into()), Some(at(DAY).to_string()), Some(Timestamp::MAX.to_string())] {
        let (steps, problems) = Seen::new().annotate(value).told(0);
        let why = "the time of the renewal of the last one was unknown";
        assert_eq!((steps, problems), (vec![format!("{ISSUE} ({why})")], vec![]));
    }
    let (steps, _) = Seen::new().told(-60);
    assert_eq!(steps.len(), 1, "the clock was put back");
    assert_eq!(Seen::new().annotate(Some(Timestamp::MIN.to_string())).told(0).0.len(), 1);
}

#[test]
fn a_shorter_life_is_taken_at_once_and_a_longer_one_at_the_renewal() {
    let mut seen = Seen::new();
    seen.template.ttl = SignedDuration::from_hours(1);
    let why = "the last one lived longer than spec.kubeconfig.ttl";
    assert_eq!(seen.told(1), (vec![format!("{ISSUE} ({why})")], vec![]));
    seen.template.ttl = SignedDuration::from_hours(48);
    assert!(seen.plan(1).is_settled());
    // The API may limit the life of tokens: the time of the renewal follows from what it issued.
    let short = token_of(AccountRole::View, "u1", (0, 3600));
    seen.secret = Some(existing(&seen.template, &short, 0));
    assert!(seen.plan(2879).is_settled());
    assert_eq!(seen.told(2880).0.len(), 1);
}

#[test]
fn the_status_tells_of_the_token_that_is_there() {
    let seen = Seen::new();
    let told = reported(seen.secret.as_ref().unwrap()).unwrap();
    assert_eq!((told.access, told.expires_at.0), (AccountRole::View.access(), at(DAY)));
    assert_eq!(reported(&Existing::default()), None);
}
