//! Images of the Docker host in containerd on every node.
//!
//! The state of containerd is authoritative: each imported image carries its ID on the Docker host. An image that has
//! changed on the host is imported again, and a node that lost its data gets all images again. An import takes as
//! long as a pull and runs in the background, too.

use super::{
    containers::{Site, pull_failed, pull_queued},
    desired::Desired,
    inputs::Inputs,
    observed::{ImageState, ImportState},
    steps::{Import, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    k3s::images::canonical,
};

/// Plans the imports of images on nodes.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    if desired.preload.is_empty() {
        return;
    }
    let seen = &inputs.observed.preload;
    for node in desired.nodes() {
        let name = &node.container.name;
        let held = site.own(name).and_then(|d| Some((d, seen.nodes.get(&d.container.id)?)));
        let Some((detail, held)) = held else {
            let message = format!("waiting for {name} to be Ready before importing images");
            plan.waits(ConditionType::ImagesReady, Reason::Pending, message);
            continue;
        };
        let held = match held {
            Ok(held) => held,
            Err(why) => {
                let message = format!("cannot list the images in containerd on {name}: {why}");
                plan.waits(ConditionType::ImagesReady, Reason::Pending, message);
                continue;
            }
        };
        for image in &desired.preload {
            let has = held.get(&canonical(image));
            match seen.ids.get(image) {
                Some(id) if has.is_some_and(|has| has.id == *id && has.own) => {}
                Some(id) => {
                    let container = Target::of(&detail.container);
                    import(plan, Import { container, image: image.clone(), id: id.clone() }, inputs);
                }
                // An image that was imported and then removed from the host is still as requested.
                None if has.is_some() => {}
                None => fetch(plan, image, inputs),
            }
        }
    }
}

fn import(plan: &mut Plan, import: Import, inputs: &Inputs<'_>) {
    let Import { container, image, .. } = &import;
    let key = (container.id.clone().unwrap_or_default(), image.clone());
    match inputs.observed.preload.imports.get(&key) {
        Some(ImportState::Failed(why)) => {
            let message = format!("failed to import {image} on {}: {why}; retrying", container.name);
            plan.waits(ConditionType::ImagesReady, Reason::ImageImportFailed, message);
            // The importer decides when to retry.
            plan.imports.push(import);
        }
        state => {
            let message = format!("importing {image} on {}", container.name);
            plan.waits(ConditionType::ImagesReady, Reason::ImageImporting, message);
            if state.is_none() {
                plan.imports.push(import);
            }
        }
    }
}

/// Requests a pull of an image that the Docker host does not have.
fn fetch(plan: &mut Plan, image: &str, inputs: &Inputs<'_>) {
    let state = inputs.observed.images.get(image);
    if let Some(ImageState::Queued(why)) = state {
        plan.waits(ConditionType::ImagesReady, Reason::ImagePulling, pull_queued(image, *why));
    } else if let Some(ImageState::Failed(error)) = state {
        let mut problem = pull_failed(ConditionType::ImagesReady, image, error);
        problem.message.push_str("; alternatively, pull or build it on the Docker host");
        plan.problems.push(problem);
    } else {
        plan.waits(ConditionType::ImagesReady, Reason::ImagePulling, format!("pulling {image}"));
    }
    let asked = state == Some(&ImageState::Pulling) || plan.pulls.iter().any(|p| p == image);
    if !asked {
        plan.pulls.push(image.to_owned());
    }
}
