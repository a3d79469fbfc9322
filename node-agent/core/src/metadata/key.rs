//! Ids of containers in the paths of the metadata endpoint.
//!
//! An id is `<task uid>-<32 hex digits>`; the digits are a MAC of task and container under a key of the host. So nobody
//! guesses the id of another container, and it needs no memory: it is the same whenever a container is planned, after a
//! restart of the agent, and without its records.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ids::TaskUid;

/// Bytes of the MAC that go into an id.
const DIGITS: usize = 16;

/// The key of a host: 32 random bytes that the shell keeps beside its records.
#[derive(Clone, PartialEq, Eq)]
pub struct MetadataKey([u8; 32]);

impl fmt::Debug for MetadataKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MetadataKey(..)")
    }
}

impl MetadataKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of a container of a task.
    pub fn id(&self, uid: &TaskUid, container: &str) -> String {
        let digest = self.mac(uid, container).map(Mac::finalize);
        let bytes = digest.map(|tag| tag.into_bytes());
        let digits: String = bytes
            .iter()
            .flat_map(|bytes| bytes.iter().take(DIGITS))
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{uid}-{digits}")
    }

    /// Which of these containers of a task has the tag that [`read`] found in an id. Compares in constant time.
    pub fn holder<'a>(
        &self,
        uid: &TaskUid,
        tag: &[u8; DIGITS],
        containers: impl Iterator<Item = &'a str>,
    ) -> Option<&'a str> {
        let mut holder = None;
        for container in containers {
            let mac = self.mac(uid, container);
            if mac.is_some_and(|mac| mac.verify_truncated_left(tag).is_ok()) {
                holder = Some(container);
            }
        }
        holder
    }

    /// `None` never comes: HMAC takes keys of any length.
    fn mac(&self, uid: &TaskUid, container: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        // A uid has no zero byte, so no other pair makes the same text.
        mac.update(b"task metadata\0");
        mac.update(uid.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(container.as_bytes());
        Some(mac)
    }
}

/// The parts of an id: the task, and the tag of the container.
pub fn read(id: &str) -> Option<(TaskUid, [u8; DIGITS])> {
    let (uid, digits) = id.rsplit_once('-')?;
    if uid.is_empty() || digits.len() != 2 * DIGITS || !digits.is_ascii() {
        return None;
    }
    let mut tag = [0; DIGITS];
    for (index, byte) in tag.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some((TaskUid::new(uid), tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "550e8400-e29b-41d4-a716-446655440000";

    #[test]
    fn an_id_leads_back_to_its_container_only() {
        let key = MetadataKey::new([7; 32]);
        let uid = TaskUid::new(UID);
        let id = key.id(&uid, "app");
        assert_eq!(id, key.id(&uid, "app"));
        let (found, tag) = read(&id).unwrap();
        assert_eq!(found, uid);
        let holder = |key: &MetadataKey, uid: &TaskUid| {
            key.holder(uid, &tag, ["ap", "app", "appx"].into_iter())
                .map(str::to_owned)
        };
        assert_eq!(holder(&key, &uid).as_deref(), Some("app"));
        assert_eq!(holder(&key, &TaskUid::new("other")), None);
        assert_eq!(holder(&MetadataKey::new([8; 32]), &uid), None);
        assert_ne!(key.id(&uid, "app"), key.id(&uid, "apq"));
    }

    #[test]
    fn what_is_no_id_is_not_read() {
        let short = format!("{UID}-00ff");
        let signed = format!("{UID}-+0{}", "0".repeat(30));
        let letters = format!("{UID}-{}", "g".repeat(32));
        let wide = format!("{UID}-{}", "é".repeat(16));
        let nobody = format!("-{}", "0".repeat(32));
        for text in ["", "-", UID, &short, &letters, &wide, &nobody] {
            assert_eq!(read(text), None, "{text}");
        }
        // `from_str_radix` takes a sign; such an id is merely one that nobody has.
        assert!(read(&signed).is_none_or(|(_, tag)| tag == [0; 16]));
    }
}
