//! Files of containers and of the host, and what containers print.

use localcluster_operator::plan::{
    registry::upstream::{REPORT_FILE, SCRIPT_FILE},
    resolvers,
};

use super::*;

impl World {
    pub fn upload(&mut self, key: &str, files: &[FileSpec]) -> Result<()> {
        for file in files {
            self.write(key, &file.path, &file.content)?;
        }
        Ok(())
    }

    /// Puts a file where it belongs: into the volume that is mounted over it, if any.
    pub fn write(&mut self, key: &str, path: &str, content: &[u8]) -> Result<()> {
        let container = self.container(key)?;
        match container.volume_of(path) {
            Some(volume) => {
                self.volumes.entry(volume).or_default().files.insert(path.to_owned(), content.into());
            }
            None => drop(container.files.insert(path.to_owned(), content.into())),
        }
        Ok(())
    }

    pub fn read(&self, key: &str, path: &str) -> Option<Bytes> {
        let container = self.containers.get(&self.id(key)?)?;
        if path == resolvers::FILE && container.networks.contains_key(BRIDGE) {
            return Some(Arc::from(format!("nameserver 10.0.0.{}\n", container.resolvers).into_bytes()));
        }
        if path == REPORT_FILE {
            let reports = container.state == State::Running && container.is_cache();
            let report = self.upstreams.silent.as_deref().unwrap_or("answers");
            return reports.then(|| Arc::from(report.as_bytes()));
        }
        match container.volume_of(path) {
            Some(volume) => self.volumes.get(&volume)?.files.get(path).cloned(),
            None => container.files.get(path).cloned(),
        }
    }

    /// The files below a directory.
    pub fn tree(&self, key: &str, path: &str) -> BTreeMap<String, Vec<u8>> {
        let Some(container) = self.id(key).and_then(|id| self.containers.get(&id)) else {
            return BTreeMap::new();
        };
        let begin = format!("{path}/");
        let volumes = container.mounts.values().filter_map(|v| self.volumes.get(v));
        let files = volumes.flat_map(|v| v.files.iter()).chain(container.files.iter());
        files.filter(|(p, _)| p.starts_with(&begin)).map(|(p, c)| (p.clone(), c.to_vec())).collect()
    }

    /// What a path in a container is, where it is in a directory of the host.
    pub fn path_info(&self, key: &str, path: &str) -> Option<PathInfo> {
        let container = self.containers.get(&self.id(key)?)?;
        let file = PathInfo { is_file: true, ..PathInfo::default() };
        if k3s::DATA.contains(&path) {
            return self.volumes.get(&container.volume_of(path)?)?.incarnation.map(|_| file);
        }
        if path == k3s::PASSWORD_FILE {
            return self.volumes.get(&container.volume_of(path)?)?.password.map(|_| file);
        }
        if container.files.contains_key(path) {
            return Some(file);
        }
        let (to, from) = container.binds.iter().find(|(to, _)| path.starts_with(to.as_str()))?;
        let outside = format!("{from}{}", &path[to.len()..]);
        let is_symlink = self.host_links.contains(&outside);
        let is_dir = self.host_directories.contains(&outside);
        let is_file = self.host_files.contains(&outside);
        (is_dir || is_symlink || is_file).then_some(PathInfo { is_dir, is_symlink, is_file })
    }

    /// The output of a container: only that of a garbage collection and of a reset of etcd is of interest.
    pub fn log(&self, key: &str) -> Vec<String> {
        let id = self.id(key);
        let collects = id.as_ref().is_some_and(|id| self.containers[id].collects());
        let line = "3 blobs marked, 2 blobs and 0 manifests eligible for deletion";
        match id {
            _ if collects => vec!["images".into(), line.into()],
            Some(id) if self.containers[&id].resets() => self.reset_log(&id),
            Some(id) if self.containers[&id].is_cache() => self.upstreams.log.clone(),
            _ => Vec::new(),
        }
    }
}

impl Container {
    /// Whether it runs the script of a pull-through cache.
    fn is_cache(&self) -> bool {
        self.command.iter().any(|word| word == SCRIPT_FILE)
    }
}
