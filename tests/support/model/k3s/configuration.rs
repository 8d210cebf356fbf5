//! What servers and agents read: registries and manifests.

use super::*;

impl World {
    /// Once after its start, K3s reads its registries file, and makes containerd's files of it anew.
    pub(super) fn read_registries(&mut self, id: &str) {
        if self.containers[id].loaded.is_some() {
            return;
        }
        let file = self.read(id, REGISTRIES_FILE).unwrap_or_default();
        let text = String::from_utf8_lossy(&file).into_owned();
        let parsed = registries::parse_rendered(&text).unwrap_or_default();
        self.containers.get_mut(id).unwrap().loaded = Some(file);
        let generated = |path: &String, content: &Bytes| {
            path.starts_with(HOSTS_DIR) && content.starts_with(HEADER.as_bytes())
        };
        if let Some(state) = volume(&self.containers[id], STATE_VOLUME) {
            self.volumes.entry(state).or_default().files.retain(|path, content| !generated(path, content));
        }
        for (dir, text) in parsed.hosts(true) {
            self.write(id, &format!("{HOSTS_DIR}/{dir}/hosts.toml"), text.as_bytes()).unwrap();
        }
    }

    /// What a node's containerd does about registries: the credentials it was started with, and where it looks.
    pub fn registries_of(&self, id: &str) -> (BTreeMap<String, Auth>, BTreeMap<String, String>) {
        let loaded = self.containers[id].loaded.clone().unwrap_or_default();
        let parsed = registries::parse_rendered(&String::from_utf8_lossy(&loaded)).unwrap_or_default();
        let mut hosts = BTreeMap::new();
        for (path, content) in self.tree(id, HOSTS_DIR) {
            let dir = path.trim_start_matches(HOSTS_DIR).trim_matches('/').trim_end_matches("/hosts.toml");
            if content != registries::neutral_hosts(dir).as_bytes() {
                hosts.insert(path.clone(), String::from_utf8(content).unwrap());
            }
        }
        for (path, content) in self.tree(id, CERTIFICATES) {
            if !content.is_empty() {
                hosts.insert(path.clone(), String::from_utf8(content).unwrap());
            }
        }
        (parsed.auth(), hosts)
    }

    /// A server applies what is new in its manifests, and deletes nothing.
    pub(super) fn deploy(&mut self, incarnation: u8, id: &str) {
        let files = self.tree(id, manifests::DIRECTORY);
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        for (path, content) in files {
            let content: Bytes = content.into();
            if cluster.applied.get(&path) != Some(&content) {
                let parsed = manifests::parse(&content).expect("what is put there can be applied");
                cluster.objects.extend(parsed.objects);
                cluster.applied.insert(path, content);
            }
        }
    }

    /// Those of these objects that are there.
    pub fn there(
        &self,
        cluster: &str,
        asked: &BTreeSet<ObjectRef>,
    ) -> Result<BTreeMap<ObjectRef, Found>, String> {
        let incarnation = self.incarnation(cluster).ok_or("connection refused")?;
        let there = self.clusters[&incarnation].objects.intersection(asked);
        Ok(there.map(|o| (o.clone(), Found { uid: o.to_string(), going: false })).collect())
    }

    pub fn delete_object(&mut self, cluster: &str, object: &ObjectRef) -> Result<(), String> {
        let incarnation = self.incarnation(cluster).ok_or("connection refused")?;
        self.clusters.get_mut(&incarnation).unwrap().objects.remove(object);
        Ok(())
    }
}
