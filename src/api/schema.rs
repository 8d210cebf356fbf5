//! CEL rules of the schema, generated from the tables in [`rules`](super::rules).
//!
//! They need the IP, CIDR and quantity libraries of Kubernetes 1.31 and later. Every string, list and map in a rule is
//! bounded, since otherwise the API server rejects the definition because of the estimated cost of the rule.

use kube::core::{Message, Reason, Rule, validate};
use schemars::Schema;

use super::rules::{self, Refused, pattern, text};

/// Returns a rule with a message.
fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(cel).message(Message::Message(message.into()))
}

/// Returns a rule that requires all of `self` to match a pattern.
fn shape(pattern: &str, message: &str) -> Rule {
    rule(format!("self.matches({})", whole(pattern)), message)
}

/// Returns a rule that requires that `self` as a whole does not match a pattern.
fn no(pattern: &str, message: impl Into<String>) -> Rule {
    rule(format!("!self.matches({})", whole(pattern)), message)
}

/// Returns a regular expression for the whole value as a CEL literal.
fn whole(pattern: &str) -> String {
    format!("r'^({pattern})$'")
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

pub fn registry_name() -> Rule {
    rule("self.metadata.name.size() <= 63", text::REGISTRY_NAME)
}

pub fn version() -> Rule {
    shape(pattern::VERSION, text::VERSION)
}

pub fn version_or_image() -> Rule {
    rule("!has(self.version) || !has(self.image)", text::VERSION_OR_IMAGE)
}

pub fn image() -> Rule {
    shape(pattern::IMAGE, text::IMAGE)
}

/// Adds the rules of preloaded images.
pub fn preload_images(schema: &mut Schema) {
    add_to_items(schema, [shape(pattern::TAGGED_IMAGE, text::PRELOAD_IMAGE)]);
}

pub fn manifest_name() -> Rule {
    shape(pattern::LABEL, text::MANIFEST_NAME)
}

pub fn cluster_name() -> Rule {
    shape(pattern::LABEL, text::CLUSTER_NAME)
}

pub fn port_name() -> Rule {
    shape(pattern::LABEL, text::PORT_NAME)
}

pub fn object_name() -> Rule {
    shape(pattern::DNS, text::OBJECT_NAME)
}

pub fn secret_key() -> Rule {
    shape(pattern::SECRET_KEY, text::SECRET_KEY)
}

pub fn hostname() -> Rule {
    rule(format!("self != 'localhost' && self.matches({})", whole(pattern::DNS)), text::HOSTNAME)
}

pub fn namespace() -> Rule {
    rule(format!("self == '' || self.matches({})", whole(pattern::LABEL)), text::NAMESPACE)
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
        [shape(pattern::ENDPOINT, text::ENDPOINT), shape(pattern::ENDPOINT_PATH, text::ENDPOINT_PATH)],
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
    let refused = |r: &Refused| rule(format!("!self.matches({})", whole(&r.regex())), r.message(""));
    add(
        schema,
        [shape(pattern::FILE_PATH, text::FILE_PATH)].into_iter().chain(rules::FILES.iter().map(refused)),
    );
}

pub fn alias_ip() -> Rule {
    rule("isIP(self)", text::ALIAS_IP)
}

/// Adds the rules of hostnames of an address.
pub fn alias_names(schema: &mut Schema) {
    let domain = rules::CLUSTER_DOMAIN;
    let refused = |r: &Refused| rule(format!("!self.matches({})", whole(&r.regex())), r.message(""));
    add_to_items(
        schema,
        [
            shape(pattern::DNS, text::ALIAS_NAME),
            rule(format!("self != '{domain}' && !self.endsWith('.{domain}')"), text::ALIAS_DOMAIN),
        ]
        .into_iter()
        .chain(rules::ALIASES.iter().map(refused)),
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

pub fn ulimit_name() -> Rule {
    shape(pattern::ULIMIT, text::ULIMIT_NAME)
}

pub fn ulimit_order() -> Rule {
    rule(
        "!has(self.hard) || self.hard == -1 || (self.soft != -1 && self.soft <= self.hard)",
        text::ULIMIT_ORDER,
    )
    .field_path(".hard")
}

pub fn ulimit_nofile() -> Rule {
    rule(
        "self.name != 'nofile' || (self.soft != -1 && !(has(self.hard) && self.hard == -1))",
        text::ULIMIT_NOFILE,
    )
}

/// Adds the rules of mount paths.
pub fn mount_path(schema: &mut Schema) {
    let refused = |r: &Refused| rule(format!("!self.matches({})", whole(&r.regex())), r.message(""));
    add(
        schema,
        [shape(pattern::FILE_PATH, text::MOUNT_PATH)].into_iter().chain(rules::MOUNTS.iter().map(refused)),
    );
}

pub fn mounts_apart() -> Rule {
    rule(
        "self.all(v, self.exists_one(w, v.mountPath == w.mountPath || v.mountPath.startsWith(w.mountPath + '/')))",
        text::MOUNTS_APART,
    )
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

pub fn gpus() -> Rule {
    shape(pattern::GPUS, text::GPUS)
}

pub fn volume_name() -> Rule {
    shape(pattern::VOLUME_NAME, text::VOLUME_NAME)
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

pub fn host_path_alone() -> Rule {
    rule(
        "!has(self.hostPath) || (!has(self.volumeName) && !(has(self.retain) && self.retain))",
        text::HOST_PATH_ALONE,
    )
}

pub fn remote_url() -> Rule {
    shape(pattern::REMOTE_URL, text::REMOTE_URL)
}

pub fn ttl() -> Rule {
    rule(format!("self != '' && self.matches({})", whole(pattern::TTL)), text::TTL)
}

pub fn lifetime() -> Rule {
    rule(format!("!self.matches(r'^[0hms]*$') && self.matches({})", whole(pattern::TTL)), text::LIFETIME)
}

/// Adds the rules of allowed namespaces.
pub fn allowed_namespaces(schema: &mut Schema) {
    add_to_items(
        schema,
        [rule(format!("self == '*' || self.matches({})", whole(pattern::LABEL)), text::ALLOWED_NAMESPACE)],
    );
}

pub fn host_ip() -> Rule {
    rule("isIP(self) && ip(self).family() == 4", text::HOST_IP)
}

pub fn memory() -> Rule {
    rule(
        format!(
            "self.matches({}) && quantity(self).compareTo(quantity('6Mi')) >= 0 && \
             quantity(self).compareTo(quantity('1024Ti')) <= 0",
            whole(pattern::MEMORY)
        ),
        text::MEMORY,
    )
}

pub fn cpus() -> Rule {
    rule(
        format!("self.matches({}) && double(self) >= 0.01 && double(self) <= 1024.0", whole(pattern::CPUS)),
        text::CPUS,
    )
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

pub fn server_count() -> Rule {
    rule("self.count in [1, 3, 5]", text::SERVERS).field_path(".count")
}

pub fn max_unavailable() -> Rule {
    rule("self >= 1 && self <= 32", text::MAX_UNAVAILABLE)
}

/// Completes the schema of the server pool: its count defaults to 1, and it has no `maxUnavailable`, since servers are
/// replaced one at a time.
pub fn servers(schema: &mut Schema) {
    schema.pointer_mut("/properties/count").expect("a pool has a count")["default"] = 1.into();
    let properties = schema.get_mut("properties").and_then(|p| p.as_object_mut()).expect("a pool has fields");
    properties.remove("maxUnavailable").expect("it is a field of pools");
    let agent = &rules::AGENT_FLAGS;
    let useless = rules::server_args().into_iter().map(|(shape, instead)| no(&shape, instead));
    add_to_args(
        schema,
        [rule(format!("!self.matches(r'^--({})(=|$)')", agent.regex()), agent.instead)]
            .into_iter()
            .chain(useless),
    );
}

/// Completes the schema of the agent pool, which refuses server flags.
pub fn agents(schema: &mut Schema) {
    let server = &rules::SERVER_FLAGS;
    add_to_args(schema, [rule(format!("!self.matches(r'^--({})(=|$)')", server.regex()), server.instead)]);
}

/// Adds rules to the arguments of a pool.
fn add_to_args(schema: &mut Schema, rules: impl IntoIterator<Item = Rule>) {
    let args = schema.pointer_mut("/properties/args").expect("a pool has arguments");
    let mut list = Schema::try_from(args.take()).expect("arguments have a schema");
    add_to_items(&mut list, rules);
    *args = list.into();
}

/// Adds the rules of arguments.
pub fn args(schema: &mut Schema) {
    let refused = |r: &Refused| rule(format!("!self.matches(r'^--?({})(=|$)')", r.regex()), r.message("--"));
    add_to_items(
        schema,
        [
            shape(pattern::ARG, text::ARG),
            no(pattern::TWO_ARGS, text::TWO_ARGS),
            no(pattern::FILTERED_ARG, text::FILTERED_ARG),
        ]
        .into_iter()
        .chain(rules::FLAGS.iter().map(refused)),
    );
}

fn env(schema: &mut Schema, table: &[Refused]) {
    let refused = |r: &Refused| {
        rule(format!("!self.name.matches({})", whole(&r.regex())), r.message("")).field_path(".name")
    };
    add_to_items(schema, table.iter().map(refused));
}

/// Adds the rules of environment variables of nodes.
pub fn node_env(schema: &mut Schema) {
    env(schema, rules::NODE_ENV);
}

/// Adds the rules of environment variables of registries.
pub fn registry_env(schema: &mut Schema) {
    env(schema, rules::REGISTRY_ENV);
}

pub fn env_name() -> Rule {
    shape(pattern::ENV_NAME, text::ENV_NAME)
}

/// Adds bounds and rules of labels.
pub fn labels(schema: &mut Schema) {
    schema.insert("maxProperties".into(), 64.into());
    schema.pointer_mut("/additionalProperties").expect("this is a map")["maxLength"] = 63.into();
    // A map has a single path for all of its keys, so the message names the invalid key.
    let no_key = |bad: String, message: &str| {
        let naming = Message::Expression(format!("self.filter(k, {bad})[0] + ': {message}'"));
        Rule::new(format!("!self.exists(k, {bad})")).message(naming)
    };
    let key = format!("!k.matches({}) || k.split('/')[0].size() > 253", whole(pattern::LABEL_KEY));
    let value = format!("!self[k].matches({})", whole(pattern::LABEL_VALUE));
    let refused = |r: &Refused| no_key(format!("k.matches({})", whole(&r.regex())), r.instead);
    add(
        schema,
        [no_key(key, text::LABEL_KEY), no_key(value, text::LABEL_VALUE)]
            .into_iter()
            .chain(rules::NODE_LABELS.iter().map(refused)),
    );
}

/// Adds the rules of taints, for each taint and for the list.
pub fn taints(schema: &mut Schema) {
    add_to_items(schema, [shape(pattern::TAINT, text::TAINT)]);
    let id =
        |t: &str| format!("{t}.split('=')[0].split(':')[0] + ' ' + {t}.substring({t}.lastIndexOf(':') + 1)");
    add(
        schema,
        [rule(format!("self.all(t, self.exists_one(u, {} == {}))", id("u"), id("t")), text::TAINT_TWICE)],
    );
}

/// Adds the rules of additional names in the serving certificate.
pub fn sans(schema: &mut Schema) {
    add_to_items(schema, [rule(format!("isIP(self) || self.matches({})", whole(pattern::DNS)), text::SAN)]);
}

/// CEL expression for the last port of a range.
const END: &str = "(has(self.endPort) ? self.endPort : self.port)";

pub fn not_the_api() -> Rule {
    rule(format!("self.port > 6443 || {END} < 6443 || {} != 'TCP'", protocol("self")), text::API_PORT)
        .field_path(".port")
}

pub fn port_range() -> Rule {
    rule("!has(self.endPort) || self.endPort >= self.port", text::END_PORT)
}

pub fn host_range() -> Rule {
    rule(
        format!("!has(self.endPort) || (has(self.hostPort) && self.hostPort + ({END} - self.port) <= 65535)"),
        text::HOST_RANGE,
    )
}

pub fn ports_in_all() -> Rule {
    rule(format!("self.map(p, {} + 1).sum() <= {}", further("p"), rules::MAX_PORTS), text::PORTS_IN_ALL)
}

/// Returns the number of ports in a range after the first one.
fn further(port: &str) -> String {
    format!("(has({port}.endPort) && {port}.endPort > {port}.port ? {port}.endPort - {port}.port : 0)")
}

// The schema has no defaults in lists.
fn protocol(port: &str) -> String {
    format!("(has({port}.protocol) ? {port}.protocol : 'TCP')")
}

/// Returns an expression for two conflicting host port ranges: the range of `port`, and the one that starts at `other`
/// and has `length` more ports. The address 0.0.0.0 conflicts with every other address.
fn clash(port: &str, other: &str, length: &str) -> String {
    let ip = |of: &str| format!("(has({of}.hostIP) ? {of}.hostIP : '127.0.0.1')");
    let (own, others) = (ip(port), ip(other));
    format!(
        "has({port}.hostPort) && has({other}.hostPort) && {port}.hostPort <= {other}.hostPort + {length} && \
         {other}.hostPort <= {port}.hostPort + {} && \
         ({own} == {others} || {own} == '0.0.0.0' || {others} == '0.0.0.0')",
        further(port)
    )
}

// It has no reason "duplicate", for which the API server omits the message.
pub fn host_ports() -> Rule {
    rule(
        format!(
            "self.all(p, !has(p.hostPort) || self.exists_one(q, {} == {} && {}))",
            protocol("p"),
            protocol("q"),
            clash("p", "q", &further("q"))
        ),
        text::HOST_PORT_TWICE,
    )
}

pub fn api_host_port() -> Rule {
    rule(
        format!(
            "!has(self.ports) || !self.ports.exists(p, {} == 'TCP' && {})",
            protocol("p"),
            clash("p", "self.api", "0")
        ),
        text::API_HOST_PORT,
    )
    .field_path(".ports")
}
