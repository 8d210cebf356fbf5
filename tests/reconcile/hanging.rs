//! Docker calls and pulls that never end, and what else goes on meanwhile.

use localcluster_operator::{
    controller::pulls::{Asker, Pulls},
    docker::engine::RegistryAuth,
    plan::{observed::ImageState, queue::Wait},
};
use tokio::time::{Instant, sleep};

use super::*;

fn conditions(rig: &Rig, object: &str) -> (String, String) {
    condition(&rig.api.get(object).unwrap(), "NetworkReady")
}

/// A cluster that needs nothing else.
fn plain(rig: &Rig) {
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "dev"}, "spec": {"servers": {"count": 1}},
    });
    rig.api.put(&path("localclusters", "dev"), object);
}

async fn rounds(rig: &mut Rig) {
    for _ in 0..4 {
        rig.round().await;
    }
}

/// Much longer than a pass may take.
const LONG: Duration = Duration::from_secs(400);

#[tokio::test(start_paused = true)]
async fn a_pass_that_does_not_end_is_ended_reported_and_repeated() {
    let mut rig = Rig::new(lab::settings());
    plain(&rig);
    rig.faults.hang(&["start"]);
    rounds(&mut rig).await;
    let object = rig.api.get(&path("localclusters", "dev")).unwrap();
    assert_eq!(condition(&object, "NetworkReady").1, "DeadlineExceeded", "{object}");
    assert_eq!(condition(&object, "Ready"), ("False".into(), "DeadlineExceeded".into()));
    assert_eq!(condition(&object, "DockerReachable").0, "True");
    assert!(message(&rig, "Ready").contains("took longer than 180s and was ended"), "{object}");
    // It continues from what it observes.
    rig.faults.hang(&[]);
    rig.settle(ENOUGH).await;
    assert_eq!(condition(&rig.api.get(&path("localclusters", "dev")).unwrap(), "Ready").0, "True");
    // A deletion too.
    rig.faults.hang(&["remove container"]);
    delete(&rig);
    rounds(&mut rig).await;
    let object = rig.api.get(&path("localclusters", "dev")).unwrap();
    assert_eq!(condition(&object, "NetworkReady").1, "DeadlineExceeded", "{object}");
    rig.faults.hang(&[]);
    rig.settle(ENOUGH).await;
    assert!(rig.api.get(&path("localclusters", "dev")).is_none());
}

#[tokio::test(start_paused = true)]
async fn hanging_clusters_of_one_namespace_hold_no_worker_of_another() {
    const HANGING: usize = 12;
    let mut rig = Rig::new(lab::settings());
    let of = |namespace: &str, name: &str| {
        json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"servers": {"count": 1}},
        })
    };
    let place = |namespace: &str, name: &str| {
        format!("/apis/localcluster.dev/v1alpha1/namespaces/{namespace}/localclusters/{name}")
    };
    for i in 0..HANGING {
        let name = format!("hangs-{i:02}");
        rig.api.put(&place("default", &name), of("default", &name));
    }
    rig.api.put(&place("shared", "works"), of("shared", "works"));
    rig.faults.hang(&["create network k3d-hangs*"]);
    let began = Instant::now();
    let mut tasks = rig.begin_all();
    while tasks.len() > HANGING {
        tasks.join_next().await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let works = rig.api.get(&place("shared", "works")).unwrap();
    assert_eq!(works["status"]["nodes"][0]["phase"], "Starting", "{works}");
    // Eight at a time, each as long as it may.
    let ended = |rig: &Rig| {
        let names = (0..HANGING).map(|i| place("default", &format!("hangs-{i:02}")));
        names.filter(|name| conditions(rig, name).1 == "DeadlineExceeded").count()
    };
    assert_eq!(ended(&rig), 0);
    sleep(Duration::from_secs(200)).await;
    assert_eq!(ended(&rig), 8);
    sleep(LONG).await;
    assert_eq!((ended(&rig), tasks.len()), (HANGING, HANGING));
    while tasks.join_next().await.is_some() {}
}

/// Docker's inspection of a container waits while Docker works on it, for example on a stop that does not end.
#[tokio::test(start_paused = true)]
async fn an_inspection_that_hangs_delays_only_the_owner_of_that_container() {
    let mut rig = applied(1);
    put(&rig, 1, |s| s["registries"]["use"] = json!([{"name": "images"}]));
    rig.settle(ENOUGH).await;
    let server = rig.world(|w| w.id("k3d-dev-server-0").unwrap());
    let registry =
        rig.world(|w| w.containers.values().find(|c| c.name.contains("images")).unwrap().name.clone());
    rig.faults.hang(&[&format!("inspect {registry}")]);
    rig.world(|w| w.end(&server, 1)).unwrap();
    let running = |rig: &Rig| rig.world(|w| w.containers.get(&server).unwrap().state) == State::Running;
    let began = Instant::now();
    for _ in 0..ENOUGH {
        let mut tasks = rig.begin_all();
        while tasks.join_next().await.is_some() {}
        rig.pass().await;
        if running(&rig) {
            break;
        }
    }
    assert!(running(&rig));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(rig.told("NetworkReady").0, "True");
    // The Registry itself is looked at, and says so.
    rig.round().await;
    let images = rig.api.get(&path("registries", "images")).unwrap();
    assert_eq!(condition(&images, "Ready"), ("False".into(), "DeadlineExceeded".into()), "{images}");
}

#[tokio::test(start_paused = true)]
async fn events_are_not_held_back_by_a_container_that_hangs() {
    let mut rig = applied(1);
    rig.settle(ENOUGH).await;
    rig.triggered();
    rig.faults.hang(&["inspect *"]);
    let container = rig.world(|w| w.id("k3d-dev-server-0").unwrap());
    let subject = Subject::Network { id: "n".into(), name: "elsewhere".into(), container: Some(container) };
    let event = Event { subject, action: "disconnect".into(), labels: BTreeMap::new() };
    tokio::time::timeout(Duration::from_secs(1), triggers::event(&rig.ctx, event)).await.unwrap();
    assert_eq!(rig.triggered(), ["dev"]);
}

fn auth(username: &str) -> Option<RegistryAuth> {
    Some(RegistryAuth {
        server: "r.example".into(),
        username: username.into(),
        password: "x".into(),
        identity_token: None,
    })
}

fn ask(pulls: &Pulls, (uid, namespace): (&str, &str), most: Option<usize>, image: &str, user: Option<&str>) {
    pulls.start(Asker { uid, namespace, most }, image, user.and_then(auth), Box::new(|| ()));
}

async fn rest() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_with_bad_credentials_neither_blocks_nor_fails_one_with_good_ones() {
    let rig = Rig::new(lab::settings());
    let (pulls, image) = (&rig.ctx.pulls, "r.example/i:1");
    let state = async |uid: &str| pulls.state(uid, image).await.unwrap();
    // One that does not end, and one that is denied.
    rig.faults.hang(&["pull r.example/i:1 as mallory"]);
    ask(pulls, ("a", "team-a"), None, image, Some("mallory"));
    rig.world(|w| w.unknown_images.insert(image.into()));
    ask(pulls, ("b", "team-b"), None, image, None);
    rest().await;
    assert_eq!(state("a").await, ImageState::Pulling);
    assert!(matches!(state("b").await, ImageState::Failed(_)));
    assert_eq!(state("c").await, ImageState::Absent, "nobody pulled it for this one");
    rig.world(|w| w.unknown_images.clear());
    ask(pulls, ("c", "team-c"), None, image, Some("carol"));
    rest().await;
    assert_eq!(state("c").await, ImageState::Present);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_were_corrected_count_at_once() {
    let rig = Rig::new(lab::settings());
    let (pulls, image) = (&rig.ctx.pulls, "r.example/i:1");
    rig.world(|w| w.unknown_images.insert(image.into()));
    ask(pulls, ("a", "team-a"), None, image, Some("wrong"));
    rest().await;
    assert!(matches!(pulls.state("a", image).await.unwrap(), ImageState::Failed(_)));
    rig.world(|w| w.unknown_images.clear());
    // The same again waits for its delay.
    ask(pulls, ("a", "team-a"), None, image, Some("wrong"));
    rest().await;
    assert!(matches!(pulls.state("a", image).await.unwrap(), ImageState::Failed(_)));
    ask(pulls, ("a", "team-a"), None, image, Some("right"));
    rest().await;
    assert_eq!(pulls.state("a", image).await.unwrap(), ImageState::Present);
}

#[tokio::test(start_paused = true)]
async fn pulls_are_limited_and_fair_by_namespace() {
    let rig = Rig::new(lab::settings());
    let pulls = &rig.ctx.pulls;
    let state = async |uid: &str, image: &str| pulls.state(uid, image).await.unwrap();
    rig.faults.hang(&["pull hang*"]);
    for image in ["hang/1", "hang/2", "hang/3"] {
        ask(pulls, ("a", "team-a"), None, image, None);
    }
    rest().await;
    let of_a = [state("a", "hang/1").await, state("a", "hang/2").await, state("a", "hang/3").await];
    let queued = ImageState::Queued(Wait::Namespace(2));
    assert_eq!(of_a, [ImageState::Pulling, ImageState::Pulling, queued]);
    // Another object that wants the same shares the pull, and one of another namespace has its own limit.
    ask(pulls, ("a2", "team-a"), None, "hang/1", None);
    ask(pulls, ("b", "team-b"), Some(1), "hang/4", None);
    ask(pulls, ("b", "team-b"), Some(1), "hang/5", None);
    rest().await;
    assert_eq!(state("a2", "hang/1").await, ImageState::Pulling);
    assert_eq!(state("b", "hang/4").await, ImageState::Pulling);
    assert_eq!(state("b", "hang/5").await, ImageState::Queued(Wait::Namespace(1)));
    ask(pulls, ("c", "team-c"), None, "hang/6", None);
    ask(pulls, ("d", "team-d"), None, "good", None);
    rest().await;
    assert_eq!(state("c", "hang/6").await, ImageState::Pulling);
    assert_eq!(state("d", "good").await, ImageState::Queued(Wait::Host), "four at a time");
    // What is no longer wanted does not wait any more.
    pulls.keep("b", &[]);
    assert_eq!(state("b", "hang/5").await, ImageState::Absent);
    // Pulls that take very long leave their places to others, but not to those of their own namespace.
    sleep(Duration::from_secs(5 * 60 + 1)).await;
    assert_eq!(state("d", "good").await, ImageState::Present);
    assert_eq!(state("a", "hang/3").await, ImageState::Queued(Wait::Namespace(2)));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_pull_waits_says_so() {
    let mut rig = Rig::new(lab::settings());
    plain(&rig);
    rig.faults.hang(&["pull *"]);
    for image in ["hang/1", "hang/2"] {
        ask(&rig.ctx.pulls, ("other", "default"), None, image, None);
    }
    rounds(&mut rig).await;
    let object = rig.api.get(&path("localclusters", "dev")).unwrap();
    assert_eq!(condition(&object, "ControlPlaneReady").1, "ImagePulling", "{object}");
    let message = message(&rig, "ControlPlaneReady");
    assert!(message.starts_with("queued to pull ") && message.contains("quota.concurrentPulls"), "{message}");
}
