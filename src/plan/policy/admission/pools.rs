//! Rules for the pools of nodes of a LocalCluster, in CEL.

use super::{Cel, each, field, glob, has};
use crate::{
    api::schema,
    plan::policy::{
        judge::{CONTAINER_LABELS, NODE_VOLUMES, PRIVILEGED, RUNTIMES},
        rules::Limit,
    },
};

/// Pools of a LocalCluster with nodes. Both have types of their own.
pub(super) const POOLS: &str = "([?dyn($o).spec.?servers, ?dyn($o).spec.?agents] + \
                     dyn($o).spec.?agentPools.orValue([])).filter(v, v.?count.orValue(0) > 0)";
pub(super) const ALL_POOLS: &str =
    "([?dyn($o).spec.?servers, ?dyn($o).spec.?agents] + dyn($o).spec.?agentPools.orValue([]))";

/// Returns the rules for a limit of nodes.
pub(super) fn limits(Limit { field: name, max, quota, of: _, told: _ }: Limit) -> Vec<Cel> {
    let default = has(&format!("defaults.{name}"));
    let within = match name {
        "pids" => format!("v.{name} <= $p.{max}"),
        "memory" => {
            let [own, most] = [format!("v.{name}"), format!("$p.{max}")].map(|text| schema::quantity(&text));
            format!("{own}.compareTo({most}) <= 0")
        }
        _ => format!("quantity(v.{name}).compareTo(quantity($p.{max})) <= 0"),
    };
    let highest = Cel {
        rule: max,
        what: "the limits of a pool",
        applies: has(max),
        holds: format!("{POOLS}.all(v, has(v.{name}) ? {within} : {default})"),
        allowed: format!("'{name} must be set, at most ' + string($p.{max})"),
    };
    let set = quota.map(|(rule, _)| Cel {
        rule,
        what: "the limits of a pool",
        applies: has(rule),
        holds: format!("{POOLS}.all(v, has(v.{name}) || {default})"),
        allowed: format!("'{name} must be set'"),
    });
    [highest].into_iter().chain(set).collect()
}

pub(super) fn gpus() -> Cel {
    let rule = "perNode.maxGpus";
    Cel {
        rule,
        what: "the gpus of a pool",
        applies: has(rule),
        holds: format!("{POOLS}.all(v, !has(v.gpus) || (v.gpus != 'all' && int(v.gpus) <= $p.{rule}))"),
        allowed: format!("'at most ' + string($p.{rule})"),
    }
}

/// Returns a rule by patterns for a list in each pool.
pub(super) fn nested(rule: &'static str, what: &'static str, list: &str, value: &str) -> Cel {
    let inner = format!("v.?{list}.orValue([]).all(v, $p.{rule}.exists(a, {}))", glob(value));
    each(rule, what, ALL_POOLS, &inner)
}

/// Returns the rule by patterns for the keys of a map in each pool.
pub(super) fn labels() -> Cel {
    let allowed = format!("$p.{CONTAINER_LABELS}.exists(a, {})", glob("key"));
    let holds = format!("v.?containerLabels.orValue({{}}).all(key, {allowed})");
    each(CONTAINER_LABELS, "the containerLabels of a pool", ALL_POOLS, &holds)
}

/// Returns the rule by patterns for the Docker volumes of each pool.
pub(super) fn volumes() -> Cel {
    let allowed = format!("!has(v.volumeName) || $p.{NODE_VOLUMES}.exists(a, {})", glob("v.volumeName"));
    let holds = format!("pool.?volumes.orValue([]).all(v, {allowed})");
    let list = format!("{ALL_POOLS}.all(pool, {holds})");
    Cel { holds: list, ..each(NODE_VOLUMES, "the volumes of a pool", "[]", "true") }
}

/// A flag without a value takes it from the next argument, so a pattern with any value denies it.
pub(super) fn args() -> Cel {
    let rule = "nodes.argsDeny";
    let flag = r"'^-*\\Q' + a.split('=', 2)[0].replace('*', '\\E[^=]*\\Q') + '\\E'";
    let value =
        r"(a.contains('=') ? '(=\\Q' + a.split('=', 2)[1].replace('*', '\\E.*\\Q') + '\\E)?' : '(=.*)?')";
    let denied = format!("$p.{rule}.exists(a, arg.matches({flag} + {value} + '$'))");
    each(rule, "arguments of a pool", ALL_POOLS, &format!("v.?args.orValue([]).all(arg, !{denied})"))
}

/// Returns the rule by patterns for the OCI runtime of each pool, which the policy may set.
pub(super) fn runtimes() -> Cel {
    let allowed = format!("$p.{RUNTIMES}.exists(a, {})", glob("v.runtime"));
    let holds = format!("{POOLS}.all(v, has(v.runtime) ? {allowed} : {})", has("defaults.runtime"));
    Cel { holds, ..each(RUNTIMES, "the runtime of a pool", "[]", "true") }
}

/// Returns the rule for privileges of nodes, which the policy may set.
pub(super) fn unprivileged() -> Cel {
    let default = format!("{}.orValue(true)", field("defaults.privileged"));
    Cel {
        rule: PRIVILEGED,
        what: "privileged nodes of a pool",
        applies: format!("!{}.orValue(true)", field(PRIVILEGED)),
        holds: format!("{POOLS}.all(v, !v.?privileged.orValue({default}))"),
        allowed: "'privileged must be false'".into(),
    }
}
