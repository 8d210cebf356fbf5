//! Answers in the shape and about the size of those of Docker 28.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::engine::{Container, Network};

const NEVER: &str = "0001-01-01T00:00:00Z";

pub fn info() -> Value {
    json!({
        "ID": "5a1b7c0e-6f0e-4a53-9a7e-2f5c9c6b8d10", "ServerVersion": "28.5.2", "SystemTime": Timestamp::now(),
        "CgroupVersion": "2", "CgroupDriver": "systemd", "MemoryLimit": true, "MemTotal": 549_755_813_888_i64,
        "NCPU": 32, "Architecture": "x86_64", "OSType": "linux", "OperatingSystem": "Debian GNU/Linux 13 (trixie)",
        "KernelVersion": "6.12.48", "Driver": "overlay2", "DockerRootDir": "/var/lib/docker", "Name": "host",
        "Runtimes": {"runc": {"path": "runc"}, "io.containerd.runc.v2": {"path": "runc"}}, "DefaultRuntime": "runc",
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"],
            "Log": ["awslogs", "fluentd", "gcplogs", "gelf", "journald", "json-file", "local", "splunk", "syslog"]},
    })
}

pub fn image(reference: &str) -> Value {
    json!({
        "Id": image_id(reference), "RepoTags": [reference], "RepoDigests": [], "Created": "2026-11-01T00:00:00Z",
        "Architecture": "amd64", "Os": "linux", "Size": 250_000_000, "Config": {"Entrypoint": ["/bin/k3s"], "Cmd": ["agent"]},
        "GraphDriver": {"Name": "overlay2", "Data": {}}, "RootFS": {"Type": "layers", "Layers": []}, "Metadata": {},
    })
}

/// Another one for each reference.
fn image_id(reference: &str) -> String {
    let sum = reference
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("sha256:{sum:064x}")
}

pub fn volume(name: &str, labels: &Value) -> Value {
    let labels = if labels.is_null() { json!({}) } else { labels.clone() };
    json!({
        "Name": name, "Driver": "local", "Mountpoint": format!("/var/lib/docker/volumes/{name}/_data"),
        "Labels": labels, "Options": null, "Scope": "local", "CreatedAt": Timestamp::now().round(jiff::Unit::Second).ok(),
    })
}

pub fn network(network: &Network) -> Value {
    let body = &network.body;
    let config = match &body["IPAM"]["Config"] {
        Value::Null => json!([{"Subnet": network.subnet.to_string()}]),
        given => given.clone(),
    };
    json!({
        "Name": body["Name"], "Id": network.id, "Created": network.created, "Scope": "local", "Driver": "bridge",
        "EnableIPv4": true, "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": null, "Config": config},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": {}, "Options": {},
        "Labels": if body["Labels"].is_null() { json!({}) } else { body["Labels"].clone() },
    })
}

/// A container in a listing.
pub fn summary(container: &Container) -> Value {
    let (state, status) = match (&container.run, container.started) {
        (Some(_), _) => ("running", "Up 5 minutes"),
        (None, Some(_)) => ("exited", "Exited (137) 5 minutes ago"),
        (None, None) => ("created", "Created"),
    };
    let body = &container.body;
    json!({
        "Id": container.id, "Names": [format!("/{}", container.name)], "Image": body["Image"],
        "ImageID": image_id(body["Image"].as_str().unwrap_or_default()), "Command": command(body),
        "Created": container.created.as_second(), "Ports": ports(container), "Labels": body["Labels"], "State": state,
        "Status": status, "HostConfig": {"NetworkMode": body["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": networks(container)}, "Mounts": mounts(body),
    })
}

/// An inspected container.
pub fn detail(container: &Container) -> Value {
    let running = container.run.is_some();
    let status = match (running, container.started) {
        (true, _) => "running",
        (false, Some(_)) => "exited",
        (false, None) => "created",
    };
    let mut config = container.body.clone();
    let mut host = config["HostConfig"].take();
    let fields = config.as_object_mut().expect("a request is an object");
    fields.remove("HostConfig");
    fields.remove("NetworkingConfig");
    for (field, value) in [
        ("Runtime", json!("runc")),
        ("Privileged", json!(false)),
        ("Memory", json!(0)),
        ("NanoCpus", json!(0)),
        ("ShmSize", json!(67_108_864)),
        ("IpcMode", json!("private")),
        ("PidMode", json!("")),
        ("MaskedPaths", json!([])),
        ("ReadonlyPaths", json!([])),
        ("Isolation", json!("")),
        ("CpuShares", json!(0)),
        ("Binds", json!(null)),
        ("ContainerIDFile", json!("")),
        ("VolumeDriver", json!("")),
        ("VolumesFrom", json!(null)),
        ("Dns", json!([])),
        ("DnsOptions", json!([])),
        ("DnsSearch", json!([])),
        ("GroupAdd", json!(null)),
        ("OomScoreAdj", json!(0)),
        ("UTSMode", json!("")),
        ("UsernsMode", json!("")),
        ("CgroupParent", json!("")),
    ] {
        if host[field].is_null() {
            host[field] = value;
        }
    }
    let time = |time: Option<Timestamp>| time.map_or_else(|| json!(NEVER), |time| json!(time));
    let (id, directory) = (&container.id, format!("/var/lib/docker/containers/{}", container.id));
    json!({
        "Id": id, "Created": container.created, "Path": "/bin/k3s", "Args": config["Cmd"],
        "State": {
            "Status": status, "Running": running, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
            "Pid": if running { 4242 } else { 0 }, "ExitCode": if running { 0 } else { container.code }, "Error": "",
            "StartedAt": time(container.started), "FinishedAt": time(container.ended),
        },
        "Image": image_id(container.body["Image"].as_str().unwrap_or_default()),
        "ResolvConfPath": format!("{directory}/resolv.conf"), "HostnamePath": format!("{directory}/hostname"),
        "HostsPath": format!("{directory}/hosts"), "LogPath": format!("{directory}/{id}-json.log"),
        "Name": format!("/{}", container.name), "RestartCount": 0, "Driver": "overlay2", "Platform": "linux",
        "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "unconfined", "ExecIDs": null, "HostConfig": host,
        "GraphDriver": {"Name": "overlay2", "Data": {
            "ID": id, "LowerDir": format!("/var/lib/docker/overlay2/{id}-init/diff:/var/lib/docker/overlay2/{id}l/diff"),
            "MergedDir": format!("/var/lib/docker/overlay2/{id}/merged"),
            "UpperDir": format!("/var/lib/docker/overlay2/{id}/diff"), "WorkDir": format!("/var/lib/docker/overlay2/{id}/work"),
        }},
        "Mounts": mounts(&container.body), "Config": config,
        "NetworkSettings": {
            "Bridge": "", "SandboxID": id, "SandboxKey": format!("/var/run/docker/netns/{}", &id[..12]),
            "Ports": if running { container.body["HostConfig"]["PortBindings"].clone() } else { json!({}) },
            "Networks": networks(container),
        },
    })
}

/// The command as a listing shows it.
fn command(body: &Value) -> String {
    let words = body["Cmd"].as_array().into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ").chars().take(100).collect()
}

fn ports(container: &Container) -> Vec<Value> {
    let bindings = container.body["HostConfig"]["PortBindings"].as_object().into_iter().flatten();
    let bindings = bindings.filter(|_| container.run.is_some());
    let port = |(key, binding): (&String, &Value)| {
        let (port, kind) = key.split_once('/')?;
        let number = |text: &str| text.parse::<u16>().ok();
        Some(json!({
            "IP": binding[0]["HostIp"], "PrivatePort": number(port)?, "Type": kind,
            "PublicPort": number(binding[0]["HostPort"].as_str()?)?,
        }))
    };
    bindings.filter_map(port).collect()
}

fn networks(container: &Container) -> Value {
    let place = |(name, place): (&String, &super::engine::Place)| {
        let ip = place.ip.map(|ip| ip.to_string()).unwrap_or_default();
        (
            name.clone(),
            json!({
                "IPAMConfig": place.settings["IPAMConfig"], "Links": null, "Aliases": place.settings["Aliases"],
                "MacAddress": if ip.is_empty() { "" } else { "02:42:0a:40:00:02" }, "DriverOpts": null, "GwPriority": 0,
                "NetworkID": place.network, "EndpointID": if ip.is_empty() { "" } else { place.network.as_str() },
                "Gateway": "", "IPAddress": ip, "IPPrefixLen": 24, "IPv6Gateway": "", "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0, "DNSNames": [container.name, &container.id[..12]],
            }),
        )
    };
    Value::Object(container.places.iter().map(place).collect::<Map<_, _>>())
}

fn mounts(body: &Value) -> Vec<Value> {
    let mounts = body["HostConfig"]["Mounts"].as_array().into_iter().flatten();
    let mount = |mount: &Value| {
        let source = mount["Source"].as_str().unwrap_or_default();
        let volume = mount["Type"] == "volume";
        json!({
            "Type": mount["Type"], "Name": if volume { json!(source) } else { json!(null) },
            "Source": if volume { format!("/var/lib/docker/volumes/{source}/_data") } else { source.to_owned() },
            "Destination": mount["Target"], "Driver": if volume { "local" } else { "" }, "Mode": "z",
            "RW": mount["ReadOnly"] != true, "Propagation": "",
        })
    };
    mounts.map(mount).collect()
}
