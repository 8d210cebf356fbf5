//! What the engine refuses, and which error each refusal is.

use super::*;

#[tokio::test]
async fn what_is_reached_already_is_success() {
    let world = World::new("again");
    let (network, first) = world.network("one").await;
    let (_, second) = world.network("two").await;
    let mut spec = world.spec("c");
    spec.endpoint.ip = pin(&network, 7);
    let engine = &world.engine;
    let id = engine.create_container(&spec, Some(&first)).await.unwrap();
    engine.start(&id).await.unwrap();

    let place = EndpointSettings { aliases: vec!["other".into()], ..EndpointSettings::default() };
    engine.connect(&second, &id, &place).await.unwrap();
    engine.connect(&second, &id, &place).await.unwrap();
    assert_eq!(world.listed(&id).await.networks.len(), 2);
    let detail = engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!(detail.container.networks[&second].aliases, ["other"]);
    engine.disconnect(&second, &id).await.unwrap();
    engine.disconnect(&second, &id).await.unwrap();
    assert!(world.listed(&id).await.networks.keys().eq([&first]));
    engine.remove_network(&second).await.unwrap();
    engine.remove_network(&second).await.unwrap();
    engine.disconnect(&second, &id).await.unwrap();

    let says = async |word: &str| {
        let said = async {
            while !engine.logs(&id, 10).await.unwrap().iter().any(|line| line == word) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), said).await.unwrap_or_else(|_| panic!("no {word}"));
    };
    // The kernel drops a signal to the first process of a container that does not handle it yet.
    says("ready").await;
    docker(&["pause", &id]);
    assert_eq!(world.listed(&id).await.state, State::Paused);
    engine.unpause(&id).await.unwrap();
    engine.unpause(&id).await.unwrap();
    engine.signal(&id, "SIGHUP").await.unwrap();
    // The shell answers a signal as soon as its `wait` ends, and then only waits for the next.
    says("hangup").await;
    assert_eq!(engine.logs(&id, 1).await.unwrap(), ["hangup"]);

    engine.stop(&id, 20).await.unwrap();
    engine.stop(&id, 20).await.unwrap();
    let detail = engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!((detail.container.state, detail.exit_code), (State::Exited, Some(7)));
    assert_eq!(detail.container.networks[&first].pinned, pin(&network, 7), "still known when stopped");
    engine.signal(&id, "SIGHUP").await.unwrap();
    engine.remove_container(&id).await.unwrap();
    engine.remove_container(&id).await.unwrap();
    engine.stop(&id, 1).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap(), None);

    let volume = world.volume("v").await;
    world.volume("v").await;
    assert!(engine.volumes().await.unwrap().iter().any(|v| v.name == volume && v.labels == world.labels()));
    engine.remove_volume(&volume).await.unwrap();
    engine.remove_volume(&volume).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_told_apart() {
    let world = World::new("port");
    let (_, network) = world.network("net").await;
    let (held, port) = listener();
    let mut spec = world.spec("first");
    spec.ports = publish(port);
    let first = world.engine.create_container(&spec, Some(&network)).await.unwrap();
    let error = world.engine.start(&first).await.unwrap_err();
    assert!(matches!(&error, Error::PortTaken(words) if words.contains(&port.to_string())), "{error:?}");
    let detail = world.engine.inspect(&first).await.unwrap().unwrap();
    assert!(detail.error.is_some_and(|words| words.contains(&port.to_string())));

    drop(held);
    let first = if detail.has_no_network {
        // Docker 29 would run it without a network (moby#51758).
        world.engine.remove_container(&first).await.unwrap();
        world.engine.create_container(&spec, Some(&network)).await.unwrap()
    } else {
        first
    };
    world.engine.start(&first).await.unwrap();
    let published = world.engine.inspect(&first).await.unwrap().unwrap().container.ports;
    assert!(published.iter().any(|p| p.host_port == port), "{published:?}");
    spec.name = world.name("second");
    let second = world.engine.create_container(&spec, Some(&network)).await.unwrap();
    let error = world.engine.start(&second).await.unwrap_err();
    assert!(matches!(&error, Error::PortTaken(words) if words.contains(&port.to_string())), "{error:?}");
}

#[tokio::test]
async fn taken_names_and_addresses_are_told_apart() {
    let world = World::new("taken");
    let (network, network_id) = world.network("net").await;
    let mut spec = world.spec("c");
    spec.endpoint.ip = pin(&network, 9);
    let first = world.engine.create_container(&spec, Some(&network_id)).await.unwrap();
    let error = world.engine.create_container(&spec, Some(&network_id)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(words) if words.contains(&spec.name)), "{error:?}");

    let mut overlap = network.clone();
    overlap.name = world.name("overlap");
    let error = world.engine.create_network(&overlap).await.unwrap_err();
    assert!(matches!(error, Error::Address(_)), "{error:?}");

    world.engine.start(&first).await.unwrap();
    spec.name = world.name("same-address");
    let second = world.engine.create_container(&spec, Some(&network_id)).await.unwrap();
    let error = world.engine.start(&second).await.unwrap_err();
    assert!(matches!(error, Error::Address(_)), "{error:?}");

    let outside = EndpointSettings { ip: Some(Ipv4Addr::new(192, 0, 2, 1)), ..EndpointSettings::default() };
    let (_, other) = world.network("other").await;
    let error = world.engine.connect(&other, &first, &outside).await.unwrap_err();
    assert!(matches!(error, Error::Address(_)), "{error:?}");
    assert!(
        !world.listed(&first).await.networks.contains_key(&other),
        "a failed connect leaves no attachment"
    );
}

#[tokio::test]
async fn what_is_in_use_is_busy_and_what_is_missing_not_found() {
    let world = World::new("busy");
    let (_, network) = world.network("net").await;
    let volume = world.volume("v").await;
    let mut spec = world.spec("c");
    spec.mounts = BTreeMap::from([("/v".into(), volume.clone())]);
    let id = world.engine.create_container(&spec, Some(&network)).await.unwrap();
    world.engine.start(&id).await.unwrap();
    let error = world.engine.remove_network(&network).await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error:?}");
    let error = world.engine.remove_volume(&volume).await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error:?}");

    let nobody = world.name("nobody");
    let error = world.engine.start(&nobody).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
    spec.name = nobody;
    spec.image = world.name("no-such-image");
    assert_eq!(world.engine.image(&spec.image).await.unwrap(), None);
    let error = world.engine.create_container(&spec, None).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}

/// An engine before API 1.44 makes a second network of one name, and finds neither by it.
#[tokio::test]
async fn a_duplicate_of_a_networks_name_does_no_harm() {
    let world = World::new("twin");
    let (network, first) = world.network("net").await;
    let mut spec = world.spec("c");
    spec.endpoint.ip = pin(&network, 5);
    let id = world.engine.create_container(&spec, Some(&first)).await.unwrap();
    let mut twin = None;
    for third in 0..=u8::MAX {
        match world.engine.create_network(&world.network_spec("net", third)).await {
            Ok(id) => twin = Some(id),
            // An engine since 1.44, which makes none.
            Err(Error::Conflict(_)) => return,
            Err(Error::Address(_)) => continue,
            Err(error) => panic!("{error:?}"),
        }
        break;
    }
    let twin = twin.expect("a subnet is free");
    let all = world.engine.networks().await.unwrap();
    let twins: Vec<_> = all.iter().filter(|other| other.name == network.name).collect();
    assert_eq!(twins.len(), 2);
    assert!(twins.iter().all(|twin| twin.driver == "bridge" && twin.labels == world.labels()));
    assert!(
        twins
            .iter()
            .any(|twin| twin.id == first && twin.subnets == [network.addressing.as_ref().unwrap().subnet])
    );

    world.engine.start(&id).await.unwrap();
    assert_eq!(world.listed(&id).await.networks[&first].ip, pin(&network, 5));
    world.engine.remove_network(&twin).await.unwrap();
}
