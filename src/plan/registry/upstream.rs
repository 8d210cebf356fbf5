//! What a pull-through cache does without its upstream registry, and what it tells of it.
//!
//! A registry with the section `proxy` asks its upstream for `/v2/` when it starts, and exits if nothing answers (2.8 and 3),
//! so a cache that starts while the host is offline would serve nothing of what it has. Its container therefore runs a script,
//! which asks first. The script tells the result in a file, since a registry that runs does not: for a tag that it cannot look
//! up at its upstream it says `manifest unknown`, whatever the cause. It logs the responses 429 to requests by digest, which
//! are those that Docker Hub counts.

use jiff::{SignedDuration, Timestamp};

use super::{
    config::{CONFIG_FILE, OFFLINE_FILE, Secrets},
    log::last_words,
};
use crate::{
    api::reason::Reason,
    docker::{
        engine::ContainerDetail,
        spec::{FileChange, FileSpec},
    },
    plan::{observed::Upstream, validate::ValidProxy},
};

/// The script in the container of a cache.
pub const SCRIPT_FILE: &str = "/etc/localcluster/cache.sh";
/// Content of the script.
pub const SCRIPT: &str = include_str!("cache.sh");
/// File in which the script tells whether the upstream answers.
pub const REPORT_FILE: &str = "/etc/localcluster/upstream";
/// Maximum size of that file.
pub const REPORT_LIMIT: usize = 4096;
/// Number of log lines among which rejected requests are searched.
pub const LINES: u32 = 500;
/// Time for which a rejected request is told. A Pod whose image cannot be pulled tries again after at most 5 minutes.
pub const LIMITED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Report of an upstream that answers.
const ANSWERS: &str = "answers";
/// Entry point of the official images, which executes any command. They have a shell.
const ENTRYPOINT: &str = "/entrypoint.sh";

/// Reports whether the container of a cache can run the script. An image with another entry point than the official ones may
/// accept nothing but a configuration file, and have no shell. The entry point is known from the container that an image was
/// started in; until then it is taken for that of the official images.
pub fn is_scripted(made: Option<&ContainerDetail>, image: &str) -> bool {
    let made = made.filter(|detail| detail.container.image == image && !detail.entrypoint.is_empty());
    made.is_none_or(|detail| detail.entrypoint == [ENTRYPOINT])
}

/// Returns the command of the container.
pub fn command() -> Vec<String> {
    ["sh", SCRIPT_FILE, CONFIG_FILE, OFFLINE_FILE, REPORT_FILE].map(str::to_owned).into()
}

/// Returns the file with the script.
pub fn script() -> FileSpec {
    let (path, content) = (SCRIPT_FILE.into(), SCRIPT.as_bytes().to_vec());
    FileSpec { path, mode: 0o600, content, change: FileChange::Replace }
}

/// Returns what the report of the script and the last log lines of the registry tell; `None` if that is nothing.
pub fn told(report: Option<&[u8]>, lines: &[String], secrets: &Secrets, now: Timestamp) -> Option<Upstream> {
    let report = report.map(|content| String::from_utf8_lossy(content).trim().to_owned());
    let limited = || lines.iter().any(|line| is_rejected(line) && is_recent(line, now));
    match report {
        Some(words) if words != ANSWERS => {
            let words = Some(words).filter(|words| !secrets.are_in(words));
            Some(Upstream::Silent(words.and_then(|words| last_words(&[words])).unwrap_or_default()))
        }
        _ if limited() => Some(Upstream::Limits),
        report => report.map(|_| Upstream::Answers),
    }
}

/// Reports whether a log line is about a request that the upstream rejected because there were too many. Fields of the request,
/// which clients write, follow those of the error.
fn is_rejected(line: &str) -> bool {
    const SIGNS: [&str; 5] = [
        // Registry 3.
        "err.code=toomanyrequests",
        "\"err.code\":\"toomanyrequests\"",
        // Registry 2, for the two forms of the response.
        "err.detail=\"toomanyrequests: ",
        "\"err.detail\":\"toomanyrequests: ",
        "error parsing HTTP 429 response body",
    ];
    let error = line.split("http.request.").next().unwrap_or_default();
    SIGNS.iter().any(|sign| error.contains(sign))
}

fn is_recent(line: &str, now: Timestamp) -> bool {
    // As text and as JSON, by `REGISTRY_LOG_FORMATTER`.
    let begins = ["time=\"", "\"time\":\"", "\"@timestamp\":\""];
    let time = begins.iter().find_map(|begin| line.split_once(begin)?.1.split('"').next());
    let time = time.and_then(|time| time.parse::<Timestamp>().ok());
    time.is_some_and(|time| now.duration_since(time) < LIMITED_FOR)
}

/// Returns the reason why a cache does not get everything from its upstream, in a word and in two parts of a sentence. The first
/// part does not depend on the error. `None` if it gets everything.
pub fn problem(told: &Upstream, proxy: &ValidProxy) -> Option<(Reason, String, String)> {
    let url = &proxy.remote_url;
    match told {
        Upstream::Answers => None,
        Upstream::Limits => {
            let cure = match &proxy.credentials_secret {
                Some(secret) => format!("wait, or put a login with a higher limit into the Secret {secret}"),
                None => {
                    "set spec.proxy.credentialsSecret, since a login mostly has a higher limit".to_owned()
                }
            };
            let what = format!(
                "images that are not cached cannot be pulled: {url} limits the rate of pulls (429 Too Many Requests); {cure}"
            );
            Some((Reason::RateLimited, what, String::new()))
        }
        Upstream::Silent(words) => {
            let what = format!(
                "only cached images can be pulled: {url} does not answer; check the network of the Docker host, and \
                 spec.proxy.remoteURL"
            );
            Some((Reason::UpstreamUnreachable, what, format!(". The error is: {words}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::config::Login, *};
    use crate::docker::engine::Container;

    /// Lines of the registries 2.8.2 and 3.1.2 about an upstream that answers 429 with and without a body in the form of the
    /// registry's API.
    const REJECTED: [&str; 5] = [
        r#"time="2026-12-01T04:39:22.597194835Z" level=error msg="response completed with error" err.code=unknown err.detail="toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit" err.message="unknown error" go.version=go1.19.8 http.request.host="172.18.0.2:5000" http.request.id=9558ab36-4c2b-460e-90bd-2413fbbefa58 http.request.method=GET http.request.remoteaddr="172.18.0.1:36396" http.request.uri=/v2/library/x/manifests/1 http.request.useragent=curl/7.88.1 http.response.status=500 vars.name=library/x vars.reference=1"#,
        r#"time="2026-12-01T04:39:30.686871852Z" level=error msg="response completed with error" err.code=unknown err.detail="error parsing HTTP 429 response body: invalid character 's' looking for beginning of value: \"slow down\"" err.message="unknown error" go.version=go1.19.8 http.request.host="172.18.0.2:5000" http.response.status=500 vars.name=library/x vars.reference=1"#,
        r#"time="2026-12-01T04:39:22.712126134Z" level=error msg="response completed with error" err.code=unknown err.detail="error parsing HTTP 429 response body: unexpected end of JSON input: \"\"" err.message="unknown error" go.version=go1.19.8 http.request.host="172.18.0.2:5000""#,
        r#"time="2026-12-01T04:39:24.585316213Z" level=error msg="response completed with error" err.code=toomanyrequests err.message="You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit" go.version=go1.26.8 http.request.host="172.18.0.2:5000" http.request.method=GET http.response.status=429 vars.name=library/x vars.reference=1 version=v3.1.2+unknown"#,
        r#"{"err.code":"toomanyrequests","err.message":"","go.version":"go1.26.8","http.request.host":"172.18.0.2:5000","level":"error","msg":"response completed with error","time":"2026-12-01T04:39:24.690664407Z"}"#,
    ];
    /// An image that does not exist, by an upstream that is there or not; what a client writes about itself; a request.
    const OTHERS: [&str; 3] = [
        r#"time="2026-12-01T04:39:14.477726162Z" level=error msg="response completed with error" err.code="manifest unknown" err.detail="unknown tag=1" err.message="manifest unknown" go.version=go1.26.8 http.request.host="172.18.0.4:5000" http.response.status=404"#,
        r#"time="2026-12-01T04:39:14.477726162Z" level=error msg="response completed with error" err.code="manifest unknown" err.message="manifest unknown" go.version=go1.26.8 http.request.useragent="err.code=toomanyrequests""#,
        r#"172.18.0.1 - - [01/Dec/2026:04:39:14 +0000] "GET /v2/e2e/toomanyrequests/manifests/1 HTTP/1.1" 429 95 "" "skopeo/1.9.3""#,
    ];

    fn at(time: &str) -> Timestamp {
        format!("2026-12-01T{time}Z").parse().unwrap()
    }

    fn heard(report: Option<&str>, lines: &[&str], now: &str) -> Option<Upstream> {
        let login = Login { username: "me".into(), password: "hunter2".into() };
        let secrets = Secrets { upstream: Some(login), ..Secrets::default() };
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        told(report.map(str::as_bytes), &lines, &secrets, at(now))
    }

    #[test]
    fn rejected_requests_are_told_for_a_while() {
        let answers = Some("answers\n");
        for line in REJECTED {
            assert_eq!(heard(answers, &[line], "04:49:22"), Some(Upstream::Limits), "{line}");
            assert_eq!(heard(answers, &[line], "04:49:31"), Some(Upstream::Answers), "{line}");
            assert_eq!(heard(None, &[line], "04:40:00"), Some(Upstream::Limits), "without a script");
        }
        assert_eq!(heard(answers, &OTHERS, "04:40:00"), Some(Upstream::Answers));
        assert_eq!(heard(None, &OTHERS, "04:40:00"), None);
        let timeless = REJECTED[3].replace("time=", "when=");
        assert_eq!(heard(answers, &[&timeless], "04:40:00"), Some(Upstream::Answers));
    }

    #[test]
    fn silence_is_told_first_and_without_secrets() {
        let silent = |report: &str| heard(Some(report), &REJECTED, "04:40:00");
        let words = |words: &str| Some(Upstream::Silent(words.to_owned()));
        let get = r#"Get "http://up:5000/v2/": dial tcp: lookup up on 127.0.0.11:53: no such host"#;
        assert_eq!(silent(&format!("{get}\n")), words(get));
        assert_eq!(
            silent(r#"time="x" level=fatal msg="open \"/x\": no such file" version=2"#),
            words("open \"/x\": no such file")
        );
        assert_eq!(silent("user me:hunter2 is unknown"), words(""));
        assert_eq!(silent(""), words(""));
    }

    #[test]
    fn an_image_with_an_entry_point_of_its_own_is_started_as_before() {
        let made = |image: &str, entrypoint: &[&str]| ContainerDetail {
            container: Container { image: image.into(), ..Container::default() },
            entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
            ..ContainerDetail::default()
        };
        assert!(is_scripted(None, "registry:3"));
        assert!(is_scripted(Some(&made("registry:3", &["/entrypoint.sh"])), "registry:3"));
        assert!(is_scripted(Some(&made("registry:3", &[])), "registry:3"));
        assert!(!is_scripted(Some(&made("own:1", &["registry", "serve"])), "own:1"));
        assert!(is_scripted(Some(&made("own:1", &["registry", "serve"])), "registry:3"), "another image");
    }
}
