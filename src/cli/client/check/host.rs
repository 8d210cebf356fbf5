//! The Docker host: through the engine, and directly if it is this machine.

use std::{collections::BTreeSet, fs, time::Duration};

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::{
    api::names,
    cli::engine::words,
    docker::{
        bollard::BollardEngine,
        engine::{Container, Engine, Result, State},
        host::DockerHost,
    },
    plan::{
        checkup::{self, Finding, Level, Pool},
        host_limits::{self, HostLimits},
        hub::desired::HubNames,
        observed::Host,
        resolvers,
    },
};

/// Registry of the image of K3s.
const REGISTRY: &str = "registry-1.docker.io";
/// Time for its name to be resolved.
const RESOLVES: Duration = Duration::from_secs(5);

/// Looks at the host of an engine.
pub(super) async fn look(engine: &BollardEngine, address: &DockerHost, names: &HubNames) -> Vec<Finding> {
    match seen(engine, address, names).await {
        Ok(found) => found,
        Err(error) => vec![Finding::new("docker", Level::Error, words(&error))],
    }
}

async fn seen(engine: &BollardEngine, address: &DockerHost, names: &HubNames) -> Result<Vec<Finding>> {
    let (info, raw) = engine.both_infos().await?;
    let name = raw["Name"].as_str().unwrap_or("an unnamed host");
    let mut found = vec![checkup::engine(&info.version, name, &address.to_string())];
    let (containers, networks) = (engine.containers().await?, engine.networks().await?);
    let is_here = matches!(address, DockerHost::Socket(_)) && is_this_machine(&raw);
    let host = Host { engine: info, containers, networks, ..Host::default() };
    found.push(checkup::cgroups(&host));
    let here = if is_here { limits_here(&raw) } else { None };
    let limits = match here {
        Some(limits) => Ok(limits),
        None => limits_in(engine, host.containers.iter().find(|c| has_shell(c, names))).await,
    };
    found.extend(checkup::limits(&host, limits));
    let file = if is_here { fs::read_to_string("/proc/net/route").ok() } else { None };
    let routes: Option<BTreeSet<Ipv4Net>> = file.map(|file| checkup::routes(&file));
    found.push(checkup::subnets(&host, &pools(&raw), routes.as_ref()));
    found.push(if is_here { dns().await } else { elsewhere("dns") });
    Ok(found)
}

/// Reports whether the engine runs on this machine: not in a virtual machine, and not outside of this container.
fn is_this_machine(raw: &Value) -> bool {
    let here = rustix::system::uname();
    let is =
        |key: &str, here: &std::ffi::CStr| raw[key].as_str().is_some_and(|there| here.to_str() == Ok(there));
    is("KernelVersion", here.release()) && is("Name", here.nodename())
}

fn elsewhere(check: &'static str) -> Finding {
    Finding::new(
        check,
        Level::Unknown,
        "the Docker Engine does not run on this machine; run the command on its host",
    )
}

fn limits_here(raw: &Value) -> Option<HostLimits> {
    let instances = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    let disk = rustix::fs::statvfs(raw["DockerRootDir"].as_str()?).ok()?;
    host_limits::parse(&format!("{instances} {} {}", disk.f_blocks, disk.f_bavail))
}

/// Reports whether it is a container of a cluster or of the hub in which a command can look at the host.
fn has_shell(container: &Container, names: &HubNames) -> bool {
    let role = container.labels.get(names::ROLE).map(String::as_str);
    let is_ours = container.labels.contains_key(names::UID)
        && matches!(role, Some("server" | "agent" | "loadbalancer"))
        || names.owns(&container.labels) && container.name == names.server();
    is_ours && container.state == State::Running
}

async fn limits_in(
    engine: &BollardEngine,
    container: Option<&Container>,
) -> std::result::Result<HostLimits, String> {
    let Some(container) = container else {
        return Err("the Docker Engine does not run on this machine, and no node of a cluster and no hub runs in which to \
                    look; run the command on its host, or when there is one"
            .into());
    };
    let ended = engine.exec(&container.id, &host_limits::COMMAND.map(String::from)).await;
    let output = ended.map_err(|e| words(&e))?.stdout;
    host_limits::parse(&output).ok_or_else(|| format!("container {} does not say", container.name))
}

/// Returns the configured pools of an engine; none for its own ones.
fn pools(raw: &Value) -> Vec<Pool> {
    let pool = |pool: &Value| Pool::new(pool["Base"].as_str()?, u8::try_from(pool["Size"].as_u64()?).ok()?);
    raw["DefaultAddressPools"].as_array().into_iter().flatten().filter_map(pool).collect()
}

async fn dns() -> Finding {
    let file = fs::read_to_string(resolvers::FILE).unwrap_or_default();
    let resolved = match tokio::time::timeout(RESOLVES, tokio::net::lookup_host((REGISTRY, 443))).await {
        Ok(found) => found.map(drop).map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} s", RESOLVES.as_secs())),
    };
    checkup::dns(&resolvers::parse(&file), REGISTRY, resolved)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pools_are_those_of_the_engine() {
        let raw = json!({"DefaultAddressPools": [{"Base": "10.10.0.0/16", "Size": 24}, {"Base": "fd00::/64", "Size": 80}]});
        assert_eq!(pools(&raw), [Pool::new("10.10.0.0/16", 24).unwrap()]);
        assert!(
            pools(&json!({})).is_empty() && !is_this_machine(&json!({"Name": "x", "KernelVersion": "y"}))
        );
    }

    #[test]
    fn only_own_running_containers_are_looked_into() {
        let names = HubNames::new("h").unwrap();
        let with = |labels: &[(&str, &str)], state| Container {
            name: "h-hub".into(),
            state,
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Container::default()
        };
        let node = [(names::UID, "u"), (names::ROLE, "agent")];
        assert!(has_shell(&with(&node, State::Running), &names));
        assert!(has_shell(&with(&[(names::HUB, "h")], State::Running), &names));
        assert!(!has_shell(&with(&node, State::Paused), &names));
        assert!(!has_shell(&with(&[(names::UID, "u"), (names::ROLE, "registry")], State::Running), &names));
        assert!(!has_shell(&with(&[(names::ROLE, "agent")], State::Running), &names), "of k3d");
    }
}
