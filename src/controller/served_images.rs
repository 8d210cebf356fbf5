//! The images of the Docker host that the nodes of one cluster may ask for.

use kube::Resource;

use super::{host_images::Terms, pass::Pass};
use crate::{
    api::LocalCluster,
    plan::{
        desired::{Desired, HostImages},
        observed::{Listening, Observed},
    },
};

impl Pass<'_, LocalCluster> {
    /// Has the nodes' requests for images of the Docker host answered, if the spec wants it. A cluster that its policy only
    /// tolerates gets no more of them.
    pub fn serve_host_images(&self, desired: &Desired, observed: &Observed) -> Option<Listening> {
        let ctx = self.ctx;
        let Some(HostImages::Served { address, own }) =
            desired.host_images.as_ref().filter(|_| self.standing.problem.is_none())
        else {
            ctx.host_images.forget(&self.owner.uid);
            return None;
        };
        let terms = Terms {
            owner: self.owner.clone(),
            network: desired.network.name.clone(),
            own: own.clone(),
            rules: self.standing.rules.clone(),
            settings: self.settings.clone(),
        };
        let (triggers, object) = (ctx.triggers.clone(), self.object.object_ref(&()));
        let namespace = self.owner.namespace().to_owned();
        let name = object.name.unwrap_or_default();
        let turned = Box::new(move || triggers.cluster(&namespace, &name));
        let balancer = observed.own_named(&desired.load_balancer.name);
        ctx.host_images.observe(balancer, *address, terms, turned)
    }
}
