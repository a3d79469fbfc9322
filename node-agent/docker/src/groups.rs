//! Groups of containers with limits of their own: control groups of the host, which Docker's API cannot make. Docker
//! with the driver `cgroupfs` puts containers below them; they are plain folders and files.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tallyman_agent_engine::{CpuQuota, EngineError, Group};

/// Controllers of cgroup v1 that limits are set in.
const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const PIDS: &str = "pids";

/// The control groups of the host.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    root: PathBuf,
}

impl Groups {
    /// `root`: where control groups are mounted, `/sys/fs/cgroup` as a rule.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) async fn provide(&self, group: &Group) -> Result<(), EngineError> {
        let (this, group) = (self.clone(), group.clone());
        aside(move || this.write(&group)).await
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<bool, EngineError> {
        let (this, name) = (self.clone(), name.to_owned());
        aside(move || this.unlink(&name)).await
    }

    pub(crate) async fn list(&self, parent: &str) -> Result<Vec<String>, EngineError> {
        let (this, parent) = (self.clone(), parent.to_owned());
        aside(move || this.read(&parent)).await
    }

    /// One tree for all controllers.
    fn unified(&self) -> bool {
        self.root.join("cgroup.controllers").exists()
    }

    fn write(&self, group: &Group) -> io::Result<()> {
        let Group {
            name,
            cpu_shares,
            cpu_quota,
            memory_bytes,
            pids,
        } = group;
        if self.unified() {
            let folder = self.unified_folder(name, pids.is_some())?;
            set(&folder, "cpu.weight", weight(*cpu_shares))?;
            set(&folder, "cpu.max", quota_of_two(*cpu_quota))?;
            let memory = memory_bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
            set(&folder, "memory.max", memory)?;
            return set_pids(&folder, *pids);
        }
        let cpu = self.root.join(CPU).join(name);
        fs::create_dir_all(&cpu)?;
        set(&cpu, "cpu.shares", cpu_shares)?;
        match cpu_quota {
            Some(CpuQuota { quota, period }) => {
                set(&cpu, "cpu.cfs_period_us", period.as_micros())?;
                set(&cpu, "cpu.cfs_quota_us", quota.as_micros())?;
            }
            None => set(&cpu, "cpu.cfs_quota_us", -1)?,
        }
        let memory = self.hierarchical_folder(name)?;
        set(&memory, "memory.limit_in_bytes", memory_bytes.unwrap_or(-1))?;
        let counted = self.root.join(PIDS).join(name);
        if pids.is_some() {
            fs::create_dir_all(&counted)?;
        }
        set_pids(&counted, *pids)
    }

    /// On the way down every folder hands its controllers on.
    fn unified_folder(&self, name: &str, pids: bool) -> io::Result<PathBuf> {
        let controllers = if pids {
            "+cpu +memory +pids"
        } else {
            "+cpu +memory"
        };
        let mut folder = self.root.clone();
        for part in Path::new(name) {
            set(&folder, "cgroup.subtree_control", controllers)?;
            folder.push(part);
            make(&folder)?;
        }
        Ok(folder)
    }

    /// A limit holds for what is below only where the folder is told so before it has children. Kernels from 5.11
    /// on do nothing else, and may not know the file.
    fn hierarchical_folder(&self, name: &str) -> io::Result<PathBuf> {
        let mut folder = self.root.join(MEMORY);
        for part in Path::new(name) {
            folder.push(part);
            make(&folder)?;
            let file = folder.join("memory.use_hierarchy");
            if fs::read_to_string(&file).is_ok_and(|text| text.trim() == "0") {
                fs::write(&file, "1")?;
            }
        }
        Ok(folder)
    }

    /// Every tree that there is: containers make folders in all of them.
    fn trees(&self) -> io::Result<Vec<PathBuf>> {
        if self.unified() {
            return Ok(vec![self.root.clone()]);
        }
        let mut trees = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            // `cpu` may be a link to `cpu,cpuacct`.
            if path.is_dir() && !path.is_symlink() {
                trees.push(path);
            }
        }
        Ok(trees)
    }

    fn unlink(&self, name: &str) -> io::Result<bool> {
        let mut gone = true;
        for tree in self.trees()? {
            match fs::remove_dir(tree.join(name)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    gone = false;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    fn read(&self, parent: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for tree in self.trees()? {
            let entries = match fs::read_dir(tree.join(parent)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(format!("{parent}/{name}"));
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Files of the kernel may make the caller wait.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    let cannot = |message: String| EngineError::CannotLimit { message };
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| cannot(error.to_string())),
        Err(error) => Err(cannot(error.to_string())),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(told(folder, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn set(folder: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value.to_string()).map_err(|error| told(&path, &error))
}

/// Where processes are counted already, a limit that is not wanted any more is taken away.
fn set_pids(folder: &Path, most: Option<i64>) -> io::Result<()> {
    match most {
        Some(most) => set(folder, "pids.max", most),
        None if folder.join("pids.max").exists() => set(folder, "pids.max", "max"),
        None => Ok(()),
    }
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Shares 2 to 262144 as a weight 1 to 10000, as runc converts them.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn quota_of_two(quota: Option<CpuQuota>) -> String {
    quota.map_or_else(
        || "max".to_owned(),
        |CpuQuota { quota, period }| format!("{} {}", quota.as_micros(), period.as_micros()),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn group() -> Group {
        Group {
            name: "ecs/host/task".to_owned(),
            cpu_shares: 1024,
            cpu_quota: Some(CpuQuota {
                quota: Duration::from_millis(50),
                period: Duration::from_millis(100),
            }),
            memory_bytes: Some(64 << 20),
            pids: None,
        }
    }

    fn counted() -> Group {
        Group {
            pids: Some(100),
            ..group()
        }
    }

    fn root(files: &[&str]) -> PathBuf {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("groups-{}-{number}", std::process::id()));
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "0").unwrap();
        }
        root
    }

    #[test]
    fn version_one_has_a_folder_for_each_controller() {
        let root = root(&["cpu/x", "memory/x", "memory/ecs/memory.use_hierarchy"]);
        let groups = Groups::new(root.clone());
        groups.write(&group()).unwrap();
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(read("cpu/ecs/host/task/cpu.shares"), "1024");
        assert_eq!(read("cpu/ecs/host/task/cpu.cfs_period_us"), "100000");
        assert_eq!(read("cpu/ecs/host/task/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/ecs/memory.use_hierarchy"), "1");
        assert_eq!(
            read("memory/ecs/host/task/memory.limit_in_bytes"),
            "67108864"
        );
        assert!(!root.join("pids").exists());
        groups.write(&counted()).unwrap();
        assert_eq!(read("pids/ecs/host/task/pids.max"), "100");
        groups.write(&group()).unwrap();
        assert_eq!(read("pids/ecs/host/task/pids.max"), "max");
        assert_eq!(groups.read("ecs/host").unwrap(), ["ecs/host/task"]);
        assert_eq!(groups.read("ecs/other").unwrap(), [] as [&str; 0]);
        // Plain folders keep their files, as a group keeps its containers.
        assert!(!groups.unlink("ecs/host/task").unwrap());
        assert!(groups.unlink("ecs/nobody").unwrap());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn version_two_has_one_folder_whose_parents_hand_controllers_on() {
        let root = root(&["cgroup.controllers"]);
        let groups = Groups::new(root.clone());
        groups.write(&group()).unwrap();
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory");
        assert_eq!(read("ecs/host/cgroup.subtree_control"), "+cpu +memory");
        assert_eq!(read("ecs/host/task/cpu.weight"), "39");
        assert_eq!(read("ecs/host/task/cpu.max"), "50000 100000");
        assert_eq!(read("ecs/host/task/memory.max"), "67108864");
        assert!(!root.join("ecs/host/task/pids.max").exists());
        groups.write(&counted()).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory +pids");
        assert_eq!(read("ecs/host/task/pids.max"), "100");
        fs::remove_dir_all(root).unwrap();
    }
}
