//! The API server, as whoever the kubeconfig says. The only reader and writer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tallyman_crds::readable::{Readable, Unread};
use tallyman_crds::{RunTask, Service, Task};
use tallyman_operator_core::liveness::Silence;
use tallyman_operator_core::{Kind, Objects, Settings, Unreadable, World};

use crate::args::Connection;
use crate::subject::{Found, Subject, SubjectKind};
use crate::words::{left_out, name, unreadable};

/// Name of this program as a field manager.
pub const MANAGER: &str = "kubectl-tally";

/// What kinds are asked for by name and namespace.
pub trait Named:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned
{
}

impl<K> Named for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
{
}

/// A connection to an API server, and a namespace.
#[derive(Clone)]
pub struct Session {
    /// Client.
    pub client: Client,
    /// Namespace.
    pub namespace: String,
    /// Address of the API server.
    pub server: String,
    /// Lists are of all namespaces, and not of that one alone.
    everywhere: bool,
    /// Certificates of its authority, in DER; none where that is one that everybody trusts.
    pub authority: Vec<Vec<u8>>,
    /// What was said of objects that cannot be read: once is enough.
    said: Arc<Mutex<BTreeSet<String>>>,
}

/// Objects of a kind.
#[derive(Clone, Debug)]
pub struct Listed<K> {
    /// Those that can be read, in order of namespace and name.
    pub items: Vec<K>,
    /// What is known of the others.
    pub unread: Vec<Unread>,
}

impl<K: Named> Listed<K> {
    fn of(found: Vec<Readable<K>>) -> Listed<K> {
        let mut listed = Listed {
            items: Vec::new(),
            unread: Vec::new(),
        };
        for Readable(object) in found {
            match object {
                Ok(object) => listed.items.push(object),
                Err(unread) => listed.unread.push(unread),
            }
        }
        let key = |o: &K| (o.meta().namespace.clone(), o.meta().name.clone());
        listed.items.sort_by_key(key);
        listed
    }
}

impl Session {
    /// Connects as kubectl would.
    ///
    /// # Errors
    /// There is no usable kubeconfig.
    pub async fn open(connection: &Connection) -> Result<Session> {
        let kubeconfig = match &connection.kubeconfig {
            Some(file) => Kubeconfig::read_from(file)
                .with_context(|| format!("cannot read --kubeconfig {}", file.display()))?,
            None => Kubeconfig::read().context(
                "no API server is configured: give --kubeconfig, set KUBECONFIG, or write ~/.kube/config",
            )?,
        };
        let options = KubeConfigOptions {
            context: connection.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("the kubeconfig is not usable")?;
        config.connect_timeout = Some(Duration::from_secs(10));
        let namespace = connection.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let authority = config.root_cert.clone().unwrap_or_default();
        let client = Client::try_from(config).context("cannot make a client for the API server")?;
        Ok(Session {
            authority,
            ..Session::new(client, namespace, server)
        })
    }

    /// A session of a client.
    pub fn new(client: Client, namespace: String, server: String) -> Session {
        Session {
            client,
            namespace,
            server,
            everywhere: false,
            authority: Vec::new(),
            said: Arc::default(),
        }
    }

    /// The same, with lists of all namespaces if so it is said.
    pub fn everywhere(&self, everywhere: bool) -> Session {
        Session {
            everywhere,
            ..self.clone()
        }
    }

    /// Where it lists, for sentences: `namespace prod`, `any namespace`.
    pub fn place(&self) -> String {
        if self.everywhere {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", self.namespace)
        }
    }

    /// The objects of a kind in the namespace.
    pub fn api<K: Named>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All objects of a kind that can be read, in order of name; of the others a warning is printed.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn list<K: Named>(&self, params: &ListParams) -> Result<Vec<K>> {
        let Listed { items, unread } = self.listed::<K>(params).await?;
        for unread in &unread {
            self.warn(&left_out(&K::kind(&()), unread));
        }
        Ok(items)
    }

    /// All objects of a kind. Who concludes something from one that is not there looks at those that cannot be read, too.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn listed<K: Named>(&self, params: &ListParams) -> Result<Listed<K>> {
        let api = if self.everywhere {
            Api::all(self.client.clone())
        } else {
            self.api::<Readable<K>>()
        };
        let found = api.list(params).await;
        let found = found.map_err(|e| self.explained(e, &K::plural(&())))?;
        Ok(Listed::of(found.items))
    }

    /// Names of all objects of a kind, whatever else they hold.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn names<K: Named>(&self) -> Result<Vec<String>> {
        let found = self.api::<K>().list_metadata(&ListParams::default()).await;
        let found = found.map_err(|e| self.explained(e, &K::plural(&())))?;
        let names = found.items.into_iter();
        Ok(names.filter_map(|o| o.metadata.name).collect())
    }

    /// Names of all namespaces.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn namespaces(&self) -> Result<Vec<String>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.list_metadata(&ListParams::default()).await;
        let found = found.map_err(|e| self.explained(e, "namespaces"))?;
        let names = found.items.into_iter();
        Ok(names.filter_map(|o| o.metadata.name).collect())
    }

    /// Prints a warning, unless it was printed before.
    pub fn warn(&self, text: &str) {
        if self.said().insert(text.to_owned()) {
            eprintln!("warning: {text}");
        }
    }

    /// Something was warned of.
    pub fn warned(&self) -> bool {
        !self.said().is_empty()
    }

    fn said(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn shared<K: Named>(&self, kind: Kind) -> Result<(Vec<Arc<K>>, Vec<Arc<Unreadable>>)> {
        let Listed { items, unread } = self.listed::<K>(&ListParams::default()).await?;
        let unread = unread.into_iter();
        let unread = unread.map(|unread| Arc::new(Unreadable { kind, unread }));
        Ok((items.into_iter().map(Arc::new).collect(), unread.collect()))
    }

    /// An object, if it is there.
    ///
    /// # Errors
    /// It cannot be read, or the API server refused or did not answer.
    pub async fn get<K: Named>(&self, name: &str) -> Result<Option<K>> {
        let found = self.api::<Readable<K>>().get_opt(name).await;
        match found.map_err(|e| self.explained(e, &K::plural(&())))? {
            None => Ok(None),
            Some(Readable(Ok(object))) => Ok(Some(object)),
            Some(Readable(Err(unread))) => Err(anyhow!(unreadable(&K::kind(&()), &unread))),
        }
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// It is not there, it cannot be read, or the API server refused or did not answer.
    pub async fn need<K: Named>(&self, name: &str) -> Result<K> {
        let kind = K::kind(&()).into_owned();
        self.get(name).await?.with_context(|| {
            format!(
                "there is no {kind} `{name}` in namespace `{}`",
                self.namespace
            )
        })
    }

    /// Merges `patch` into an object.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn merge<K: Named>(&self, name: &str, patch: &Value) -> Result<K> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = self
            .api::<K>()
            .patch(name, &params, &Patch::Merge(patch))
            .await;
        written.map_err(|e| self.explained(e, &K::plural(&())))
    }

    /// What the scheduler decides on, without Secrets, ConfigMaps and plans of hosts: placement does not ask for them. Of objects
    /// that cannot be read, a warning is printed; the scheduler knows of them, too.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn objects(&self) -> Result<Objects> {
        let objects = self.objects_in_silence().await?;
        for object in &objects.unreadable {
            self.warn(&left_out(object.kind.as_str(), &object.unread));
        }
        Ok(objects)
    }

    /// The same, for whoever tells of [`Objects::unreadable`] itself.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn objects_in_silence(&self) -> Result<Objects> {
        let (
            (clusters, a),
            (task_definitions, b),
            (revisions, c),
            (services, d),
            (tasks, e),
            (instances, f),
            (run_tasks, g),
            (task_sets, h),
        ) = futures::try_join!(
            self.shared(Kind::Cluster),
            self.shared(Kind::TaskDefinition),
            self.shared(Kind::TaskDefinitionRevision),
            self.shared(Kind::Service),
            self.shared(Kind::Task),
            self.shared(Kind::ContainerInstance),
            self.shared(Kind::RunTask),
            self.shared(Kind::TaskSet),
        )?;
        let mut objects = Objects {
            clusters,
            task_definitions,
            revisions,
            services,
            tasks,
            instances,
            run_tasks,
            task_sets,
            unreadable: [a, b, c, d, e, f, g, h].concat(),
            ..Objects::default()
        };
        objects.silence = heard_of(&objects);
        Ok(objects)
    }

    /// Finds what a person names.
    ///
    /// # Errors
    /// It is not there, or the API server refused or did not answer.
    pub async fn find(&self, given: &str, kinds: &[SubjectKind]) -> Result<Found> {
        let subject = Subject::parse(given, kinds).map_err(|wrong| anyhow!(wrong))?;
        for kind in &subject.kinds {
            let name = &subject.name;
            let found = match kind {
                SubjectKind::Service => self.get::<Service>(name).await?.map(Found::Service),
                SubjectKind::Run => self.get::<RunTask>(name).await?.map(Found::Run),
                SubjectKind::Task => self.get::<Task>(name).await?.map(Found::Task),
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(anyhow!(subject.missing(&self.namespace)))
    }

    /// An error of the API server in words that help.
    pub fn explained(&self, error: kube::Error, what: &str) -> anyhow::Error {
        match &error {
            kube::Error::Api(status)
                if status.code == 404 && status.message.contains("page not found") =>
            {
                anyhow!(
                    "the API server at {} does not know {what}.{}: Tallyman's resource definitions are not installed; `kubectl tally doctor` says more",
                    self.server,
                    tallyman_crds::GROUP
                )
            }
            kube::Error::Api(status) => anyhow!("{}", status.message),
            _ => anyhow::Error::new(error)
                .context(format!("the API server at {} does not answer", self.server)),
        }
    }
}

/// For how long hosts were not heard of, as far as their status tells: the operator times them on a clock of its own and
/// says only whether an agent counts as connected.
pub fn heard_of(objects: &Objects) -> BTreeMap<String, Silence> {
    let grace = Settings::default().agent_grace;
    let instances = objects.instances.iter();
    let all = instances.map(|i| {
        let connected = i.status.as_ref().is_some_and(|s| s.agent_connected);
        let lasts = if connected { Duration::ZERO } else { grace };
        (name(&i.metadata).to_owned(), Silence::since_heard(lasts))
    });
    all.collect()
}

/// The world of a cluster as the scheduler sees it.
pub fn world(objects: &Objects, namespace: &str, cluster: &str) -> World {
    World::gather(objects, namespace, cluster, &settings(), 0)
}

/// Settings of the scheduler as they are by default. A task counts as healthy from its start: here all of them start well.
pub fn settings() -> Settings {
    Settings {
        healthy_after: Duration::ZERO,
        ..Settings::default()
    }
}
