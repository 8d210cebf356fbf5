//! Follows `spec.manifests` to what they say.

use super::registries::Look;
use crate::{
    api::{condition::ConditionType, reason::Reason},
    controller::{context::Context, kube_io::Error},
    k3s::manifests,
    plan::{
        refs::Manifest,
        steps::Plan,
        validate::{Text, Valid},
    },
};

/// Returns all manifests of the spec. A missing or invalid one has no content and adds a problem; its objects in the
/// cluster are kept unchanged.
pub async fn resolve(
    ctx: &Context,
    namespace: &str,
    valid: &Valid,
    plan: &mut Plan,
) -> Result<Vec<Manifest>, Error> {
    let mut all = Vec::new();
    for manifest in &valid.manifests {
        let what = format!("the manifest {}", manifest.name);
        let text = Look::new(ctx, plan).text(namespace, &manifest.content, &what).await?;
        let content = text.and_then(|text| {
            let parsed = manifests::parse(&text);
            parsed
                .map_err(|why| {
                    let place = match &manifest.content {
                        Text::Inline(_) => String::new(),
                        Text::Secret(r) => format!(" (the key {} of Secret {})", r.key, r.name),
                        Text::ConfigMap(r) => format!(" (the key {} of ConfigMap {})", r.key, r.name),
                    };
                    let message = format!("{what}{place} can't be applied: {why}");
                    plan.stalls(ConditionType::ManifestsReady, Reason::ManifestInvalid, message);
                })
                .ok()
        });
        all.push(Manifest { name: manifest.name.clone(), content });
    }
    Ok(all)
}
