//! Follows a LocalCluster's references: its token, its registries, its pull secret.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use super::{
    context::Context,
    kube_io::{self, Error},
};
use crate::{
    api::{LocalCluster, condition::ConditionType, names, reason::Reason},
    docker::engine::{ContainerDetail, RegistryAuth},
    k3s,
    plan::{
        observed::Observed,
        refs::Refs,
        steps::{Plan, Problem},
        validate::Valid,
    },
};

mod manifests;
mod registries;

/// The label of everything that the operator makes in the management cluster.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "localcluster-operator");

/// Follows all references. Without the token nothing can be done: then the problems alone are returned. What else is
/// missing only keeps nodes from being made or changed.
pub async fn refs(
    ctx: &Context,
    cluster: &LocalCluster,
    valid: &Valid,
    observed: &Observed,
) -> Result<Result<Refs, Vec<Problem>>, Error> {
    let mut plan = Plan::default();
    let (registries, inputs) = registries::resolve(ctx, cluster, valid, observed, &mut plan).await?;
    let token = token(ctx, cluster, valid, observed, &mut plan).await?;
    let namespace = cluster.namespace().unwrap_or_default();
    let manifests = manifests::resolve(ctx, &namespace, valid, &mut plan).await?;
    let problems = plan.problems;
    Ok(match token {
        Some((token, next_token)) => Ok(Refs { token, next_token, registries, manifests, inputs, problems }),
        None => Err(problems),
    })
}

/// The join secret, and the one that is to take its place. K3s encrypts its data with it, so that what a server works
/// with is the truth as long as there is one.
async fn token(
    ctx: &Context,
    cluster: &LocalCluster,
    valid: &Valid,
    observed: &Observed,
    plan: &mut Plan,
) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let mut in_use = None;
    let server = |d: &&ContainerDetail| valid.names.parse_server(&d.container.name).is_some();
    for detail in observed.own.values().filter(server) {
        if in_use.is_some() {
            break;
        }
        match token_in(ctx, detail).await {
            Ok(token) => in_use = token,
            Err(error) => {
                plan.waits(
                    ConditionType::DockerReachable,
                    Reason::DockerError,
                    format!("reading the join token: {error}"),
                );
                return Ok(None);
            }
        }
    }
    let own = format!("{}-token", cluster.name_any());
    let (name, key) = match &valid.token {
        Some(token) => (token.secret_name.as_str(), token.key.as_str()),
        None => (own.as_str(), "token"),
    };
    let kept = |token: Option<Vec<u8>>| token.map(|token| (token, None));
    let secret = kube_io::secret(&ctx.client, &namespace, name).await?;
    let given = match &secret {
        Some(secret) => {
            match kube_io::data(secret, key).map(|d| d.trim_ascii().to_vec()).filter(|d| !d.is_empty()) {
                Some(given) => Some(given),
                None => {
                    let message = format!("the Secret {name} has no key {key} with a token in it");
                    plan.waits(ConditionType::ResolvedRefs, Reason::SecretInvalid, message);
                    return Ok(kept(in_use));
                }
            }
        }
        None => None,
    };
    match (given, in_use) {
        (Some(given), Some(in_use)) if given != in_use => {
            if k3s::token::is_bare(&given) {
                return Ok(Some((in_use, Some(given))));
            }
            let message = format!(
                "the Secret {name} has a token that the cluster can't change to: write letters, digits, hyphens, \
                 underscores and dots only"
            );
            plan.stalls(ConditionType::ResolvedRefs, Reason::SecretInvalid, message);
            Ok(kept(Some(in_use)))
        }
        (Some(given), _) => Ok(kept(Some(given))),
        (None, in_use) if valid.token.is_some() => {
            let message = format!("there is no Secret {name} in namespace {namespace} with the join token");
            plan.waits(ConditionType::ResolvedRefs, Reason::SecretNotFound, message);
            Ok(kept(in_use))
        }
        (None, in_use) => {
            let token = match in_use {
                Some(token) => token,
                None => generate()?,
            };
            let secret = secret_of(cluster, name, BTreeMap::from([(key.to_owned(), token.clone())]));
            // Somebody was faster: the next look finds what they made.
            Ok(kept(kube_io::create_secret(&ctx.client, &secret).await?.then_some(token)))
        }
    }
}

/// The token that a server's data is of: what K3s wrote beside it, else what it was given before it first ran.
async fn token_in(
    ctx: &Context,
    server: &ContainerDetail,
) -> Result<Option<Vec<u8>>, crate::docker::error::Error> {
    let written = ctx.files.read(server, k3s::SERVER_TOKEN_FILE).await?;
    let given = ctx.files.read(server, k3s::TOKEN_FILE).await?.filter(|given| !given.is_empty());
    let written = written.as_deref().and_then(k3s::token::secret_of);
    // A whole token was given by the user, whose secret is the same.
    if let (Some(given), Some(written)) = (&given, written)
        && k3s::token::secret_of(given) == Some(written)
    {
        return Ok(Some(given.clone()));
    }
    Ok(written.map(<[u8]>::to_vec).or(given))
}

fn generate() -> Result<Vec<u8>, Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|e| Error::Random(e.to_string()))?;
    Ok(names::hex(&bytes).into_bytes())
}

/// A Secret that goes with the cluster.
pub fn secret_of(cluster: &LocalCluster, name: &str, data: BTreeMap<String, Vec<u8>>) -> Secret {
    let namespace = cluster.namespace().unwrap_or_default();
    let labels = BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())]);
    let owner = cluster.controller_owner_ref(&()).unwrap_or_default();
    kube_io::owned_secret(owner, &namespace, name, labels, data)
}

/// The credentials for pulling the node image; `None`: the plan says why there are none.
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

/// The registry of an image reference, as Docker reads it.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// The entry for a registry in a Docker configuration file; for `""` the first one.
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
    let (server, entry) =
        file.auths.into_iter().find(|(key, _)| registry.is_empty() || host(key) == wanted)?;
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
    }
}
