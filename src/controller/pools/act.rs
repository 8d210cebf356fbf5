//! What is done for a claim and for a pool.

use kube::{Resource, ResourceExt, runtime::events::EventType};

use super::{Namespace, Pools, io};
use crate::{
    api::{
        LocalCluster, LocalClusterClaim, LocalClusterPool,
        condition::{self, ConditionType},
    },
    controller::{
        kube_io::{self, Error},
        place_io, report,
    },
    plan::pool::{
        claims::Course,
        decide::{Counts, Step, View},
        member::Member,
        template,
    },
    status::{self, ClaimView, Moment},
};

impl Namespace {
    /// Returns the LocalCluster that a member is, if it can be decoded.
    fn cluster(&self, member: &Member) -> Option<&LocalCluster> {
        self.clusters.get(&member.name)?.0.as_ref().ok()
    }
}

impl Pools {
    /// Does what becomes of a claim, and writes its status.
    pub(super) async fn claim(
        &self,
        claim: &LocalClusterClaim,
        course: &Course<'_>,
        (view, counts): (&View<'_>, &Counts),
        known: &Namespace,
    ) -> Result<(), Error> {
        match course {
            Course::Has(member) => match known.cluster(member) {
                Some(cluster) => self.tell(claim, &ClaimView::Has(cluster)).await.map(drop),
                None => Ok(()),
            },
            Course::Takes { member, named } => match known.cluster(member) {
                Some(cluster) => self.take(claim, cluster, *named).await,
                None => Ok(()),
            },
            Course::Waits => {
                let pool = view.pool.map(|pool| (pool, counts));
                self.tell(claim, &ClaimView::Waits(pool)).await.map(drop)
            }
            Course::Refused => match self.refused(claim) {
                Some(refusal) => self.tell(claim, &ClaimView::Refused(&refusal.message)).await.map(drop),
                None => Ok(()),
            },
            Course::Lost => self.lose(claim).await,
            Course::Ends => {
                // Only the version that was read: it may be protected by now.
                kube_io::delete_unchanged(&self.client, claim).await?;
                let lifetime = claim.spec.lifetime.as_deref().unwrap_or_default();
                let note = format!("deleting the claim with its cluster: its lifetime of {lifetime} is over");
                self.event(claim, (EventType::Normal, "Expired"), &note);
                Ok(())
            }
        }
    }

    /// Has a claim take a cluster: its status names the cluster first, then the cluster becomes its own.
    async fn take(
        &self,
        claim: &LocalClusterClaim,
        cluster: &LocalCluster,
        named: bool,
    ) -> Result<(), Error> {
        let claim = if named { claim.clone() } else { self.tell(claim, &ClaimView::Takes(cluster)).await? };
        let taken = io::patch(&self.client, cluster, &template::taking(&claim, cluster)).await;
        match taken {
            Ok(cluster) => {
                self.remember(&claim, None);
                let claim = self.tell(&claim, &ClaimView::Has(&cluster)).await?;
                let (name, namespace) = (cluster.name_any(), cluster.namespace());
                tracing::info!(
                    claim = claim.name_any(),
                    namespace,
                    cluster = name,
                    "a claim has its cluster"
                );
                self.event(
                    &claim,
                    (EventType::Normal, "Bound"),
                    &format!("the claim has the cluster {name}"),
                );
                Ok(())
            }
            Err(error) => {
                let Some(message) = io::refusal(&error) else { return Err(error) };
                self.remember(&claim, Some(message.clone()));
                self.tell(&claim, &ClaimView::Refused(&message)).await.map(drop)
            }
        }
    }

    /// Tells that the cluster of a claim is gone, if it is: the watch of LocalClusters may be behind that of claims.
    async fn lose(&self, claim: &LocalClusterClaim) -> Result<(), Error> {
        let status = claim.status.as_ref();
        let name = status.and_then(|status| status.cluster_name.as_deref()).unwrap_or_default();
        let namespace = claim.namespace().unwrap_or_default();
        let lost = ClaimView::Lost;
        if self.is_told(claim, &lost) {
            return Ok(());
        }
        let found = place_io::read::<LocalCluster>(&self.client, &namespace, name).await?;
        let uid = status.and_then(|status| status.cluster_uid.as_deref());
        if found.is_some_and(|found| found.metadata.uid.as_deref() == uid) {
            return Ok(());
        }
        self.tell(claim, &lost).await.map(drop)
    }

    fn is_told(&self, claim: &LocalClusterClaim, view: &ClaimView<'_>) -> bool {
        let next = status::cluster_claim(claim, view, self.moment(claim));
        claim.status.as_ref() == Some(&next)
    }

    /// Writes the status of a claim, if it is another one. Returns the claim as it is then.
    async fn tell(
        &self,
        claim: &LocalClusterClaim,
        view: &ClaimView<'_>,
    ) -> Result<LocalClusterClaim, Error> {
        let next = status::cluster_claim(claim, view, self.moment(claim));
        if claim.status.as_ref() == Some(&next) {
            return Ok(claim.clone());
        }
        let written = io::write_claim(&self.client, claim, &next).await?;
        let ready = condition::is_true(&next.conditions, ConditionType::Ready);
        if let Some(took) = ready.then(|| self.waits.took(claim)).flatten() {
            self.metrics.provisioned("LocalClusterClaim", ConditionType::Ready.as_str(), took);
        }
        Ok(written)
    }

    /// Does a step of a pool.
    pub(super) async fn step(
        &self,
        pool: Option<&LocalClusterPool>,
        step: &Step<'_>,
        known: &Namespace,
    ) -> Result<(), Error> {
        match step {
            Step::Create(name) => match pool {
                Some(pool) if self.refused(pool).is_none() => self.create(pool, name).await,
                _ => Ok(()),
            },
            Step::Set(member, state) => match known.cluster(member) {
                Some(cluster) => {
                    io::patch(&self.client, cluster, &template::state(cluster, *state)).await.map(drop)
                }
                None => Ok(()),
            },
            Step::Delete(member, why) => match known.cluster(member) {
                Some(cluster) => {
                    kube_io::delete_unchanged(&self.client, cluster).await?;
                    let (name, namespace) = (&member.name, cluster.namespace());
                    tracing::info!(
                        pool = member.pool,
                        namespace,
                        cluster = name,
                        why,
                        "a cluster of a pool is deleted"
                    );
                    if let Some(pool) = pool {
                        let note = format!("deleting the cluster {name}: {why}");
                        self.event(pool, (EventType::Normal, "ClusterDeleted"), &note);
                    }
                    Ok(())
                }
                None => Ok(()),
            },
        }
    }

    async fn create(&self, pool: &LocalClusterPool, name: &str) -> Result<(), Error> {
        match io::create(&self.client, &template::cluster(pool, name)).await {
            Ok(()) => {
                self.remember(pool, None);
                tracing::info!(
                    pool = pool.name_any(),
                    namespace = pool.namespace(),
                    cluster = name,
                    "a pool creates a cluster"
                );
                self.event(
                    pool,
                    (EventType::Normal, "ClusterCreated"),
                    &format!("created the cluster {name}"),
                );
                Ok(())
            }
            Err(error) => {
                let Some(message) = io::refusal(&error) else { return Err(error) };
                if self.remember(pool, Some(message.clone())) {
                    let note = format!("the API server refuses a cluster of this pool: {message}");
                    self.event(pool, (EventType::Warning, "ClusterRefused"), &note);
                }
                Ok(())
            }
        }
    }

    /// Writes the status of a pool, if it is another one.
    pub(super) async fn write_pool(&self, pool: &LocalClusterPool, counts: &Counts) -> Result<(), Error> {
        let refused = self.refused(pool).map(|refusal| refusal.message);
        let next = status::cluster_pool(pool, counts, refused.as_deref(), self.moment(pool));
        if pool.status.as_ref() == Some(&next) {
            return Ok(());
        }
        kube_io::write_status(&self.client, pool, &next).await
    }

    fn moment<K: Resource>(&self, object: &K) -> Moment {
        Moment { generation: object.meta().generation.unwrap_or_default(), now: (self.now)() }
    }

    fn event<K>(&self, object: &K, told: (EventType, &str), note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        report::publish(&self.recorder, &object.object_ref(&()), told, note);
    }
}
