//! The CustomResourceDefinitions: the files in `crds/` are what the code says, and a real API server takes and enforces
//! them.

use std::{fs, path::Path};

use localcluster_operator::api::crds;

/// `UPDATE_CRDS=1 cargo test --test crds golden` writes the files anew.
#[test]
fn golden_files_are_what_the_code_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for (name, crd) in crds::all() {
        let content = serde_saphyr::to_string(&crd).unwrap();
        let path = dir.join(&name);
        if std::env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&path, &content).unwrap();
        }
        let file = fs::read_to_string(&path).unwrap_or_default();
        assert!(file == content, "crds/{name} is out of date: UPDATE_CRDS=1 cargo test --test crds golden");
    }
}
