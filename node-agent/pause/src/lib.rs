//! The image of the pause container.
//!
//! Why: containers of one task share a network address, processes or memory segments, and somebody must hold those while
//! the containers come and go. What holds them needs no registry: it is a static program of a few dozen lines
//! (`src/pause.c`), compiled with the agent and imported into the engine once.
//!
//! Never: no code of this crate runs on a host; the program does.

use tallyman_agent_engine::{Archive, LocalImage};
use tallyman_crds::labels;

/// Root file system of the image: the program alone.
const ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause.tar"));

/// The image, for the engine to import. Its tag is a hash of its content, so that another program is another image.
pub fn image() -> LocalImage {
    LocalImage {
        reference: concat!("localhost/tallyman-pause:", env!("PAUSE_TAG")).to_owned(),
        archive: Archive(ARCHIVE),
        entrypoint: vec!["/pause".to_owned()],
        labels: [(labels::PAUSE_IMAGE.to_owned(), "true".to_owned())].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_holds_one_program() {
        assert!(ARCHIVE.len() < 64 * 1024, "{} bytes", ARCHIVE.len());
        assert!(ARCHIVE.starts_with(b"pause\0"));
        let magic = &ARCHIVE[512..516];
        assert_eq!(magic, b"\x7fELF");
    }
}
