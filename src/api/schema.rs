//! CEL rules of the schema, generated from the tables in [`rules`](super::rules).
//!
//! They need the IP, CIDR and quantity libraries of Kubernetes 1.31 and later. Every string, list and map in a rule is
//! bounded, since otherwise the API server rejects the definition because of the estimated cost of the rule.

use kube::core::{Message, Reason, Rule, validate};
use schemars::Schema;

use super::rules::{
    self, Refused,
    format::{self, Format},
    pattern, text,
};

mod pools;
mod ports;
mod registries;

pub use pools::*;
pub use ports::*;
pub use registries::*;

/// Returns a rule with a message.
fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(cel).message(Message::Message(message.into()))
}

/// Returns a rule that requires all of `self` to match the pattern of a format.
fn shape(format: &Format) -> Rule {
    rule(format!("self.matches({})", whole(format.pattern)), format.message)
}

/// Returns a rule that requires that `self` as a whole does not match a pattern.
fn no(pattern: &str, message: impl Into<String>) -> Rule {
    rule(format!("!self.matches({})", whole(pattern)), message)
}

/// Returns a regular expression for the whole value as a CEL literal.
fn whole(pattern: &str) -> String {
    format!("r'^({pattern})$'")
}

/// Returns a rule that refuses values that match a table entry as a whole.
fn refused(refused: &Refused) -> Rule {
    rule(format!("!self.matches({})", whole(&refused.regex())), refused.message(""))
}

/// Adds rules to a schema.
fn add(schema: &mut Schema, rules: impl IntoIterator<Item = Rule>) {
    for rule in rules {
        validate(schema, rule).expect("a rule can be written");
    }
}

/// Adds rules to the items of a list, so that a message names the item.
fn add_to_items(schema: &mut Schema, rules: impl IntoIterator<Item = Rule>) {
    let items = schema.get_mut("items").expect("this is a list");
    let mut item = Schema::try_from(items.take()).expect("items have a schema");
    add(&mut item, rules);
    *items = item.into();
}

fn env(schema: &mut Schema, table: &[Refused]) {
    let refused = |r: &Refused| {
        rule(format!("!self.name.matches({})", whole(&r.regex())), r.message("")).field_path(".name")
    };
    add_to_items(schema, table.iter().map(refused));
}

/// Returns a rule that makes `field` immutable after creation, whether it is set or not.
pub fn immutable(field: &str, why: &str) -> Rule {
    rule(
        format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        format!("{field} is immutable and cannot be set, changed or removed after creation: {why}"),
    )
    .field_path(format!(".{field}"))
    .reason(Reason::FieldValueForbidden)
}

pub fn local_cluster_name() -> Rule {
    rule(
        format!("self.metadata.name.size() <= 63 && self.metadata.name.matches({})", whole(pattern::LABEL)),
        text::NAME,
    )
}

/// A member is named after its pool, with six characters more, and carries the name in a label.
pub fn cluster_pool_name() -> Rule {
    rule(
        format!("self.metadata.name.size() <= 57 && self.metadata.name.matches({})", whole(pattern::LABEL)),
        text::POOL_OBJECT_NAME,
    )
}

/// The cluster of a claim carries its name in a label.
pub fn cluster_claim_name() -> Rule {
    rule("self.metadata.name.size() <= 63", text::CLAIM_NAME)
}

pub fn own_name_and_subnet() -> Rule {
    // Also of the default `{}`, which has no `network` when the API server checks the definition.
    rule("!has(self.clusterName) && !(has(self.network) && has(self.network.subnet))", text::TEMPLATE_NAME)
}

/// Removes the rules about changes from the spec of a cluster that is a template: a change of it makes other clusters.
pub fn template(schema: &mut Schema) {
    if let Some(fields) = schema.as_object_mut() {
        allow_changes(fields);
    }
}

fn allow_changes(fields: &mut serde_json::Map<String, serde_json::Value>) {
    if let Some(rules) = fields.get_mut("x-kubernetes-validations").and_then(|rules| rules.as_array_mut()) {
        rules.retain(|rule| !rule["rule"].as_str().is_some_and(|rule| rule.contains("oldSelf")));
    }
    for value in fields.values_mut() {
        if let Some(below) = value.as_object_mut() {
            allow_changes(below);
        }
    }
}

pub fn version() -> Rule {
    shape(&format::VERSION)
}

pub fn version_or_image() -> Rule {
    rule("!has(self.version) || !has(self.image)", text::VERSION_OR_IMAGE)
}

pub fn image() -> Rule {
    shape(&format::IMAGE)
}

/// Adds the rules of preloaded images.
pub fn preload_images(schema: &mut Schema) {
    add_to_items(schema, [shape(&format::PRELOAD_IMAGE)]);
}

pub fn manifest_name() -> Rule {
    shape(&format::MANIFEST_NAME)
}

pub fn cluster_name() -> Rule {
    shape(&format::CLUSTER_NAME)
}

pub fn object_name() -> Rule {
    shape(&format::OBJECT_NAME)
}

pub fn secret_key() -> Rule {
    shape(&format::SECRET_KEY)
}

pub fn namespace() -> Rule {
    rule(format!("self == '' || self.matches({})", whole(pattern::LABEL)), text::NAMESPACE)
}

pub fn one_source() -> Rule {
    rule(
        "[has(self.inline), has(self.secretName), has(self.configMapName)].filter(b, b).size() == 1 && \
         (!has(self.key) || !has(self.inline))",
        text::ONE_SOURCE,
    )
}

pub fn one_content() -> Rule {
    rule(
        "[has(self.inline), has(self.secret), has(self.configMap)].filter(b, b).size() == 1",
        text::ONE_CONTENT,
    )
}

/// Adds the rules of file paths.
pub fn file_path(schema: &mut Schema) {
    add(schema, [shape(&format::FILE_PATH)].into_iter().chain(rules::FILES.iter().map(refused)));
}

pub fn alias_ip() -> Rule {
    rule(format!("self == '{}' || isIP(self)", rules::hostnames::HOST_GATEWAY), text::ALIAS_IP)
}

/// Adds the rules of networks to join.
pub fn joined_networks(schema: &mut Schema) {
    add_to_items(schema, [shape(&format::NETWORK_NAME), refused(&rules::hostnames::DOCKERS_NETWORKS)]);
}

/// Adds the rules of hostnames of an address.
pub fn alias_names(schema: &mut Schema) {
    add_to_items(
        schema,
        [shape(&format::ALIAS_NAME)].into_iter().chain(rules::hostnames::ALIASES.iter().map(refused)),
    );
}

pub fn alias_twice() -> Rule {
    rule("self.all(a, a.hostnames.all(h, self.exists_one(b, h in b.hostnames)))", text::ALIAS_TWICE)
}

pub fn alias_of_container() -> Rule {
    rule(
        "!has(self.hostAliases) || !has(self.registries.containers) || !self.registries.containers.exists(c, \
         self.hostAliases.exists(a, c.name in a.hostnames))",
        text::ALIAS_OF_CONTAINER,
    )
    .field_path(".hostAliases")
}

/// Returns a rule that refuses files in a volume of this pool.
pub fn file_in_volume(pool: &str) -> Rule {
    rule(
        format!(
            "!has(self.files) || !has(self.{pool}.volumes) || !self.{pool}.volumes.exists(v, self.files.exists(f, \
             f.path == v.mountPath || f.path.startsWith(v.mountPath + '/')))"
        ),
        text::FILE_IN_VOLUME,
    )
    .field_path(".files")
}

/// Returns a rule that refuses files in a volume of a further pool of agents.
pub fn file_in_volume_of_pools() -> Rule {
    rule(
        "!has(self.files) || !has(self.agentPools) || !self.agentPools.exists(p, has(p.volumes) && \
         p.volumes.exists(v, self.files.exists(f, f.path == v.mountPath || f.path.startsWith(v.mountPath + '/'))))",
        text::FILE_IN_VOLUME,
    )
    .field_path(".files")
}

pub fn host_path() -> Rule {
    rule(
        format!(
            "self.matches({}) && !self.split('/').exists(p, p == '.' || p == '..')",
            whole(pattern::HOST_PATH)
        ),
        text::HOST_PATH,
    )
}

pub fn recreates_what_is_ephemeral() -> Rule {
    rule("self.hostLoss != 'Recreate' || self.data == 'Ephemeral'", text::RECREATES_WHAT_IS_EPHEMERAL)
        .field_path(".hostLoss")
}

pub fn lifetime() -> Rule {
    positive_time(text::LIFETIME)
}

/// The rule of a time that is not zero, with its message.
fn positive_time(message: &str) -> Rule {
    rule(format!("!self.matches(r'^[0hms]*$') && self.matches({})", whole(pattern::TTL)), message)
}

pub fn token_ttl() -> Rule {
    rule(
        format!(
            "!self.matches(r'^[hms]*$') && self.matches({}) && duration(self) >= duration('10m') && duration(self) <= \
             duration('8760h')",
            whole(pattern::TTL)
        ),
        text::TOKEN_TTL,
    )
}

pub fn kubeconfig_without_ttl() -> Rule {
    rule("self.access != 'None' || !has(self.ttl)", text::KUBECONFIG_WITHOUT_TTL).field_path(".ttl")
}

pub fn subnet() -> Rule {
    rule(
        "isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self).prefixLength() >= 16 && \
         cidr(self).prefixLength() <= 25 && cidr(self).masked() == cidr(self)",
        text::SUBNET,
    )
}

pub fn subnet_range() -> Rule {
    let ranges: Vec<_> = rules::NO_SUBNET.iter().map(|r| format!("'{r}'")).collect();
    // An invalid subnet only violates the other rule.
    rule(
        format!(
            "!isCIDR(self) || cidr(self).ip().family() != 4 || !([{}].exists(r, cidr(r).containsIP(cidr(self).ip())))",
            ranges.join(", ")
        ),
        text::SUBNET_RANGE,
    )
}

pub fn env_name() -> Rule {
    shape(&format::ENV_NAME)
}

pub fn server_name() -> Rule {
    shape(&format::SERVER_NAME)
}

/// Adds the rules of additional names in the serving certificate.
pub fn sans(schema: &mut Schema) {
    add_to_items(schema, [rule(format!("isIP(self) || self.matches({})", whole(pattern::DNS)), text::SAN)]);
}
