//! Shares of what is limited, so that one namespace cannot hold all of it: a call to a container that hangs lasts until its
//! timeout, and so does everything that waits for it.
//!
//! For whom something happens is known to the task that does it, so that no call needs an argument for it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

tokio::task_local! {
    static CALLER: Caller;
}

/// The object that something is done for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
}

impl Caller {
    /// Runs a future on behalf of this object.
    pub async fn scope<T>(self, future: impl Future<Output = T>) -> T {
        CALLER.scope(self, future).await
    }

    /// Returns the object that this task works for; `None` if it works for the operator itself.
    pub fn current() -> Option<Self> {
        CALLER.try_with(Self::clone).ok()
    }
}

/// Runs a future on behalf of an object, or of the operator itself.
pub async fn on_behalf_of<T>(caller: Option<Caller>, future: impl Future<Output = T>) -> T {
    match caller {
        Some(caller) => caller.scope(future).await,
        None => future.await,
    }
}

/// Starts a task on behalf of the same object as this one.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(on_behalf_of(Caller::current(), future))
}

/// Numbers of permits that can be held at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one object.
    pub object: usize,
    /// For all objects of a namespace. The operator itself has as many.
    pub namespace: usize,
    /// For all namespaces.
    pub all: usize,
}

/// Permits of which each object and each namespace gets a limited number.
pub struct Shares {
    objects: Pools,
    namespaces: Pools,
    all: Arc<Semaphore>,
    /// Permits of the operator itself, which waits for no object.
    own: Arc<Semaphore>,
}

/// A permit, until it is dropped.
pub struct Permit {
    _held: Vec<OwnedSemaphorePermit>,
}

impl Shares {
    /// Creates shares within these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            objects: Pools::new(limits.object),
            namespaces: Pools::new(limits.namespace),
            all: Arc::new(Semaphore::new(limits.all)),
            own: Arc::new(Semaphore::new(limits.namespace)),
        }
    }

    /// Waits for a permit for the object that this task works for.
    pub async fn acquire(&self) -> Permit {
        let Some(Caller { namespace, uid }) = Caller::current() else {
            return Permit { _held: vec![permit(self.own.clone()).await] };
        };
        // From the narrow limit to the wide one: who waits for its own share holds nothing of what others wait for.
        let object = permit(self.objects.of(&uid)).await;
        let namespace = permit(self.namespaces.of(&namespace)).await;
        Permit { _held: vec![object, namespace, permit(self.all.clone()).await] }
    }
}

async fn permit(pool: Arc<Semaphore>) -> OwnedSemaphorePermit {
    pool.acquire_owned().await.expect("nobody closes it")
}

/// Permits by name, for as long as one is held or waited for.
struct Pools {
    each: usize,
    pools: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Pools {
    fn new(each: usize) -> Self {
        Self { each, pools: Mutex::default() }
    }

    fn of(&self, name: &str) -> Arc<Semaphore> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(name).and_then(Weak::upgrade) {
            return pool;
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        let pool = Arc::new(Semaphore::new(self.each));
        pools.insert(name.to_owned(), Arc::downgrade(&pool));
        pool
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LIMITS: Limits = Limits { object: 2, namespace: 3, all: 5 };

    fn caller(namespace: &str, uid: &str) -> Caller {
        Caller { namespace: namespace.into(), uid: uid.into() }
    }

    /// A permit, if there is one now.
    fn now(shares: &Shares, namespace: &str, uid: &str) -> Option<Permit> {
        caller(namespace, uid).scope(shares.acquire()).now_or_never()
    }

    #[tokio::test]
    async fn an_object_and_a_namespace_have_their_shares_and_no_more() {
        let shares = Shares::new(LIMITS);
        let held = [now(&shares, "a", "a1").unwrap(), now(&shares, "a", "a1").unwrap()];
        assert!(now(&shares, "a", "a1").is_none(), "two of one object");
        let third = now(&shares, "a", "a2").unwrap();
        assert!(
            now(&shares, "a", "a2").is_none() && now(&shares, "a", "a3").is_none(),
            "three of one namespace"
        );
        let others = [now(&shares, "b", "b1").unwrap(), now(&shares, "c", "c1").unwrap()];
        assert!(now(&shares, "d", "d1").is_none(), "five altogether");
        assert!(shares.acquire().now_or_never().is_some(), "the operator itself waits for none of them");
        drop(third);
        assert!(now(&shares, "d", "d1").is_some());
        drop((held, others));
        assert!(now(&shares, "a", "a1").is_some());
    }

    #[tokio::test]
    async fn who_waits_for_its_own_share_takes_nothing_from_others() {
        let shares = Arc::new(Shares::new(LIMITS));
        let held: Vec<Permit> = (0..2).map(|_| now(&shares, "a", "a1").unwrap()).collect();
        let waiting: Vec<_> = (0..20)
            .map(|_| shares.clone())
            .map(|shares| tokio::spawn(caller("a", "a1").scope(async move { drop(shares.acquire().await) })))
            .collect();
        tokio::task::yield_now().await;
        assert!(now(&shares, "a", "a2").is_some() && now(&shares, "b", "b1").is_some());
        drop(held);
        for task in waiting {
            task.await.unwrap();
        }
        assert!(shares.objects.pools.lock().unwrap().values().all(|pool| pool.strong_count() == 0));
        drop(now(&shares, "b", "b1"));
        assert_eq!(shares.objects.pools.lock().unwrap().len(), 1, "pools that nobody uses are forgotten");
    }

    #[tokio::test]
    async fn tasks_work_for_whom_they_are_started() {
        let of = |name| Some(caller("a", name));
        let seen = caller("a", "x").scope(async { spawn(async { Caller::current() }).await.unwrap() }).await;
        assert_eq!((seen, Caller::current()), (of("x"), None));
        assert_eq!(spawn(async { Caller::current() }).await.unwrap(), None);
    }
}
