//! What the API server takes and refuses of pools and claims.

use super::*;

const POOL: &str = "LocalClusterPool";
const CLAIM: &str = "LocalClusterClaim";

/// What has to be refused: kind, name, spec, and what the refusal says.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (POOL, "ci", "{replicas: -1}", "greater than or equal to 0"),
    (POOL, "ci", "{replicas: 51}", "less than or equal to 50"),
    (POOL, "ci", "{standby: Paused}", "Unsupported value"),
    (POOL, "ci", "{maxAge: 1d}", text::LIFETIME),
    (POOL, "ci", "{template: {spec: {clusterName: one}}}", text::TEMPLATE_NAME),
    (POOL, "ci", "{template: {spec: {network: {subnet: 10.44.0.0/16}}}}", text::TEMPLATE_NAME),
    // The rules of LocalClusters are those of the template.
    (POOL, "ci", "{template: {spec: {servers: {count: 2}}}}", text::SERVERS),
    (POOL, "ci", "{template: {spec: {ports: [{name: a, port: 6443}]}}}", text::API_PORT),
    (POOL, "a.b", "{}", text::POOL_OBJECT_NAME),
    (POOL, "a234567890123456789012345678901234567890123456789012345678", "{}", text::POOL_OBJECT_NAME),
    (CLAIM, "one", "{}", "Required value"),
    (CLAIM, "one", "{poolName: Ci}", text::OBJECT_NAME),
    (CLAIM, "one", "{poolName: ci, lifetime: 0h}", text::LIFETIME),
    (
        CLAIM,
        "one",
        "{poolName: ci, ports: [{name: a, port: 80, hostPort: 8080}, {name: b, port: 81, hostPort: 8080}]}",
        text::HOST_PORT_TWICE,
    ),
    (
        CLAIM,
        "a234567890123456789012345678901234567890123456789012345678901234",
        "{poolName: ci}",
        text::CLAIM_NAME,
    ),
];

#[test]
fn pools_and_claims_are_refused_with_what_to_write_instead() {
    let server = Server::new("pools-bad");
    for (kind, name, spec, says) in REFUSED {
        server.must_refuse_object(&object(kind, name, spec), says);
    }
}

#[test]
fn pools_and_claims_are_taken_changed_and_scaled() {
    let server = Server::new("pools");
    server.must_with(&["create", "-f", "-"], &object(POOL, "ci", "{}"));
    let pool = server.get("lcpool/ci");
    assert_eq!((&pool["spec"]["replicas"], &pool["spec"]["standby"]), (&json!(1), &json!("Running")));
    // What a LocalCluster never changes, a template may.
    for change in [
        r#"{"spec": {"template": {"spec": {"token": {"secretName": "a", "key": "b"}}}}}"#,
        r#"{"spec": {"template": {"spec": {"token": {"secretName": "c", "key": "b"}}, "metadata": {"labels": {"a": "b"}}}}}"#,
        r#"{"spec": {"standby": "Stopped", "maxAge": "24h", "replicas": 0}}"#,
    ] {
        server.must(&["patch", "lcpool/ci", "--type=merge", "-p", change]);
    }
    server.must(&["scale", "lcpool/ci", "--replicas=3"]);
    assert_eq!(server.get("lcpool/ci")["spec"]["replicas"], 3);

    let spec = "{poolName: ci, lifetime: 8h, ports: [{name: http, port: 80}]}";
    server.must_with(&["create", "-f", "-"], &object(CLAIM, "one", spec));
    let change = |patch: &str, says: &str| {
        server.must_refuse(&["patch", "lcclaim/one", "--type=merge", "-p", patch], "", says);
    };
    change(r#"{"spec": {"poolName": "other"}}"#, "poolName is immutable");
    change(r#"{"spec": {"ports": null}}"#, "ports is immutable");
    server.must(&["patch", "lcclaim/one", "--type=merge", "-p", r#"{"spec": {"lifetime": "9h"}}"#]);

    let header = |what: &str| {
        let table = server.must(&["get", what]);
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(header("lcpool"), "NAME READY REASON DESIRED AVAILABLE CLAIMED WAITING AGE");
    assert_eq!(header("lcclaim"), "NAME READY REASON POOL CLUSTER ENDPOINT EXPIRES AGE");
}
