//! `tallyman-agent join`: makes this host one of the cluster's, from a token that only lets it ask.
//!
//! The host makes a key, shows its public half, and waits. What it is given, its own token, is sealed to that key, so neither
//! the join's token nor what the API server stores is of use to anybody else. Asking again with the same token and the
//! same key is always safe: it gives the same answer, or the one that was lost.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use axum::http::Uri;
use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tallyman_agent_core::joining::{self, Own, Step};
use tallyman_crds::{ContainerInstance, HostJoin, names};
use tallyman_join::{HostKey, Purpose, pin};

use crate::api::{tune, words};
use crate::clock::Clock;
use crate::{files, options, token};

/// File of the host's private key, beside its token.
pub const KEY: &str = "host.key";
const TOKEN: &str = "token";
const KUBECONFIG: &str = "kubeconfig";

/// Where the API server shows its certificate authority to whoever asks.
const PUBLIC_NAMESPACE: &str = "tallyman-system";
const PUBLIC_CONFIG_MAP: &str = "kube-root-ca.crt";
const PUBLIC_KEY: &str = "ca.crt";

/// How soon it is asked again whether there is an answer: at once when nobody has to be waited for, then more seldom.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const CALL: Duration = Duration::from_secs(15);

/// Joins this host: asks with the token of a HostJoin, waits until it is accepted, and writes the agent's kubeconfig.
///
/// The host's private key stays in the folder. Run again with the same folder and a new token, the host proves by it that it
/// is the same.
#[derive(Clone, Debug, Args)]
pub struct JoinOptions {
    /// URL of the API server, such as https://10.0.0.1:6443
    #[arg(long, value_name = "URL")]
    pub server: Uri,

    /// Token of the HostJoin, as `kubectl create token tallyman-join-<name>` prints it
    #[arg(
        long,
        env = "TALLYMAN_JOIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: String,

    /// The API server's certificate authority, by the SHA-256 of its public key: sha256:<64 hexadecimal digits>
    #[arg(
        long,
        value_name = "PIN",
        required_unless_present = "ca",
        conflicts_with = "ca"
    )]
    pub ca_cert_hash: Option<String>,

    /// The API server's certificate authority, a file in PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Name of the ContainerInstance to be [default: the host name]
    #[arg(long, env = "TALLYMAN_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Folder for the host's key, its token and the kubeconfig that names it
    #[arg(long, value_name = "DIR", default_value = "/etc/tallyman")]
    pub folder: PathBuf,

    /// How many seconds to wait to be accepted
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
}

/// Joins.
///
/// # Errors
/// Why not, in a sentence.
pub async fn run(options: JoinOptions) -> anyhow::Result<()> {
    let claims = token::claims(options.token.trim());
    let (namespace, join) = claims
        .and_then(|claims| {
            let (namespace, account) = claims.account()?;
            let join = names::join_of_identity(account)?;
            Some((namespace.to_owned(), join.to_owned()))
        })
        .context(
            "--token is not the token of a HostJoin: `kubectl create token tallyman-join-<name>` prints one",
        )?;
    let name = options
        .name
        .clone()
        .or_else(options::host_name)
        .context("the host has no name; give --name")?;
    let folder = std::path::absolute(&options.folder)?;
    private_folder(&folder)?;
    let key = host_key(&folder.join(KEY))?;
    let authority = authority(&options).await?;

    let mut config = config(&options.server)?;
    config.root_cert = Some(authority.clone());
    config.auth_info.token = Some(options.token.trim().to_owned().into());
    let clock = Clock::default();
    let desk = Desk {
        joins: Api::namespaced(clock.client(config)?, &namespace),
        join,
        name,
        key,
    };
    let (host, given) = desk.joined(Duration::from_secs(options.timeout)).await?;

    let token_file = folder.join(TOKEN);
    files::replace(&token_file, given.as_bytes())
        .with_context(|| format!("cannot write {}", token_file.display()))?;
    let kubeconfig = folder.join(KUBECONFIG);
    let text = kubeconfig_of(&options.server, &authority, &token_file, &namespace);
    files::replace(&kubeconfig, text.as_bytes())
        .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
    // What was written is what the agent uses: it has to work.
    let config = crate::api::config(Some(&kubeconfig)).await?;
    let instances: Api<ContainerInstance> = Api::namespaced(Client::try_from(config)?, &namespace);
    patiently("the API server", || instances.get(&host))
        .await
        .context("the API server does not take the host's own token")?;
    if let Some(complaint) = clock.complaint() {
        eprintln!("{complaint}");
    }
    println!("This host has joined as {host} in namespace {namespace}.");
    println!(
        "The agent runs with: tallyman-agent --kubeconfig {}",
        kubeconfig.display()
    );
    Ok(())
}

/// The one join that the token lets us ask.
struct Desk {
    joins: Api<HostJoin>,
    join: String,
    name: String,
    key: HostKey,
}

impl Desk {
    /// Asks until there is an answer. Returns the host's name and token.
    async fn joined(&self, patience: Duration) -> anyhow::Result<(String, String)> {
        let public = self.key.public();
        let (shown, fingerprint) = (public.to_text(), public.fingerprint());
        let own = Own {
            public_key: &shown,
            fingerprint: &fingerprint,
        };
        let start = Instant::now();
        let mut asked: Option<String> = None;
        let mut told = String::new();
        let mut wait = FIRST_WAIT;
        loop {
            let join = self.read().await?;
            let status = join.status.clone().unwrap_or_default();
            match joining::next(&status, own, asked.as_deref())? {
                Step::Ask => {
                    println!(
                        "This host asks to join as {} with key {fingerprint}.",
                        self.name
                    );
                    asked = Some(self.ask(&shown).await?);
                    continue;
                }
                Step::Take { host, sealed } => return Ok((host, self.open(&join, &sealed)?)),
                Step::Wait(Some(message)) if message != told => {
                    println!("{message}");
                    told = message;
                }
                Step::Wait(_) => {}
            }
            if start.elapsed() >= patience {
                bail!(
                    "the host was not admitted within {} s{}; run the same command again to go on waiting",
                    patience.as_secs(),
                    if told.is_empty() {
                        String::new()
                    } else {
                        format!(" ({told})")
                    }
                );
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 5 / 4).min(LONGEST_WAIT);
        }
    }

    async fn read(&self) -> anyhow::Result<HostJoin> {
        match patiently("the API server", || self.joins.get(&self.join)).await {
            Err(kube::Error::Api(status)) if status.code == 401 => bail!(
                "the API server does not take the token: it has ended, or its HostJoin {} was deleted",
                self.join
            ),
            Err(error) => Err(anyhow!(words(&error)).context("cannot read the HostJoin")),
            Ok(join) => Ok(join),
        }
    }

    /// Writes the request. Returns its id.
    async fn ask(&self, public_key: &str) -> anyhow::Result<String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no entropy: {error}"))?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({ "status": { "request": {
            "id": id, "publicKey": public_key, "containerInstance": self.name,
        }}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(body));
        // Written twice it is the same request.
        let write = || self.joins.patch_status(&self.join, &params, &patch);
        match patiently("the API server", write).await {
            Ok(_) => Ok(id),
            Err(error) => Err(anyhow!(words(&error)).context("the API server refuses the request")),
        }
    }

    fn open(&self, join: &HostJoin, sealed: &str) -> anyhow::Result<String> {
        let join_uid = join.uid().unwrap_or_default();
        let sealed: ByteString =
            serde_json::from_value(sealed.into()).context("the sealed token is not base64")?;
        let purpose = Purpose::Token {
            join_uid: &join_uid,
        };
        let opened = self.key.open(&sealed.0, &purpose);
        let opened = opened.context("the answer is not for this host")?;
        String::from_utf8(opened).context("the answer is no token")
    }
}

/// A configuration without trust and without a name.
fn config(server: &Uri) -> anyhow::Result<Config> {
    if server.scheme_str() != Some("https") {
        bail!("--server must be a URL that begins with https://, unlike '{server}'");
    }
    let mut config = Config::new(server.clone());
    config.proxy_url = std::env::var("HTTPS_PROXY")
        .ok()
        .and_then(|uri| uri.parse().ok());
    tune(&mut config);
    Ok(config)
}

/// The certificates that the API server's must be signed by, in DER.
async fn authority(options: &JoinOptions) -> anyhow::Result<Vec<Vec<u8>>> {
    if let Some(file) = &options.ca {
        let pem = std::fs::read(file).with_context(|| format!("--ca {}", file.display()))?;
        return pin::in_pem(&pem).with_context(|| format!("--ca {}", file.display()));
    }
    let wanted = options.ca_cert_hash.as_deref().unwrap_or_default();
    pin::parse(wanted).context("--ca-cert-hash")?;
    // Asked of whoever answers, and without the token: what comes back is believed only if it has the hash.
    let mut config = config(&options.server)?;
    config.accept_invalid_certs = true;
    // Those of the system are not asked, and a small host has none.
    config.root_cert = Some(Vec::new());
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config)?, PUBLIC_NAMESPACE);
    let whom = format!("cannot reach {}", options.server);
    let map = match patiently(&whom, || maps.get(PUBLIC_CONFIG_MAP)).await {
        Ok(map) => map,
        Err(kube::Error::Api(status)) => bail!(
            "the API server does not show its certificate authority to a host that has no name yet ({}); copy it here and \
             give --ca FILE instead of --ca-cert-hash",
            status.message
        ),
        Err(error) => bail!("{whom}: {}", words(&error)),
    };
    let pem = map.data.and_then(|mut data| data.remove(PUBLIC_KEY));
    let found = pin::pinned(pem.unwrap_or_default().as_bytes(), wanted)?;
    if found.is_empty() {
        bail!(
            "the certificate authority of {} has another hash than --ca-cert-hash: it is another API server, or somebody is \
             in between; the token was not sent",
            options.server
        );
    }
    Ok(found)
}

fn private_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.with_context(|| format!("cannot make --folder {}", folder.display()))
}

/// The key of this host: the one that is there, or a new one.
fn host_key(path: &Path) -> anyhow::Result<HostKey> {
    match std::fs::read_to_string(path) {
        Ok(text) => HostKey::from_text(&text).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = HostKey::generate();
            files::replace(path, key.to_text().as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn kubeconfig_of(server: &Uri, authority: &[Vec<u8>], token: &Path, namespace: &str) -> String {
    let pem: String = authority.iter().map(|der| pin::to_pem(der)).collect();
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tallyman", "cluster": {
            "server": server.to_string(),
            "certificate-authority-data": ByteString(pem.into_bytes()),
        }}],
        "users": [{ "name": "host", "user": { "tokenFile": token } }],
        "contexts": [{ "name": "tallyman", "context": {
            "cluster": "tallyman", "user": "host", "namespace": namespace,
        }}],
        "current-context": "tallyman",
    });
    format!("{text:#}\n")
}

/// An answer in time, or the words for none.
async fn timed<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(CALL, call).await.unwrap_or_else(|_| {
        Err(kube::Error::Service(
            format!("no answer within {} s", CALL.as_secs()).into(),
        ))
    })
}

/// An answer in time, asked for again as long as another one may come. `whom` begins the sentence of what is wrong meanwhile.
async fn patiently<T, F>(whom: &str, mut call: impl FnMut() -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let start = tokio::time::Instant::now();
    let mut told = false;
    loop {
        let error = match timed(call()).await {
            Err(error) if start.elapsed() < patience(&error) => error,
            answer => return answer,
        };
        if !told {
            let seconds = patience(&error).as_secs();
            eprintln!("{whom}: {}; asking again for {seconds} s", words(&error));
            told = true;
        }
        tokio::time::sleep(FIRST_WAIT).await;
    }
}

/// How long such an answer, or none, is not believed.
fn patience(error: &kube::Error) -> Duration {
    match error {
        kube::Error::Api(status) => joining::patience(Some(status.code)),
        kube::Error::Service(_) | kube::Error::HyperError(_) => joining::patience(None),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn new_rights_may_come_a_little_later_an_outage_passes_and_other_refusals_count_at_once()
    {
        let refused = |code: u16| -> kube::Error {
            let status = json!({ "status": "Failure", "message": "no", "code": code });
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        let away = || kube::Error::Service("connection refused".into());
        let answers = [refused(403), away(), refused(503), refused(429)];
        let mut answers = answers.into_iter();
        let found = patiently("it", || {
            std::future::ready(answers.next().map_or(Ok(7), Err))
        });
        assert_eq!(found.await.unwrap(), 7);
        for code in [401, 404, 422] {
            let mut asked = 0;
            let said = patiently("it", || {
                asked += 1;
                std::future::ready(Err::<(), _>(refused(code)))
            });
            assert!(said.await.is_err());
            assert_eq!(asked, 1, "{code}");
        }
        for (error, seconds) in [
            (&(|| refused(403)) as &dyn Fn() -> kube::Error, 30),
            (&away, 60),
        ] {
            let longest = Duration::from_secs(seconds);
            let start = tokio::time::Instant::now();
            let never = patiently("it", || std::future::ready(Err::<(), _>(error())));
            assert_eq!(words(&never.await.unwrap_err()), words(&error()));
            assert!(start.elapsed() >= longest && start.elapsed() < longest * 2);
        }
    }

    #[test]
    fn a_key_is_made_once_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new/tallyman");
        private_folder(&state).unwrap();
        let path = state.join(KEY);
        let first = host_key(&path).unwrap();
        let again = host_key(&path).unwrap();
        assert_eq!(first.public().to_text(), again.public().to_text());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&state)), (0o600, 0o700));
        std::fs::write(&path, "short").unwrap();
        let error = format!("{:#}", host_key(&path).unwrap_err());
        assert!(error.contains("host.key: it is no X25519 key"), "{error}");
    }

    #[test]
    fn a_server_is_reached_by_tls_only() {
        let error = config(&"http://10.0.0.1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("https://"), "{error}");
    }

    #[tokio::test]
    async fn the_kubeconfig_is_one_and_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KUBECONFIG);
        let token = folder.path().join(TOKEN);
        std::fs::write(&token, "secret").unwrap();
        let server = "https://10.0.0.1:6443".parse().unwrap();
        let authority = pin::in_pem(include_bytes!("../../join/tests/ec.crt")).unwrap();
        let text = kubeconfig_of(&server, &authority, &token, "prod");
        assert!(!text.contains("secret"));
        std::fs::write(&path, text).unwrap();
        let config = crate::api::config(Some(&path)).await.unwrap();
        assert_eq!(config.default_namespace, "prod");
        assert_eq!(config.root_cert, Some(authority));
        assert_eq!(config.auth_info.token_file.as_deref(), token.to_str());
    }
}
