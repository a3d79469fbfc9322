//! What the command line reads, and what both sides of a join read from each other.

use tallyman_cli::convert::{self, Options};
use tallyman_cli::manifests;
use tallyman_cli::subject::{Subject, SubjectKind};
use tallyman_join::{HostKey, PublicKey, Purpose, pin};

use super::{first_line, text};

/// Files that `kubectl tally convert` and `plan` take.
pub fn convert(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(made) = convert::convert(text, &Options::default()) {
        let _ = convert::text(&made);
    }
    let _ = manifests::parse(text);
    let (head, _) = first_line(text);
    let _ = Subject::parse(head, &[SubjectKind::Service, SubjectKind::Task]);
}

/// Keys, sealed answers, pins and certificates.
pub fn joining(bytes: &[u8]) {
    let purpose = Purpose::Supply { secret_uid: "u" };
    if let Some(text) = text(bytes) {
        let (head, tail) = first_line(text);
        let _ = PublicKey::from_text(head);
        if let Ok(key) = HostKey::from_text(head) {
            assert!(
                key.open(tail.as_bytes(), &purpose).is_err(),
                "nothing is sealed by chance"
            );
        }
        if let Ok(pin) = pin::parse(head) {
            assert_eq!(pin.len(), "sha256:".len() + 64);
        }
        let _ = pin::pinned(tail.as_bytes(), head);
    }
    let _ = pin::of_pem(bytes);
    let _ = pin::in_pem(bytes);
}
