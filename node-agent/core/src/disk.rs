//! Whether the disk of the engine is so full that tasks will fail, told before they do.
//!
//! ECS agents say nothing of it; tasks then fail one by one with the engine's words. Here the ContainerInstance says it
//! while its tasks still run. Nothing is stopped for it.

/// Less than this share of a disk is little, however small the disk is.
const SHARE: u64 = 20;
/// More than this is enough, however large the disk is.
const ENOUGH_BYTES: u64 = 1 << 30;
/// The like for inodes.
const ENOUGH_INODES: u64 = 100_000;
/// What was too little is enough again when there is a quarter more: otherwise each log line could change the verdict.
const SLACK: u64 = 4;

/// So much of so much is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// What is free for everybody.
    pub free: u64,
    /// Of so much; 0 when there is no limit.
    pub total: u64,
}

impl Room {
    fn is_little(self, was_little: bool, enough: u64) -> bool {
        let limit = (self.total / SHARE).min(enough);
        let limit = if was_little {
            limit + limit / SLACK
        } else {
            limit
        };
        self.free < limit
    }
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes.
    pub bytes: Room,
    /// Inodes: files and folders.
    pub inodes: Room,
}

/// What is known of the engine's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineDisk {
    little_space: bool,
    few_inodes: bool,
}

impl EngineDisk {
    /// Takes in a look at it. `None`: it cannot be seen from here, as from within a container.
    pub fn looked(&mut self, space: Option<DiskSpace>) {
        *self = space.map_or_else(Self::default, |space| Self {
            little_space: space.bytes.is_little(self.little_space, ENOUGH_BYTES),
            few_inodes: space.inodes.is_little(self.few_inodes, ENOUGH_INODES),
        });
    }

    /// What is wrong with it, for people; the same words as long as it lasts. `folder`: where the engine keeps its data.
    pub fn complaint(self, folder: &str) -> Option<String> {
        let lacks = match (self.little_space, self.few_inodes) {
            (false, false) => return None,
            (true, false) => "space",
            (false, true) => "inodes",
            (true, true) => "space and inodes",
        };
        Some(format!(
            "The disk of the container engine ({folder}) has hardly any {lacks} left: tasks run on, but new ones may fail \
             with `no space left on device` until something is removed there (`docker system df` says what is large)."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn little(free: u64, total: u64) -> Option<String> {
        let mut disk = EngineDisk::default();
        disk.looked(Some(DiskSpace {
            bytes: Room { free, total },
            inodes: Room::default(),
        }));
        disk.complaint("/var/lib/docker")
    }

    #[test]
    fn little_is_a_twentieth_or_a_gibibyte_whichever_is_less() {
        for (free, total, told) in [
            (GIB, 100 * GIB, false),
            (GIB - 1, 100 * GIB, true),
            (GIB / 20, GIB, false),
            (GIB / 20 - 1, GIB, true),
            (0, GIB, true),
            // No limit, such as the inodes of btrfs.
            (0, 0, false),
        ] {
            assert_eq!(little(free, total).is_some(), told, "{free} of {total}");
        }
    }

    #[test]
    fn the_complaint_lasts_until_there_is_a_quarter_more() {
        let mut disk = EngineDisk::default();
        let mut look = |free| {
            let bytes = Room {
                free,
                total: 100 * GIB,
            };
            let inodes = Room::default();
            disk.looked(Some(DiskSpace { bytes, inodes }));
            disk.complaint("/x").is_some()
        };
        assert!(look(GIB / 2) && look(GIB) && look(GIB + GIB / 4 - 1));
        assert!(!look(GIB + GIB / 4) && !look(GIB));
    }

    #[test]
    fn a_disk_that_cannot_be_seen_is_not_complained_of() {
        let mut disk = EngineDisk::default();
        let none = Room {
            free: 0,
            total: 1_000_000,
        };
        disk.looked(Some(DiskSpace {
            bytes: none,
            inodes: none,
        }));
        let told = disk.complaint("/var/lib/docker").unwrap();
        assert!(
            told.contains("(/var/lib/docker) has hardly any space and inodes left"),
            "{told}"
        );
        disk.looked(None);
        assert_eq!(disk.complaint("/var/lib/docker"), None);
    }
}
