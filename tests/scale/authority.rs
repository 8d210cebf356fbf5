//! The certificates of the created clusters. All have one authority, and each a certificate for its own name.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tempfile::TempDir;

pub struct Authority {
    dir: TempDir,
    issued: Arc<Issued>,
    /// What each server writes as its admin's.
    pub kubeconfig: String,
}

/// By the name of the load balancer.
#[derive(Debug, Default)]
struct Issued(Mutex<HashMap<String, Arc<CertifiedKey>>>);

impl ResolvesServerCert for Issued {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().get(hello.server_name()?).cloned()
    }
}

fn openssl(dir: &Path, args: &str) {
    let ended = Command::new("openssl").current_dir(dir).args(args.split_whitespace()).output();
    let ended = ended.unwrap_or_else(|e| panic!("openssl: {e}"));
    assert!(ended.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&ended.stderr));
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        // Those of K3s are of this kind too.
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(
            path,
            &format!("req -x509 {new} -days 30 -subj /CN=k3s-server-ca -keyout ca.key -out ca.crt"),
        );
        openssl(path, &format!("req {new} -subj /CN=k3s -keyout tls.key -out tls.csr"));
        openssl(
            path,
            &format!("req {new} -subj /O=system:masters/CN=system:admin -keyout admin.key -out admin.csr"),
        );
        // With extensions, without which openssl makes one of version 1, which nobody accepts.
        fs::write(path.join("admin.ext"), "extendedKeyUsage=clientAuth\n").expect("it is ours");
        let signed = "-CA ca.crt -CAkey ca.key -set_serial 1 -days 30 -extfile admin.ext";
        openssl(path, &format!("x509 -req -in admin.csr {signed} -out admin.crt"));
        let data = |name: &str| BASE64_STANDARD.encode(fs::read(path.join(name)).expect("it was written"));
        let kubeconfig = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: \
             https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  \
             name: default\ncurrent-context: default\nkind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    \
             client-certificate-data: {}\n    client-key-data: {}\n",
            data("ca.crt"),
            data("admin.crt"),
            data("admin.key")
        );
        Self { dir, issued: Arc::default(), kubeconfig }
    }

    /// Issues the certificate for a name, once.
    pub fn issue(&self, name: &str) {
        if self.issued.0.lock().unwrap().contains_key(name) {
            return;
        }
        let path = self.dir.path();
        fs::write(path.join(format!("{name}.ext")), format!("subjectAltName=DNS:{name}\n"))
            .expect("it is ours");
        openssl(
            path,
            &format!(
                "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -set_serial 0x{:x} -days 30 -extfile {name}.ext -out {name}.crt",
                self.issued.0.lock().unwrap().len() + 100
            ),
        );
        let certificate =
            CertificateDer::from_pem_file(path.join(format!("{name}.crt"))).expect("a certificate");
        let authority = CertificateDer::from_pem_file(path.join("ca.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(path.join("tls.key")).expect("a key");
        let key = ring::sign::any_supported_type(&key).expect("a key of a known type");
        let certified = Arc::new(CertifiedKey::new(vec![certificate, authority], key));
        self.issued.0.lock().unwrap().insert(name.to_owned(), certified);
    }

    /// Returns the configuration of the servers of all clusters.
    pub fn server(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("TLS 1.3");
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.issued.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}
