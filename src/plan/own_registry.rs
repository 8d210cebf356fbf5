//! The Registry of a LocalCluster with `spec.registries.create`.

use kube::api::ObjectMeta;

use super::{
    owner::Owner,
    steps::{Action, Plan},
};
use crate::api::{
    ADOPTS_ANNOTATION, LocalCluster, Registry, RegistrySpec,
    condition::ConditionType,
    names,
    placement::{Data, Placement},
    reason::Reason,
    uses::is_owned,
};

/// A desired Registry in the namespace of its owner, which it is deleted with.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnRegistry {
    /// Name of the Registry.
    pub name: String,
    /// LocalCluster that owns it.
    pub owner: Owner,
    /// Its spec.
    pub spec: RegistrySpec,
    /// What the LocalCluster adopts, which it adopts too. It has this of its own, since it outlives the LocalCluster.
    pub adopts: Option<String>,
}

/// Returns the name of the cluster's own Registry.
pub fn name(owner: &Owner) -> String {
    names::own_registry(owner.name())
}

/// Plans the creation, update or deletion of the cluster's own Registry. `existing` is the Registry with its name.
pub fn plan(plan: &mut Plan, cluster: &LocalCluster, owner: &Owner, existing: Option<&Registry>) {
    let name = name(owner);
    let ours = existing.filter(|registry| is_owned(cluster, registry));
    let Some(spec) = &cluster.spec.registries.create else {
        if let Some(registry) = ours.filter(|r| r.metadata.deletion_timestamp.is_none()) {
            let uid = registry.metadata.uid.clone().unwrap_or_default();
            let action = Action::DeleteRegistry { namespace: owner.namespace().to_owned(), name, uid };
            plan.step(action, &[], "spec.registries.create was removed");
        }
        return;
    };
    let spec = &placed(spec, cluster);
    let adopts = |meta: &ObjectMeta| meta.annotations.as_ref()?.get(ADOPTS_ANNOTATION).cloned();
    let wanted = adopts(&cluster.metadata);
    let is_adopting = |registry: &Registry| wanted.is_none() || adopts(&registry.metadata) == wanted;
    let why = match (existing, ours) {
        (Some(_), None) => {
            let message = format!(
                "the Registry {name} exists and is not this cluster's own: name it in spec.registries.use instead, or \
                 rename one of the two"
            );
            plan.stalls(ConditionType::ResolvedRefs, Reason::NameConflict, message);
            return;
        }
        (Some(registry), Some(_)) if registry.spec == *spec && is_adopting(registry) => return,
        (Some(registry), Some(_)) if registry.spec == *spec => {
            "its cluster takes over what an earlier one left"
        }
        (Some(_), Some(_)) => "spec.registries.create changed",
        (None, _) => "it did not exist",
    };
    let registry = OwnRegistry { name, owner: owner.clone(), spec: spec.clone(), adopts: wanted };
    plan.step(Action::ApplyRegistry(Box::new(registry)), &[], why);
}

/// Returns the spec with the placement that it gets if it has none: the Registry follows its cluster, so it may be made anew
/// elsewhere where the cluster may.
fn placed(spec: &RegistrySpec, cluster: &LocalCluster) -> RegistrySpec {
    let of_cluster = cluster.spec.placement.as_ref().filter(|placement| placement.data == Data::Ephemeral);
    let follows = of_cluster.map(|placement| Placement {
        data: placement.data,
        host_loss: placement.host_loss,
        ..Placement::default()
    });
    RegistrySpec { placement: spec.placement.clone().or(follows), ..spec.clone() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    use super::*;
    use crate::api::LocalClusterSpec;

    /// Returns the steps and problems for a cluster with or without `spec.registries.create`.
    fn planned(create: bool, existing: Option<&Registry>) -> (Vec<String>, Vec<String>) {
        let mut cluster = LocalCluster::new("dev", LocalClusterSpec::default());
        cluster.metadata.uid = Some("cluster".into());
        cluster.spec.registries.create = create.then(RegistrySpec::default);
        let owner = Owner { uid: "cluster".into(), manager: "m".into(), object: "team/dev".into() };
        let mut made = Plan::default();
        plan(&mut made, &cluster, &owner, existing);
        let steps = made.steps.iter().map(|s| format!("{} ({})", s.action, s.why)).collect();
        (steps, made.problems.iter().map(|p| format!("{}: {}", p.reason, p.message)).collect())
    }

    fn registry(of: Option<&str>) -> Registry {
        let mut registry = Registry::new("dev-registry", RegistrySpec::default());
        registry.metadata.uid = Some("registry".into());
        registry.metadata.owner_references =
            of.map(|uid| vec![OwnerReference { uid: uid.into(), ..OwnerReference::default() }]);
        registry
    }

    #[test]
    fn it_is_as_the_spec_says() {
        assert_eq!(planned(true, None).0, ["ApplyRegistry dev-registry (it did not exist)"]);
        let mut own = registry(Some("cluster"));
        assert_eq!(planned(true, Some(&own)), (vec![], vec![]));
        own.spec.delete_enabled = !own.spec.delete_enabled;
        assert_eq!(
            planned(true, Some(&own)).0,
            ["ApplyRegistry dev-registry (spec.registries.create changed)"]
        );
    }

    #[test]
    fn it_may_be_made_anew_where_its_cluster_may() {
        let follows = |data: Data, own: Option<Placement>| {
            let mut dev = LocalCluster::new("dev", LocalClusterSpec::default());
            dev.spec.placement = Some(Placement { data, ..Placement::default() });
            placed(&RegistrySpec { placement: own, ..RegistrySpec::default() }, &dev)
                .placement
                .map(|p| p.data)
        };
        assert_eq!(follows(Data::Ephemeral, None), Some(Data::Ephemeral));
        assert_eq!(
            follows(Data::Ephemeral, Some(Placement::default())),
            Some(Data::Sticky),
            "it says otherwise"
        );
        assert_eq!(follows(Data::Sticky, None), None);
    }

    #[test]
    fn it_takes_over_what_the_cluster_takes_over() {
        let annotated = |text: &str| Some([(ADOPTS_ANNOTATION.to_owned(), text.to_owned())].into());
        let adopted = |cluster: Option<&str>, own: Option<&str>| {
            let mut dev = LocalCluster::new("dev", LocalClusterSpec::default());
            dev.metadata.uid = Some("cluster".into());
            dev.metadata.annotations = cluster.and_then(annotated);
            dev.spec.registries.create = Some(RegistrySpec::default());
            let owner = Owner { uid: "cluster".into(), manager: "m".into(), object: "team/dev".into() };
            let mut registry = registry(Some("cluster"));
            registry.metadata.annotations = own.and_then(annotated);
            let mut made = Plan::default();
            plan(&mut made, &dev, &owner, Some(&registry));
            made.steps.into_iter().next().map(|step| match step.action {
                Action::ApplyRegistry(registry) => registry.adopts.unwrap_or_default(),
                other => panic!("{other}"),
            })
        };
        assert_eq!(adopted(Some("u@m"), None).as_deref(), Some("u@m"));
        assert_eq!(adopted(Some("u@m"), Some("u@m")), None);
        assert_eq!(adopted(None, Some("of a user")), None);
    }

    #[test]
    fn it_is_deleted_once_it_is_no_longer_desired() {
        let mut own = registry(Some("cluster"));
        assert_eq!(
            planned(false, Some(&own)).0,
            ["DeleteRegistry dev-registry (spec.registries.create was removed)"]
        );
        own.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(planned(false, Some(&own)), (vec![], vec![]));
        assert_eq!(planned(false, None), (vec![], vec![]));
    }

    #[test]
    fn a_registry_of_somebody_else_is_left_alone() {
        for owner in [None, Some("another")] {
            let foreign = registry(owner);
            assert_eq!(planned(false, Some(&foreign)), (vec![], vec![]));
            let (steps, problems) = planned(true, Some(&foreign));
            assert!(steps.is_empty(), "{steps:?}");
            assert!(
                problems[0].starts_with("NameConflict: the Registry dev-registry exists"),
                "{problems:?}"
            );
        }
    }
}
