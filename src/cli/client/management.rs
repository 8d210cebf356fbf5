//! The management cluster that a verb speaks to.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config, Error, Resource,
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use crate::{
    api::LocalCluster,
    cli::{
        self, Failure, Result,
        kubeconfig::{Files, Origin},
    },
};

/// A management cluster answers at once, or is not there.
const ANSWERS: Duration = Duration::from_secs(30);

/// Label selector of the Deployments and Pods of operators.
pub const OPERATOR: &str = "app.kubernetes.io/name=localcluster-operator";

/// The management cluster and the namespace.
#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// Context of the management cluster. Defaults to the current one; if that was merged by this command for a cluster, to
    /// the one that it was merged through
    #[arg(long, value_name = "NAME", env = "LOCALCLUSTER_CONTEXT")]
    pub context: Option<String>,
    /// Kubeconfig with that context, into which those of clusters are merged. Defaults to KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace. Defaults to that of the context
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Prints the kubectl commands that do the same
    #[arg(short, long)]
    pub verbose: bool,
}

/// A management cluster.
pub struct Management {
    client: Client,
    /// Context of the kubeconfig.
    pub context: String,
    /// URL of its API.
    pub server: String,
    /// The namespace.
    pub namespace: String,
    /// The user's kubeconfigs.
    pub files: Files,
    target: Target,
}

impl Target {
    /// Returns the kubeconfigs.
    pub fn files(&self) -> Result<Files> {
        Ok(Files::from_env(self.kubeconfig.as_deref())?)
    }

    /// Connects to the management cluster.
    pub async fn connect(&self) -> Result<Management> {
        let files = self.files()?;
        let context = match &self.context {
            Some(context) => context.clone(),
            None => files.management()?.ok_or(
                "no management cluster: the kubeconfig has no current context; give one with --context, or set KUBECONFIG",
            )?,
        };
        let unusable = |why: String| format!("cannot use the context {context}: {why}; check the kubeconfig");
        let mut all = Kubeconfig::default();
        for path in files.paths().iter().filter(|path| path.exists()) {
            let one = Kubeconfig::read_from(path).map_err(|e| unusable(e.to_string()))?;
            all = all.merge(one).map_err(|e| unusable(e.to_string()))?;
        }
        let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
        let loaded = Config::from_custom_kubeconfig(all, &options).await;
        let mut config = loaded.map_err(|e| unusable(e.to_string()))?;
        config.connect_timeout = Some(ANSWERS);
        config.read_timeout = Some(ANSWERS);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|e| unusable(e.to_string()))?;
        Ok(Management { client, context, server, namespace, files, target: self.clone() })
    }
}

impl Management {
    /// Returns the same management cluster with another namespace.
    pub fn within(&self, namespace: &str) -> Self {
        let Self { client, context, server, namespace: _, files, target } = self;
        let (client, context, server) = (client.clone(), context.clone(), server.clone());
        Self {
            client,
            context,
            server,
            namespace: namespace.to_owned(),
            files: files.clone(),
            target: target.clone(),
        }
    }

    /// Returns the client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns a LocalCluster that must exist.
    pub async fn cluster(&self, name: &str) -> Result<LocalCluster> {
        match self.find(name).await? {
            Some(cluster) => Ok(cluster),
            None => Err(self.missing(name)),
        }
    }

    /// Returns an object, if it exists.
    pub async fn find<K>(&self, name: &str) -> Result<Option<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let what = format!("cannot read the {} {name}", K::kind(&()));
        self.api::<K>().get_opt(name).await.map_err(|error| self.told(&what, &error))
    }

    /// Tells that there is no LocalCluster of this name.
    pub fn missing(&self, name: &str) -> Failure {
        let Self { namespace, context, .. } = self;
        Failure::Failed(format!(
            "no LocalCluster {name}: the namespace {namespace} of the context {context} has none of this name; \
             choose another with -n or --context, or see `localcluster list -A`"
        ))
    }

    /// Returns the kubeconfig of a cluster, as its Secret has it for clients on the Docker host.
    pub async fn kubeconfig(&self, name: &str, cluster: &LocalCluster) -> Result<String> {
        let secret = cluster.status.as_ref().and_then(|status| status.kubeconfig_secret.as_deref());
        let secret = secret.ok_or_else(|| {
            format!(
                "no kubeconfig of {name}: its status has no kubeconfigSecret, since it was never Ready or \
                 spec.kubeconfig.access is None; see `localcluster status {name}`"
            )
        })?;
        let found: Option<Secret> = self.find(secret).await?;
        let mut data = found.and_then(|secret| secret.data).unwrap_or_default();
        let file = data.remove("kubeconfig").and_then(|bytes| String::from_utf8(bytes.0).ok());
        let missing = || {
            format!(
                "no kubeconfig of {name}: the Secret {secret} is gone; the operator makes it again, so try it again"
            )
        };
        Ok(file.ok_or_else(missing)?)
    }

    /// Returns whose the contexts of a cluster are.
    pub fn origin(&self, name: &str) -> Origin {
        Origin { owner: format!("{}/{name}", self.namespace), management: self.server.clone() }
    }

    /// Prints a kubectl command that does the same, if the user wants to know.
    pub fn tell(&self, command: &str) {
        if self.target.verbose {
            let file = self.target.kubeconfig.as_ref();
            let file = file.map(|file| format!(" --kubeconfig={}", file.display())).unwrap_or_default();
            eprintln!("+ kubectl{file} --context={} -n {} {command}", self.context, self.namespace);
        }
    }

    /// Prints a docker command that does the same, if the user wants to know.
    pub fn tell_docker(&self, command: &str) {
        if self.target.verbose {
            eprintln!("+ docker {command}");
        }
    }

    /// Returns what happened to a request in words.
    pub fn told(&self, what: &str, error: &Error) -> Failure {
        let Self { context, server, .. } = self;
        Failure::Failed(match error {
            Error::Api(status) if status.is_not_found() && status.message.contains("page not found") => {
                format!(
                    "{what}: the management cluster {context} does not know LocalClusters; install the operator there, or \
                 choose another with --context"
                )
            }
            Error::Api(status) if status.code == 403 => {
                format!(
                    "{what}: {}; ask an administrator of the context {context} for the right",
                    status.message
                )
            }
            Error::Api(status) if status.is_conflict() => format!(
                "{what}: {}; another tool manages these fields: change them there, or take them over with \
                 `kubectl apply --server-side --force-conflicts`",
                status.message
            ),
            Error::Api(status) => format!("{what}: {}", status.message),
            other => format!(
                "{what}: the management cluster {context} at {server} does not answer: {}; check that it runs",
                cli::causes(other)
            ),
        })
    }
}
