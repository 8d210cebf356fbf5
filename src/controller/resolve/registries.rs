//! Reads the contents of the nodes: Registry objects with their certificates and credentials, and the Secrets and
//! ConfigMaps of `spec.registries` and `spec.files`.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;

use super::docker_login;
use crate::{
    api::{
        Registry, RegistrySpec, RegistryStatus,
        condition::{self, ConditionType, Status},
        local_cluster::KeyRef,
        reason::Reason,
        uses::allows,
    },
    controller::{
        context::Context,
        kube_io::{self, Error},
        registry_refs,
    },
    k3s::registries::{self, Auth, Registries},
    plan::{
        called, consent, host_aliases,
        observed::Host,
        owner::Owner,
        refs::{NodeInputs, Refs, UsedRegistry, address},
        registries::of_nodes as node_registries,
        steps::Plan,
        validate::{RegistryKey, Text, Valid, certificate},
    },
};

/// Returns the registries in use, and the contents for the nodes, which are `None` if part of them is missing, with a
/// problem in the plan.
pub(super) async fn resolve(
    look: &mut Look<'_>,
    namespace: &str,
    valid: &Valid,
    observed: &Host,
) -> Result<Refs, Error> {
    let mut refs = Refs::default();
    for key in &valid.registries.used {
        let Some(registry) = look.ctx.registry(&key.namespace, &key.name) else {
            look.unknown(key);
            refs.unknown_registries.push(format!("{}/{}", key.namespace, key.name));
            continue;
        };
        if !allows(&registry, namespace) {
            look.refused(namespace, key, &registry, observed);
            continue;
        }
        let mut registry = look.registry(namespace, key, &registry, observed).await?;
        // The status may have been lost; the container has the port too.
        let made = || observed.containers.iter().find_map(|c| registry.port_of(c));
        registry.host_port = registry.host_port.or_else(made);
        refs.registries.push(registry);
    }
    let inputs = look.inputs(namespace, valid).await?;
    for message in host_aliases::taken(&valid.host_aliases, &refs.registries) {
        look.whole = false;
        look.plan.stalls(ConditionType::Accepted, Reason::InvalidSpec, message);
    }
    if look.whole {
        // Valid parts may be invalid together: a password without a user name, rewrites without an endpoint.
        let merged = node_registries(valid, &refs, &inputs, None).merged;
        for problem in registries::check(&merged, &|_| true) {
            look.whole = false;
            let message = format!("spec.registries, all together: {problem}");
            look.plan.stalls(ConditionType::ResolvedRefs, Reason::RegistriesInvalid, message);
        }
    }
    refs.inputs = look.whole.then_some(inputs);
    Ok(refs)
}

/// Reads references, and adds a problem for each that is missing.
pub(super) struct Look<'a> {
    ctx: &'a Context,
    plan: &'a mut Plan,
    whole: bool,
}

impl<'a> Look<'a> {
    pub(super) fn new(ctx: &'a Context, plan: &'a mut Plan) -> Self {
        Self { ctx, plan, whole: true }
    }
}

impl Look<'_> {
    fn missing(&mut self, reason: Reason, message: String) {
        self.whole = false;
        // It may be created a moment later, applied together with this object.
        self.plan.waits(ConditionType::ResolvedRefs, reason, message);
    }

    /// Adds the problem of a Registry that is not found.
    fn unknown(&mut self, RegistryKey { namespace, name }: &RegistryKey) {
        let message = if self.ctx.settings.manages(namespace) {
            format!("there is no Registry {name} in namespace {namespace}")
        } else {
            format!(
                "the Registry {namespace}/{name} is unknown: the operator does not manage namespace {namespace}; use a \
                 Registry in another one, or add it to --namespaces of the operator"
            )
        };
        self.missing(Reason::RegistryNotFound, message);
    }

    /// Adds the problem of a Registry that does not allow the namespace. A new cluster waits for consent. One that runs goes
    /// on without the Registry, since consent may have been withdrawn: its nodes must not keep the credentials.
    fn refused(&mut self, namespace: &str, key: &RegistryKey, registry: &Registry, observed: &Host) {
        let begun = observed.has_begun();
        self.whole &= begun;
        let password = registry.spec.auth.as_ref().is_some_and(|auth| auth.client_secret.is_some());
        let object = format!("{}/{}", key.namespace, key.name);
        let message = consent::withheld(&object, namespace, begun, password);
        self.plan.stalls(ConditionType::ResolvedRefs, Reason::NotAllowed, message);
    }

    /// Reads the contents of a Registry.
    pub(super) async fn registry(
        &mut self,
        namespace: &str,
        key: &RegistryKey,
        registry: &Registry,
        observed: &Host,
    ) -> Result<UsedRegistry, Error> {
        let status = registry.status.clone().unwrap_or_default();
        let failing = [ConditionType::ContainerReady, ConditionType::Reachable]
            .iter()
            .filter_map(|type_| condition::get(&status.conditions, *type_))
            .find(|c| c.status == Status::False.as_str());
        let object = format!("{}/{}", key.namespace, key.name);
        let name = if key.namespace == namespace { key.name.clone() } else { object.clone() };
        let uid = registry.uid().unwrap_or_default();
        let owner = Owner { uid, manager: self.ctx.manager.clone(), object };
        let (explicit, reported) = (registry.spec.hostname.as_deref(), status.cluster.as_deref());
        let living = self.ctx.living_registries();
        let hostname = called::registry(&owner, explicit, reported, observed, &living);
        let (ca, auth) = (self.ca(registry).await?, self.login(registry, &hostname).await?);
        Ok(UsedRegistry {
            name,
            hostname,
            owner,
            host_port: status.host_port.or(registry.spec.host_port).and_then(|p| u16::try_from(p).ok()),
            host_ip: host_ip(&registry.spec, &status),
            tls: registry.spec.tls.is_some(),
            ca,
            auth,
            upstream: registry.spec.proxy.as_ref().and_then(|p| registries::upstream_of(&p.remote_url).ok()),
            hosting: registry.spec.local_registry_hosting,
            by_default: false,
            trouble: failing.map(|c| c.message.clone()),
        })
    }

    /// Returns the CA of a Registry that serves HTTPS.
    async fn ca(&mut self, registry: &Registry) -> Result<Option<Vec<u8>>, Error> {
        let Some(tls) = &registry.spec.tls else { return Ok(None) };
        let namespace = registry.namespace().unwrap_or_default();
        let name = tls.ca_secret_name.as_ref().unwrap_or(&tls.secret_name);
        let Some(secret) = self.secret(&namespace, name, "the certificate of a Registry").await? else {
            return Ok(None);
        };
        let ca = registry_refs::ca(&secret, tls.ca_secret_name.is_some());
        if ca.is_none() {
            let message = format!("the Secret {namespace}/{name} has no key ca.crt with certificates in it");
            self.missing(Reason::SecretInvalid, message);
        }
        Ok(ca)
    }

    /// Returns the credentials of a Registry that requires a login.
    async fn login(&mut self, registry: &Registry, hostname: &str) -> Result<Option<Auth>, Error> {
        let Some(name) = registry.spec.auth.as_ref().and_then(|a| a.client_secret.as_ref()) else {
            return Ok(None);
        };
        let namespace = registry.namespace().unwrap_or_default();
        self.auth(&namespace, name, &address(hostname)).await
    }

    async fn inputs(&mut self, namespace: &str, valid: &Valid) -> Result<NodeInputs, Error> {
        let mut inputs = NodeInputs::default();
        for host in &valid.registries.hosts {
            if let Some(name) = &host.auth
                && let Some(auth) = self.auth(namespace, name, &host.host).await?
            {
                inputs.credentials.insert(host.host.clone(), auth);
            }
            if let Some(ca) = &host.ca
                && let Some(content) = self.text(namespace, ca, "certificate authorities").await?
            {
                inputs.certificates.insert(certificate(&host.host, "ca.crt"), (0o644, content));
            }
            if let Some(name) = &host.client {
                for (kind, key, mode) in [("client.crt", "tls.crt", 0o644), ("client.key", "tls.key", 0o600)]
                {
                    let source = Text::Secret(KeyRef { name: name.clone(), key: key.into() });
                    if let Some(content) = self.text(namespace, &source, "the nodes' own certificate").await?
                    {
                        inputs.certificates.insert(certificate(&host.host, kind), (mode, content));
                    }
                }
            }
        }
        for file in &valid.files {
            if let Some(content) = self.text(namespace, &file.content, &file.path).await? {
                inputs.files.insert(file.path.clone(), content);
            }
        }
        if let Some(source) = &valid.registries.config
            && let Some(content) = self.text(namespace, source, "the registries file").await?
        {
            inputs.config = self.config(source, &content, valid);
        }
        Ok(inputs)
    }

    /// Parses the registries file of the user.
    fn config(&mut self, source: &Text, content: &[u8], valid: &Valid) -> Registries {
        let paths = valid.paths();
        let parsed = match std::str::from_utf8(content) {
            Ok(text) => registries::parse(text, &|path| paths.contains(path)),
            Err(_) => Err(vec!["it is no UTF-8 text".to_owned()]),
        };
        parsed.unwrap_or_else(|problems| {
            self.whole = false;
            let (condition, reason, place) = match source {
                Text::Inline(_) => {
                    (ConditionType::Accepted, Reason::InvalidSpec, "spec.registries.config.inline".to_owned())
                }
                Text::Secret(r) => {
                    let place = format!("the key {} of Secret {}", r.key, r.name);
                    (ConditionType::ResolvedRefs, Reason::RegistriesInvalid, place)
                }
                Text::ConfigMap(r) => {
                    let place = format!("the key {} of ConfigMap {}", r.key, r.name);
                    (ConditionType::ResolvedRefs, Reason::RegistriesInvalid, place)
                }
            };
            self.plan.stalls(condition, reason, format!("{place}: {}", problems.join("; ")));
            Registries::default()
        })
    }

    /// Returns a text; `None` if it is missing.
    pub(super) async fn text(
        &mut self,
        namespace: &str,
        source: &Text,
        what: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        match source {
            Text::Inline(text) => Ok(Some(text.clone().into_bytes())),
            Text::Secret(r) => {
                let Some(secret) = self.secret(namespace, &r.name, what).await? else { return Ok(None) };
                let content = kube_io::data(&secret, &r.key).map(<[u8]>::to_vec);
                if content.is_none() {
                    let message = format!("the Secret {} has no key {} with {what}", r.name, r.key);
                    self.missing(Reason::SecretInvalid, message);
                }
                Ok(content)
            }
            Text::ConfigMap(r) => {
                let Some(map) = kube_io::config_map(&self.ctx.client, namespace, &r.name).await? else {
                    let message =
                        format!("there is no ConfigMap {} in namespace {namespace} with {what}", r.name);
                    self.missing(Reason::ConfigMapNotFound, message);
                    return Ok(None);
                };
                let content = of_config_map(map, &r.key);
                if content.is_none() {
                    let message = format!("the ConfigMap {} has no key {} with {what}", r.name, r.key);
                    self.missing(Reason::ConfigMapInvalid, message);
                }
                Ok(content)
            }
        }
    }

    async fn secret(&mut self, namespace: &str, name: &str, what: &str) -> Result<Option<Secret>, Error> {
        let secret = kube_io::secret(&self.ctx.client, namespace, name).await?;
        if secret.is_none() {
            let message = format!("there is no Secret {name} in namespace {namespace} with {what}");
            self.missing(Reason::SecretNotFound, message);
        }
        Ok(secret)
    }

    async fn auth(&mut self, namespace: &str, name: &str, host: &str) -> Result<Option<Auth>, Error> {
        let Some(secret) = self.secret(namespace, name, "credentials").await? else { return Ok(None) };
        let auth = credentials(&secret, host);
        if auth.is_none() {
            let message = format!(
                "the Secret {name} has no credentials for {host}: write username and password, auth, identity_token, \
                 or a .dockerconfigjson with an entry for that host"
            );
            self.missing(Reason::SecretInvalid, message);
        }
        Ok(auth)
    }
}

/// Returns the address of the Docker host that the port of a Registry is bound to. A change of the spec takes effect with
/// a new container; until then, the status has the address.
fn host_ip(spec: &RegistrySpec, status: &RegistryStatus) -> Option<Ipv4Addr> {
    let reported = status.host.as_ref().and_then(|host| host.rsplit_once(':')).map(|(ip, _)| ip);
    reported.unwrap_or(&spec.host_ip).parse().ok()
}

/// Returns the credentials in a Secret of any form.
fn credentials(secret: &Secret, host: &str) -> Option<Auth> {
    let text = |key: &str| {
        let text = String::from_utf8(kube_io::data(secret, key)?.to_vec()).ok()?;
        // A file that was created with an editor ends with a newline, which no password does.
        Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|t| !t.is_empty())
    };
    let configured = kube_io::data(secret, ".dockerconfigjson");
    if let Some(login) = configured.and_then(|json| docker_login(json, host)) {
        return Some(match login.identity_token {
            Some(token) => Auth { identity_token: Some(token), ..Auth::default() },
            None => {
                Auth { username: Some(login.username), password: Some(login.password), ..Auth::default() }
            }
        });
    }
    let auth = Auth {
        username: text("username"),
        password: text("password"),
        auth: text("auth"),
        identity_token: text("identity_token"),
    };
    let pair = auth.username.is_some() && auth.password.is_some();
    (pair || auth.auth.is_some() || auth.identity_token.is_some()).then_some(auth)
}

fn of_config_map(map: ConfigMap, key: &str) -> Option<Vec<u8>> {
    let binary = map.binary_data.unwrap_or_default().remove(key).map(|b| b.0);
    map.data.unwrap_or_default().remove(key).map(String::into_bytes).or(binary)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn the_address_is_the_one_that_the_container_has() {
        let ip = |spec: &str, told: Option<&str>| {
            let spec = RegistrySpec { host_ip: spec.into(), ..RegistrySpec::default() };
            let status = RegistryStatus { host: told.map(Into::into), ..RegistryStatus::default() };
            host_ip(&spec, &status).map(|ip| ip.to_string())
        };
        assert_eq!(ip("127.0.0.3", None).as_deref(), Some("127.0.0.3"));
        assert_eq!(ip("127.0.0.3", Some("127.0.0.4:5000")).as_deref(), Some("127.0.0.4"));
        assert_eq!(ip("127.0.0.3", Some("localhost:5000")), None, "as 127.0.0.1");
    }

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<_, _> =
            data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn credentials_have_many_forms() {
        let found = |data: &[(&str, &str)]| {
            credentials(&secret(data), "reg:5000").map(|a| (a.username, a.password, a.auth, a.identity_token))
        };
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(
            found(&[("username", "u"), ("password", "p\n")]),
            Some((some("u"), some("p"), None, None))
        );
        assert_eq!(found(&[("auth", "dTpw")]), Some((None, None, some("dTpw"), None)));
        assert_eq!(found(&[("identity_token", "t")]), Some((None, None, None, some("t"))));
        let json = r#"{"auths": {"reg:5000": {"auth": "dTpw"}}}"#;
        assert_eq!(found(&[(".dockerconfigjson", json)]), Some((some("u"), some("p"), None, None)));
        let other = r#"{"auths": {"other": {"auth": "dTpw"}}}"#;
        assert_eq!(found(&[(".dockerconfigjson", other)]), None);
        let both = [("username", "u"), ("password", "p"), (".dockerconfigjson", other)];
        assert_eq!(found(&both), Some((some("u"), some("p"), None, None)), "never those of another host");
        assert_eq!(found(&[("username", "u")]), None);
        assert_eq!(found(&[]), None);
    }
}
