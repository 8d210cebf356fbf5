//! Commands in containers, and images in nodes.

use super::*;

impl World {
    /// A command in a container: `rm`, what asks kube-proxy, what writes the hosts file, and those of `ctr` about images.
    pub fn exec(&mut self, key: &str, command: &[String]) -> Result<Ended> {
        let container = self.container(key)?;
        if container.state != State::Running {
            return Err(Error::Busy(format!("Container {key} is not running")));
        }
        if self.is_hub(key) {
            return Ok(self.hub_exec(key, command));
        }
        let container = self.container(key)?;
        if command == fill::COMMAND {
            let name = container.name.clone();
            let size = self.sizes.get(&name).ok_or_else(|| Error::Engine("exec: no du".into()))?;
            return Ok(said(&format!("{}\t/var/lib/registry\n", size >> 10)));
        }
        let container = self.container(key)?;
        if command.iter().any(|a| a == "/readyz") {
            return Ok(Ended { code: i64::from(container.hung.is_some()), ..Ended::default() });
        }
        if command.iter().any(|a| a.contains("k3s token rotate")) {
            let id = self.id(key).unwrap();
            return Ok(self.rotate_token(&id));
        }
        if etcd::asks(command) {
            let id = self.id(key).unwrap();
            let line = |leads| format!("etcd_server_has_leader {}\n", u8::from(leads));
            return Ok(said(&self.has_leader(&id).map(line).unwrap_or_default()));
        }
        if kube_proxy::asks(command) {
            let name = container.name.clone();
            let (code, seconds) = match self.kube_proxy(&name) {
                ProbeResult::Answers => (0, self.clock),
                ProbeResult::Behind => (0, 0),
                ProbeResult::Unsure => (1, 0),
            };
            let output = format!("kubeproxy_sync_proxy_rules_last_timestamp_seconds {seconds}\n");
            return Ok(Ended { code, stdout: output, ..Ended::default() });
        }
        if let [sh, _, script, _, content] = command
            && sh == "sh"
            && script.ends_with(&format!(">{}", hosts_file::FILE))
        {
            container.files.insert(hosts_file::FILE.to_owned(), content.as_bytes().into());
            return Ok(Ended::default());
        }
        let Some(volume) = container.volume_of(STATE_DIR) else { return Ok(Ended::default()) };
        if command[0] == "rm" {
            container.files.retain(|path, _| !command.contains(path));
            self.volumes.entry(volume).or_default().files.retain(|path, _| !command.contains(path));
            return Ok(Ended::default());
        }
        let images = &mut self.volumes.entry(volume).or_default().images;
        if command == images::list() {
            let line = |(name, id): (&String, &Option<String>)| match id {
                Some(id) => {
                    let own = images::OWN_LABEL;
                    let labels = format!("{}={id},{own}=sha256:0", images::ID_LABEL);
                    format!("{name} type sha256:0 1.0 KiB linux/amd64 {labels} \n")
                }
                None => format!("{name} type sha256:0 1.0 KiB linux/amd64 - \n"),
            };
            return Ok(said(&images.iter().map(line).collect::<String>()));
        }
        // All images are alike: a manifest and a configuration.
        if *command == images::content("sha256:0")[..] {
            let manifest = r#"{"config": {"digest": "sha256:1", "size": 2}, "layers": []}"#;
            return Ok(said(manifest));
        }
        if *command == images::content("sha256:1")[..] {
            return Ok(said("{}\n"));
        }
        // All that is labelled is labelled with its id.
        if let Some((name, id)) = command.iter().find_map(|arg| {
            let labels = [images::ID_LABEL, images::ASKED_LABEL];
            let id = labels.into_iter().find_map(|label| arg.strip_prefix(label)?.strip_prefix('='))?;
            let name = command.iter().skip_while(|word| *word != "label").nth(1)?;
            Some((name.clone(), id.to_owned()))
        }) {
            let Some(label) = images.get_mut(&name) else {
                let stderr = format!("ctr: image {name}: not found\n");
                return Ok(Ended { code: 1, stderr, ..Ended::default() });
            };
            *label = Some(id);
        }
        Ok(Ended::default())
    }

    /// The id of an image of the engine.
    pub fn image_id(&self, reference: &str) -> Option<String> {
        let times = self.rebuilt.get(reference).copied().unwrap_or_default();
        self.images.contains(reference).then(|| format!("sha256:{reference}-{times}"))
    }

    /// The names of an image of the engine: it was pulled, unless it was made here.
    pub fn image_names(&self, reference: &str) -> Option<ImageNames> {
        let id = self.image_id(reference)?;
        let repository = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
        let times = self.rebuilt.get(reference).copied().unwrap_or_default();
        let digest = || format!("{repository}@sha256:{times}");
        let digests = (!self.built.contains(reference)).then(digest).into_iter().collect();
        Some(ImageNames { id, tags: vec![reference.to_owned()], digests })
    }

    /// A registry is asked for a manifest.
    pub fn check_access(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        let repository = reference.split_once('@').map_or(reference, |(name, _)| name);
        if self.private.contains(repository) && auth.is_none_or(|auth| auth.password != "right") {
            return Err(Error::Pull("unauthorized: authentication required".into()));
        }
        Ok(())
    }

    /// An image of the engine goes into a node's containerd.
    pub fn pipe_image(&mut self, reference: &str, key: &str) -> Result<Ended> {
        if !self.images.contains(reference) {
            return missing(reference);
        }
        let container = self.container(key)?;
        let (State::Running, Some(volume)) = (container.state, container.volume_of(STATE_DIR)) else {
            return Err(Error::Busy(format!("Container {key} is not running")));
        };
        // Labels stay, whatever comes in under the name.
        self.volumes.entry(volume).or_default().images.entry(images::canonical(reference)).or_default();
        Ok(Ended::default())
    }

    /// All that puts an image into a node.
    pub fn import(&mut self, reference: &str, key: &str, id: &str) -> Result<()> {
        self.pipe_image(reference, key)?;
        self.exec(key, &images::label(reference, id, "sha256:0")).map(drop)
    }
}
