//! Calls that list all objects of the engine, of which one of a kind is under way at a time.
//!
//! Whoever asks while another call is under way needs a newer answer than that one's, and whoever asks meanwhile needs no
//! other answer than they do. On a host with a thousand containers, a list of them takes about ten times its two megabytes
//! while it is read, and every container that starts or ends has an object looked at.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;

use super::engine::Result;

/// The calls of one kind.
pub(super) struct Listing<T> {
    /// Calls that have begun.
    begun: AtomicUsize,
    /// Callers that wait for an answer.
    asking: AtomicUsize,
    /// The last answer with the number of its call, while anybody may need it. Held by the call that is under way.
    last: Mutex<Option<(usize, Result<T>)>>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { begun: AtomicUsize::new(0), asking: AtomicUsize::new(0), last: Mutex::default() }
    }
}

/// A caller, until it has its answer or gives up.
struct Asking<'a>(&'a AtomicUsize);

impl<'a> Asking<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T: Clone> Listing<T> {
    /// Returns the answer of a call that began after this one of the function, be it this caller's own call or that of
    /// another. If the caller that makes it gives up, the next one makes its own.
    pub(super) async fn ask(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let before = self.begun.load(Ordering::SeqCst);
        let asking = Asking::begin(&self.asking);
        let mut last = self.last.lock().await;
        let answer = match last.take() {
            Some((number, answer)) if number > before => {
                *last = Some((number, answer.clone()));
                answer
            }
            _ => {
                let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
                let answer = call.await;
                *last = Some((number, answer.clone()));
                answer
            }
        };
        drop(asking);
        if self.asking.load(Ordering::SeqCst) == 0 {
            // Whoever comes now asks anew.
            *last = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicBool};

    use futures::{FutureExt, future::join_all};
    use tokio::sync::Notify;

    use super::*;
    use crate::docker::error::Error;

    /// A call that answers with its number when it is let go.
    #[derive(Default)]
    struct Calls {
        listing: Listing<usize>,
        made: AtomicUsize,
        go: Notify,
        fails: AtomicBool,
    }

    impl Calls {
        async fn ask(self: Arc<Self>) -> Result<usize> {
            let call = async {
                let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
                self.go.notified().await;
                if self.fails.load(Ordering::SeqCst) {
                    return Err(Error::Engine(format!("call {number}")));
                }
                Ok(number)
            };
            self.listing.ask(call).await
        }

        fn made(&self) -> usize {
            self.made.load(Ordering::SeqCst)
        }
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_asks_during_a_call_shares_the_next_one() {
        let calls = Arc::new(Calls::default());
        let first = tokio::spawn(calls.clone().ask());
        settle().await;
        let others: Vec<_> = (0..20).map(|_| tokio::spawn(calls.clone().ask())).collect();
        settle().await;
        assert_eq!(calls.made(), 1, "one is under way at a time");
        calls.go.notify_one();
        assert_eq!(first.await.unwrap(), Ok(1));
        settle().await;
        assert_eq!(calls.made(), 2);
        calls.go.notify_one();
        // What the first call told is from before they asked.
        let answers = join_all(others).await;
        assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == Ok(2)), "{answers:?}");
        assert_eq!(calls.made(), 2);
        assert!(calls.listing.last.lock().await.is_none(), "nobody needs it any more");
    }

    #[tokio::test]
    async fn an_answer_is_not_used_by_who_asks_after_its_call_began() {
        let calls = Arc::new(Calls::default());
        for number in 1..4 {
            calls.go.notify_one();
            assert_eq!(calls.clone().ask().await, Ok(number));
        }
    }

    #[tokio::test]
    async fn a_failure_is_shared_too() {
        // With an engine that hangs, each of them would wait for a timeout of its own, one after the other.
        let calls = Arc::new(Calls::default());
        let first = tokio::spawn(calls.clone().ask());
        settle().await;
        let others: Vec<_> = (0..3).map(|_| tokio::spawn(calls.clone().ask())).collect();
        settle().await;
        calls.fails.store(true, Ordering::SeqCst);
        calls.go.notify_one();
        assert_eq!(first.await.unwrap(), Err(Error::Engine("call 1".into())));
        calls.go.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), Err(Error::Engine("call 2".into())));
        }
    }

    #[tokio::test]
    async fn who_gives_up_delays_nobody() {
        let calls = Arc::new(Calls::default());
        let mut first = Box::pin(calls.clone().ask());
        assert!(first.as_mut().now_or_never().is_none());
        let second = tokio::spawn(calls.clone().ask());
        settle().await;
        assert_eq!(calls.made(), 1);
        drop(first);
        settle().await;
        assert_eq!(calls.made(), 2);
        calls.go.notify_one();
        assert_eq!(second.await.unwrap(), Ok(2));
    }
}
