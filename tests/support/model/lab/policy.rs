//! The policy of the lab: what it permits of every plan, and what must hold of all that is done.

use localcluster_operator::{
    api::{LocalCluster, LocalClusterSpec},
    docker::spec::Role,
    k3s::images::canonical,
    plan::policy::{
        judge, parse,
        permit::Gate,
        restrain::restrain,
        rules::{Rules, any},
        standing::Standing,
    },
};

use super::*;

impl Lab {
    /// Sets the policy, given as the YAML of its spec without a selector.
    pub fn set_policy(&mut self, yaml: &str) {
        let spec = serde_saphyr::from_str(&format!("{{namespaceSelector: {{}}, {yaml}}}")).unwrap();
        let policy = parse::policy("teams", &spec);
        assert_eq!(policy.errors, [""; 0], "{yaml}");
        self.policy = Some(policy);
    }

    fn rules(&self) -> Standing {
        let Some(policy) = &self.policy else { return Standing::default() };
        Standing { policy: Some(policy.name.clone()), rules: policy.rules.clone(), ..Standing::default() }
    }

    /// Where a cluster stands.
    pub fn standing(&self, object: &ClusterObject) -> Standing {
        let standing = self.rules();
        if self.policy.is_none() {
            return standing;
        }
        let valid = validate::local_cluster(&object.namespace, &object.name, &object.spec).unwrap();
        let mut cluster = LocalCluster::new(&object.name, LocalClusterSpec::clone(&object.spec));
        cluster.metadata.namespace = Some(object.namespace.clone());
        cluster.status = Some(object.status.clone());
        let violations = judge::cluster(&standing.rules, &cluster, &valid, &self.settings);
        standing.judged(&violations)
    }

    pub(super) fn registry_standing(&self, object: &RegistryObject) -> Standing {
        let standing = self.rules();
        let (namespace, name) = (object.namespace.as_str(), object.name.as_str());
        let valid = validate::registry(namespace, name, &object.spec).unwrap();
        let violations = judge::registry(&standing.rules, (namespace, name), &valid, &self.settings);
        standing.judged(&violations)
    }

    /// Takes out of a plan what the policy does not permit. Without a policy everything that is planned is permitted.
    pub(super) fn gated(
        &self,
        plan: &mut Plan,
        owner: &Owner,
        observed: &Observed,
        (standing, keep): (Option<&Standing>, BTreeSet<String>),
    ) {
        let gate = Gate {
            owner,
            host: observed,
            settings: &self.settings,
            standing,
            keep,
            proven: observed.usable_images(),
        };
        if self.policy.is_none() {
            for step in &plan.steps {
                assert_eq!(gate.permit(&step.action), Ok(()), "{}", step.action);
            }
        }
        restrain(plan, &gate);
        // What the executor does not do.
        assert!(plan.steps.iter().all(|step| gate.permit(&step.action).is_ok()));
        let enforced = self.policy.as_ref().filter(|policy| !policy.rules.audit);
        if let (Some(policy), Some(_)) = (enforced, gate.standing) {
            for step in &plan.steps {
                assert!(is_within(&policy.rules, &step.action), "outside its policy: {:?}", step.action);
            }
        }
    }

    pub(super) fn restrain(&self, index: usize, look: &mut Look) {
        let object = &self.clusters[index];
        let standing = self.standing(object);
        let desired = look
            .whole
            .iter()
            .flat_map(|w| w.desired.nodes().map(|n| &n.container).chain([&w.desired.load_balancer]));
        let keep: BTreeSet<String> = desired.map(|container| container.name.clone()).collect();
        let standing = (!object.deleted).then_some(&standing);
        self.gated(&mut look.plan, &look.owner, &look.observed, (standing, keep));
        if let Some(whole) = &mut look.whole {
            whole.decision.plan.clone_from(&look.plan);
        }
        self.takes_nothing_for_good(index, look);
    }

    /// Nothing is made of an object that violates its policy, and what cannot be made again is not taken away.
    fn takes_nothing_for_good(&self, index: usize, look: &Look) {
        let object = &self.clusters[index];
        let frozen = !object.deleted && self.standing(object).problem.is_some();
        let wanted: BTreeSet<&str> =
            look.whole.iter().flat_map(|w| w.desired.nodes().map(|n| n.container.name.as_str())).collect();
        for step in &look.plan.steps {
            let makes = matches!(
                step.action,
                Action::CreateContainer { .. } | Action::CreateNetwork(_) | Action::CreateVolume(_)
            );
            assert!(!(frozen && makes), "{} although frozen", step.action);
            let takes = matches!(&step.action, Action::RemoveContainer { container } if wanted.contains(container.name.as_str()));
            assert!(!(frozen && takes), "{} although frozen", step.action);
        }
    }
}

/// Whether a step is within a policy, by what the policy says and not by the code that permits steps.
fn is_within(rules: &Rules, action: &Action) -> bool {
    match action {
        Action::CreateNetwork(spec) => rules.pools.as_ref().is_none_or(|pools| {
            spec.addressing.as_ref().is_some_and(|a| pools.iter().any(|pool| pool.contains(&a.subnet)))
        }),
        Action::CreateContainer { spec, .. } => {
            let node = matches!(spec.role, Role::Node(_));
            let image = !node || rules.node_images.as_ref().is_none_or(|i| any(i, &canonical(&spec.image)));
            let digest = !(node && rules.node_digest) || spec.image.contains('@');
            let (has, max) = (spec.limits(), rules.max);
            let within = |has: Option<i64>, max: Option<i64>| {
                !node || max.is_none_or(|max| has.is_some_and(|has| has <= max))
            };
            let limits = within(has.memory, max.memory)
                && within(has.nano_cpus, max.nano_cpus)
                && within(has.pids, max.pids);
            let isolated = !node
                || (rules
                    .runtimes
                    .as_ref()
                    .is_none_or(|all| spec.runtime.as_ref().is_some_and(|r| any(all, r)))
                    && !(rules.unprivileged && spec.privileged));
            let ports = spec.ports.iter().all(|port| {
                rules.ranges.as_ref().is_none_or(|all| all.iter().any(|r| r.contains(&port.host_port)))
            });
            let never_started = matches!(spec.role, Role::NodeHelper | Role::RegistryHelper);
            let binds = never_started
                || rules.host_paths.as_ref().is_none_or(|paths| {
                    spec.binds.values().all(|b| paths.iter().any(|p| b.source.starts_with(&p.source)))
                });
            image && digest && limits && isolated && ports && binds
        }
        _ => true,
    }
}
