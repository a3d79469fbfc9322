//! `join`: leave for a host to join, and the command that does it.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use tallyman_crds::{Acceptance, HostJoin, HostJoinSpec, names};
use tallyman_operator_core::joins::expires;

use super::{PERIOD, print};
use crate::args::Join;
use crate::invitation::{Invitation, next_steps};
use crate::outcome;
use crate::session::{MANAGER, Session};

/// The operator makes the account of a join at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// No API server gives tokens for less, in seconds.
const SHORTEST_TOKEN: u64 = 600;

pub(super) async fn join(session: &Session, args: &Join) -> Result<u8> {
    let join = permitted(session, args).await?;
    let token = token(session, args).await?;
    let server = args.server.as_deref().unwrap_or(&session.server);
    let server = server.trim_end_matches('/');
    let invitation = Invitation {
        server,
        authority: &session.authority,
        token: &token,
        host: &args.host,
    };
    let command = invitation.command().map_err(|why| anyhow!(why))?;
    print(&format!("{command}\n"))?;
    if invitation.is_loopback() {
        eprintln!(
            "{server} is this machine alone: give --server the address by which hosts reach the API server, if this is not the host."
        );
    }
    eprint!("{}", next_steps(&join, expires(&join)));
    Ok(outcome::DONE)
}

/// The HostJoin of that name, made if it is not there.
async fn permitted(session: &Session, args: &Join) -> Result<HostJoin> {
    let host = &args.host;
    if let Some(join) = session.get::<HostJoin>(host).await? {
        let used = join
            .status
            .as_ref()
            .and_then(|s| s.container_instance.as_deref());
        if let Some(instance) = used {
            bail!(
                "HostJoin `{host}` was used: its host joined as {instance}. To let another one join, or this one again, delete it first: \
                 `kubectl delete hjoin {host}`"
            );
        }
        if expires(&join) <= Timestamp::now() {
            bail!(
                "HostJoin `{host}` is over and no host joined; delete it first: `kubectl delete hjoin {host}`"
            );
        }
        eprintln!(
            "HostJoin {host} is there already and stays as it is; this is another token of it."
        );
        return Ok(join);
    }
    let spec = HostJoinSpec {
        container_instance: Some(host.clone()),
        cluster: args.cluster.clone(),
        accept: if args.automatic {
            Acceptance::Automatic
        } else {
            Acceptance::Manual
        },
        accepted_key: args.key.clone(),
        expires_after_seconds: Some(args.valid.as_secs().try_into()?),
    };
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let made = session
        .api()
        .create(&params, &HostJoin::new(host, spec))
        .await;
    made.map_err(|e| session.explained(e, "hostjoins"))
}

async fn token(session: &Session, args: &Join) -> Result<String> {
    let account = names::join_identity(&args.host);
    let accounts = session.api::<ServiceAccount>();
    let began = Instant::now();
    loop {
        let found = accounts.get_opt(&account).await;
        if found
            .map_err(|e| session.explained(e, "serviceaccounts"))?
            .is_some()
        {
            break;
        }
        if began.elapsed() >= PATIENCE {
            bail!(
                "the operator has not made ServiceAccount `{account}` within {} s: `kubectl describe hjoin {}` and `kubectl tally doctor` say \
                 more",
                PATIENCE.as_secs(),
                args.host
            );
        }
        tokio::time::sleep(PERIOD / 5).await;
    }
    let seconds = args.valid.as_secs().max(SHORTEST_TOKEN);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(i64::try_from(seconds)?),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let given = accounts
        .create_token_request(&account, &PostParams::default(), &request)
        .await;
    let given = given.map_err(|e| session.explained(e, "serviceaccounts/token"))?;
    let token = given.status.map(|status| status.token);
    token.ok_or_else(|| anyhow!("the API server gave no token of ServiceAccount `{account}`"))
}
