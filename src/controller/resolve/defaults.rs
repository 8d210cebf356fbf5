//! Reads the Registries that the HostPolicy of the namespace names for all clusters.

use kube::runtime::reflector::ObjectRef;

use super::registries::Look;
use crate::{
    api::{LocalCluster, Registry},
    controller::{kube_io::Error, pass::Pass},
    plan::{
        default_registries::{self, Use},
        host_aliases,
        observed::Host,
        refs::{Refs, UsedRegistry},
        steps::Plan,
        validate::{RegistryKey, Valid},
    },
};

/// Adds the Registries that the policy names and the spec does not. While the policy is unknown, nodes and networks stay
/// unchanged if the cluster has any.
pub(super) async fn add(
    pass: &Pass<'_, LocalCluster>,
    valid: &Valid,
    observed: &Host,
    refs: &mut Refs,
) -> Result<(), Error> {
    let namespace = pass.owner.namespace();
    let status = pass.object.status.as_ref();
    let had = status.map(|status| default_registries::had(status, namespace)).unwrap_or_default();
    if pass.standing.is_unknown() {
        refs.keep(had);
        return Ok(());
    }
    let policy = pass.standing.policy.as_deref().unwrap_or_default();
    let host = pass.ctx.hosting.as_ref().map(|hosting| hosting.node.as_str());
    for key in &default_registries::others(&pass.standing.rules.default_registries, valid) {
        let object = ObjectRef::new(&key.name).within(&key.namespace);
        let Some(guard) = pass.ctx.registries.get(&object) else { continue };
        let Ok(registry) = &guard.0 else {
            let name = format!("{}/{}", key.namespace, key.name);
            refs.keep(had.iter().filter(|had| **had == name).cloned().collect());
            continue;
        };
        match default_registries::judge(registry, policy, namespace) {
            Use::Yes => match read(pass, (key, registry), valid, observed).await? {
                Ok(used) => {
                    // Its status may have been lost.
                    let made = observed.containers.iter().find_map(|c| used.port_of(c));
                    if made.is_some() || default_registries::has_run(registry, host) {
                        let host_port = used.host_port.or(made);
                        refs.registries.push(UsedRegistry { by_default: true, host_port, ..used });
                    }
                }
                Err(why) => refs.warnings.push(default_registries::unused(registry, policy, &why)),
            },
            Use::No => {}
            Use::Never(why) => refs.warnings.push(why),
        }
    }
    Ok(())
}

/// Returns the contents of a Registry, or why the cluster cannot use it, which is no problem of the cluster.
async fn read(
    pass: &Pass<'_, LocalCluster>,
    (key, registry): (&RegistryKey, &Registry),
    valid: &Valid,
    observed: &Host,
) -> Result<Result<UsedRegistry, String>, Error> {
    let mut plan = Plan::default();
    let mut look = Look::new(pass.ctx, &mut plan);
    let used = look.registry(pass.owner.namespace(), key, registry, observed).await?;
    if let Some(problem) = plan.problems.into_iter().next() {
        return Ok(Err(problem.message));
    }
    let taken = host_aliases::taken(&valid.host_aliases, std::slice::from_ref(&used));
    Ok(taken.into_iter().next().map_or(Ok(used), Err))
}
