//! Kubeconfigs with a token instead of the certificate of K3s, and none.

use localcluster_operator::{
    api::names::RENEW_AT,
    child::account::{AccountRole, Binding},
    k3s::kubeconfig,
};

use super::*;

/// The life of the tokens of these tests, and the rounds until one is renewed.
const LIFE: &str = "10m";
const RENEWED: i64 = 480 / TICK;

fn spec(access: &str, ttl: &str) -> Value {
    let mut kubeconfig = json!({"access": access});
    if !ttl.is_empty() {
        kubeconfig["ttl"] = json!(ttl);
    }
    json!({"kubeconfig": kubeconfig})
}

async fn made(access: &str, ttl: &str) -> Rig {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), spec(access, ttl));
    rig.settle(ENOUGH).await;
    rig
}

fn held(rig: &Rig) -> Option<Value> {
    rig.api.get(&secret("dev-kubeconfig"))
}

fn file(rig: &Rig, key: &str) -> String {
    let data = held(rig).unwrap()["data"][key].clone();
    String::from_utf8(BASE64_STANDARD.decode(data.as_str().unwrap()).unwrap()).unwrap()
}

fn token(rig: &Rig) -> String {
    let token = |key| kubeconfig::token(&file(rig, key)).map(str::to_owned);
    assert_eq!(token("kubeconfig"), token("value"));
    token("value").expect("it has a token")
}

fn rights(rig: &Rig, token: &str) -> Option<AccountRole> {
    rig.world(|w| w.rights_of(token))
}

/// The ServiceAccounts in the cluster.
fn accounts(rig: &Rig) -> Vec<AccountRole> {
    rig.world(|w| w.clusters.values().flat_map(|c| c.accounts.keys().copied()).collect())
}

/// What was asked of the created cluster and of Secrets, and changes something.
fn writes(rig: &Rig) -> Vec<String> {
    rig.faults
        .take_writes()
        .into_iter()
        .filter(|w| !w.contains("/status") && !w.contains("/events"))
        .collect()
}

fn status(rig: &Rig) -> Value {
    object(rig).unwrap()["status"].clone()
}

async fn rounds(rig: &mut Rig, most: i64) {
    for _ in 0..most {
        rig.round().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_has_the_rights_that_were_asked_for_and_is_renewed_in_time() {
    let mut rig = made("View", LIFE).await;
    let first = token(&rig);
    assert_eq!(rights(&rig, &first), Some(AccountRole::View));
    assert!(file(&rig, "kubeconfig").contains("user: view@k3d-dev\n"));
    assert_eq!(kubeconfig::certificate(&file(&rig, "value")), None);
    assert_eq!(rig.events("CertificateNotRevoked"), [] as [String; 0]);
    let labels = held(&rig).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["cluster.x-k8s.io/cluster-name"], "dev");
    let told = status(&rig);
    assert_eq!(
        (&told["kubeconfigSecret"], &told["kubeconfig"]["access"]),
        (&json!("dev-kubeconfig"), &json!("View"))
    );
    writes(&rig);

    // Nothing until then.
    rounds(&mut rig, RENEWED - 2).await;
    assert_eq!((token(&rig), writes(&rig)), (first.clone(), vec![]));
    // The cluster stays Ready.
    let mut seen = BTreeSet::new();
    while token(&rig) == first {
        rig.round().await;
        seen.insert(rig.told("Ready").0);
        assert_eq!(rights(&rig, &first), Some(AccountRole::View), "who has a copy of it still needs it");
    }
    rig.reconcile().await;
    assert_eq!(seen, ["True".to_owned()].into());
    let second = token(&rig);
    assert_ne!(second, first);
    assert_eq!(
        writes(&rig),
        [
            "Child issue localcluster-kubeconfig-view",
            "Kube PATCH /api/v1/namespaces/default/secrets/dev-kubeconfig"
        ]
    );
    assert_ne!(status(&rig)["kubeconfig"]["expiresAt"], told["kubeconfig"]["expiresAt"]);
    assert!(
        rig.events("IssuedToken").iter().any(|e| e.ends_with("80 % of the life of the last one was over"))
    );

    // For ever.
    rounds(&mut rig, 3 * RENEWED).await;
    assert!(rig.settled());
    let issued = writes(&rig).iter().filter(|w| w.contains("issue")).count();
    assert!((2..=3).contains(&issued), "{issued}");
    // It is nowhere else.
    let all: Vec<Value> =
        ["localclusters", "events", "registries"].iter().flat_map(|k| rig.api.all(k)).collect();
    let text = serde_json::to_string(&all).unwrap();
    for token in [first, second, token(&rig)] {
        assert!(!text.contains(&token) && !text.contains(token.split('.').nth(1).unwrap()));
        let metadata = held(&rig).unwrap()["metadata"].to_string();
        assert!(!metadata.contains(&token), "{metadata}");
    }
    assert_eq!(rig.api.sins(), [] as [String; 0]);
}

/// The API does not respond at the time of the renewal, and later not even at the end of the token.
#[tokio::test(start_paused = true)]
async fn a_token_is_kept_until_the_api_responds() {
    let mut rig = made("Edit", LIFE).await;
    let (first, secret) = (token(&rig), held(&rig));
    rounds(&mut rig, RENEWED - 2).await;
    for call in ["issue*", "grant*", "revoke*", "review token"] {
        let mut rig = rig.copy();
        rig.faults.every(Some((call, Fault::Timeout)));
        rounds(&mut rig, 4).await;
        if call == "issue*" {
            assert_eq!(rig.told("KubeconfigReady"), ("False".into(), "APINotAnswering".into()));
            assert_eq!((token(&rig), held(&rig)), (first.clone(), secret.clone()));
        } else {
            assert_ne!(token(&rig), first, "{call}");
        }
        rig.faults.every(None);
        rig.settle(ENOUGH).await;
        assert_eq!(rights(&rig, &token(&rig)), Some(AccountRole::Edit));
    }
    rig.faults.every(Some(("observe", Fault::Timeout)));
    rounds(&mut rig, 4).await;
    assert_eq!(rig.told("KubeconfigReady"), ("False".into(), "APINotAnswering".into()));
    assert!(
        message(&rig, "KubeconfigReady").contains("the last one expires at"),
        "{}",
        message(&rig, "KubeconfigReady")
    );
    rounds(&mut rig, RENEWED).await;
    assert!(
        message(&rig, "KubeconfigReady").contains("its token expired at"),
        "{}",
        message(&rig, "KubeconfigReady")
    );
    assert_eq!(held(&rig), secret, "it is never deleted");
    rig.faults.every(None);
    rig.settle(ENOUGH).await;
    assert_eq!(rights(&rig, &token(&rig)), Some(AccountRole::Edit));
}

/// Nobody renews it: the operator is not there, the object is paused, or the cluster is stopped.
#[tokio::test(start_paused = true)]
async fn a_token_that_expired_meanwhile_is_replaced_at_once() {
    let mut rig = made("View", LIFE).await;
    let first = token(&rig);
    let mut away = rig.copy();
    for _ in 0..2 * RENEWED {
        away.pass().await;
    }
    assert_eq!(rights(&away, &first), None);
    let mut back = away.restart();
    back.reconcile().await;
    assert_eq!(rights(&back, &token(&back)), Some(AccountRole::View));
    back.settle(ENOUGH).await;

    let mut paused = rig.copy();
    put(&paused, "dev", json!({"localcluster.dev/paused": "true"}), spec("View", LIFE));
    rounds(&mut paused, 2 * RENEWED).await;
    assert_eq!(token(&paused), first);
    put(&paused, "dev", json!({}), spec("View", LIFE));
    paused.settle_after_a_round(ENOUGH).await;
    assert_eq!(rights(&paused, &token(&paused)), Some(AccountRole::View));

    let mut stopped = spec("View", LIFE);
    stopped["state"] = json!("Stopped");
    put(&rig, "dev", json!({}), stopped);
    rounds(&mut rig, 2 * RENEWED).await;
    assert_eq!((rig.told("Stopped").0, token(&rig)), ("True".into(), first));
    put(&rig, "dev", json!({}), spec("View", LIFE));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(rights(&rig, &token(&rig)), Some(AccountRole::View));
}

/// What someone in the cluster, or with rights on Secrets, does to it.
#[tokio::test(start_paused = true)]
async fn what_others_do_to_it_is_put_right() {
    let rig = made("View", "").await;
    let first = token(&rig);
    let account = |rig: &Rig, change: fn(&mut localcluster_operator::child::account::Account)| {
        rig.world(|w| w.clusters.values_mut().flat_map(|c| c.accounts.values_mut()).for_each(change));
    };
    let edit = |rig: &Rig, key: &str, change: &dyn Fn(&str) -> String| {
        let mut secret = held(rig).unwrap();
        secret["data"][key] = json!(BASE64_STANDARD.encode(change(&file(rig, key))));
        rig.api.put(&support::fakes::api::secret("dev-kubeconfig"), secret);
    };
    type Harm = Box<dyn Fn(&Rig)>;
    let harms: [(&str, bool, Harm); 9] = [
        ("the account is deleted", true, Box::new(move |rig| account(rig, |a| a.uid = None))),
        (
            "it is another one, as after a restore",
            true,
            Box::new(move |rig| account(rig, |a| a.uid = Some("x".into()))),
        ),
        (
            "everything is gone",
            true,
            Box::new(|rig| rig.world(|w| w.clusters.values_mut().for_each(|c| c.accounts.clear()))),
        ),
        ("its role is changed", false, Box::new(move |rig| account(rig, |a| a.binding = Binding::Other))),
        ("it has no role", false, Box::new(move |rig| account(rig, |a| a.binding = Binding::Missing))),
        (
            "its signature is changed",
            true,
            Box::new(move |rig| {
                for key in ["kubeconfig", "value"] {
                    edit(rig, key, &|text| text.replace(".c2lnbmF0dXJl", ".c2lnbmF0dXJm"));
                }
            }),
        ),
        (
            "its server is changed",
            false,
            Box::new(move |rig| edit(rig, "kubeconfig", &|t| t.replace("127.0.0.1", "10.9.8.7"))),
        ),
        ("the Secret is deleted", true, Box::new(|rig| rig.api.delete(&secret("dev-kubeconfig")))),
        (
            "its renewal is put off",
            true,
            Box::new(|rig| {
                let mut held = held(rig).unwrap();
                held["metadata"]["annotations"][RENEW_AT] = json!("2999-01-01T00:00:00Z");
                rig.api.put(&secret("dev-kubeconfig"), held);
            }),
        ),
    ];
    for (what, renewed, harm) in harms {
        let mut rig = rig.copy();
        rounds(&mut rig, 1).await;
        harm(&rig);
        rig.faults.take_writes();
        rig.settle_after_a_round(ENOUGH).await;
        rounds(&mut rig, 5).await;
        assert_eq!(token(&rig) != first, renewed, "{what}");
        assert_eq!(rights(&rig, &token(&rig)), Some(AccountRole::View), "{what}");
        assert!(!file(&rig, "kubeconfig").contains("10.9.8.7"), "{what}");
        let writes = writes(&rig);
        assert!(writes.len() <= 4, "{what}: {writes:?}");
        assert_eq!(rig.api.sins(), [] as [String; 0], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_access_takes_back_the_one_before() {
    let mut rig = made("Admin", "").await;
    let certificate = file(&rig, "value");
    assert!(kubeconfig::certificate(&certificate).is_some() && accounts(&rig).is_empty());
    assert!(status(&rig)["kubeconfig"].is_null());
    let mut before: Option<String> = None;
    for (access, ttl, role) in [
        ("View", "", Some(AccountRole::View)),
        ("Edit", LIFE, Some(AccountRole::Edit)),
        ("Admin", "1h", Some(AccountRole::Admin)),
        ("None", "", None),
        ("View", LIFE, Some(AccountRole::View)),
        ("Admin", "", None),
    ] {
        put(&rig, "dev", json!({}), spec(access, ttl));
        rig.settle_after_a_round(ENOUGH).await;
        assert_eq!(accounts(&rig), role.into_iter().collect::<Vec<_>>(), "{access}");
        if let Some(before) = &before {
            assert_eq!(rights(&rig, before), None, "{access}");
        }
        before = role.map(|_| token(&rig));
        if let Some(token) = &before {
            assert_eq!(rights(&rig, token), role);
            assert_eq!(status(&rig)["kubeconfig"]["access"], access);
        } else {
            assert!(status(&rig)["kubeconfig"].is_null(), "{access}");
        }
        if access == "None" {
            assert!(held(&rig).is_none() && status(&rig)["kubeconfigSecret"].is_null());
            assert_eq!(rig.told("KubeconfigReady").0, "True");
        }
    }
    assert_eq!(file(&rig, "value"), certificate);
    let told = rig.events("CertificateNotRevoked");
    assert!(told.len() == 1 && told[0].contains("stays valid until"), "{told:?}");
    // Events of the same note are one.
    assert_eq!((rig.events("RevokedAccess").len(), rig.events("DeletedSecret").len()), (3, 1));
    assert_eq!(rig.api.sins(), [] as [String; 0]);
}

/// What is left of another access is found by what the cluster has, not by what the operator remembers.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_another_access_whatever_fails_on_the_way() {
    let rig = made("Edit", "").await;
    for (access, role) in [("View", Some(AccountRole::View)), ("None", None), ("Admin", None)] {
        let mut clean = rig.copy();
        put(&clean, "dev", json!({}), spec(access, ""));
        clean.settle_after_a_round(ENOUGH).await;
        for side in [Side::Child, Side::Kube] {
            let calls = clean.faults.calls(side);
            for number in (0..calls.len()).filter(|i| calls[*i].1) {
                for fault in [Fault::Lost, Fault::Refused, Fault::Timeout] {
                    let mut run = rig.copy();
                    put(&run, "dev", json!({}), spec(access, ""));
                    run.faults.plan(side, number, fault);
                    run.round().await;
                    // A new process goes on.
                    let mut run = run.restart();
                    run.settle_after_a_round(ENOUGH).await;
                    let what = format!("{access}: {fault:?} of {}", calls[number].0);
                    assert_eq!(accounts(&run), role.into_iter().collect::<Vec<_>>(), "{what}");
                    assert_eq!(held(&run).is_some(), access != "None", "{what}");
                    assert_eq!(run.api.sins(), [] as [String; 0], "{what}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_another_owner_stays() {
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dev-kubeconfig"}, "data": {"a": "Yg=="}});
    for access in ["None", "View"] {
        let mut rig = Rig::new(lab::settings());
        rig.api.put(&secret("dev-kubeconfig"), theirs.clone());
        put(&rig, "dev", json!({}), spec(access, ""));
        rounds(&mut rig, 20).await;
        assert_eq!(held(&rig).unwrap()["data"], theirs["data"], "{access}");
        match access {
            "None" => assert_eq!(rig.told("KubeconfigReady").0, "True"),
            _ => assert_eq!(rig.told("KubeconfigReady"), ("False".into(), "SecretInvalid".into())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_renew_it_neither_too_late_nor_again_and_again() {
    for skew in [-86_400, -300, 300, 86_400] {
        let mut rig = Rig::new(lab::settings());
        put(&rig, "dev", json!({}), spec("Admin", ""));
        rig.settle(ENOUGH).await;
        rig.world(|w| w.clusters.values_mut().for_each(|c| c.skew = skew));
        put(&rig, "dev", json!({}), spec("Admin", LIFE));
        rig.settle_after_a_round(ENOUGH).await;
        rig.faults.take_writes();
        for _ in 0..4 * RENEWED {
            rig.round().await;
            assert_eq!(rights(&rig, &token(&rig)), Some(AccountRole::Admin), "{skew}");
        }
        let issued = writes(&rig).iter().filter(|w| w.contains("issue")).count();
        assert!((3..=5).contains(&issued), "{skew}: {issued}");
    }
}

/// A cluster that lost its data has another CA, and nothing of what it handed out.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_made_anew_hands_out_a_new_token() {
    let mut more = spec("View", "");
    more["onDataLoss"] = json!("Recreate");
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), more);
    rig.settle(ENOUGH).await;
    let first = token(&rig);
    rig.world(|w| {
        w.remove_container("k3d-dev-server-0").unwrap();
        w.volumes.retain(|name, _| !name.starts_with("k3d-dev-server-0"));
    });
    rig.settle_after_a_round(2 * ENOUGH).await;
    assert_ne!(token(&rig), first);
    assert_eq!(rights(&rig, &token(&rig)), Some(AccountRole::View));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_deleted_gets_no_token() {
    let mut rig = made("View", LIFE).await;
    rig.world(|w| w.clusters.values_mut().for_each(|c| c.accounts.clear()));
    rig.faults.take_writes();
    rig.api.delete(&path("localclusters", "dev"));
    rounds(&mut rig, 5).await;
    assert!(object(&rig).is_none() && held(&rig).is_none());
    let writes = writes(&rig);
    assert!(!writes.iter().any(|w| w.contains("issue") || w.contains("grant")), "{writes:?}");
}
