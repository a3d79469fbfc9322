//! Small disks for hosts, and mounts that engines leave behind when they are killed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Tool;

/// Mount points at or below `folder`, deepest and latest first.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    Ok(parse(&table, folder))
}

fn parse(table: &str, folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|escaped| PathBuf::from(unescape(escaped)))
        .filter(|point| point.starts_with(folder))
        .collect();
    found.reverse();
    found
}

/// The kernel writes blanks and the like as three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Makes a file system of `mib` MiB in the file `disk` and mounts it at `folder`. It goes with the last mount below that.
///
/// # Errors
/// When the machine cannot make or mount one.
pub fn small_disk(disk: &Path, mib: u32, folder: &Path) -> Result<()> {
    let file = std::fs::File::create(disk).with_context(|| disk.display().to_string())?;
    file.set_len(u64::from(mib) << 20)?;
    // No share for root alone: engines are root, and would not find it full when everybody else does.
    Tool::new("mkfs.ext4")
        .args(["-q", "-m", "0"])
        .arg(disk)
        .check()?;
    Tool::new("mount")
        .args(["-o", "loop"])
        .args([disk, folder])
        .check()?;
    Ok(())
}

/// Takes away all mounts at or below `folder`.
///
/// # Errors
/// When some stay.
pub fn clear(folder: &Path) -> Result<()> {
    for point in below(folder)? {
        // Gone with another one is as good.
        Tool::new("umount").arg("--lazy").arg(&point).run()?;
    }
    let left = below(folder)?;
    anyhow::ensure!(left.is_empty(), "still mounted: {left:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_mounts_come_first_and_neighbours_stay() {
        let table = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /data/a rw - overlay overlay rw
31 30 0:31 / /data/a/with\\040blank rw - tmpfs tmpfs rw
32 22 0:32 / /data/ab rw - tmpfs tmpfs rw
";
        let found = parse(table, Path::new("/data/a"));
        assert_eq!(
            found,
            [
                PathBuf::from("/data/a/with blank"),
                PathBuf::from("/data/a")
            ]
        );
    }
}
