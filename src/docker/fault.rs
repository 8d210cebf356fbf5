//! Conversion of errors from bollard and the engine to [`Error`].
//!
//! The status code determines the error wherever possible. The message only matters if one code has several causes with
//! different remedies: 500 on start is a port in use or a runtime error, 403 is a subnet or a network in use. The
//! messages have been stable from Docker 20.10 to 29; an unknown message becomes [`Error::Engine`], which is retried.

use std::io;

use bollard::errors::Error as Bollard;

use super::error::{Error, causes};

/// Returns status code and message of an error response; `None` for any other failure.
pub fn answer(error: &Bollard) -> Option<(u16, &str)> {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

/// Returns success if the error only says that the goal is already met.
pub fn met(result: Result<(), Bollard>, goal: impl Fn(u16, &str) -> bool) -> Result<(), Bollard> {
    match result {
        Err(error) if answer(&error).is_some_and(|(status, words)| goal(status, words)) => Ok(()),
        other => other,
    }
}

/// Returns `None` if the error only says that the object does not exist.
pub fn found<T>(result: Result<T, Bollard>) -> Result<Option<T>, Bollard> {
    match result {
        Err(error) if matches!(answer(&error), Some((404, _))) => Ok(None),
        other => other.map(Some),
    }
}

/// Returns the name of a call, such as `create_container`, as words for a message.
pub fn words(what: &str) -> String {
    what.replace('_', " ")
}

/// Converts the error of the call `what`.
pub fn error(what: &str, error: Bollard) -> Error {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => refused(status_code, message),
        Bollard::DockerStreamError { error } => Error::Engine(error),
        Bollard::RequestTimeoutError => Error::Timeout(words(what)),
        Bollard::SocketNotFoundError(path) => Error::Unavailable(format!("socket {path} does not exist")),
        Bollard::HyperLegacyError { err } => unreached(&err),
        Bollard::HyperResponseError { err } => unreached(&err),
        Bollard::IOError { err } => unreached(&err),
        // Serde quotes the invalid value, which may be secret. Enum values and field names are not.
        Bollard::JsonDataError { message, .. }
            if message.starts_with("unknown variant") || message.starts_with("missing field") =>
        {
            Error::Engine(format!("{}: invalid response: {message}", words(what)))
        }
        Bollard::JsonDataError { column, .. } => {
            Error::Engine(format!("{}: invalid response (column {column})", words(what)))
        }
        Bollard::JsonSerdeError { err } => {
            Error::Engine(format!("{}: invalid response (column {})", words(what), err.column()))
        }
        other => Error::Engine(format!("{}: {other}", words(what))),
    }
}

/// Converts the error of a call that creates a named object. Only there does 409 mean that the name is in use.
pub fn create_error(what: &str, failure: Bollard) -> Error {
    match failure {
        Bollard::DockerResponseServerError { status_code: 409, message } => Error::Conflict(message),
        other => error(what, other),
    }
}

/// Converts the error of a pull: every message of the engine is about the image.
pub fn pull_error(what: &str, failure: Bollard) -> Error {
    match failure {
        Bollard::DockerResponseServerError { message, .. } => Error::Pull(message),
        Bollard::DockerStreamError { error } => Error::Pull(error),
        other => error(what, other),
    }
}

fn refused(status: u16, message: String) -> Error {
    let words = message.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    match status {
        // An address out of range is 400 since API 1.44 and 500 before; an exhausted pool is 404.
        400 | 403 | 404 | 500 if says(&ADDRESS) && !says(&PORT) => Error::Address(message),
        400 => Error::Invalid(message),
        403 if says(&["active endpoints"]) => Error::Busy(message),
        // Other 403 responses are for operations on predefined networks.
        403 => Error::Invalid(message),
        404 => Error::NotFound(message),
        // Being removed, restarting, or in use by a container.
        409 => Error::Busy(message),
        500 if says(&PORT) => Error::PortTaken(message),
        // Concurrent removals returned 500 before 409.
        500 if says(&["already in progress", "active endpoints"]) => Error::Busy(message),
        _ => Error::Engine(message),
    }
}

/// Messages about a host port in use. By another container: "Bind for 0.0.0.0:80 failed: port is already allocated"; by
/// a process: "Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use" or, since 28,
/// "failed to bind host port for 0.0.0.0:80:…: address already in use". The last three words alone are about an address
/// in a network.
const PORT: [&str; 4] = [
    "port is already allocated",
    "bind: address already in use",
    "failed to bind",
    "ports are not available",
];

/// Messages about a subnet or an address in a network.
const ADDRESS: [&str; 10] = [
    "pool overlaps with other one on this address space",
    "networks have overlapping ipv4",
    "address already in use",
    "no available ipv4 addresses",
    "non-overlapping ipv4 address pool",
    "predefined address pools have been fully subnetted",
    "requested address is out of range",
    "does not belong to any of this network's subnets",
    "no configured subnet or ip-range contain",
    "no configured subnet contains ip address",
];

/// Removes these values from the message of an error. The engine may quote rejected values, such as an environment
/// variable, and errors are visible in logs and conditions. Short values are not secret, and removing them would only
/// obscure the message.
pub fn without<'a>(error: Bollard, values: impl IntoIterator<Item = &'a str>) -> Bollard {
    const SHORTEST: usize = 6;
    let clean = |message: String| {
        let long = values.into_iter().filter(|value| value.len() >= SHORTEST);
        long.fold(message, |message, value| message.replace(value, "***"))
    };
    match error {
        Bollard::DockerResponseServerError { status_code, message } => {
            Bollard::DockerResponseServerError { status_code, message: clean(message) }
        }
        Bollard::DockerStreamError { error } => Bollard::DockerStreamError { error: clean(error) },
        other => other,
    }
}

/// Converts an error of the connection.
fn unreached(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut all = std::iter::successors(Some(error), |cause| cause.source());
    let denied = all.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    });
    if denied { Error::Denied(causes(error)) } else { Error::Unavailable(causes(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(status_code: u16, message: &str) -> Bollard {
        Bollard::DockerResponseServerError { status_code, message: message.into() }
    }

    /// The kinds, with messages observed on 20.10 and, where they differ, from the source of later versions.
    #[test]
    fn answers_are_told_apart() {
        #[rustfmt::skip]
        let table = [
            (400, "invalid reference format", "Invalid"),
            (400, "invalid config for network x: invalid endpoint settings: no configured subnet or ip-range contain \
                the IP address 10.1.1.1", "Address"),
            (400, "invalid endpoint settings:\nno configured subnet contains IP address 192.0.2.1", "Address"),
            (403, "Pool overlaps with other one on this address space", "Address"),
            (500, "invalid pool request: Pool overlaps with other one on this address space", "Address"),
            (403, "cannot create network a (br-a): conflicts with network b (br-b): networks have overlapping IPv4", "Address"),
            (403, "Address already in use", "Address"),
            (500, "failed to set up container networking: Address already in use", "Address"),
            (500, "no available IPv4 addresses on this network's address pools: n (4f4d)", "Address"),
            (404, "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the \
                network", "Address"),
            (500, "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the \
                network", "Address"),
            (400, "all predefined address pools have been fully subnetted", "Address"),
            (500, "failed to allocate gateway (10.1.1.1): Requested address is out of range", "Address"),
            (500, "Invalid address 10.1.1.5: It does not belong to any of this network's subnets", "Address"),
            (403, "error while removing network: network n id 4f4d has active endpoints", "Busy"),
            (403, "bridge is a pre-defined network and cannot be removed", "Invalid"),
            (404, "No such container: x", "NotFound"),
            (409, "removal of container x is already in progress", "Busy"),
            (409, "remove v: volume is in use - [b302]", "Busy"),
            (500, "driver failed programming external connectivity on endpoint x (13): Bind for 0.0.0.0:80 failed: \
                port is already allocated", "PortTaken"),
            (500, "driver failed programming external connectivity on endpoint x (13): Error starting userland proxy: \
                listen tcp4 0.0.0.0:80: bind: address already in use", "PortTaken"),
            (500, "failed to set up container networking: driver failed programming external connectivity on endpoint \
                x (13): failed to bind host port for 0.0.0.0:80:172.17.0.2:80/tcp: address already in use", "PortTaken"),
            (500, "OCI runtime create failed", "Engine"),
            (503, "", "Engine"),
        ];
        for (status, words, kind) in table {
            let error = error("test", says(status, words));
            assert!(format!("{error:?}").starts_with(&format!("{kind}(")), "{status} {words}: {error:?}");
            assert!(error.to_string().contains(words), "the engine's words are kept: {error}");
        }
    }

    #[test]
    fn a_taken_name_is_a_conflict_only_where_something_is_made() {
        let error =
            create_error("create", says(409, "Conflict. The container name \"/a\" is already in use"));
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
        assert!(matches!(create_error("create", says(400, "no")), Error::Invalid(_)));
    }

    #[test]
    fn what_the_engine_says_about_a_pull_is_a_pull_error() {
        for status in [401, 403, 404, 500] {
            assert_eq!(pull_error("pull", says(status, "denied")), Error::Pull("denied".into()));
        }
        let stream = Bollard::DockerStreamError { error: "manifest unknown".into() };
        assert_eq!(pull_error("pull", stream), Error::Pull("manifest unknown".into()));
        assert!(matches!(pull_error("pull", Bollard::RequestTimeoutError), Error::Timeout(_)));
    }

    #[test]
    fn goals_that_are_met_are_success() {
        assert!(met(Err(says(404, "")), |status, _| status == 404).is_ok());
        assert!(met(Err(says(500, "x")), |status, _| status == 404).is_err());
        assert!(found(Err::<(), _>(says(404, ""))).unwrap().is_none());
        assert!(found(Ok(1)).unwrap().is_some());
        assert!(found(Err::<(), _>(says(500, ""))).is_err());
    }

    #[test]
    fn no_secret_is_in_an_error() {
        let quoted = says(400, "invalid environment variable: =hunter2-secret");
        let error = error("create", without(quoted, ["hunter2-secret", "a", "valid"]));
        assert_eq!(error.to_string(), "invalid environment variable: =***");

        let json = serde_json::from_str::<u8>("\"hunter2\"").unwrap_err();
        let error = super::error("inspect", json.into());
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let data = Bollard::JsonDataError { message: "invalid type: string \"hunter2\"".into(), column: 3 };
        let error = super::error("inspect", data);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn causes_are_told() {
        let failed = |kind| error("ping", Bollard::IOError { err: io::Error::from(kind) });
        assert_eq!(failed(io::ErrorKind::ConnectionRefused), Error::Unavailable("connection refused".into()));
        let denied = failed(io::ErrorKind::PermissionDenied);
        assert_eq!(denied, Error::Denied("permission denied".into()));
        assert_eq!(denied.to_string(), "cannot connect to Docker: permission denied");
    }
}
