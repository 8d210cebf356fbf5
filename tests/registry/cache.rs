//! How the container of a pull-through cache is started.

use localcluster_operator::plan::registry::{
    config::CONFIG_FILE,
    upstream::{self, SCRIPT_FILE},
};

use super::*;

fn cache() -> RegistrySpec {
    let remote_url = "https://registry-1.docker.io".into();
    let proxy = ProxySpec { remote_url, credentials_secret: None, ttl: None };
    RegistrySpec { proxy: Some(proxy), ..RegistrySpec::default() }
}

fn command(lab: &Lab) -> Vec<String> {
    lab.world.named(NAME).unwrap().command.to_vec()
}

/// An image that accepts nothing but a configuration file.
fn own_entrypoint(lab: &mut Lab, image: &str) {
    let entrypoint = ["registry", "serve"].map(String::from).into();
    Arc::make_mut(&mut lab.world.upstreams).entrypoints.insert(image.into(), entrypoint);
}

#[test]
fn only_a_cache_runs_the_script() {
    let mut lab = settled(RegistrySpec::default());
    assert_eq!(command(&lab), [CONFIG_FILE]);
    assert!(lab.world.read(NAME, SCRIPT_FILE).is_none());
    lab.registries[0].edit(|s| s.proxy = cache().proxy);
    lab.settle(ENOUGH);
    assert_eq!(command(&lab), upstream::command());
    let script = lab.world.read(NAME, SCRIPT_FILE).unwrap();
    assert_eq!(&*script, upstream::SCRIPT.as_bytes());
    lab.round();
    assert_eq!(told(&lab, ConditionType::UpstreamReady).0, "True");
    lab.registries[0].edit(|s| s.proxy = None);
    lab.settle(ENOUGH);
    assert_eq!(command(&lab), [CONFIG_FILE]);
    let conditions = &lab.registries[0].status.conditions;
    assert!(condition::get(conditions, ConditionType::UpstreamReady).is_none());
}

/// It is known only from a container that was made.
#[test]
fn an_image_with_another_entry_point_gets_its_configuration_file_as_before() {
    let mut lab = lab(RegistrySpec { image: Some("own:1".into()), ..cache() });
    own_entrypoint(&mut lab, "own:1");
    lab.settle(ENOUGH);
    assert_eq!((command(&lab), lab.world.made[NAME]), (vec![CONFIG_FILE.into()], 2));
    lab.round();
    let (status, _, message) = told(&lab, ConditionType::UpstreamReady);
    assert!(status == "Unknown" && message.contains("entry point"), "{status}: {message}");
    let id = lab.world.id(NAME);
    assert!((0..3).all(|_| lab.round().is_empty()));
    // Without the image, it runs on.
    lab.world.images.clear();
    assert!((0..3).all(|_| lab.round().is_empty()));
    assert_eq!(lab.world.id(NAME), id);
    lab.registries[0].edit(|s| s.image = Some("registry:3".into()));
    lab.settle(ENOUGH);
    assert_eq!((command(&lab), lab.world.made[NAME]), (upstream::command(), 3));
}

/// An operator that is killed anywhere ends the same way.
#[test]
fn a_cache_of_an_earlier_operator_is_replaced_once_or_stays() {
    for own in [false, true] {
        for (passes, cut, _) in all_cuts() {
            let mut lab = lab(RegistrySpec { image: Some("own:1".into()), ..cache() });
            own_entrypoint(&mut lab, "own:1");
            lab.settle(ENOUGH);
            let (before, made) = (lab.world.id(NAME), lab.world.made[NAME]);
            if !own {
                Arc::make_mut(&mut lab.world.upstreams).entrypoints.clear();
            }
            die(&mut lab, passes, cut);
            lab.registries[0].forget();
            lab.settle(ENOUGH);
            rests(&lab);
            let times = lab.world.made[NAME] - made;
            assert_eq!((lab.world.id(NAME) == before, times), (own, u8::from(!own)), "{passes} {cut}");
        }
    }
}
