//! Watches of pools and claims.

use futures::future;
use kube::{Client, runtime::watcher};
use tokio::sync::{Notify, SetOnce};

use super::Writers;
use crate::controller::watches::{follow, namespaced};

/// What is known by the watches.
#[derive(Default)]
pub(super) struct Listed {
    listed: [SetOnce<()>; 2],
}

impl Listed {
    /// Waits until both kinds are listed.
    pub(super) async fn all(&self) {
        future::join_all(self.listed.iter().map(SetOnce::wait)).await;
    }

    /// Watches both kinds. Never returns.
    pub(super) async fn follow(
        &self,
        client: &Client,
        namespaces: &[String],
        writers: Writers,
        changed: &Notify,
    ) {
        let [pools, claims] = &self.listed;
        let (all, wake) = (watcher::Config::default(), || changed.notify_one());
        tokio::join!(
            follow((namespaced(client, namespaces), all.clone()), writers.pools, pools, &wake),
            follow((namespaced(client, namespaces), all), writers.claims, claims, &wake),
        );
    }
}
