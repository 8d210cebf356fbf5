//! Calls to the API of a created cluster: their timeout and their errors.

use std::{error::Error as _, future::Future, time::Duration};

use tokio::time::timeout;

use super::error::Error;

/// Timeout of a call. A server without quorum accepts calls and never responds.
const CALL: Duration = Duration::from_secs(5);

/// Maximum length of a message. `/readyz` lists some 40 checks on a line each.
const MESSAGE: usize = 8 << 10;

/// Returns the result of a call within the timeout.
pub(super) async fn bounded<T>(
    call: impl Future<Output = kube::Result<T>>,
) -> Result<kube::Result<T>, Error> {
    timeout(CALL, call)
        .await
        .map_err(|_| Error::Unreachable(format!("no response within {}s", CALL.as_secs())))
}

/// Returns the response of a call within the timeout.
pub(super) async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    bounded(call).await?.map_err(|e| words(&e))
}

/// Returns the response of a call within the timeout; an error says what was requested.
pub(super) async fn get<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    call(request).await.map_err(|error| {
        let about = |why: String| format!("{what}: {why}");
        match error {
            Error::Unreachable(why) => Error::Unreachable(about(why)),
            Error::Api(why) => Error::Api(about(why)),
            Error::Failed(why) => Error::Failed(about(why)),
            Error::Waits(why) => Error::Waits(about(why)),
        }
    })
}

pub(super) fn unless_gone(result: kube::Result<()>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map_err(|e| words(&e)),
    }
}

/// Converts an error to a readable one. 5xx is not necessarily a rejection of this request: a server that is starting
/// or has lost its quorum responds to every request with it, and so does an admission webhook that cannot be called
/// (500).
pub(super) fn words(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let message = format!("{} {}", status.code, reason(&status.message));
            if status.code == 429 || status.code >= 500 {
                Error::Failed(message)
            } else {
                Error::Api(message)
            }
        }
        other => {
            let why = root(other).map_or_else(|| other.to_string(), ToString::to_string);
            Error::Unreachable(clip(&why).to_owned())
        }
    }
}

/// Returns the root cause of an error: its outer layers only say that an inner one failed.
pub(super) fn root(error: &kube::Error) -> Option<&(dyn std::error::Error + 'static)> {
    let mut root = error.source();
    while let Some(deeper) = root.and_then(|e| e.source()) {
        root = Some(deeper);
    }
    root
}

/// Returns the beginning of a message, which may be as long as the response that it is from.
fn clip(message: &str) -> &str {
    let end = (0..=MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or_default()]
}

/// Returns a message on one line; for `/readyz`, only the failed checks.
fn reason(message: &str) -> String {
    let message = clip(message);
    let failed: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
    if failed.is_empty() {
        message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    } else {
        failed.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_readyz_only_the_checks_that_fail_are_told() {
        let told = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]informer-sync failed: reason withheld\nreadyz check \
            failed";
        assert_eq!(reason(told), "etcd failed: reason withheld; informer-sync failed: reason withheld");
        assert_eq!(reason("apiserver\n not ready"), "apiserver not ready");
        assert!(reason(&"é\n".repeat(1 << 20)).len() <= MESSAGE);
        assert_eq!(clip(&"é".repeat(MESSAGE)).len(), MESSAGE);
        assert_eq!(clip(&format!("x{}", "é".repeat(MESSAGE))).len(), MESSAGE - 1);
    }
}
