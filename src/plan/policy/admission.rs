//! ValidatingAdmissionPolicies for what a HostPolicy does not allow: an early word at `kubectl apply`, and not the fence.
//!
//! They contain the rules for which the spec alone decides, and refuse nothing that [`judge`](super::judge) allows. A rule
//! that an object violated before does not refuse its updates, as the operator keeps such an object.

mod pools;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicySpec, Validation,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use pools::{ALL_POOLS, args, gpus, labels, limits, nested, runtimes, unprivileged, volumes};

use super::{
    judge::{ACCESS, AUTH, JOIN, TOKEN_TTL},
    rules::LIMITS,
};
use crate::{
    api::HOLD_ANNOTATION,
    plan::{expiry, validate::TOKEN_LIFE},
};

/// Namespace and name of the operator's ServiceAccount, which creates Registries for LocalClusters that were admitted.
const OPERATOR: &str = "system:serviceaccount:localcluster-system:localcluster-operator";

/// Expression that is true if the policy refuses nothing.
const AUDITS: &str = "$p.?mode.orValue('Enforce') == 'Audit'";

/// A rule in CEL. `$o` is the object, `$p` the spec of the HostPolicy.
struct Cel {
    /// Field of the policy.
    rule: &'static str,
    /// What it does not allow.
    what: &'static str,
    /// Expression that is true if the policy has the rule.
    applies: String,
    /// Expression that is true if the object follows it.
    holds: String,
    /// Expression of what is allowed, a text.
    allowed: String,
}

/// Returns the policies for both kinds.
pub fn policies() -> [ValidatingAdmissionPolicy; 2] {
    let of_clusters = clusters().into_iter().chain(registries("[?$o.spec.?registries.?create]"));
    let of_registries = registries("[$o.spec]").into_iter().chain([digest_of_registry()]);
    [policy("localclusters", of_clusters.chain([hold()])), policy("registries", of_registries)]
}

fn policy(plural: &str, rules: impl Iterator<Item = Cel>) -> ValidatingAdmissionPolicy {
    let group = "localcluster.dev";
    let text = |text: &str| Some(vec![text.to_owned()]);
    let resources = NamedRuleWithOperations {
        api_groups: text(group),
        api_versions: text("v1alpha1"),
        operations: Some(vec!["CREATE".into(), "UPDATE".into()]),
        resources: text(plural),
        ..NamedRuleWithOperations::default()
    };
    ValidatingAdmissionPolicy {
        metadata: ObjectMeta { name: Some(format!("{plural}.{group}")), ..ObjectMeta::default() },
        spec: Some(ValidatingAdmissionPolicySpec {
            // The operator refuses what is not refused here.
            failure_policy: Some("Ignore".into()),
            param_kind: Some(ParamKind {
                api_version: Some(format!("{group}/v1alpha1")),
                kind: Some("HostPolicy".into()),
            }),
            match_constraints: Some(MatchResources {
                resource_rules: Some(vec![resources]),
                ..MatchResources::default()
            }),
            match_conditions: Some(vec![MatchCondition {
                name: "not-the-operator".into(),
                expression: format!("request.userInfo.username != '{OPERATOR}'"),
            }]),
            validations: Some(rules.map(|rule| rule.validation()).collect()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        ..ValidatingAdmissionPolicy::default()
    }
}

impl Cel {
    fn validation(&self) -> Validation {
        let Self { rule, what, applies, holds, allowed } = self;
        let of = |object: &str| holds.replace("$o", object);
        let (now, before) = (of("object"), of("oldObject"));
        let expression = format!("{AUDITS} || !({applies}) || ({now}) || (oldObject != null && !({before}))");
        let advice = "change the spec, or have an administrator change the policy";
        let message = format!(
            "'the HostPolicy ' + params.metadata.name + ' does not allow {what} ({rule}: ' + {allowed} + '); {advice}'"
        );
        Validation {
            expression: expression.replace("$p", "params.spec"),
            message: Some(format!(
                "the HostPolicy of this namespace does not allow {what} ({rule}); {advice}"
            )),
            message_expression: Some(message.replace("$p", "params.spec")),
            reason: Some("Forbidden".into()),
        }
    }
}

/// Returns the optional value of a field of the policy.
fn field(path: &str) -> String {
    path.split('.').fold("$p".to_owned(), |parent, name| format!("{parent}.?{name}"))
}

fn has(path: &str) -> String {
    format!("{}.hasValue()", field(path))
}

/// Returns a rule that requires something of all elements of a list, which the expression calls `v`.
fn each(rule: &'static str, what: &'static str, list: &str, holds: &str) -> Cel {
    Cel {
        rule,
        what,
        applies: has(rule),
        holds: format!("{list}.all(v, {holds})"),
        allowed: format!("($p.{rule}.size() == 0 ? 'none' : $p.{rule}.join(', '))"),
    }
}

/// Returns an expression that is true if a pattern `a`, in which `*` matches any text, matches a whole value.
fn glob(value: &str) -> String {
    let quoted = r"a.replace('{namespace}', $o.metadata.namespace).replace('*', '\\E.*\\Q')";
    format!(r"{value}.matches('^\\Q' + {quoted} + '\\E$')")
}

/// Returns a rule by patterns.
fn patterns(rule: &'static str, what: &'static str, list: &str, value: &str) -> Cel {
    each(rule, what, list, &format!("$p.{rule}.exists(a, {})", glob(value)))
}

const PORTS: &str = "$o.spec.?ports.orValue([])";
const LOOPBACK: &str = "'127.0.0.1'";

fn clusters() -> Vec<Cel> {
    let mut all: Vec<Cel> = LIMITS.into_iter().flat_map(limits).collect();
    let ip = format!("v.?hostIP.orValue({LOOPBACK}) in $p.ports.hostIPs");
    all.extend([
        each("ports.hostIPs", "the hostIP of spec.api", "[?$o.spec.?api]", &ip),
        each("ports.hostIPs", "the hostIP of spec.ports", PORTS, &ip),
        ranges("the hostPort of spec.api", "[?$o.spec.?api]", "v.hostPort"),
        ranges("the hostPort of spec.ports", PORTS, "v.hostPort"),
        // Of a range, the last one too.
        ranges("the hostPort of spec.ports", PORTS, "v.hostPort + v.?endPort.orValue(v.port) - v.port"),
        gpus(),
        runtimes(),
        unprivileged(),
        access(),
        token_ttl(),
        digest(),
        args(),
        labels(),
        volumes(),
        nested("nodes.env", "variables of a pool", "env", "v.name"),
        patterns("clusterNames", "spec.clusterName", "[?$o.spec.?clusterName]", "v"),
        patterns(
            "containers",
            "spec.registries.containers",
            "$o.spec.?registries.?containers.orValue([])",
            "v.name",
        ),
        Cel {
            rule: "network.explicitSubnet",
            what: "spec.network.subnet",
            applies: format!("!{}.orValue(true)", field("network.explicitSubnet")),
            holds: "!$o.spec.?network.?subnet.hasValue()".into(),
            allowed: "'must not be set'".into(),
        },
        patterns(JOIN, "spec.network.join", "$o.spec.?network.?join.orValue([])", "v"),
        each(
            "network.pools",
            "spec.network.subnet",
            "[?$o.spec.?network.?subnet]",
            "$p.network.pools.exists(a, cidr(a).containsCIDR(v))",
        ),
        host_paths(
            "the volumes of a pool",
            (&format!("{ALL_POOLS}.all(pool, pool.?volumes.orValue([]).filter(v, has(v.hostPath))"), ")"),
            "(v.?readOnly.orValue(false) || !a.?readOnly.orValue(false))",
        ),
        Cel {
            rule: "maxTTL",
            what: "this time to live",
            applies: has("maxTTL"),
            holds: format!(
                "$o.spec.?ttl.hasValue() ? duration($o.spec.ttl) <= duration($p.maxTTL) : {}",
                has("defaults.ttl")
            ),
            allowed: "'spec.ttl must be set, at most ' + $p.maxTTL".into(),
        },
    ]);
    all
}

fn digest() -> Cel {
    Cel {
        rule: "nodes.requireDigest",
        what: "an image without a digest",
        applies: format!("{}.orValue(false)", field("nodes.requireDigest")),
        // A cluster that exists keeps its default.
        holds: "$o.spec.?image.orValue($o.?status.?defaultImage.orValue($o.?status.?image.orValue(''))).contains('@sha256:')".into(),
        allowed: "'set spec.image to NAME:TAG@sha256:DIGEST'".into(),
    }
}

fn access() -> Cel {
    Cel {
        rule: ACCESS,
        what: "spec.kubeconfig.access",
        applies: has(ACCESS),
        holds: format!("$o.spec.?kubeconfig.?access.orValue('Admin') in $p.{ACCESS}"),
        allowed: format!("$p.{ACCESS}.join(', ')"),
    }
}

/// Without a life, Admin has a certificate, and others a token with the default one.
fn token_ttl() -> Cel {
    let (access, max) = ("$o.spec.?kubeconfig.?access.orValue('Admin')", format!("duration($p.{TOKEN_TTL})"));
    let set = format!("duration($o.spec.kubeconfig.ttl) <= {max}");
    let default = format!("duration('{}') <= {max}", expiry::text(TOKEN_LIFE));
    let unset = format!("{} || ({access} != 'Admin' && {default})", has("defaults.kubeconfigTTL"));
    Cel {
        rule: TOKEN_TTL,
        what: "the life of the token in the kubeconfig",
        applies: has(TOKEN_TTL),
        holds: format!("{access} == 'None' || ($o.spec.?kubeconfig.?ttl.hasValue() ? {set} : ({unset}))"),
        allowed: format!("'spec.kubeconfig.ttl must be set, at most ' + $p.{TOKEN_TTL}"),
    }
}

fn ranges(what: &'static str, list: &str, port: &str) -> Cel {
    Cel {
        allowed: "$p.ports.ranges.map(a, string(a.from) + '-' + string(a.to)).join(', ')".into(),
        ..each(
            "ports.ranges",
            what,
            list,
            &format!("!has(v.hostPort) || $p.ports.ranges.exists(a, a.from <= {port} && {port} <= a.to)"),
        )
    }
}

/// Returns the rule for host directories of a list, which is between two parts of the expression. `writes` is true if what
/// is written may be.
fn host_paths(what: &'static str, (list, end): (&str, &str), writes: &str) -> Cel {
    let below = "(v.hostPath == a.path || v.hostPath.startsWith(a.path + '/'))";
    let holds = format!("{list}.all(v, $p.hostPaths.exists(a, {below} && {writes})){end}");
    let allowed = "($p.hostPaths.size() == 0 ? 'none' : $p.hostPaths.map(a, a.path + \
                   (a.?readOnly.orValue(false) ? ' (read-only)' : '')).join(', '))";
    Cel { rule: "hostPaths", what, applies: has("hostPaths"), holds, allowed: allowed.into() }
}

/// Returns the rules for Registries in a list.
fn registries(list: &str) -> Vec<Cel> {
    let ip = format!("v.?hostIP.orValue({LOOPBACK})");
    let stored = |field: &str| format!("{list}.filter(v, v.?storage.?{field}.hasValue()).map(v, v.storage)");
    vec![
        each("ports.hostIPs", "the hostIP of a registry", list, &format!("{ip} in $p.ports.hostIPs")),
        ranges("the hostPort of a registry", list, "v.hostPort"),
        Cel {
            rule: AUTH,
            what: "a registry without auth",
            applies: format!("{}.orValue(false)", field(AUTH)),
            holds: format!("{list}.all(v, has(v.auth) || {ip}.startsWith('127.'))"),
            allowed: format!("'set auth, or hostIP ' + {LOOPBACK}"),
        },
        Cel {
            rule: "quota.memory",
            what: "a registry without memory",
            applies: has("quota.memory"),
            holds: format!("{list}.all(v, has(v.memory))"),
            allowed: "'must be set'".into(),
        },
        each(
            "registry.remoteURLs",
            "the remoteURL of a registry",
            &format!("{list}.filter(v, v.?proxy.hasValue()).map(v, v.proxy.remoteURL)"),
            "$p.registry.remoteURLs.exists(a, a == v || a == v + '/' || a + '/' == v)",
        ),
        patterns("registry.volumes", "the volumeName of a registry", &stored("volumeName"), "v.volumeName"),
        host_paths("the hostPath of a registry", (&stored("hostPath"), ""), "!a.?readOnly.orValue(false)"),
    ]
}

/// The default is the image of the operator, which may have a digest.
fn digest_of_registry() -> Cel {
    let rule = "registry.requireDigest";
    Cel {
        rule,
        what: "an image without a digest",
        applies: format!("{}.orValue(false)", field(rule)),
        holds: "$o.spec.?image.orValue('@sha256:').contains('@sha256:')".into(),
        allowed: "'set image to NAME:TAG@sha256:DIGEST'".into(),
    }
}

fn hold() -> Cel {
    let held = format!("$o.metadata.?annotations[?'{HOLD_ANNOTATION}'].orValue('false') == 'false'");
    Cel {
        rule: "maxTTL",
        what: "the annotation localcluster.dev/hold",
        applies: has("maxTTL"),
        holds: held,
        allowed: "'must not be set'".into(),
    }
}

/// Returns the file with both policies.
pub fn file() -> Result<String, String> {
    let head = "# Generated from the rules of HostPolicies. A ValidatingAdmissionPolicyBinding puts them into effect for the\n\
                # namespaces of a HostPolicy, see docs/tenancy.md.\n";
    let mut text = head.to_owned();
    for (index, policy) in policies().iter().enumerate() {
        let separator = if index > 0 { "---\n" } else { "" };
        let policy = serde_json::to_value(policy).map_err(|error| error.to_string())?;
        let yaml = serde_saphyr::to_string(&policy).map_err(|error| error.to_string())?;
        text.push_str(separator);
        text.push_str(&yaml);
    }
    Ok(text)
}

/// Returns the fields of policies that the policies for admission know, with the number of rules for each.
pub fn fields() -> BTreeMap<&'static str, usize> {
    let all = clusters().into_iter().chain(registries("")).chain([digest_of_registry(), hold()]);
    all.fold(BTreeMap::new(), |mut fields, rule| {
        *fields.entry(rule.rule).or_default() += 1;
        fields
    })
}
