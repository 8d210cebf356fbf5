use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::{
    docker::{
        engine::{Attachment, Container, Network, Volume},
        spec::{PortBinding, RestartPolicy},
    },
    k3s::kubeconfig::Credentials,
    plan::hub::desired::HubNames,
};

const HUB_IMAGE: &str = "rancher/k3s:v1.36.2-k3s1";
const OPERATOR_IMAGE: &str = "localcluster-operator:1";

fn wanted() -> Wanted {
    Wanted {
        names: HubNames::new("hub").unwrap(),
        image: HUB_IMAGE.into(),
        api_port: None,
        operator_image: OPERATOR_IMAGE.into(),
        operator_args: Vec::new(),
        socket: "/var/run/docker.sock".into(),
    }
}

fn credentials() -> Credentials {
    Credentials { ca: "Q0E=".into(), certificate: "Q0VSVA==".into(), key: "S0VZ".into() }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A running container of this spec, as Docker shows it.
fn container(spec: &ContainerSpec) -> ContainerDetail {
    let place = Attachment { network_name: "hub-hub".into(), ..Attachment::default() };
    ContainerDetail {
        container: Container {
            id: format!("id-of-{}", spec.name),
            name: spec.name.clone(),
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            state: State::Running,
            networks: BTreeMap::from([("net".to_owned(), place)]),
            ports: spec.ports.clone(),
            writable_binds: Vec::new(),
        },
        wanted_ports: spec.ports.clone(),
        restart_policy: RestartPolicy::UnlessStopped,
        started_at: Some(time(100)),
        hostname: spec.name.clone(),
        ..ContainerDetail::default()
    }
}

/// A hub that is complete.
fn complete(wanted: &Wanted) -> Observed {
    let labels = wanted.names.labels();
    let installation = Installation::of_this_version().clone();
    let mut observed = Observed::default();
    let host = &mut observed.host;
    host.images = [(&wanted.image, "sha256:1"), (&wanted.operator_image, "sha256:2")]
        .map(|(name, id)| (name.clone(), id.to_owned()))
        .into();
    host.networks = vec![Network {
        id: "net".into(),
        name: "hub-hub".into(),
        labels: labels.clone(),
        ..Network::default()
    }];
    host.volume = Some(Volume { name: "hub-hub".into(), labels });
    host.server = Some(container(&wanted.server(wanted.api_port.unwrap_or(16443), "sha256:1", "net")));
    host.operator = Some(container(&wanted.operator("sha256:2", "net")));
    observed.api = Api::Answers(Box::new(Answer {
        applied: installation.keys.clone(),
        established: installation.definitions,
        has_policy: true,
        initialized: true,
        token: Some("token".into()),
        credentials: Some(credentials()),
        leader: Some(("hub-operator".into(), time(105))),
    }));
    observed.given = Some(wanted.operator_kubeconfig("token", &credentials()).content);
    observed
}

fn answer(observed: &mut Observed) -> &mut Answer {
    match &mut observed.api {
        Api::Answers(answer) => answer,
        Api::Away | Api::Silent(_) => panic!("it answers"),
    }
}

fn server_of(observed: &mut Observed) -> &mut ContainerDetail {
    observed.host.server.as_mut().unwrap()
}

fn operator_of(observed: &mut Observed) -> &mut ContainerDetail {
    observed.host.operator.as_mut().unwrap()
}

/// What comes next, as a line.
fn told(wanted: &Wanted, observed: &Observed) -> String {
    match next(wanted, Installation::of_this_version(), observed) {
        Next::Step(step) => step.to_string(),
        Next::Wait(what) => what,
        Next::Done => "done".to_owned(),
        Next::Refused(why) => format!("refused: {why}"),
    }
}

type Change = fn(&mut Observed);

#[test]
fn every_state_has_its_step() {
    let states: [(&str, Change); 26] = [
        ("done", |_| {}),
        ("pulling rancher/k3s:v1.36.2-k3s1", |o| drop(o.host.images.remove(HUB_IMAGE))),
        ("pulling localcluster-operator:1", |o| drop(o.host.images.remove(OPERATOR_IMAGE))),
        ("creating volume hub-hub", |o| o.host.volume = None),
        ("creating network hub-hub", |o| o.host.networks.clear()),
        ("creating container hub-hub from rancher/k3s:v1.36.2-k3s1", |o| o.host.server = None),
        ("starting container hub-hub", |o| server_of(o).container.state = State::Created),
        ("starting container hub-hub", |o| server_of(o).container.state = State::Exited),
        ("unpausing container hub-hub", |o| server_of(o).container.state = State::Paused),
        ("waiting for container hub-hub, which exited and is restarted by Docker", |o| {
            server_of(o).container.state = State::Restarting;
        }),
        ("waiting until container hub-hub is removed", |o| server_of(o).container.state = State::Removing),
        ("removing container hub-hub: Docker has removed it partially", |o| {
            server_of(o).container.state = State::Dead;
        }),
        ("removing container hub-hub: it is not connected to its network", |o| {
            server_of(o).container.networks.clear();
        }),
        ("removing container hub-hub: its settings, its image or its network have changed", |o| {
            o.host.networks[0].id = "another".into();
        }),
        ("removing container hub-hub: its restart policy has been changed", |o| {
            server_of(o).restart_policy = RestartPolicy::No;
        }),
        ("waiting for the API of the hub", |o| o.api = Api::Away),
        ("waiting for the API of the hub", |o| o.api = Api::Silent("no route".into())),
        ("applying definitions and permissions", |o| answer(o).applied.clear()),
        ("waiting until the API serves LocalClusters and Registries", |o| answer(o).established.clear()),
        ("applying a HostPolicy that allows everything in namespace default", |o| {
            (answer(o).initialized, answer(o).has_policy) = (false, false);
        }),
        ("applying the mark that the hub has had its HostPolicy", |o| answer(o).initialized = false),
        // A user closed the hub.
        ("done", |o| answer(o).has_policy = false),
        ("waiting for the operator's token", |o| answer(o).token = None),
        ("waiting for the kubeconfig of the hub", |o| answer(o).credentials = None),
        ("creating container hub-operator from localcluster-operator:1", |o| o.host.operator = None),
        ("waiting for the operator", |o| answer(o).leader = None),
    ];
    for (expected, change) in states {
        let mut observed = complete(&wanted());
        change(&mut observed);
        assert_eq!(told(&wanted(), &observed), expected);
    }
}

#[test]
fn the_operator_has_the_kubeconfig_of_its_hub() {
    let states: [(&str, Change); 6] = [
        ("writing /etc/localcluster/kubeconfig", |o| operator_of(o).container.state = State::Created),
        ("writing /etc/localcluster/kubeconfig", |o| operator_of(o).container.state = State::Exited),
        ("removing container hub-operator: its kubeconfig is not that of the hub", |_| {}),
        ("removing container hub-operator: its kubeconfig is not that of the hub", |o| {
            operator_of(o).container.state = State::Restarting;
        }),
        ("starting container hub-operator", |o| {
            operator_of(o).container.state = State::Created;
            o.given = complete(&wanted()).given;
        }),
        ("unpausing container hub-operator", |o| {
            operator_of(o).container.state = State::Paused;
            o.given = complete(&wanted()).given;
        }),
    ];
    for (expected, change) in states {
        let mut observed = complete(&wanted());
        observed.given = None;
        change(&mut observed);
        assert_eq!(told(&wanted(), &observed), expected);
    }
}

/// The Lease may be held by one that runs no longer.
#[test]
fn the_operator_works_when_it_has_renewed_its_lease() {
    let mut observed = complete(&wanted());
    operator_of(&mut observed).started_at = Some(time(106));
    assert_eq!(told(&wanted(), &observed), "waiting for the operator");
    answer(&mut observed).leader = Some(("hub-operator".into(), time(107)));
    assert_eq!(told(&wanted(), &observed), "done");
    answer(&mut observed).leader = Some(("another".into(), time(107)));
    assert_eq!(told(&wanted(), &observed), "waiting for the operator");
}

#[test]
fn other_flags_replace_the_containers() {
    let observed = complete(&wanted());
    let other = |change: fn(&mut Wanted)| {
        let mut wanted = wanted();
        change(&mut wanted);
        let mut observed = observed.clone();
        observed.host.images.insert(wanted.image.clone(), "sha256:3".into());
        observed.host.images.insert(wanted.operator_image.clone(), "sha256:4".into());
        told(&wanted, &observed)
    };
    let (from, to) = ("rancher/k3s:v1.36.2-k3s1", "rancher/k3s:v1.37.0-k3s1");
    assert_eq!(
        other(|w| w.image = "rancher/k3s:v1.37.0-k3s1".into()),
        format!("removing container hub-hub: its image changes from {from} to {to}")
    );
    // Built again under its name.
    let built = "its settings, its image or its network have changed";
    assert_eq!(other(|_| {}), format!("removing container hub-hub: {built}"));
    let told = other(|w| w.image = "rancher/k3s:v1.36.1-k3s1".into());
    assert!(told.starts_with("refused: ") && told.contains("--image rancher/k3s:v1.36.2-k3s1"), "{told}");

    let mut wanted = wanted();
    wanted.operator_args = vec!["--resync=1h".into()];
    assert_eq!(super::tests::told(&wanted, &observed), format!("removing container hub-operator: {built}"));
    wanted.api_port = Some(7443);
    let port = "removing container hub-hub: its port changes from 16443 to 7443";
    assert_eq!(super::tests::told(&wanted, &observed), port);
}

#[test]
fn ports_are_kept_and_chosen_among_free_ones() {
    let mut observed = complete(&wanted());
    server_of(&mut observed).container.state = State::Exited;
    assert_eq!(told(&wanted(), &observed), "starting container hub-hub");
    // A process has taken the port meanwhile, and a container the next one.
    observed.taken_ports = [16443].into();
    observed.host.used_ports = [16444].into();
    let moved = "removing container hub-hub: its port changes from 16443 to 16445";
    assert_eq!(told(&wanted(), &observed), moved);

    let given = Wanted { api_port: Some(16443), ..wanted() };
    let told_of = told(&given, &observed);
    assert!(
        told_of.contains("port 16443 of 127.0.0.1 is in use") && told_of.contains("--api-port"),
        "{told_of}"
    );
    observed.taken_ports = PORTS.collect();
    assert!(told(&wanted(), &observed).contains("choose another with --api-port"));

    let port: fn(&mut Observed) -> &mut Vec<PortBinding> = |o| &mut server_of(o).wanted_ports;
    let mut observed = complete(&Wanted { api_port: Some(7443), ..wanted() });
    assert_eq!(port(&mut observed)[0].host_port, 7443);
    assert_eq!(told(&wanted(), &observed), "done");
}

#[test]
fn nothing_is_done_while_a_name_is_somebody_elses() {
    let foreign: [(&str, Change); 4] = [
        ("a container named hub-hub", |o| server_of(o).container.labels.clear()),
        ("a container named hub-operator", |o| {
            operator_of(o).container.labels = HubNames::new("other").unwrap().labels();
        }),
        ("a network named hub-hub", |o| o.host.networks[0].labels.clear()),
        ("a volume named hub-hub", |o| o.host.volume.as_mut().unwrap().labels.clear()),
    ];
    for (what, change) in foreign {
        let mut observed = complete(&wanted());
        observed.host.images.clear();
        change(&mut observed);
        let told = told(&wanted(), &observed);
        assert!(told.starts_with(&format!("refused: {what}")) && told.contains("--name"), "{told}");
    }
}

/// An operator that was without its hub for a day has exited often.
#[test]
fn only_restarts_meanwhile_are_failures() {
    let mut observed = complete(&wanted());
    operator_of(&mut observed).container.state = State::Restarting;
    operator_of(&mut observed).started_again = 900;
    let before = restarts(&observed);
    assert_eq!(failing(&observed, &before), None);
    operator_of(&mut observed).started_again += RESTARTS;
    assert_eq!(failing(&observed, &before).map(|d| d.container.name.as_str()), Some("hub-operator"));
    operator_of(&mut observed).container.state = State::Running;
    assert_eq!(failing(&observed, &before), None);
}
