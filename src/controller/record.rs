//! Keeps the record of an object in one of its containers, see [`record`].

use kube::core::object::HasSpec;
use serde::Serialize;

use super::{
    pass::{Managed, Pass},
    sizes,
};
use crate::plan::{observed::Host, record, steps::Plan};

/// Plans the record of an object in its container with this name, once nothing else is left to do. Of an object that
/// violates its policy, the last spec that was carried out is kept.
pub async fn plan<K: Managed + HasSpec<Spec: Serialize>>(
    pass: &Pass<'_, K>,
    plan: &mut Plan,
    host: &Host,
    container: &str,
) {
    let Some(detail) = host.own_named(container).filter(|detail| record::takes(detail)) else { return };
    if !plan.steps.is_empty() || pass.standing.problem.is_some() {
        return;
    }
    let content = record::of(pass.object);
    match pass.ctx.files.read(detail, record::FILE, sizes::CONTENT).await {
        Ok(seen) if seen.as_ref() == Some(&content) => {}
        Ok(_) => record::plan(plan, detail, content),
        // The object itself needs no record.
        Err(error) => tracing::debug!(object = pass.owner.object, %error, "cannot read the record"),
    }
}
