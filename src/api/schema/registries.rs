//! Rules of the kind Registry and of the registries of a LocalCluster.

use kube::core::Rule;
use schemars::Schema;

use super::{add, add_to_items, env, no, positive_time, refused, rule, shape, size, whole};
use crate::api::rules::{
    self,
    format::{self, Format},
    pattern, text,
};

pub fn registry_name() -> Rule {
    rule("self.metadata.name.size() <= 63", text::REGISTRY_NAME)
}

pub fn hostname() -> Rule {
    rule(format!("self != 'localhost' && self.matches({})", whole(pattern::DNS)), text::HOSTNAME)
}

/// Adds the rules of the name of a Registry's container.
pub fn own_hostname(schema: &mut Schema) {
    let own = [hostname(), no(pattern::NODE, text::HOSTNAME_OF_NODE)];
    add(schema, own.into_iter().chain(rules::hostnames::REGISTRIES.iter().map(refused)));
}

pub fn mirrored() -> Rule {
    rule(
        format!(
            "self == '*' || (self.matches({}) && !(self in ['index.docker.io', 'registry-1.docker.io']))",
            whole(pattern::HOST)
        ),
        text::MIRRORED,
    )
}

pub fn mirrored_word() -> Rule {
    rule("self in ['*', 'localhost'] || self.matches('[.:A-Z]')", text::MIRRORED_WORD)
}

/// Returns the rule for the pattern of a rewrite.
pub fn pattern_slash() -> Rule {
    rule("!self.startsWith('^/') || self.contains('|')", text::PATTERN_SLASH)
}

pub fn replacement_slash() -> Rule {
    rule("!self.replacement.startsWith('/') || !self.pattern.matches('^[(]*[.^]')", text::REPLACEMENT_SLASH)
        .field_path(".replacement")
}

pub fn config_host() -> Rule {
    rule(
        format!("self == '*' || (self.matches({}) && self != 'index.docker.io')", whole(pattern::HOST)),
        text::CONFIG_HOST,
    )
}

/// Adds the rules of the endpoints of a mirror.
pub fn endpoints(schema: &mut Schema) {
    add_to_items(
        schema,
        [
            shape(&format::ENDPOINT),
            shape(&Format {
                pattern: pattern::ENDPOINT_PATH,
                message: text::ENDPOINT_PATH,
                ..format::ENDPOINT
            }),
        ],
    );
}

/// Returns a rule for unique names. List map keys would need a default where the namespace is optional. `namespace` is
/// a reserved word in CEL and therefore escaped.
pub fn used_twice() -> Rule {
    rule(
        "self.all(a, self.exists_one(b, a.name == b.name && (has(a.__namespace__) && a.__namespace__ != '' ? \
         has(b.__namespace__) && a.__namespace__ == b.__namespace__ : !has(b.__namespace__) || b.__namespace__ == \
         '')))",
        text::TWICE,
    )
}

pub fn one_ca() -> Rule {
    rule("!has(self.caSecretName) || !has(self.caConfigMapName)", text::ONE_CA)
}

pub fn volume_name() -> Rule {
    shape(&format::VOLUME_NAME)
}

pub fn host_path_alone() -> Rule {
    rule(
        "!has(self.hostPath) || (!has(self.volumeName) && !(has(self.retain) && self.retain))",
        text::HOST_PATH_ALONE,
    )
}

pub fn max_size() -> Rule {
    size("1Mi", text::MAX_SIZE)
}

pub fn schedule() -> Rule {
    shape(&format::SCHEDULE)
}

pub fn schedule_of_cache() -> Rule {
    rule("!has(self.garbageCollection) || !has(self.proxy)", text::SCHEDULE_OF_CACHE)
}

pub fn retention_of_cache() -> Rule {
    rule("!has(self.retention) || !has(self.proxy)", text::RETENTION_OF_CACHE)
}

pub fn retention_rules() -> Rule {
    rule("has(self.keepTags) || has(self.keepFor)", text::RETENTION)
}

pub fn keep_for() -> Rule {
    positive_time(text::KEEP_FOR)
}

pub fn remote_url() -> Rule {
    shape(&format::REMOTE_URL)
}

pub fn ttl() -> Rule {
    rule(format!("self != '' && self.matches({})", whole(pattern::TTL)), text::TTL)
}

/// Adds the rules of allowed namespaces.
pub fn allowed_namespaces(schema: &mut Schema) {
    add_to_items(
        schema,
        [rule(format!("self == '*' || self.matches({})", whole(pattern::LABEL)), text::ALLOWED_NAMESPACE)],
    );
}

/// Adds the rules of environment variables of registries.
pub fn registry_env(schema: &mut Schema) {
    env(schema, rules::REGISTRY_ENV);
}
