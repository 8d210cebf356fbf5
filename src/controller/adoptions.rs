//! What the objects of this management cluster adopt, by their annotations.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::context::Context;
use crate::{
    api::ADOPTS_ANNOTATION,
    plan::{
        adoption::{self, Adoptions, Claim, Consent, Pair},
        kind::Kind,
        owner::Owner,
    },
};

impl Context {
    /// Returns what all objects adopt. Objects that cannot be decoded keep what they have.
    pub fn adoptions(&self) -> Adoptions {
        let (clusters, registries) = (self.clusters.state(), self.registries.state());
        let clusters = clusters.iter().map(|guard| (Kind::LocalCluster, guard.meta()));
        let registries = registries.iter().map(|guard| (Kind::Registry, guard.meta()));
        let all: Vec<_> = clusters.chain(registries).collect();
        let claims = all.iter().map(|(kind, meta)| (*kind, *meta, pairs(meta)));
        let claims = claims.filter(|(_, _, pairs)| !pairs.is_empty());
        let claims =
            claims.map(|(kind, meta, pairs)| Claim { kind, owner: owner(meta, &self.manager), pairs });
        let claims: Vec<Claim> = claims.collect();
        if claims.is_empty() {
            return Adoptions::default();
        }
        let living = all.iter().filter_map(|(_, meta)| meta.uid.clone()).collect();
        let policies = self.policies.all();
        let consent =
            |namespace: &str, manager: &str| Consent::of(&self.policy_of(&policies, namespace), manager);
        self.policies.adopting(|consent| Adoptions::of(claims, &living, consent), consent)
    }
}

/// Returns the owner that an object is on the Docker host.
pub(super) fn owner(meta: &ObjectMeta, manager: &str) -> Owner {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Owner {
        uid: text(&meta.uid),
        manager: manager.to_owned(),
        object: format!("{}/{}", text(&meta.namespace), text(&meta.name)),
    }
}

fn pairs(meta: &ObjectMeta) -> BTreeSet<Pair> {
    let annotation = meta.annotations.as_ref().and_then(|all| all.get(ADOPTS_ANNOTATION));
    annotation.map(|text| adoption::parse(text).0).unwrap_or_default()
}
