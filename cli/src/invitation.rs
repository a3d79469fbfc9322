//! What to run on a host that joins, and what to do then. Pure.

use jiff::Timestamp;
use tallyman_crds::{Acceptance, HostJoin};
use tallyman_join::pin;

use crate::words::name;

/// Where Linux hosts keep the authorities that everybody trusts.
const TRUSTED_BY_ALL: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Addresses that mean another machine on every host.
const LOOPBACK: [&str; 3] = ["127.", "localhost", "[::1]"];

/// The command that joins a host.
#[derive(Debug)]
pub struct Invitation<'a> {
    /// URL of the API server as hosts reach it.
    pub server: &'a str,
    /// Certificates of its authority in DER, as the kubeconfig has them; none where that trusts what everybody does.
    pub authority: &'a [Vec<u8>],
    /// Token of the HostJoin.
    pub token: &'a str,
    /// Name of the host.
    pub host: &'a str,
}

impl Invitation<'_> {
    /// One line for a shell.
    ///
    /// # Errors
    /// The kubeconfig's certificate authority cannot be read.
    pub fn command(&self) -> Result<String, String> {
        let pem: String = self.authority.iter().map(|der| pin::to_pem(der)).collect();
        let authority = if pem.is_empty() {
            ["--ca".to_owned(), TRUSTED_BY_ALL.to_owned()]
        } else {
            let pins = pin::of_pem(pem.as_bytes());
            let pins =
                pins.map_err(|e| format!("the certificate authority of the kubeconfig: {e}"))?;
            let first = pins.into_iter().next().unwrap_or_default();
            ["--ca-cert-hash".to_owned(), first]
        };
        let words = [
            "tallyman-agent",
            "join",
            "--server",
            self.server,
            "--name",
            self.host,
        ];
        let words = words
            .into_iter()
            .chain(authority.iter().map(String::as_str));
        let words: Vec<&str> = words.chain(["--token", self.token]).collect();
        shlex::try_join(words).map_err(|e| format!("no shell takes this: {e}"))
    }

    /// Whether hosts would ask themselves.
    pub fn is_loopback(&self) -> bool {
        let host = self
            .server
            .split_once("://")
            .map_or(self.server, |(_, rest)| rest);
        LOOPBACK.iter().any(|own| host.starts_with(own))
    }
}

/// What the person who has the command does with it.
pub fn next_steps(join: &HostJoin, until: Timestamp) -> String {
    let subject = name(&join.metadata);
    let until = until.strftime("%F %H:%MZ");
    let run = format!("Run it on the host as root. It serves one host, until {until}.");
    let accept = match join.spec.accept {
        Acceptance::Automatic => "Whoever asks first with the token is accepted.".to_owned(),
        Acceptance::Manual => format!(
            "The host then shows the fingerprint of its key, and `kubectl get hjoin {subject} -o wide` the one that asks. If they are the \
             same, accept it:\n  kubectl patch hjoin {subject} --type merge -p '{{\"spec\":{{\"acceptedKey\":\"sha256:...\"}}}}'"
        ),
    };
    format!(
        "{run}\n{accept}\nOnce it has joined, `systemctl enable --now tallyman-agent` there starts the agent.\n"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn invitation<'a>(server: &'a str, authority: &'a [Vec<u8>]) -> Invitation<'a> {
        Invitation {
            server,
            authority,
            token: "abc.def.ghi",
            host: "host-a",
        }
    }

    #[test]
    fn without_an_authority_of_its_own_the_host_trusts_what_everybody_does() {
        let command = invitation("https://api.example:6443/", &[]).command();
        assert_eq!(
            command.unwrap(),
            "tallyman-agent join --server https://api.example:6443/ --name host-a --ca /etc/ssl/certs/ca-certificates.crt --token \
             abc.def.ghi"
        );
    }

    #[test]
    fn an_authority_that_is_none_is_told() {
        let why = invitation("https://api.example/", &[vec![1, 2, 3]]).command();
        let why = why.unwrap_err();
        assert!(
            why.starts_with("the certificate authority of the kubeconfig: "),
            "{why}"
        );
    }

    #[test]
    fn addresses_of_this_machine_are_known() {
        for (server, own) in [
            ("https://127.0.0.1:6443", true),
            ("https://localhost:6443", true),
            ("https://[::1]:6443", true),
            ("https://10.0.0.1:6443", false),
        ] {
            assert_eq!(invitation(server, &[]).is_loopback(), own, "{server}");
        }
    }
}
