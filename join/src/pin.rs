//! The pin of a certificate authority: a hash of its public key, as `kubeadm join --discovery-token-ca-cert-hash` takes it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// What is wrong with a pin or with certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The text is no pin.
    #[error(
        "it must be `sha256:` and 64 hexadecimal digits, the SHA-256 of the public key of the API server's certificate authority"
    )]
    NoPin,
    /// The certificates cannot be read.
    #[error("it holds no certificate in PEM")]
    NoCertificate,
}

/// The pin of every certificate in a PEM file, in order.
///
/// The same as `openssl x509 -pubkey -noout -in ca.crt | openssl pkey -pubin -outform der | sha256sum`.
///
/// # Errors
/// There is none, or one that cannot be read.
pub fn of_pem(pem: &[u8]) -> Result<Vec<String>, PinError> {
    let pins: Vec<String> = certificates(pem)?
        .iter()
        .map(of_certificate)
        .collect::<Result<_, _>>()?;
    Ok(pins)
}

/// Every certificate in a PEM file, in DER.
///
/// # Errors
/// There is none, or one that cannot be read.
pub fn in_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, PinError> {
    let all = certificates(pem)?;
    Ok(all.iter().map(|der| der.as_ref().to_vec()).collect())
}

/// A certificate in PEM.
#[must_use]
pub fn to_pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (n, digit) in text.chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            pem.push('\n');
        }
        pem.push(digit);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// Those certificates of a PEM file whose pin is `pin`, in DER. What else the file holds is not trusted.
///
/// # Errors
/// `pin` is none, or the file holds no certificate.
pub fn pinned(pem: &[u8], pin: &str) -> Result<Vec<Vec<u8>>, PinError> {
    let pin = parse(pin)?;
    let mut found = Vec::new();
    for certificate in certificates(pem)? {
        if of_certificate(&certificate)? == pin {
            found.push(certificate.as_ref().to_vec());
        }
    }
    Ok(found)
}

/// A pin as a person wrote it.
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<String, PinError> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.strip_prefix("sha256:").ok_or(PinError::NoPin)?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(PinError::NoPin);
    }
    Ok(text)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PinError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| PinError::NoCertificate)?;
    if read.is_empty() {
        return Err(PinError::NoCertificate);
    }
    Ok(read)
}

fn of_certificate(certificate: &CertificateDer<'_>) -> Result<String, PinError> {
    let anchor =
        webpki::anchor_from_trusted_cert(certificate).map_err(|_| PinError::NoCertificate)?;
    let key = anchor.subject_public_key_info.as_ref();
    Ok(crate::sha256(&sequence(key)))
}

/// What a trust anchor holds is the content of the sequence that a SubjectPublicKeyInfo is (X.690, 8.1.3).
fn sequence(content: &[u8]) -> Vec<u8> {
    let mut all = vec![0x30];
    let length = content.len().to_be_bytes();
    let digits: Vec<u8> = length.iter().copied().skip_while(|b| *b == 0).collect();
    match (digits.as_slice(), u8::try_from(digits.len())) {
        ([], _) => all.push(0),
        (&[short], _) if short < 0x80 => all.push(short),
        (_, Ok(count)) => {
            all.push(0x80 | count);
            all.extend(&digits);
        }
        (_, Err(_)) => {}
    }
    all.extend(content);
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// An RSA key is longer than 127 bytes, one on an elliptic curve is not.
    const RSA: &str = include_str!("../tests/rsa.crt");
    const EC: &str = include_str!("../tests/ec.crt");
    /// What openssl says of them.
    const RSA_PIN: &str = include_str!("../tests/rsa.pin");
    const EC_PIN: &str = include_str!("../tests/ec.pin");

    #[test]
    fn a_pin_is_what_openssl_says() {
        let pins = of_pem(format!("{RSA}{EC}").as_bytes()).unwrap();
        assert_eq!(pins, [RSA_PIN.trim(), EC_PIN.trim()]);
    }

    #[test]
    fn what_is_not_pinned_is_not_trusted() {
        let both = format!("{RSA}{EC}");
        let found = pinned(
            both.as_bytes(),
            &EC_PIN.to_uppercase().replace("SHA", "sha"),
        )
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found, pinned(EC.as_bytes(), EC_PIN).unwrap());
        assert!(pinned(RSA.as_bytes(), EC_PIN).unwrap().is_empty());
    }

    #[test]
    fn a_certificate_survives_its_way_through_pem() {
        for pem in [RSA, EC] {
            let der = in_pem(pem.as_bytes()).unwrap();
            assert_eq!(to_pem(&der[0]).trim(), pem.trim());
        }
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        let long = format!("{}0", EC_PIN.trim());
        for text in ["", "sha256:", "sha256:zz", &EC_PIN.trim()[7..], &long] {
            assert_eq!(parse(text), Err(PinError::NoPin), "{text}");
        }
        assert_eq!(of_pem(b"nothing"), Err(PinError::NoCertificate));
    }
}
