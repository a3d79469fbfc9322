//! Names of containers on the engine: a function of task, container and attempt, so that creating a
//! container twice collides instead of doubling it.

use crate::ids::TaskUid;

/// Longest family or container name that goes into an engine name unshortened.
const PART_LIMIT: usize = 60;

/// `ecs-<family>-<revision>-<container>-<10 hex of the task uid>`, and `-<attempt>` from the second on.
///
/// ECS ends the name with random digits and keeps it in memory until `create` returned; ours can be
/// derived again after a crash.
pub fn container(
    family: &str,
    revision: i64,
    container: &str,
    uid: &TaskUid,
    attempt: u32,
) -> String {
    let base = format!(
        "ecs-{}-{revision}-{}-{}",
        part(family),
        part(container),
        uid_digits(uid)
    );
    if attempt > 1 {
        format!("{base}-{attempt}")
    } else {
        base
    }
}

/// Name of a volume that is a task's own, as ECS makes it: `ecs-<family>-<revision>-<volume>-<10 hex of
/// the task uid>`.
pub fn volume(family: &str, revision: i64, volume: &str, uid: &TaskUid) -> String {
    container(family, revision, volume, uid, 1)
}

/// What engines allow in a name, at bounded length. A part that had to be changed gets eight digits of
/// its hash, so that two names that look alike afterwards still differ.
fn part(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .take(PART_LIMIT)
        .collect();
    if clean == name {
        clean
    } else {
        format!("{clean}-{:08x}", hash(name.as_bytes()) >> 32)
    }
}

/// The first ten hexadecimal digits of a uid; of its hash when it is no UUID.
fn uid_digits(uid: &TaskUid) -> String {
    let digits: String = uid.as_str().chars().filter(|c| *c != '-').collect();
    if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        digits[..10].to_ascii_lowercase()
    } else {
        format!("{:016x}", hash(uid.as_str().as_bytes()))[..10].to_owned()
    }
}

/// FNV-1a, 64 bits: stable across versions of compiler and agent, unlike the standard library's hashers.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_ecs_with_digits_of_the_uid() {
        let uid = TaskUid::new("550e8400-E29B-41d4-a716-446655440000");
        assert_eq!(
            container("web", 7, "nginx", &uid, 1),
            "ecs-web-7-nginx-550e8400e2"
        );
        assert_eq!(
            container("web", 7, "nginx", &uid, 3),
            "ecs-web-7-nginx-550e8400e2-3"
        );
    }

    #[test]
    fn a_uid_that_is_no_uuid_is_hashed() {
        let name = container("web", 1, "app", &TaskUid::new("task-1"), 1);
        assert_eq!(name.len(), "ecs-web-1-app-".len() + 10);
        assert_ne!(name, container("web", 1, "app", &TaskUid::new("task-2"), 1));
    }

    #[test]
    fn long_or_odd_names_stay_bounded_and_distinct() {
        let uid = TaskUid::new("550e8400-e29b-41d4-a716-446655440000");
        let long = "a".repeat(255);
        let one = container(&long, 1, &format!("{long}1"), &uid, 1);
        let two = container(&long, 1, &format!("{long}2"), &uid, 1);
        assert!(one.len() < 200, "{one}");
        assert_ne!(one, two);
        assert_ne!(
            container("w", 1, "a b", &uid, 1),
            container("w", 1, "a-b", &uid, 1)
        );
    }
}
