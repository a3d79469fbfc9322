//! Certificates of a control plane that lives for one run. The keys never leave the run's private folder.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::paths;

/// A certificate authority with its files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    /// Certificate.
    pub certificate: PathBuf,
    /// Key.
    pub key: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Certificate.
    pub certificate: PathBuf,
    /// Key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority with its files in `folder`.
    ///
    /// # Errors
    /// When no key can be made or the files cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = distinguished(name, None);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let pair = KeyPair::generate()?;
        let certificate = params.self_signed(&pair)?;
        let files = write(folder, name, &certificate.pem(), &pair)?;
        Ok(Authority {
            issuer: Issuer::new(params, pair),
            folder: folder.to_owned(),
            certificate: files.certificate,
            key: files.key,
        })
    }

    /// A server that is reached by these names and addresses.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn server(&self, name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Pair> {
        let mut params = CertificateParams::new(
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>(),
        )?;
        params
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name = distinguished(name, None);
        // etcd's gateway is its own client.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(name, params)
    }

    /// A client: to Kubernetes, `user` is the user and `group` its group.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        write(&self.folder, name, &certificate.pem(), &pair)
    }
}

/// Keys for the tokens of service accounts.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    /// Proves a token.
    pub public: PathBuf,
    /// Signs one.
    pub private: PathBuf,
}

impl TokenKeys {
    /// New keys with their files in `folder`.
    ///
    /// # Errors
    /// When no key can be made or the files cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let keys = TokenKeys {
            public: folder.join(format!("{name}.pub")),
            private: folder.join(format!("{name}.key")),
        };
        let pair = KeyPair::generate()?;
        paths::private_file(&keys.public, pair.public_key_pem())?;
        paths::private_file(&keys.private, pair.serialize_pem())?;
        Ok(keys)
    }
}

fn distinguished(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<Pair> {
    let files = Pair {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    paths::private_file(&files.certificate, certificate)?;
    paths::private_file(&files.key, key.serialize_pem())?;
    Ok(files)
}
