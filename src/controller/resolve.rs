//! Reads what a LocalCluster references: its token, its registries, its pull secret.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::try_join_all;
use serde::Deserialize;

use self::registries::Look;
use super::{
    context::Context,
    kube_io::{self, Error},
    pass::Pass,
    sizes,
};
use crate::{
    api::{LocalCluster, condition::ConditionType, names, reason::Reason},
    docker::engine::{ContainerDetail, RegistryAuth},
    k3s,
    plan::{
        observed::Host,
        own_registry,
        refs::Refs,
        steps::Plan,
        token::{self, OfServers, Token, Tokens},
        validate::Valid,
    },
};

mod defaults;
mod manifests;
mod registries;

/// Contents of what a spec references, and what has to be created for it.
pub struct Resolved {
    /// The contents; `None` if there is no token yet.
    pub refs: Option<Refs>,
    /// Creation of the token, changes of the cluster's own Registry, and the problems of the references.
    pub plan: Plan,
}

/// Reads all references. A missing token blocks everything; any other missing reference only prevents the creation and
/// change of nodes.
pub async fn refs(pass: &Pass<'_, LocalCluster>, valid: &Valid, observed: &Host) -> Result<Resolved, Error> {
    let Pass { ctx, object: cluster, owner, .. } = pass;
    let mut plan = Plan::default();
    let existing = ctx.registry(owner.namespace(), &own_registry::name(owner));
    own_registry::plan(&mut plan, cluster, owner, existing.as_ref());
    let mut look = Look::new(ctx, &mut plan);
    let mut nodes = registries::resolve(&mut look, owner.namespace(), valid, observed).await?;
    defaults::add(pass, valid, observed, &mut nodes).await?;
    let mut ca_hash = None;
    let token = match of_servers(ctx, valid, observed).await {
        Ok(OfServers { in_use, ca_hash: known }) => {
            ca_hash = known;
            let (name, _) = token::place(valid, owner);
            let secret = kube_io::existing_secret(&ctx.client, owner.namespace(), &name).await?;
            let needs = secret.is_none() && in_use.is_none() && valid.token.is_none();
            let fresh = if needs { Some(ctx.memory.token(&owner.uid, generate)?) } else { None };
            token::plan(&mut plan, valid, owner, Tokens { in_use, secret, fresh })
        }
        Err(error) => {
            let message = format!("reading the join token: {error}");
            plan.waits(ConditionType::DockerReachable, Reason::DockerError, message);
            None
        }
    };
    let manifests = manifests::resolve(ctx, owner.namespace(), valid, &mut plan).await?;
    let refs = token.map(|Token { current, next }| Refs {
        token: current,
        ca_hash,
        next_token: next,
        manifests,
        ..nodes
    });
    Ok(Resolved { refs, plan })
}

/// Reads the tokens of the servers.
async fn of_servers(
    ctx: &Context,
    valid: &Valid,
    observed: &Host,
) -> Result<OfServers, crate::docker::error::Error> {
    let server = |d: &&ContainerDetail| valid.names.parse_server(&d.container.name).is_some();
    let read = observed.own.values().filter(server).map(|detail| async {
        let written = ctx.files.written(detail, k3s::SERVER_TOKEN_FILE, sizes::WRITTEN).await?;
        let given = ctx.files.read(detail, k3s::TOKEN_FILE, sizes::WRITTEN).await?;
        Ok::<_, crate::docker::error::Error>(token::Files { written, given })
    });
    Ok(token::of_servers(&try_join_all(read).await?))
}

fn generate() -> Result<Vec<u8>, Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|e| Error::Random(e.to_string()))?;
    Ok(names::hex(&bytes).into_bytes())
}

/// Returns the credentials for pulling the node image; `None` if there are none, with a problem in the plan.
pub async fn pull_auth(
    ctx: &Context,
    namespace: &str,
    name: &str,
    image: &str,
    plan: &mut Plan,
) -> Result<Option<RegistryAuth>, Error> {
    let Some(secret) = kube_io::secret(&ctx.client, namespace, name).await? else {
        let message =
            format!("there is no Secret {name} in namespace {namespace} for pulling the node image");
        plan.waits(ConditionType::ResolvedRefs, Reason::SecretNotFound, message);
        return Ok(None);
    };
    let auth =
        kube_io::data(&secret, ".dockerconfigjson").and_then(|json| docker_login(json, registry_of(image)));
    if auth.is_none() {
        let message = format!(
            "the Secret {name} has no credentials for {}: it must be of type kubernetes.io/dockerconfigjson",
            registry_of(image)
        );
        plan.waits(ConditionType::ResolvedRefs, Reason::SecretInvalid, message);
    }
    Ok(auth)
}

/// Returns the registry of an image reference as Docker parses it.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Returns the entry of a registry in a Docker configuration file. Credentials of another one are never sent to it.
pub fn docker_login(json: &[u8], registry: &str) -> Option<RegistryAuth> {
    #[derive(Deserialize)]
    struct File {
        auths: BTreeMap<String, Entry>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Entry {
        username: String,
        password: String,
        auth: String,
        identitytoken: Option<String>,
    }
    let file: File = serde_json::from_slice(json).ok()?;
    // `docker login` writes Docker Hub as https://index.docker.io/v1/.
    let host = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = key.split('/').next().unwrap_or_default();
        if matches!(host, "index.docker.io" | "registry-1.docker.io") {
            "docker.io".to_owned()
        } else {
            host.to_owned()
        }
    };
    let wanted = host(registry);
    let (server, entry) = file.auths.into_iter().find(|(key, _)| host(key) == wanted)?;
    let (mut username, mut password) = (entry.username, entry.password);
    if username.is_empty() && !entry.auth.is_empty() {
        let decoded = String::from_utf8(BASE64_STANDARD.decode(entry.auth).ok()?).ok()?;
        let (u, p) = decoded.split_once(':')?;
        (username, password) = (u.to_owned(), p.to_owned());
    }
    let usable = !username.is_empty() || entry.identitytoken.is_some();
    usable.then_some(RegistryAuth { server, username, password, identity_token: entry.identitytoken })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_the_images_registry() {
        let json = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnc="},
            "reg.example:5000": {"username": "a", "password": "b"}}}"#;
        let found = |image| docker_login(json, registry_of(image)).map(|a| (a.username, a.password));
        assert_eq!(found("rancher/k3s:v1"), Some(("u".into(), "p:w".into())));
        assert_eq!(found("docker.io/rancher/k3s"), Some(("u".into(), "p:w".into())));
        assert_eq!(found("reg.example:5000/k3s:v1"), Some(("a".into(), "b".into())));
        assert_eq!(found("other.example/k3s"), None);
        assert_eq!(docker_login(json, "").map(|a| a.username), None, "nor the first one");
    }
}
