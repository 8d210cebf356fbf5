//! The operator as the first mirror of all registries, for images that the Docker host has.

use std::collections::BTreeSet;

use super::{DOCKER_HUB_HOST, Endpoint, Registries};

impl Registries {
    /// Adds an endpoint that is tried before all others, for all registries except those in `own`. A registry with
    /// rewrites is left out too: K3s applies them to all of its endpoints, so the image would be asked for by another
    /// name than its own.
    pub fn put_first(&mut self, endpoint: &str, own: &BTreeSet<String>) {
        // K3s writes a directory for each host with a configuration, and containerd then uses none for all others.
        let configured = self
            .configs
            .keys()
            .filter(|host| *host != "*" && *host != DOCKER_HUB_HOST && Endpoint::default_of(host).is_some());
        let names: Vec<String> = configured.cloned().chain(["*".to_owned()]).collect();
        for name in names {
            self.mirrors.entry(name).or_default();
        }
        let asked = self
            .mirrors
            .iter_mut()
            .filter(|(name, mirror)| !own.contains(*name) && mirror.rewrites.is_empty());
        for (_, mirror) in asked {
            mirror.endpoints.retain(|e| e != endpoint);
            mirror.endpoints.insert(0, endpoint.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k3s::registries::parse;

    const HOST: &str = "http://172.31.16.2:6444";

    fn first(text: &str, own: &[&str]) -> Registries {
        let mut registries = parse(text, &|_| true).unwrap();
        registries.put_first(HOST, &own.iter().map(|name| (*name).to_owned()).collect());
        registries
    }

    fn listed(registries: &Registries) -> String {
        let files = registries.hosts(true).into_iter();
        files.map(|(directory, text)| format!("--- {directory}\n{text}")).collect()
    }

    #[test]
    fn every_registry_is_asked_for_after_the_docker_host() {
        let registries = first(
            r#"
            mirrors:
              docker.io: {endpoint: ["http://cache:5000"]}
              quay.io: {endpoint: ["http://quay:5000"], rewrite: {"^a": "b"}}
              reg.localhost:5000: {endpoint: ["http://reg.localhost:5000"]}
            configs:
              corp.example: {auth: {username: u, password: p}, tls: {ca_file: /ca}}
              registry-1.docker.io: {auth: {username: u, password: p}}
            "#,
            &["reg.localhost:5000"],
        );
        insta::assert_snapshot!(listed(&registries), @"");
    }

    #[test]
    fn without_registries_there_is_one_for_all() {
        insta::assert_snapshot!(first("", &[]).render(), @"");
        insta::assert_snapshot!(listed(&first("", &[])), @"");
        // The user's own mirrors of all registries come second, and it is added once.
        let mut both = first("mirrors: {'*': {endpoint: ['https://m.example']}}", &[]);
        both.put_first(HOST, &BTreeSet::new());
        assert_eq!(both.mirrors["*"].endpoints, [HOST, "https://m.example"]);
    }
}
