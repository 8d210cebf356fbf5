//! The script of a retention on the data of registries, and garbage collections with one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use localcluster_operator::{
    api::{names::hex, registry::RetentionSpec},
    plan::registry::retention,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The data of a registry.
struct Store {
    directory: tempfile::TempDir,
    now: SystemTime,
}

impl Store {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), now: SystemTime::now() }
    }

    fn root(&self) -> String {
        format!("{}/docker/registry/v2", self.directory.path().display())
    }

    fn repository(&self, name: &str) -> String {
        format!("{}/repositories/{name}/_manifests", self.root())
    }

    /// Writes a file as it was written so many seconds ago.
    fn write(&self, path: &str, content: &str, age: u64) {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(self.now - Duration::from_secs(age)).unwrap();
    }

    /// Does what a registry does for a push so many seconds ago.
    fn push(&self, repository: &str, tag: Option<&str>, manifest: &Value, age: u64) -> String {
        let content = manifest.to_string();
        let hex = hex(&Sha256::digest(&content));
        let digest = format!("sha256:{hex}");
        self.write(&format!("{}/blobs/sha256/{}/{hex}/data", self.root(), &hex[..2]), &content, age);
        let of = self.repository(repository);
        self.write(&format!("{of}/revisions/sha256/{hex}/link"), &digest, age);
        if let Some(tag) = tag {
            self.write(&format!("{of}/tags/{tag}/index/sha256/{hex}/link"), &digest, age);
            self.write(&format!("{of}/tags/{tag}/current/link"), &digest, age);
        }
        digest
    }

    /// Runs the script. Returns its last line, or the error.
    fn run(&self, keep_tags: u64, keep_for: u64) -> Result<String, String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", retention::SCRIPT, "sh"]).arg(self.directory.path());
        let out =
            shell.args([keep_tags.to_string(), keep_for.to_string()]).args(["echo", "collected"]).output();
        let out = out.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !out.status.success() {
            assert_eq!(text(&out.stdout), "", "nothing was collected");
            return Err(text(&out.stderr));
        }
        assert_eq!(text(&out.stderr), "");
        let said = text(&out.stdout);
        Ok(said.strip_prefix("collected\n").expect("the garbage was collected").to_owned())
    }

    fn tags(&self, repository: &str) -> BTreeSet<String> {
        names(&format!("{}/tags", self.repository(repository)))
    }

    fn images(&self, repository: &str) -> BTreeSet<String> {
        let all = names(&format!("{}/revisions/sha256", self.repository(repository)));
        all.iter().map(|hex| format!("sha256:{hex}")).collect()
    }

    /// Everything that is there.
    fn all(&self) -> BTreeSet<String> {
        let out = Command::new("find").arg(self.directory.path()).output().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    }
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn strings<const N: usize>(all: [impl Into<String>; N]) -> BTreeSet<String> {
    all.map(Into::into).into()
}

fn image(n: usize) -> Value {
    let blob = |kind: &str| format!("sha256:{}", hex(&Sha256::digest(format!("{kind} {n}"))));
    json!({"schemaVersion": 2, "config": {"digest": blob("config")}, "layers": [{"digest": blob("layer")}]})
}

fn index(images: &[&str]) -> Value {
    let manifests: Vec<_> = images.iter().map(|digest| json!({"digest": digest})).collect();
    json!({"schemaVersion": 2, "manifests": manifests})
}

/// Something that refers to an image, as `oras attach` makes it.
fn artifact(n: usize, subject: &str) -> Value {
    let mut made = image(n);
    made["subject"] = json!({"digest": subject, "size": 1});
    made
}

/// The tag by which cosign and clients without the referrers API refer to an image.
fn tag_of(digest: &str, end: &str) -> String {
    format!("{}{end}", digest.replace(':', "-"))
}

#[test]
fn a_tag_is_removed_only_if_each_rule_allows_it() {
    let cases: [(u64, u64, &[&str]); 7] = [
        (1, 0, &["a"]),
        (2, 0, &["a", "b"]),
        (9, 0, &["a", "b", "c", "d"]),
        (0, 2 * HOUR, &["a", "b"]),
        (3, 2 * HOUR, &["a", "b", "c"]),
        (1, 30 * HOUR, &["a", "b", "c"]),
        (1, 60, &["a"]),
    ];
    for (keep_tags, keep_for, kept) in cases {
        let store = Store::new();
        for repository in ["app", "team/x/app"] {
            for (n, (tag, age)) in
                [("c", 20 * HOUR), ("a", 120), ("d", 50 * HOUR), ("b", HOUR)].into_iter().enumerate()
            {
                store.push(repository, Some(tag), &image(n), age);
            }
        }
        let gone = 4 - kept.len();
        let said = store.run(keep_tags, keep_for).unwrap();
        assert_eq!(said, format!("retention: {} tags and {} images removed", 2 * gone, 2 * gone));
        for repository in ["app", "team/x/app"] {
            let kept: BTreeSet<_> = kept.iter().map(|tag| (*tag).to_owned()).collect();
            assert_eq!(store.tags(repository), kept, "{keep_tags} {keep_for}");
            assert_eq!(store.images(repository).len(), kept.len());
        }
        assert_eq!(store.run(keep_tags, keep_for).unwrap(), "retention: 0 tags and 0 images removed");
    }
    // Rather too many tags than one too few: that of the same second may be newer.
    let store = Store::new();
    for (n, tag) in ["a", "b", "c"].into_iter().enumerate() {
        store.push("app", Some(tag), &image(n), 60);
    }
    store.run(1, 0).unwrap();
    assert_eq!(store.tags("app"), strings(["a", "b", "c"]));
}

#[test]
fn an_image_that_a_kept_tag_shares_with_a_removed_one_stays() {
    let store = Store::new();
    let both = store.push("app", Some("old"), &image(1), 9 * DAY);
    store.push("app", Some("new"), &image(1), 60);
    store.write(&format!("{}/tags/old/current/link", store.repository("app")), &both, 9 * DAY);
    assert_eq!(store.run(1, 0).unwrap(), "retention: 1 tags and 0 images removed");
    assert_eq!((store.tags("app"), store.images("app")), (strings(["new"]), strings([both])));
}

/// What an image consists of and what refers to it goes with it, whatever its own age, and counts for nothing.
#[test]
fn platforms_and_signatures_stay_and_go_with_their_image() {
    for (kept, age) in [(true, HOUR), (false, 9 * DAY)] {
        let store = Store::new();
        let old = 20 * DAY;
        let platforms = [1, 2].map(|n| store.push("app", None, &image(n), old));
        let attested = store.push("app", None, &artifact(3, &platforms[0]), old);
        let whole = index(&[&platforms[0], &platforms[1], &attested]);
        let whole = store.push("app", Some("1"), &whole, age);
        let sbom = store.push("app", None, &artifact(4, &whole), old);
        let of_sbom = store.push("app", None, &artifact(5, &sbom), old);
        let referrers = store.push("app", Some(&tag_of(&whole, "")), &index(&[&sbom]), old);
        let signature = store.push("app", Some(&tag_of(&whole, ".sig")), &image(6), old);
        // Signatures may be in a repository of their own.
        let elsewhere = store.push("signatures", Some(&tag_of(&whole, ".sig")), &image(7), old);
        let other = store.push("app", Some("2"), &image(8), 60);
        store.run(1, DAY).unwrap();
        let tags = [tag_of(&whole, ""), tag_of(&whole, ".sig")];
        if kept {
            let [referred, signed] = tags;
            assert_eq!(store.tags("app"), strings([referred, signed, "1".into(), "2".into()]));
            let [first, second] = platforms;
            let all = [first, second, attested, whole, sbom, of_sbom, referrers, signature, other];
            assert_eq!(store.images("app"), strings(all));
            assert_eq!(store.images("signatures"), strings([elsewhere]));
        } else {
            assert_eq!((store.tags("app"), store.images("app")), (strings(["2"]), strings([other])));
            assert!(store.tags("signatures").is_empty() && store.images("signatures").is_empty());
        }
    }
    // One whose image is nowhere is a tag like others.
    let store = Store::new();
    let nowhere = format!("sha256:{}", "a".repeat(64));
    store.push("signatures", Some(&tag_of(&nowhere, ".sig")), &image(1), 60);
    store.run(1, 0).unwrap();
    assert_eq!(store.tags("signatures"), strings([tag_of(&nowhere, ".sig")]));
}

/// Its tag was pushed again, or a push is in progress.
#[test]
fn an_image_without_a_tag_has_the_time_of_a_tag_or_a_day() {
    for (keep_tags, keep_for, kept) in [(1, 0, 1), (1, HOUR, 0), (0, 40 * HOUR, 2), (1, 60 * HOUR, 3)] {
        let store = Store::new();
        for (n, age) in [2 * HOUR, 30 * HOUR, 50 * HOUR].into_iter().enumerate() {
            store.push("app", Some("latest"), &image(n), age);
        }
        store.push("app", Some("latest"), &image(9), 60);
        store.run(keep_tags, keep_for).unwrap();
        assert_eq!(store.images("app").len(), 1 + kept, "{keep_tags} {keep_for}");
        assert_eq!(store.tags("app"), strings(["latest"]));
        let former = names(&format!("{}/tags/latest/index/sha256", store.repository("app")));
        assert_eq!(former.len(), 1 + kept, "no tag knows what is gone");
    }
}

#[test]
fn nothing_is_removed_if_anything_is_not_understood() {
    type Harm = (fn(&Store), &'static str);
    let harm: [Harm; 4] = [
        (
            |store| fs::remove_dir_all(format!("{}/blobs", store.root())).unwrap(),
            "cannot read ../blobs/sha256/",
        ),
        (
            |store| store.write(&format!("{}/tags/x/current/link", store.repository("app")), "", 60),
            "no digest in ./app/_manifests/tags/x/current/link",
        ),
        (
            |store| store.write(&format!("{}/tags/x/current/link", store.repository("a b'c")), "x", 60),
            "./a b'c/_manifests/tags/x/current/link",
        ),
        (
            |store| store.write(&format!("{}/revisions/md5/x/link", store.repository("app")), "x", 60),
            "no digest: ./app/_manifests/revisions/md5/x/link",
        ),
    ];
    for (harm, says) in harm {
        let store = Store::new();
        store.push("app", Some("1"), &image(1), 9 * DAY);
        store.push("app", Some("2"), &image(2), 60);
        harm(&store);
        let before = store.all();
        let error = store.run(1, 0).unwrap_err();
        assert!(error.contains("panic: retention: ") && error.contains(says), "{says}: {error}");
        assert_eq!(store.all(), before);
    }
}

#[test]
fn an_interrupted_removal_is_completed() {
    let store = Store::new();
    store.push("app", Some("cut"), &image(1), 9 * DAY);
    store.push("app", Some("2"), &image(2), 60);
    fs::remove_dir_all(format!("{}/tags/cut/current", store.repository("app"))).unwrap();
    store.run(1, 0).unwrap();
    assert_eq!(store.tags("app"), strings(["2"]));
    assert_eq!(store.images("app").len(), 1);
}

#[test]
fn a_registry_without_images_stays_so() {
    let store = Store::new();
    assert_eq!(store.run(1, 0).unwrap(), "retention: 0 tags and 0 images removed");
    fs::create_dir_all(format!("{}/repositories", store.root())).unwrap();
    assert_eq!(store.run(1, 0).unwrap(), "retention: 0 tags and 0 images removed");
    // Neither layers nor uploads nor what is no repository matter.
    for path in ["app/_layers/sha256/x y/link", "app/_uploads/some thing/data", "a_file"] {
        store.write(&format!("{}/repositories/{path}", store.root()), "x", 9 * DAY);
    }
    let before = store.all();
    assert_eq!(store.run(1, 0).unwrap(), "retention: 0 tags and 0 images removed");
    assert_eq!(store.all(), before);
}

/// A pushed manifest.
#[derive(Clone, Debug)]
struct Push {
    repository: usize,
    kind: Kind,
    /// Earlier pushes that it names.
    names: Vec<prop::sample::Index>,
    tag: Option<usize>,
    age: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Image,
    Index,
    Artifact,
    Signature,
}

fn pushes() -> impl Strategy<Value = Vec<Push>> {
    let kinds =
        prop::sample::select(vec![Kind::Image, Kind::Image, Kind::Index, Kind::Artifact, Kind::Signature]);
    let names = prop::collection::vec(any::<prop::sample::Index>(), 1..3);
    let ages = prop::sample::select(vec![60, HOUR, 2 * HOUR, 20 * HOUR, 2 * DAY, 9 * DAY]);
    let one = (0..2usize, kinds, names, prop::option::of(0..4usize), ages);
    let one = one.prop_map(|(repository, kind, names, tag, age)| Push { repository, kind, names, tag, age });
    prop::collection::vec(one, 1..14)
}

/// What is known of a registry, by repository and name.
#[derive(Default)]
struct Known {
    tags: BTreeMap<(usize, String), (String, u64)>,
    images: BTreeMap<(usize, String), u64>,
    /// If the first one is kept, the second one is.
    with: BTreeSet<((usize, String), (usize, String))>,
    follows: BTreeMap<String, String>,
}

impl Known {
    fn fill(store: &Store, pushes: &[Push]) -> Self {
        let mut known = Self::default();
        for (n, push) in pushes.iter().enumerate() {
            let here: Vec<String> =
                known.images.keys().filter(|(r, _)| *r == push.repository).map(|(_, d)| d.clone()).collect();
            let named: Vec<&str> =
                push.names.iter().filter(|_| !here.is_empty()).map(|i| i.get(&here).as_str()).collect();
            let mut tag = push.tag.map(|tag| format!("t{tag}"));
            let manifest = match (push.kind, named.first()) {
                (Kind::Image, _) | (_, None) => image(n),
                (Kind::Index, _) => index(&named),
                (Kind::Artifact, Some(subject)) => artifact(n, subject),
                (Kind::Signature, Some(subject)) => {
                    let name = tag_of(subject, ".sig");
                    known.follows.insert(name.clone(), (*subject).to_owned());
                    tag = Some(name);
                    image(n)
                }
            };
            let repository = push.repository;
            let digest = store.push(&format!("r{repository}"), tag.as_deref(), &manifest, push.age);
            let of = |digest: &str| (repository, digest.to_owned());
            for name in named.iter().filter(|name| **name != digest) {
                match push.kind {
                    Kind::Index => {
                        known.with.insert((of(&digest), of(name)));
                    }
                    Kind::Artifact if *name == named[0] => {
                        known.with.extend([(of(&digest), of(name)), (of(name), of(&digest))]);
                    }
                    Kind::Image | Kind::Artifact | Kind::Signature => {}
                }
            }
            known.images.insert(of(&digest), push.age);
            if let Some(tag) = tag {
                known.tags.insert(of(&tag), (digest, push.age));
            }
        }
        known
    }

    /// The tags and images that are kept.
    fn kept(&self, keep_tags: usize, keep_for: u64) -> [BTreeSet<(usize, String)>; 2] {
        let own = |tag: &&(usize, String)| !self.follows.contains_key(&tag.1);
        let by_rule = |tag: &&(usize, String)| {
            let age = self.tags[*tag].1;
            let newer =
                self.tags.keys().filter(own).filter(|t| t.0 == tag.0 && self.tags[*t].1 < age).count();
            newer < keep_tags || age < keep_for
        };
        let mut tags: BTreeSet<_> = self.tags.keys().filter(own).filter(by_rule).cloned().collect();
        let tagged = |image: &(usize, String)| {
            self.tags.iter().any(|(tag, (digest, _))| tag.0 == image.0 && *digest == image.1)
        };
        let grace = if keep_for > 0 { keep_for } else { DAY };
        let young = self.images.iter().filter(|(image, age)| **age < grace && !tagged(image));
        let mut images: BTreeSet<_> = young.map(|(image, _)| image.clone()).collect();
        loop {
            let before = (tags.len(), images.len());
            images.extend(tags.iter().map(|tag| (tag.0, self.tags[tag].0.clone())));
            let with: Vec<_> =
                self.with.iter().filter(|(a, _)| images.contains(a)).map(|(_, b)| b.clone()).collect();
            images.extend(with);
            let digests: BTreeSet<_> = images.iter().map(|(_, digest)| digest).collect();
            let followers = self
                .tags
                .keys()
                .filter(|tag| self.follows.get(&tag.1).is_some_and(|image| digests.contains(image)));
            tags.extend(followers.cloned().collect::<Vec<_>>());
            if before == (tags.len(), images.len()) {
                return [tags, images];
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// What stays is exactly what the rules keep, with all that it consists of and that refers to it.
    #[test]
    fn what_the_rules_keep_is_whole(pushes in pushes(), tags in 0..3usize, time in prop::sample::select(vec![0, HOUR, 3 * HOUR, 3 * DAY])) {
        prop_assume!(tags > 0 || time > 0);
        let store = Store::new();
        let known = Known::fill(&store, &pushes);
        // A moment passes until the script reads the clock.
        let time = if time > 0 { time + 600 } else { 0 };
        let [kept_tags, kept_images] = known.kept(tags, time);
        store.run(tags as u64, time).unwrap();
        for repository in 0..2 {
            let of = |all: &BTreeSet<(usize, String)>| -> BTreeSet<String> {
                all.iter().filter(|(r, _)| *r == repository).map(|(_, name)| name.clone()).collect()
            };
            prop_assert_eq!(store.tags(&format!("r{repository}")), of(&kept_tags));
            prop_assert_eq!(store.images(&format!("r{repository}")), of(&kept_images));
        }
    }
}

fn with_retention(mut spec: RegistrySpec) -> RegistrySpec {
    spec.retention = Some(RetentionSpec { keep_tags: Some(3), keep_for: Some("720h".into()) });
    spec
}

/// A change of the rules in whatever state a garbage collection is in: the registry is not replaced for it, and what is
/// removed is what the last rules say.
#[test]
fn rules_change_in_the_middle_of_a_collection() {
    let before = settled(with_retention(RegistrySpec::default()));
    let id = before.world.id(NAME);
    let edits: [fn(&mut RegistrySpec); 3] =
        [|_| {}, |spec| spec.retention = None, |spec| spec.retention.as_mut().unwrap().keep_tags = Some(9)];
    for (n, edit) in edits.into_iter().enumerate() {
        for (passes, cut, ticks) in all_cuts() {
            let mut lab = before.clone();
            ask(&mut lab, Some("1"));
            die(&mut lab, passes, cut);
            let started = lab.world.named("k3d-images-gc").is_some_and(|c| c.started.is_some());
            lab.registries[0].edit(edit);
            if ticks {
                lab.world.tick();
            }
            let rules = |n| ["3 2592000", "", "9 2592000"][n];
            for _ in 0..ENOUGH {
                lab.round();
                let Some(collector) = lab.world.named("k3d-images-gc") else { continue };
                let command = collector.command.join(" ");
                let fits = command.contains(rules(n)) && command.starts_with("sh ") == (n != 1);
                assert!(started || collector.started.is_none() || fits, "{n} {passes} {cut}: {command}");
            }
            lab.settle(ENOUGH);
            rests(&lab);
            assert_eq!((collected(&lab), lab.world.id(NAME)), (done("1"), id.clone()));
        }
    }
}

/// A Registry is deleted in whatever state its garbage collection is in.
#[test]
fn nothing_is_left_of_a_registry_that_is_deleted_meanwhile() {
    let before = settled(with_retention(RegistrySpec::default()));
    for (passes, cut, ticks) in all_cuts() {
        let mut lab = before.clone();
        ask(&mut lab, Some("1"));
        die(&mut lab, passes, cut);
        if ticks {
            lab.world.tick();
        }
        lab.registries[0].deleted = true;
        lab.settle(ENOUGH);
        assert!(lab.world.containers.is_empty() && lab.world.volumes.is_empty(), "{passes} {cut} {ticks}");
    }
}
