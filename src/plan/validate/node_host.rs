//! Parsing of the host resources of a pool.

use std::collections::BTreeMap;

use super::checker::Checker;
use crate::{
    api::{
        LocalClusterSpec,
        local_cluster::NodePool,
        node_host::{HostVolume, Ulimit},
        rules::{self, format, text},
    },
    docker::spec::{self, Bind, Gpus, VolumeMount},
};

/// Host directories and files, and Docker volumes, by path in the nodes.
type Volumes = (BTreeMap<String, Bind>, BTreeMap<String, VolumeMount>);

impl Checker {
    /// Parses the process limits, by name.
    pub(super) fn ulimits(&mut self, path: &str, ulimits: &[Ulimit]) -> BTreeMap<String, spec::Ulimit> {
        let mut limits = BTreeMap::new();
        for (i, Ulimit { name, soft, hard }) in ulimits.iter().enumerate() {
            let at = format!("{path}[{i}]");
            let limit = spec::Ulimit { soft: *soft, hard: hard.unwrap_or(*soft) };
            self.fits(format_args!("{at}.name"), name, &format::ULIMIT_NAME);
            // -1 is unlimited, and the schema rejects lower values.
            let rank = |n: i64| if n < 0 { i64::MAX } else { n };
            let sound = limit.soft >= -1 && limit.hard >= -1 && rank(limit.soft) <= rank(limit.hard);
            self.check(sound, format_args!("{at}.hard"), text::ULIMIT_ORDER);
            let endless = name == "nofile" && (limit.soft < 0 || limit.hard < 0);
            self.check(!endless, &at, text::ULIMIT_NOFILE);
            let twice = limits.insert(name.clone(), limit).is_some();
            self.check(!twice, path, text::TWICE);
        }
        limits
    }

    /// Parses the host directories and files, and the Docker volumes, by path in the nodes.
    pub(super) fn volumes(&mut self, path: &str, volumes: &[HostVolume]) -> Volumes {
        let (mut binds, mut named): Volumes = Default::default();
        for (i, HostVolume { host_path, volume_name, mount_path, read_only }) in volumes.iter().enumerate() {
            let at = format!("{path}[{i}]");
            if let Some(source) = host_path {
                self.host_path(format_args!("{at}.hostPath"), source);
            }
            if let Some(name) = volume_name {
                self.fits(format_args!("{at}.volumeName"), name, &format::VOLUME_NAME);
            }
            self.check(host_path.is_some() != volume_name.is_some(), &at, text::ONE_VOLUME_SOURCE);
            let to = format!("{at}.mountPath");
            self.fits(&to, mount_path, &format::MOUNT_PATH);
            self.refuse(&to, mount_path, rules::MOUNTS, "");
            let mut others = binds.keys().chain(named.keys());
            let apart = others.all(|other| !is_in(mount_path, other) && !is_in(other, mount_path));
            self.check(apart, &to, text::MOUNTS_APART);
            let read_only = *read_only;
            if let Some(source) = host_path {
                binds.insert(mount_path.clone(), Bind { source: source.clone(), read_only });
            } else if let Some(name) = volume_name {
                named.insert(mount_path.clone(), VolumeMount { name: name.clone(), read_only });
            }
        }
        (binds, named)
    }

    /// Parses the GPUs.
    pub(super) fn gpus(&mut self, path: &str, gpus: Option<&str>) -> Option<Gpus> {
        let gpus = gpus?;
        self.fits(path, gpus, &format::GPUS);
        Some(gpus.parse().map_or(Gpus::All, Gpus::Count))
    }

    /// Checks that no file is written to a host directory.
    pub(super) fn files_apart(&mut self, spec: &LocalClusterSpec) {
        let further = spec.agent_pools.iter().map(|pool| &pool.pool);
        let pools: Vec<&NodePool> = [&spec.servers, &spec.agents].into_iter().chain(further).collect();
        let volumes = || pools.iter().flat_map(|pool| &pool.volumes);
        for (i, file) in spec.files.iter().enumerate() {
            let apart = volumes().all(|v| !is_in(&file.path, &v.mount_path));
            self.check(apart, format_args!("spec.files[{i}].path"), text::FILE_IN_VOLUME);
        }
    }
}

/// Reports whether a path is this directory or below it.
fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::local_cluster::{FileEntry, NodeSet},
        plan::validate,
    };

    fn parsed(change: impl FnOnce(&mut LocalClusterSpec)) -> Result<validate::Valid, Vec<String>> {
        let mut spec = LocalClusterSpec::default();
        spec.servers.count = 1;
        change(&mut spec);
        validate::local_cluster("default", "dev", &spec)
    }

    fn limits(of: &[(&str, i64, Option<i64>)]) -> Result<BTreeMap<String, spec::Ulimit>, Vec<String>> {
        let ulimit = |(name, soft, hard): &(&str, i64, Option<i64>)| Ulimit {
            name: (*name).to_owned(),
            soft: *soft,
            hard: *hard,
        };
        parsed(|s| s.agents.ulimits = of.iter().map(ulimit).collect()).map(|valid| valid.agents.ulimits)
    }

    #[test]
    fn a_hard_limit_is_the_soft_one_unless_told_otherwise() {
        let told =
            limits(&[("nofile", 1024, Some(4096)), ("memlock", -1, None), ("core", 0, Some(-1))]).unwrap();
        assert_eq!(told["nofile"], spec::Ulimit { soft: 1024, hard: 4096 });
        assert_eq!(told["memlock"], spec::Ulimit { soft: -1, hard: -1 });
        assert_eq!(told["core"], spec::Ulimit { soft: 0, hard: -1 });
        let sound = |name, soft, hard| limits(&[(name, soft, hard)]).is_ok();
        assert!(sound("core", 0, Some(1024)) && sound("core", 0, Some(0)) && sound("memlock", -1, Some(-1)));
        assert!(!sound("core", 1, Some(0)) && !sound("core", -1, Some(1)));
        for below in [(-2, Some(-1)), (-1, Some(-2)), (-2, None)] {
            assert!(!sound("core", below.0, below.1), "{below:?}");
        }
        assert!(sound("nofile", 0, Some(1)) && sound("nofile", 0, Some(0)));
        assert!(!sound("nofile", -1, None) && !sound("nofile", 1, Some(-1)));
    }

    #[test]
    fn limits_that_no_engine_takes_are_refused() {
        for (limit, says) in [
            (("files", 1, None), text::ULIMIT_NAME),
            (("as", 1, None), text::ULIMIT_NAME),
            (("nproc", 2, Some(1)), text::ULIMIT_ORDER),
            (("nproc", -1, Some(1)), text::ULIMIT_ORDER),
            (("nproc", -2, None), text::ULIMIT_ORDER),
            (("nofile", -1, None), text::ULIMIT_NOFILE),
            (("nofile", 1, Some(-1)), text::ULIMIT_NOFILE),
        ] {
            let said = limits(&[limit]).unwrap_err();
            assert!(said.len() == 1 && said[0].ends_with(says), "{limit:?}: {said:?}");
            assert!(said[0].starts_with("spec.agents.ulimits[0]"), "{said:?}");
        }
        let twice = limits(&[("nproc", 1, None), ("nproc", 2, None)]).unwrap_err();
        assert_eq!(twice, [format!("spec.agents.ulimits: {}", text::TWICE)]);
    }
    #[test]
    fn gpus_are_all_or_a_number() {
        let told =
            |gpus: &str| parsed(|s| s.servers.gpus = Some(gpus.into())).map(|valid| valid.servers.gpus);
        assert_eq!(told("all"), Ok(Some(Gpus::All)));
        assert_eq!((told("1"), told("128")), (Ok(Some(Gpus::Count(1))), Ok(Some(Gpus::Count(128)))));
        for gpus in ["", "0", "129", "01", "-1", "ALL", "device=0", "1.5"] {
            assert_eq!(told(gpus), Err(vec![format!("spec.servers.gpus: {}", text::GPUS)]), "{gpus}");
        }
    }

    fn volumes(of: &[(&str, &str)], file: Option<&str>) -> Result<BTreeMap<String, Bind>, Vec<String>> {
        let volume = |(source, target): &(&str, &str)| HostVolume {
            host_path: Some((*source).to_owned()),
            mount_path: (*target).to_owned(),
            ..HostVolume::default()
        };
        parsed(|s| {
            s.agents.volumes = of.iter().map(volume).collect();
            s.files = file
                .iter()
                .map(|path| FileEntry {
                    path: (*path).to_owned(),
                    inline: Some(String::new()),
                    secret: None,
                    config_map: None,
                    nodes: NodeSet::Servers,
                })
                .collect();
        })
        .map(|valid| valid.agents.volumes)
    }

    #[test]
    fn a_volume_is_a_path_or_has_a_name() {
        let parsed = |host_path: Option<&str>, volume_name: Option<&str>| {
            let [host_path, volume_name] = [host_path, volume_name].map(|text| text.map(str::to_owned));
            let volume = HostVolume { host_path, volume_name, mount_path: "/data".into(), read_only: true };
            parsed(|s| s.agents.volumes = vec![volume]).map(|valid| valid.agents)
        };
        let named = parsed(None, Some("cache")).unwrap();
        assert_eq!(named.named_volumes["/data"], VolumeMount { name: "cache".into(), read_only: true });
        assert!(named.volumes.is_empty());
        let one = [format!("spec.agents.volumes[0]: {}", text::ONE_VOLUME_SOURCE)];
        assert_eq!(parsed(None, None).unwrap_err(), one);
        assert_eq!(parsed(Some("/srv"), Some("cache")).unwrap_err(), one);
        for name in ["", "a", "/srv", "a b", "-cache"] {
            let said = parsed(None, Some(name)).unwrap_err();
            assert_eq!(said, [format!("spec.agents.volumes[0].volumeName: {}", text::VOLUME_NAME)], "{name}");
        }
    }

    #[test]
    fn volumes_are_apart_from_each_other_and_from_what_nodes_need() {
        let sound = [("/srv/a", "/data"), ("/srv/b", "/data2"), ("/srv", "/var/lib/rancher/k3s/storage")];
        let told = volumes(&sound, Some("/data3/x")).unwrap();
        assert_eq!(told["/data"].source, "/srv/a");
        let hides = |target: &str| volumes(&[("/srv", target)], None).unwrap_err().join("; ");
        for target in rules::MOUNTS.iter().flat_map(|r| r.names) {
            let said = hides(&target.replace('*', "/x"));
            assert!(said.starts_with("spec.agents.volumes[0].mountPath: "), "{target}: {said}");
        }
        for target in ["/", "data", "/a/../b", "/a/", "/a b", ""] {
            assert_eq!(hides(target), format!("spec.agents.volumes[0].mountPath: {}", text::MOUNT_PATH));
        }
        for source in ["/", "srv", "/srv/../etc", "/srv/", "/srv:x"] {
            let said = volumes(&[(source, "/data")], None).unwrap_err();
            assert_eq!(said, [format!("spec.agents.volumes[0].hostPath: {}", text::HOST_PATH)], "{source}");
        }
        for other in ["/data", "/data/deep", "/data/deep/er"] {
            let said = volumes(&[("/srv/a", "/data/deep"), ("/srv/b", other)], None).unwrap_err();
            assert_eq!(
                said,
                [format!("spec.agents.volumes[1].mountPath: {}", text::MOUNTS_APART)],
                "{other}"
            );
        }
        for file in ["/data", "/data/x/y"] {
            let said = volumes(&[("/srv", "/data")], Some(file)).unwrap_err();
            assert_eq!(said, [format!("spec.files[0].path: {}", text::FILE_IN_VOLUME)], "{file}");
        }
    }
}
