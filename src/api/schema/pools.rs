//! Rules of pools of nodes.

use kube::core::{Message, Rule};
use schemars::Schema;
use serde_json::{Value, json};

use super::{add, add_to_items, env, no, refused, rule, shape, whole};
use crate::api::{
    local_cluster::{POOL_ARGS, POOL_LABELS, POOL_TAINTS},
    rules::{self, Refused, format, pattern, text},
};

/// The beginning of an argument, which contains the whole name of each refused flag. API servers count the cost of a match
/// by the length of the text, and that of an object is bounded.
const FLAG: &str = "(self.size() > 64 ? self.substring(0, 64) : self)";

pub fn server_count() -> Rule {
    rule("self.count in [1, 3, 5]", text::SERVERS).field_path(".count")
}

pub fn max_unavailable() -> Rule {
    rule("self >= 1 && self <= 32", text::MAX_UNAVAILABLE)
}

pub fn pids() -> Rule {
    let (least, most) = (format::PIDS.start(), format::PIDS.end());
    rule(format!("self >= {least} && self <= {most}"), text::PIDS)
}

/// Completes the schema of the server pool: its count defaults to 1, and it has no `maxUnavailable`, since servers are
/// replaced one at a time, and no `excludedIndexes`, since the first server has the data of a cluster with one.
pub fn servers(schema: &mut Schema) {
    schema.pointer_mut("/properties/count").expect("a pool has a count")["default"] = 1.into();
    let properties = schema.get_mut("properties").and_then(|p| p.as_object_mut()).expect("a pool has fields");
    for of_agents in ["maxUnavailable", "excludedIndexes"] {
        properties.remove(of_agents).expect("it is a field of pools");
    }
    let agent = &rules::AGENT_FLAGS;
    let useless = rules::server_args().into_iter().map(|(shape, instead)| no(&shape, instead));
    add_to_args(
        schema,
        [rule(format!("!{FLAG}.matches(r'^--({})(=|$)')", agent.regex()), agent.instead)]
            .into_iter()
            .chain(useless),
    );
}

/// Completes the schema of the agent pool, which refuses server flags and more indexes than there are addresses.
pub fn agents(schema: &mut Schema) {
    let server = &rules::SERVER_FLAGS;
    add_to_args(schema, [rule(format!("!{FLAG}.matches(r'^--({})(=|$)')", server.regex()), server.instead)]);
    let few = "!has(self.excludedIndexes) || self.count + self.excludedIndexes.size() <= 32";
    add(schema, [rule(few, text::EXCLUDED).field_path(".excludedIndexes")]);
}

/// Completes the schema of further pools of agents: like [`agents`], with a count that has no default, since items of lists
/// have none, and with fewer and shorter arguments, labels and taints, since API servers bound the cost of the rules of an
/// object, and that of pools is multiplied by their number.
pub fn agent_pools(schema: &mut Schema) {
    let items = schema.get_mut("items").expect("this is a list");
    let mut pool = Schema::try_from(items.take()).expect("a pool has a schema");
    agents(&mut pool);
    pool.insert("required".into(), json!(["name", "count"]));
    for (path, field, value) in [
        ("count", "default", Value::Null),
        ("args", "maxItems", POOL_ARGS.0.into()),
        ("args/items", "maxLength", POOL_ARGS.1.into()),
        ("taints", "maxItems", POOL_TAINTS.into()),
        ("labels", "maxProperties", POOL_LABELS.into()),
    ] {
        let place = pool.pointer_mut(&format!("/properties/{path}")).expect("a pool has the field");
        let had = place[field].take();
        assert!(!had.is_null(), "{path} has {field}");
        place[field] = value;
    }
    for (field, had, has) in [
        ("args", "At most 64.", "At most 16, of at most 256 characters each."),
        ("taints", "At most 32.", "At most 8."),
        ("labels", "At most 64.", "At most 32."),
    ] {
        let told = pool.pointer_mut(&format!("/properties/{field}/description")).expect("it is described");
        let text = told.as_str().unwrap_or_default();
        assert!(text.contains(had), "the description of {field} states its limit");
        *told = text.replace(had, has).into();
    }
    *items = pool.into();
}

/// Adds the rules of names of pools.
pub fn pool_name(schema: &mut Schema) {
    add(schema, [shape(&format::POOL_NAME)].into_iter().chain(rules::hostnames::POOLS.iter().map(refused)));
}

pub fn agents_in_all() -> Rule {
    rule(
        "!has(self.agentPools) || self.agents.count + self.agentPools.map(p, p.count).sum() <= 32",
        text::AGENTS_IN_ALL,
    )
    .field_path(".agentPools")
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
    let refused =
        |r: &Refused| rule(format!("!{FLAG}.matches(r'^--?({})(=|$)')", r.regex()), r.message("--"));
    add_to_items(
        schema,
        [
            shape(&format::ARG),
            no(pattern::TWO_ARGS, text::TWO_ARGS),
            no(pattern::FILTERED_ARG, text::FILTERED_ARG),
        ]
        .into_iter()
        .chain(rules::FLAGS.iter().map(refused)),
    );
}

/// Adds the rules of environment variables of nodes.
pub fn node_env(schema: &mut Schema) {
    env(schema, rules::NODE_ENV);
}

/// Adds bounds to a map.
fn bounds(schema: &mut Schema, value: u32) {
    schema.insert("maxProperties".into(), 64.into());
    schema.pointer_mut("/additionalProperties").expect("this is a map")["maxLength"] = value.into();
}

/// Returns a rule about the keys of a map. A map has a single path for all of them, so the message names the invalid one.
fn no_key(bad: String, message: &str) -> Rule {
    let naming = Message::Expression(format!("self.filter(k, {bad})[0] + ': {message}'"));
    Rule::new(format!("!self.exists(k, {bad})")).message(naming)
}

/// Adds bounds and rules of labels of containers.
pub fn container_labels(schema: &mut Schema) {
    bounds(schema, 1024);
    let key = format!("!k.matches({})", whole(pattern::CONTAINER_LABEL));
    let value = r"self[k].matches('[\\x00-\\x1f\\x7f]')".to_owned();
    let refused = |r: &Refused| no_key(format!("k.matches({})", whole(&r.regex())), r.instead);
    add(
        schema,
        [no_key(key, text::CONTAINER_LABEL), no_key(value, text::CONTAINER_LABEL_VALUE)]
            .into_iter()
            .chain(rules::labels::CONTAINER_LABELS.iter().map(refused)),
    );
}

/// Adds bounds and rules of labels.
pub fn labels(schema: &mut Schema) {
    bounds(schema, 63);
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
    add_to_items(schema, [shape(&format::TAINT)]);
    let id =
        |t: &str| format!("{t}.split('=')[0].split(':')[0] + ' ' + {t}.substring({t}.lastIndexOf(':') + 1)");
    add(
        schema,
        [rule(format!("self.all(t, self.exists_one(u, {} == {}))", id("u"), id("t")), text::TAINT_TWICE)],
    );
}

/// Returns the expression for a quantity of memory in a text. Those of Kubernetes know no `b`, `g` and `t`, and `m` is a
/// thousandth there.
pub fn quantity(text: &str) -> String {
    format!("quantity({text}.replace('m', 'Mi').replace('g', 'Gi').replace('t', 'Ti').replace('b', ''))")
}

pub fn memory() -> Rule {
    size("6Mi", text::MEMORY)
}

/// Returns the rule for a quantity of bytes that is not below `least`.
pub fn size(least: &str, message: &str) -> Rule {
    rule(
        format!(
            "self.matches({}) && {of}.compareTo(quantity('{least}')) >= 0 && {of}.compareTo(quantity('1024Ti')) <= 0",
            whole(pattern::MEMORY),
            of = quantity("self"),
        ),
        message,
    )
}

pub fn cpus() -> Rule {
    rule(
        format!("self.matches({}) && double(self) >= 0.01 && double(self) <= 1024.0", whole(pattern::CPUS)),
        text::CPUS,
    )
}

pub fn ulimit_name() -> Rule {
    shape(&format::ULIMIT_NAME)
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
    add(schema, [shape(&format::MOUNT_PATH)].into_iter().chain(rules::MOUNTS.iter().map(refused)));
}

pub fn one_volume_source() -> Rule {
    rule("has(self.hostPath) != has(self.volumeName)", text::ONE_VOLUME_SOURCE)
}

pub fn mounts_apart() -> Rule {
    rule(
        "self.all(v, self.exists_one(w, v.mountPath == w.mountPath || v.mountPath.startsWith(w.mountPath + '/')))",
        text::MOUNTS_APART,
    )
}

pub fn gpus() -> Rule {
    shape(&format::GPUS)
}

pub fn runtime() -> Rule {
    shape(&format::RUNTIME)
}
