//! What the role `controller` writes.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    runtime::{
        events::{Event, EventType},
        reflector::ObjectRef,
    },
};
use serde_json::json;
use tokio::time::Instant;

use super::Placer;
use crate::{
    api::{
        condition::ConditionType,
        placement::Drain,
        reason::{Class, Reason},
    },
    controller::{
        kube_io::{self, Error},
        pass::Managed,
        place::{Place, PlacedStatus},
        place_io, placed, times,
    },
    plan::{
        placement::{
            Object,
            hosts::Hosts,
            judge::{Act, Decision, Refusal, Seen, Told, judge},
            pod,
        },
        steps::Problem,
    },
    status::{self, Moment},
};

impl Placer {
    /// Writes where an object is, and what no agent tells of it.
    pub(super) async fn record<K: Managed>(
        &self,
        object: &K,
        decision: &Decision,
        hosts: &Hosts,
    ) -> Result<(), Error> {
        let previous = object.status().cloned().unwrap_or_default();
        let moment = Moment { generation: object.meta().generation.unwrap_or_default(), now: (self.now)() };
        if let Some(told) = decision.unattended(hosts) {
            self.record_unattended(object, &previous, told, moment).await?;
        }
        let host = decision.host.clone();
        let ip = host.as_ref().and_then(|host| hosts.0.get(host)?.ip.clone());
        let before = previous.place();
        // The address of a host that is gone is not known any more.
        let ip = ip.or_else(|| before.ip.clone().filter(|_| before.host == host));
        let place = Place { host, ip, placeholder: Some(K::KIND.placeholder(&object.name_any())) };
        let conditions = status::placed(K::conditions(&previous), decision, moment);
        let same = |c: &_| K::conditions(&previous).contains(c);
        let all = conditions.iter().all(same);
        let count = K::conditions(&previous).iter().filter(|c| status::is_placed(c)).count();
        if before == place && all && count == conditions.len() {
            return Ok(());
        }
        let mut written = json!({"placeholder": place.placeholder, "conditions": conditions});
        // What is left out is removed.
        for (field, value) in [(K::Status::HOST, place.host), ("hostIP", place.ip)] {
            if let Some(value) = value {
                written[field] = value.into();
            }
        }
        place_io::write_place(&self.client, object, written).await
    }

    /// Writes the part of a status that the agent of its host writes otherwise: no agent does.
    async fn record_unattended<K: Managed>(
        &self,
        object: &K,
        previous: &K::Status,
        told: &Told,
        moment: Moment,
    ) -> Result<(), Error> {
        let is_invalid = told.reason == Reason::InvalidSpec;
        let docker = if is_invalid { ConditionType::Accepted } else { ConditionType::DockerReachable };
        let problem = match told.reason.class() {
            Class::NeedsUser => Problem::stalls(docker, told.reason, told.message.clone()),
            _ => Problem::waits(docker, told.reason, told.message.clone()),
        };
        let mut next = K::blocked(previous, &[problem], ConditionType::ResolvedRefs, moment);
        K::summarize(&mut next);
        if next == *previous {
            return Ok(());
        }
        placed::strip::<K>(&mut next);
        place_io::write_unchanged_status(&self.client, object, &next).await
    }

    /// Changes what a decision says.
    pub(super) async fn act<K: Managed>(
        &self,
        object: &K,
        (placed, found): (&Object, Option<&Pod>),
        act: Act,
        hosts: &Hosts,
    ) -> Result<(), Error> {
        let (kind, name, namespace) = (K::KIND.as_str(), object.name_any(), object.namespace());
        tracing::debug!(kind, namespace, name, ?act, "placing");
        match (act, found) {
            (Act::Create, _) => self.create(object, placed, hosts).await,
            (Act::Delete, Some(found)) => place_io::delete_placeholder(&self.client, found).await,
            (Act::Release, Some(found)) => place_io::release_placeholder(&self.client, found).await,
            (Act::Delete | Act::Release, None) => Ok(()),
            (Act::LetGo { left }, _) => {
                if let Some(left) = left {
                    self.warn(object, &left).await;
                }
                kube_io::set_finalizer(&self.client, object, false).await.map(drop)
            }
        }
    }

    /// Creates the placeholder of an object, if that is right for the object as it is now: what the watch told may be out
    /// of date, and without its host it might be placed elsewhere.
    async fn create<K: Managed>(&self, object: &K, placed: &Object, hosts: &Hosts) -> Result<(), Error> {
        if self.refused_for(placed).is_some_and(|since| since < times::REFUSED) {
            return Ok(());
        }
        let Some(fresh) = place_io::read::<K>(&self.client, &placed.namespace, &placed.name).await? else {
            return Ok(());
        };
        let now = placed::object(&fresh);
        let again = judge(Seen { object: &now, pod: None, hosts, refused: None });
        let (Some(Act::Create), Ok(requests), true) = (again.act, &now.requests, now.uid == placed.uid)
        else {
            return Ok(());
        };
        let wanted = pod::desired(&now, requests, hosts, &self.image);
        match place_io::create_placeholder(&self.client, &now.namespace, wanted).await? {
            Ok(()) => {
                self.refusals().remove(&now.uid);
            }
            Err((code, message)) => {
                let was =
                    self.refusals().insert(now.uid.clone(), (Refusal { code, message }, Instant::now()));
                if was.is_none() {
                    let refused = self.refusals().get(&now.uid).map(|(refusal, _)| refusal.message.clone());
                    self.warn(
                        object,
                        &format!("the placeholder was refused: {}", refused.unwrap_or_default()),
                    )
                    .await;
                }
            }
        }
        Ok(())
    }

    /// Makes or removes the budget that refuses the eviction of the placeholder.
    pub(super) async fn budget(&self, object: &Object) -> Result<(), Error> {
        let wanted = object.placement.drain == Drain::Block && !object.deleting && !object.paused;
        let found = self.budgets.get(&ObjectRef::new(&object.placeholder()).within(&object.namespace));
        match found {
            None if wanted => {
                place_io::apply_budget(&self.client, &object.namespace, pod::budget(object)).await
            }
            Some(found) if !wanted && !object.paused => place_io::delete_budget(&self.client, &found).await,
            _ => Ok(()),
        }
    }

    async fn warn<K: Managed>(&self, object: &K, note: &str) {
        let event = Event {
            type_: EventType::Warning,
            reason: "Placement".into(),
            note: Some(note.chars().take(1000).collect()),
            action: note.chars().take(120).collect(),
            secondary: None,
        };
        let of = object.object_ref(&());
        let published = self.recorder.publish(&event, &of);
        if let Ok(Err(error)) = tokio::time::timeout(times::EVENT, published).await {
            tracing::debug!(%error, "an Event was not written");
        }
    }
}
