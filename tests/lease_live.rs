//! The Lease, against a real API server: the management cluster of `tests/world/world up`. A fake one takes any time
//! of day; a real one takes microseconds only.

use std::{env, fs, path::Path, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Config,
    api::DeleteParams,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use localcluster_operator::lease::Elector;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

const NAME: &str = "lco-lease-test";
const LIMIT: Duration = Duration::from_secs(10);

async fn client() -> Client {
    let path = env::var("WORLD_KUBECONFIG").unwrap_or_else(|_| "target/world/mgmt.kubeconfig".to_owned());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let kubeconfig = fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!(
            "no cluster to test with ({}: {e}): run tests/world/world up, or set WORLD_KUBECONFIG",
            path.display()
        )
    });
    let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn is_held_renewed_and_handed_over() {
    let client = client().await;
    let api = Api::<Lease>::namespaced(client.clone(), "default");
    let _ = api.delete(NAME, &DeleteParams::default()).await;

    let (stop, leads) = (CancellationToken::new(), CancellationToken::new());
    let first = tokio::spawn({
        let (elector, stop, leads) =
            (Elector::new(client.clone(), "default", NAME, "a"), stop.clone(), leads.clone());
        async move {
            let work = || async {
                leads.cancel();
                stop.cancelled().await;
            };
            elector.lead(&stop, |_| (), work).await
        }
    });
    timeout(LIMIT, leads.cancelled()).await.unwrap();
    let begin = api.get(NAME).await.unwrap().spec.unwrap().renew_time;
    let renewed =
        |lease: Option<&Lease>| lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref()) != begin.as_ref();
    timeout(LIMIT, await_condition(api.clone(), NAME, renewed)).await.expect("a renewal").unwrap();

    stop.cancel();
    assert_eq!(first.await.unwrap(), Ok(Some(())));
    let (asked, never) = (Instant::now(), CancellationToken::new());
    let second = Elector::new(client, "default", NAME, "b");
    let holder = second.lead(&never, |_| (), || async { api.get(NAME).await.unwrap().spec.unwrap() }).await;
    let holder = holder.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!((holder.holder_identity.as_deref(), holder.lease_transitions), (Some("b"), Some(2)));

    api.delete(NAME, &DeleteParams::default()).await.unwrap();
}
