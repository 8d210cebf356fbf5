//! Tests with records of real engines.

use std::collections::BTreeMap;

use bollard::models::{HostConfig, HostConfigCgroupnsModeEnum};
use serde_json::json;

use super::*;
use crate::{
    api::local_cluster::NodeRole,
    docker::{
        engine::{Attachment, Container, ContainerDetail, EngineInfo, Network, RegistryAuth, State, Update},
        spec::{
            Addressing, ContainerSpec, EndpointSettings, Gpus, Limits, NetworkSpec, PortBinding,
            RestartPolicy, Role, Ulimit, VolumeSpec,
        },
    },
};

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn port(host_ip: &str, host_port: u16, port: u16, protocol: &str) -> PortBinding {
    PortBinding { host_ip: host_ip.into(), host_port, port, protocol: protocol.into() }
}

fn node() -> ContainerSpec {
    ContainerSpec {
        command: vec!["server".into(), "--cluster-init".into()],
        host_args: vec!["--kubelet-arg=system-reserved=cpu=1m".into()],
        env: strings(&[("K3S_DEBUG", "a=b"), ("K3S_A", "")]),
        labels: strings(&[("owner", "me")]),
        privileged: true,
        tmpfs: vec!["/run".into(), "/var/run".into()],
        mounts: strings(&[("/var/lib/rancher/k3s", "lab-server-0-state")]),
        volume_labels: strings(&[("owner", "me")]),
        endpoint: EndpointSettings {
            ip: Some("172.31.0.5".parse().unwrap()),
            aliases: vec!["server".into()],
            aside: false,
        },
        ports: vec![
            port("0.0.0.0", 20000, 6443, "tcp"),
            port("127.0.0.1", 20001, 6443, "tcp"),
            port("0.0.0.0", 20002, 53, "udp"),
        ],
        memory: Some(1 << 30),
        nano_cpus: Some(1_500_000_000),
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1024, hard: 4096 })]),
        extra_hosts: strings(&[("registry.example", "172.31.0.2"), ("six.example", "2001:db8::5")]),
        ..ContainerSpec::bare("lab-server-0", Role::Node(NodeRole::Server), "rancher/k3s:v1.34.1-k3s1")
    }
}

#[test]
fn an_update_says_nothing_of_what_stays() {
    let body = |change| serde_json::to_value(update_body(&change)).unwrap();
    assert_eq!(body(Update::default()), json!({}));
    assert_eq!(
        body(Update { restart_policy: Some(RestartPolicy::No) }),
        json!({"RestartPolicy": {"Name": "no"}})
    );
    assert_eq!(
        body(Update { restart_policy: Some(RestartPolicy::UnlessStopped) }),
        json!({"RestartPolicy": {"Name": "unless-stopped"}})
    );
}

#[test]
fn a_node_is_made_with_all_that_it_is_given() {
    let mut body = serde_json::to_value(container_body(&node(), Some("f00d"), false)).unwrap();
    assert_eq!(
        body.as_object_mut().unwrap().remove("HostConfig").unwrap(),
        json!({
            "NetworkMode": "f00d",
            "Privileged": true,
            "CgroupnsMode": "private",
            "Init": false,
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "Mounts": [{"Type": "volume", "Source": "lab-server-0-state", "Target": "/var/lib/rancher/k3s",
                "VolumeOptions": {"Labels": {"owner": "me"}}}],
            "Tmpfs": {"/run": "", "/var/run": ""},
            "PortBindings": {
                "6443/tcp": [
                    {"HostIp": "0.0.0.0", "HostPort": "20000"},
                    {"HostIp": "127.0.0.1", "HostPort": "20001"},
                ],
                "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "20002"}],
            },
            "Memory": 1_073_741_824,
            "NanoCpus": 1_500_000_000,
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 4096}],
            "ExtraHosts": ["registry.example:172.31.0.2", "six.example:2001:db8::5"],
        })
    );
    assert_eq!(
        body,
        json!({
            "Hostname": "lab-server-0",
            "Image": "rancher/k3s:v1.34.1-k3s1",
            "Cmd": ["server", "--cluster-init", "--kubelet-arg=system-reserved=cpu=1m"],
            "Env": ["K3S_A=", "K3S_DEBUG=a=b"],
            "Labels": {"owner": "me"},
            "ExposedPorts": {"6443/tcp": {}, "53/udp": {}},
            "NetworkingConfig": {"EndpointsConfig": {"f00d": {
                "NetworkID": "f00d",
                "IPAMConfig": {"IPv4Address": "172.31.0.5"},
                "Aliases": ["server"],
            }}},
        })
    );
}

#[test]
fn what_goes_past_a_proxy_takes_the_users_place() {
    let spec = ContainerSpec {
        env: strings(&[("HTTP_PROXY", "http://p"), ("NO_PROXY", "a")]),
        host_env: strings(&[("NO_PROXY", "a,b")]),
        ..node()
    };
    let env = container_body(&spec, None, false).env.unwrap();
    assert_eq!(env, ["HTTP_PROXY=http://p", "NO_PROXY=a,b"]);
    let inspected = serde_json::from_value(json!({"Config": {"Env": env}})).unwrap();
    assert_eq!(detail(inspected).past_proxy, ["a,b"]);
}

#[test]
fn gpus_are_asked_for_as_by_docker_run() {
    let asked = |gpus| {
        let body = container_body(&ContainerSpec { gpus, ..node() }, None, false);
        serde_json::to_value(body.host_config.unwrap().device_requests).unwrap()
    };
    assert_eq!(asked(Some(Gpus::All)), json!([{"Count": -1, "Capabilities": [["gpu"]]}]));
    assert_eq!(asked(Some(Gpus::Count(2))), json!([{"Count": 2, "Capabilities": [["gpu"]]}]));
    assert_eq!(asked(None), json!(null));
}

#[test]
fn what_is_not_given_is_left_to_the_engine() {
    let ContainerSpec { name, image, labels, .. } = node();
    let spec = ContainerSpec { labels, ..ContainerSpec::bare(name, Role::LoadBalancer, image) };
    assert_eq!(
        serde_json::to_value(container_body(&spec, None, false)).unwrap(),
        json!({
            "Hostname": "lab-server-0",
            "Image": "rancher/k3s:v1.34.1-k3s1",
            "Labels": {"owner": "me"},
            "HostConfig": {
                "Privileged": false,
                "Init": false,
                "RestartPolicy": {"Name": "unless-stopped"},
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
                "CapDrop": ["ALL"],
                "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
                "SecurityOpt": ["no-new-privileges:true"],
                "PidsLimit": 4096,
                "Memory": 1 << 30,
            },
        })
    );
}

#[test]
fn helpers_that_work_on_files_are_on_no_network() {
    let mode = |role, network| {
        let body = container_body(&ContainerSpec::bare("c", role, "i:1"), network, false);
        (body.host_config.unwrap().network_mode, body.networking_config.is_some())
    };
    let none = (Some("none".to_owned()), false);
    assert_eq!(mode(Role::RegistryHelper, None), none);
    assert_eq!(mode(Role::NodeHelper, None), none);
    assert_eq!(mode(Role::Registry, Some("f00d")), (Some("f00d".to_owned()), true));
    // Docker tells the resolvers of the host on its default network.
    assert_eq!(mode(Role::LoadBalancer, None), (None, false));
}

#[test]
fn the_cgroup_namespace_is_private_only_where_that_works() {
    let mode = |spec: &ContainerSpec, v1| container_body(spec, None, v1).host_config.unwrap().cgroupns_mode;
    assert_eq!(mode(&node(), true), None);
    assert_eq!(mode(&ContainerSpec::bare("r", Role::Registry, "i:1"), false), None);
    assert_eq!(mode(&node(), false), Some(HostConfigCgroupnsModeEnum::PRIVATE));
    let unprivileged = ContainerSpec { privileged: false, ..node() };
    assert_eq!(mode(&unprivileged, false), Some(HostConfigCgroupnsModeEnum::PRIVATE));
    assert_eq!(mode(&unprivileged, true), None);
}

/// Its runtime decides what it may do, and Docker's default applies where that says nothing: K3s does not start with less.
#[test]
fn a_node_without_privileges_is_not_restricted_like_other_containers() {
    let host = |spec: &ContainerSpec| container_body(spec, None, false).host_config.unwrap();
    let made = host(&ContainerSpec {
        privileged: false,
        runtime: Some("sysbox-runc".into()),
        memory: None,
        ..node()
    });
    assert_eq!((made.privileged, made.runtime.as_deref()), (Some(false), Some("sysbox-runc")));
    assert_eq!((made.cap_drop, made.security_opt, made.pids_limit, made.memory), (None, None, None, None));
    assert_eq!((host(&node()).privileged, host(&node()).runtime), (Some(true), None));
}

#[test]
fn a_node_that_skips_flushes_has_one_option_more() {
    let host = |spec: ContainerSpec| container_body(&spec, None, false).host_config.unwrap();
    let skips = |spec| host(ContainerSpec { skips_flushes: true, ..spec });
    let options = skips(node()).security_opt.unwrap();
    assert!(options.len() == 1 && options[0].starts_with("seccomp={"), "{options:?}");
    assert_eq!(HostConfig { security_opt: None, ..skips(node()) }, host(node()));
    let other = ContainerSpec::bare("lb", Role::LoadBalancer, "i:1");
    assert_eq!(skips(other.clone()), host(other), "what is not privileged stays restricted");
}

#[test]
fn networks_and_volumes_are_made_as_asked() {
    let spec = NetworkSpec {
        name: "lab".into(),
        addressing: Some(Addressing {
            subnet: "172.31.0.0/24".parse().unwrap(),
            gateway: "172.31.0.1".parse().unwrap(),
            ip_range: "172.31.0.128/25".parse().unwrap(),
        }),
        labels: strings(&[("owner", "me")]),
    };
    assert_eq!(
        serde_json::to_value(network_body(&spec)).unwrap(),
        json!({
            "Name": "lab",
            "Driver": "bridge",
            "IPAM": {"Config": [
                {"Subnet": "172.31.0.0/24", "IPRange": "172.31.0.128/25", "Gateway": "172.31.0.1"},
            ]},
            "Labels": {"owner": "me"},
        })
    );
    let chosen = NetworkSpec { addressing: None, ..spec };
    assert_eq!(
        serde_json::to_value(network_body(&chosen)).unwrap(),
        json!({"Name": "lab", "Driver": "bridge", "Labels": {"owner": "me"}})
    );
    let spec = VolumeSpec { name: "state".into(), labels: strings(&[("owner", "me")]) };
    assert_eq!(
        serde_json::to_value(volume_body(&spec)).unwrap(),
        json!({"Name": "state", "Labels": {"owner": "me"}})
    );
}

#[test]
fn an_identity_token_goes_instead_of_the_password() {
    let mut auth = RegistryAuth {
        server: "r.example".into(),
        username: "u".into(),
        password: "p".into(),
        identity_token: None,
    };
    let of = |auth: &RegistryAuth| (credentials(auth).password, credentials(auth).identitytoken);
    assert_eq!(of(&auth), (Some("p".into()), None));
    auth.identity_token = Some("t".into());
    assert_eq!(of(&auth), (None, Some("t".into())));
}

#[test]
fn a_reference_without_a_tag_means_latest() {
    for (reference, tag) in [
        ("busybox", Some("latest")),
        ("busybox:1.35", None),
        ("localhost:5000/a/b", Some("latest")),
        ("localhost:5000/a/b:c", None),
        ("busybox@sha256:0123", None),
        ("busybox:1.35@sha256:0123", None),
    ] {
        assert_eq!(missing_tag(reference), tag, "{reference}");
    }
}

#[test]
fn an_engine_that_does_not_tell_has_cgroup_v1() {
    for (version, v1) in [(json!("1"), true), (json!("2"), false), (json!(null), true)] {
        let json = json!({"ID": "A:B", "ServerVersion": "20.10.24", "CgroupVersion": version,
            "MemTotal": 8_589_934_592_i64, "NCPU": 4, "Architecture": "x86_64", "DefaultRuntime": "runc",
            "Runtimes": {"sysbox-runc": {"path": "/usr/bin/sysbox-runc"}, "runc": {"path": "runc"}}});
        let expected = EngineInfo {
            lacks_memory_cgroup: false,
            id: "A:B".into(),
            version: "20.10.24".into(),
            cgroup_v1: v1,
            memory: 8 << 30,
            cpus: 4,
            architecture: "x86_64".into(),
            runtimes: ["runc", "sysbox-runc"].map(String::from).into(),
            default_runtime: "runc".into(),
        };
        assert_eq!(info(serde_json::from_value(json).unwrap()), expected);
    }
}

fn listed(json: serde_json::Value) -> Container {
    container(serde_json::from_value(json).unwrap())
}

#[test]
fn a_running_container_is_listed_with_its_places_and_ports() {
    let container = listed(json!({
        "Id": "2e84d1491df61d4123f2be6f51c7d66290aef2da555f6b524532ebd1cd5c3ec1",
        "Names": ["/lab-lb"],
        "Image": "nginx:1.29",
        "Labels": {"owner": "me"},
        "State": "running",
        "Ports": [
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "tcp"},
        ],
        "HostConfig": {"NetworkMode": "c9e2"},
        "Mounts": [
            {"Type": "bind", "Source": "/srv/a", "Destination": "/a", "Mode": "", "RW": true},
            {"Type": "bind", "Source": "/srv/b", "Destination": "/b", "Mode": "ro", "RW": false},
            {"Type": "volume", "Name": "v", "Source": "/var/lib/docker/volumes/v/_data", "Destination": "/v", "RW": true},
        ],
        "NetworkSettings": {"Networks": {
            "lab": {
                "IPAMConfig": {"IPv4Address": "10.213.250.5"}, "Links": null, "Aliases": null,
                "NetworkID": "c9e2", "EndpointID": "58ad", "Gateway": "10.213.250.1",
                "IPAddress": "10.213.250.5", "IPPrefixLen": 24, "MacAddress": "02:42:0a:d5:fa:81",
            },
            "bridge": {"IPAMConfig": null, "NetworkID": "d00d", "IPAddress": "172.17.0.2"},
        }},
    }));
    let place = |name: &str, ip: &str, pinned: Option<&str>| Attachment {
        network_name: name.into(),
        ip: Some(ip.parse().unwrap()),
        pinned: pinned.map(|ip| ip.parse().unwrap()),
        aliases: Vec::new(),
    };
    assert_eq!(
        container,
        Container {
            id: "2e84d1491df61d4123f2be6f51c7d66290aef2da555f6b524532ebd1cd5c3ec1".into(),
            name: "lab-lb".into(),
            image: "nginx:1.29".into(),
            labels: strings(&[("owner", "me")]),
            state: State::Running,
            networks: BTreeMap::from([
                ("c9e2".into(), place("lab", "10.213.250.5", Some("10.213.250.5"))),
                ("d00d".into(), place("bridge", "172.17.0.2", None)),
            ]),
            ports: vec![port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")],
            writable_binds: vec!["/srv/a".into()],
        }
    );
}

/// 20.10 keeps the requested address of a failed connect, without a network ID.
#[test]
fn a_place_without_a_networks_id_is_none() {
    let container = listed(json!({
        "Id": "c", "Names": ["/c"], "State": "created", "Ports": [],
        "NetworkSettings": {"Networks": {"lab": {"IPAMConfig": {"IPv4Address": "10.2.2.3"}, "NetworkID": ""}}},
    }));
    assert_eq!(container.networks, BTreeMap::new());
}

#[test]
fn nothing_that_is_missing_breaks_a_listing() {
    for empty in [json!({}), json!({"Ports": null, "Labels": null, "Names": null, "NetworkSettings": null})] {
        assert_eq!(listed(empty), Container::default());
    }
}

#[test]
fn every_state_is_known() {
    for (text, state) in [
        ("", State::Created),
        ("created", State::Created),
        ("running", State::Running),
        ("stopping", State::Running),
        ("paused", State::Paused),
        ("restarting", State::Restarting),
        ("exited", State::Exited),
        ("removing", State::Removing),
        ("dead", State::Dead),
    ] {
        assert_eq!(listed(json!({"State": text})).state, state, "{text}");
        assert_eq!(inspected(json!({"State": {"Status": text}})).container.state, state, "{text}");
    }
}

fn inspected(json: serde_json::Value) -> ContainerDetail {
    detail(serde_json::from_value(json).unwrap())
}

#[test]
fn an_inspection_tells_what_was_asked_for() {
    let id = "3ac6e701b57118232665301e8e6d1ba676d61fb8f1e37fb275a8351a98fd5435";
    let detail = inspected(json!({
        "Id": id,
        "Name": "/lab-lb",
        "Image": "sha256:1",
        "State": {
            "Status": "exited", "Running": false, "ExitCode": 128, "Error": "Address already in use",
            "StartedAt": "2026-11-25T03:10:28.543601545Z", "FinishedAt": "2026-11-25T03:10:29.1Z",
        },
        "Config": {"Image": "nginx:1.29", "Hostname": "lb", "Labels": {"owner": "me"}, "ExposedPorts": {"80/tcp": {}}},
        "HostConfig": {"Memory": 1073741824, "NanoCpus": 0, "PidsLimit": 2048, "PortBindings": {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": [{"HostPort": ""}], "443/tcp": null,
        }},
        "Mounts": [
            {"Type": "volume", "Name": "b", "Destination": "/b"},
            {"Type": "volume", "Name": "a", "Destination": "/a"},
            {"Type": "bind", "Source": "/etc", "Destination": "/e"},
        ],
        "NetworkSettings": {
            "Ports": {"80/tcp": null},
            "Networks": {"lab": {
                "IPAMConfig": {"IPv4Address": "10.213.250.5"}, "NetworkID": "c9e2", "IPAddress": "",
                "Aliases": ["srv", "3ac6e701b571", "lab-lb", "abc"], "GwPriority": 0, "DNSNames": null,
            }},
        },
    }));
    let container = &detail.container;
    assert_eq!((container.name.as_str(), container.image.as_str()), ("lab-lb", "nginx:1.29"));
    assert_eq!(container.ports, [], "null is how an engine writes nothing");
    assert_eq!(container.networks["c9e2"].ip, None);
    assert_eq!(container.networks["c9e2"].aliases, ["srv", "abc"], "without those of the engine");
    assert_eq!(detail.started_at.unwrap().as_second(), 1_795_576_228);
    assert_eq!((detail.ended_at.unwrap().as_second(), detail.hostname.as_str()), (1_795_576_229, "lb"));
    assert_eq!((detail.exit_code, detail.error.as_deref()), (Some(128), Some("Address already in use")));
    assert_eq!(detail.wanted_ports, [port("0.0.0.0", 0, 53, "udp"), port("0.0.0.0", 8080, 80, "tcp")]);
    assert_eq!(detail.volumes, ["a", "b"]);
    assert_eq!(detail.limits, Limits { memory: Some(1 << 30), nano_cpus: None, pids: Some(2048) });
    assert!(!detail.has_no_network);
}

/// 29 takes a container off all its networks when a start fails (moby#51758).
#[test]
fn a_container_without_any_network_is_told() {
    for (mode, networks, none) in [
        ("bridge", json!({}), true),
        ("c9e2", json!({}), true),
        ("none", json!({}), false),
        ("host", json!({}), false),
        ("bridge", json!({"bridge": {"NetworkID": ""}}), false),
    ] {
        let detail = inspected(json!({
            "Id": "c", "Name": "/c", "HostConfig": {"NetworkMode": mode},
            "NetworkSettings": {"Networks": networks},
        }));
        assert_eq!(detail.has_no_network, none, "{mode}, {networks}");
    }
}

#[test]
fn limits_of_the_spec_come_before_those_of_the_policy() {
    let limits = |spec: &ContainerSpec| {
        let host = container_body(spec, None, false).host_config.unwrap();
        (host.memory, host.nano_cpus, host.pids_limit)
    };
    let own = ContainerSpec { memory: Some(1), nano_cpus: None, pids: None, ..node() };
    assert_eq!(limits(&own), (Some(1), None, None));
    let defaults = Limits { memory: Some(9), nano_cpus: Some(2), pids: Some(3) };
    assert_eq!(limits(&ContainerSpec { defaults, ..own.clone() }), (Some(1), Some(2), Some(3)));
    assert_eq!(limits(&ContainerSpec { pids: Some(4), defaults, ..own }), (Some(1), Some(2), Some(4)));
}

#[test]
fn what_never_ran_or_runs_has_no_exit_code() {
    let never = inspected(json!({
        "State": {"Status": "created", "ExitCode": 0, "Error": "", "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"},
    }));
    assert_eq!((never.started_at, never.ended_at), (None, None));
    assert_eq!((never.exit_code, never.error), (None, None));
    let running = inspected(json!({"State": {"Status": "running", "ExitCode": 0}}));
    assert_eq!(running.exit_code, None);
}

#[test]
fn networks_of_all_drivers_are_told() {
    let all: Vec<bollard::models::Network> = serde_json::from_value(json!([
        {
            "Name": "lab", "Id": "c9e2", "Created": "2026-11-25T03:10:28.5Z", "Driver": "bridge",
            "IPAM": {"Driver": "default", "Options": null, "Config": [
                {"Subnet": "172.31.0.0/24", "Gateway": "172.31.0.1"}, {"Subnet": "fd00::/64"},
            ]},
            "Labels": {"owner": "me"},
        },
        {"Name": "host", "Id": "d00d", "Driver": "host", "IPAM": {"Config": []}, "Labels": null},
        {"Name": "none", "Id": "e00e", "Driver": "null", "IPAM": null},
    ]))
    .unwrap();
    let all: Vec<_> = all.into_iter().map(network).collect();
    assert_eq!(
        all[0],
        Network {
            id: "c9e2".into(),
            name: "lab".into(),
            labels: strings(&[("owner", "me")]),
            subnets: vec!["172.31.0.0/24".parse().unwrap()],
            driver: "bridge".into(),
            created: "2026-11-25T03:10:28.5Z".into(),
        }
    );
    assert!(all[1..].iter().all(|network| network.subnets.is_empty()));
}

#[test]
fn the_last_lines_of_a_log_are_kept() {
    assert_eq!(last_lines(b"a\nb\r\nc", 2), ["b", "c"]);
    assert_eq!(last_lines(b"a\xff\n", 5), ["a\u{fffd}"]);
    assert_eq!(last_lines(b"", 5), [""; 0]);
}
