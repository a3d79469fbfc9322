//! Memory that the agent has freed goes back to the host.
//!
//! Why: after fifty tasks have started or stopped the agent uses a megabyte of its heap and holds seven. glibc gives back by
//! itself only what is free at the end of the heap, and some little thing that lives on always lies there.
//!
//! Where: the shell calls it now and then. It is a crate of its own because the C library has this as a call that Rust does not know
//! to be safe; the rest of the workspace forbids `unsafe`.
//!
//! Never: nothing else is called here.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "a declaration; malloc_trim(3) takes a number, touches no memory in use, and may be called from any thread"
)]
mod c {
    unsafe extern "C" {
        pub(super) safe fn malloc_trim(pad: usize) -> i32;
    }
}

/// Gives back every free page of the heap; takes a millisecond or so. Other C libraries than glibc are left alone.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    c::malloc_trim(0);
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Anonymous memory, KiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        line.unwrap()
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .unwrap()
    }

    #[test]
    fn what_was_freed_between_what_lives_on_is_given_back() {
        const PIECE: usize = 64 * 1024;
        let mut pieces: Vec<Option<Vec<u8>>> = (0..512).map(|_| Some(vec![1; PIECE])).collect();
        let full = resident();
        // Thirty-one of thirty-two; what is left keeps the end of the heap where it is.
        for (i, piece) in pieces.iter_mut().enumerate() {
            if i % 32 != 31 {
                *piece = None;
            }
        }
        let before = resident();
        give_back();
        let after = resident();
        assert!(
            after + 16 * 1024 < before.min(full),
            "{full} KiB, {before} after free, {after} given back"
        );
        assert!(pieces.iter().flatten().all(|piece| piece[PIECE - 1] == 1));
    }
}
