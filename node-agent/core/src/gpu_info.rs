//! Which GPUs the host has: what the file of ECS' setup says (`nvidia-gpu-info.json`), or what the kernel driver shows
//! below `/proc`. Neither needs a library of the vendor.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The host's GPUs for tasks. The default is a host without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuInfo {
    /// Version of the driver, such as `535.104.05`.
    pub driver_version: Option<String>,
    /// Ids as the driver has them, such as `GPU-8a1f...`; each once.
    pub ids: Vec<String>,
    /// MiB of each, by id, as far as they are known.
    pub memory: BTreeMap<String, i64>,
    /// By which tasks share them; `None`: they are given whole only, whatever runs on the host.
    pub mps: Option<Mps>,
    /// Why there are none, or why they are not shared, though it should be so: sentences.
    pub trouble: Option<String>,
}

/// NVIDIA's MPS on a host that is set up for it. Its control daemon comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mps {
    /// Directory of the daemon's pipes.
    pub directory: String,
    /// The daemon ran when it was looked for last: it listened at its [`control`].
    pub listens: bool,
}

/// The socket at which MPS' control daemon listens while it runs, in the directory of its pipes.
pub fn control(directory: &str) -> String {
    format!("{directory}/control")
}

/// What ECS' setup writes; it has more that is not needed here.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "DriverVersion", default)]
    driver_version: Option<String>,
    #[serde(rename = "GPUIDs", default)]
    ids: Option<Vec<String>>,
    #[serde(rename = "GPUMemoryMiB", default)]
    memory: Option<BTreeMap<String, i64>>,
    /// The program is there; a file that somebody wrote need not say so.
    #[serde(rename = "MpsControlBinaryPresent", default)]
    mps_present: Option<bool>,
    #[serde(rename = "MpsServiceEnabled", default)]
    mps_enabled: Option<bool>,
    #[serde(rename = "HasVGPU", default)]
    virtual_gpu: Option<bool>,
}

impl File {
    /// Why `ids` are not shared (ECS agent, conditions of `ecs.capability.gpu-sharing-mps`).
    fn unshared(&self, ids: &[String]) -> Option<String> {
        let unknown = |id: &&String| self.memory_of(id).is_none();
        if self.virtual_gpu == Some(true) {
            Some("`HasVGPU` is true, and MPS does not share parts of a virtual GPU".to_owned())
        } else if self.mps_present == Some(false) {
            Some("`MpsControlBinaryPresent` is false".to_owned())
        } else {
            let unknown = ids.iter().find(unknown);
            unknown.map(|id| format!("`GPUMemoryMiB` has no memory of {id}"))
        }
    }

    fn memory_of(&self, id: &str) -> Option<i64> {
        let memory = self.memory.as_ref()?.get(id).copied();
        memory.filter(|mib| (1..=i64::from(i32::MAX)).contains(mib))
    }
}

/// What the driver shows in place of an id before it has talked to the GPU.
const UNKNOWN: char = '?';

impl GpuInfo {
    /// Reads the text of the file at `path`. MPS' control daemon would have its pipes in `directory`; that it runs is
    /// [looked](Self::looked) for.
    pub fn of_file(path: &str, text: &str, directory: &str) -> Self {
        let file: File = match serde_json::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                return Self::none(format!(
                    "`{path}` is not JSON like `{{\"DriverVersion\":\"535.104.05\",\"GPUIDs\":[\"GPU-1\"]}}`: {error}"
                ));
            }
        };
        let ids = distinct(file.ids.clone().unwrap_or_default());
        if ids.is_empty() {
            return Self::none(format!("`{path}` names no GPU in `GPUIDs`"));
        }
        let wanted = file.mps_enabled == Some(true);
        let unshared = file.unshared(&ids);
        let memory = ids
            .iter()
            .filter_map(|id| Some((id.clone(), file.memory_of(id)?)));
        Self {
            memory: memory.collect(),
            mps: (wanted && unshared.is_none()).then(|| Mps {
                directory: directory.to_owned(),
                listens: false,
            }),
            trouble: unshared.filter(|_| wanted).map(|why| {
                format!(
                    "`{path}` has `MpsServiceEnabled`, but GPUs are not shared: {why}. Tasks with `sharingStrategy` are not placed \
                     here."
                )
            }),
            driver_version: file.driver_version.filter(|version| !version.is_empty()),
            ids,
        }
    }

    /// Reads what the driver shows: the text of its `version`, and that of each GPU's `information`, in order.
    pub fn of_driver(version: Option<&str>, information: &[String]) -> Self {
        let ids = distinct(information.iter().filter_map(|text| id(text)).collect());
        if ids.is_empty() {
            return Self::none(match information.len() {
                0 => "the driver shows none below /proc/driver/nvidia/gpus".to_owned(),
                count => format!(
                    "the driver tells no `GPU UUID` of the {count} below /proc/driver/nvidia/gpus; start \
                     nvidia-persistenced, or run nvidia-smi, before the agent"
                ),
            });
        }
        Self {
            driver_version: version.and_then(driver_version),
            ids,
            ..Self::default()
        }
    }

    /// Where MPS' control daemon listens while it runs, if it is to be looked for.
    pub fn socket(&self) -> Option<String> {
        Some(control(&self.mps.as_ref()?.directory))
    }

    /// Whether the daemon listens was looked at, again. Says whether this is news.
    pub fn looked(&mut self, listens: bool) -> bool {
        let Some(mps) = &mut self.mps else {
            return false;
        };
        let news = mps.listens != listens;
        mps.listens = listens;
        news
    }

    /// Whether tasks may come that share them.
    pub fn are_shared(&self) -> bool {
        self.mps.as_ref().is_some_and(|mps| mps.listens)
    }

    /// What is wrong with them at the moment, for people.
    pub fn complaint(&self) -> Option<String> {
        let away = || {
            let mps = self.mps.as_ref().filter(|mps| !mps.listens)?;
            Some(format!(
                "GPUs are not shared while MPS' control daemon does not listen at `{}`; start it. Until then no task with \
                 `sharingStrategy` is placed here.",
                control(&mps.directory)
            ))
        };
        self.trouble.clone().or_else(away)
    }

    /// A host where some should be, and why there are none: a clause.
    pub fn none(why: String) -> Self {
        Self {
            trouble: Some(format!(
                "ECS_ENABLE_GPU_SUPPORT is set, but no GPU was found: {why}. Tasks that ask for GPUs are not placed here."
            )),
            ..Self::default()
        }
    }
}

/// Ids that can be told apart: they are written in one line, with commas between, and with `=` before a part.
fn distinct(ids: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for id in ids {
        let fine = !id.is_empty() && !id.contains(|c: char| ",=".contains(c) || c.is_whitespace());
        if fine && !kept.contains(&id) {
            kept.push(id);
        }
    }
    kept
}

/// `GPU UUID: <blank> GPU-8a1f...`
fn id(information: &str) -> Option<String> {
    let line = information
        .lines()
        .find_map(|line| line.strip_prefix("GPU UUID:"))?;
    let id = line.trim();
    (!id.is_empty() && !id.contains(UNKNOWN)).then(|| id.to_owned())
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023`
fn driver_version(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("NVRM version:"))?;
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/gpus.json";

    fn of_file(text: &str) -> GpuInfo {
        GpuInfo::of_file(PATH, text, "/run/mps-ecs")
    }

    /// What ECS' setup writes on a host with MPS.
    const SHARED: &str = r#"{"DriverVersion":"580.95.05","GPUIDs":["GPU-a"],"GPUMemoryMiB":{"GPU-a":22563},
        "MpsControlBinaryPresent":true,"MpsServiceEnabled":true,"HasVGPU":false}"#;

    #[test]
    fn gpus_are_shared_when_the_file_says_so_and_while_the_daemon_listens() {
        let mut info = of_file(SHARED);
        assert_eq!(info.memory["GPU-a"], 22563);
        assert_eq!(info.socket().as_deref(), Some("/run/mps-ecs/control"));
        // Each look, whether it was news, and whether they are shared then.
        for (listens, news) in [
            (false, false),
            (true, true),
            (true, false),
            (false, true),
            (true, true),
        ] {
            assert_eq!(info.looked(listens), news);
            assert_eq!(info.are_shared(), listens);
            let said = info.complaint();
            assert_eq!(said.is_none(), listens, "{said:?}");
            let said = said.unwrap_or_default();
            let words = "does not listen at `/run/mps-ecs/control`; start it.";
            assert!(listens || said.contains(words), "{said}");
        }
        let written =
            r#"{"GPUIDs":["GPU-a"],"GPUMemoryMiB":{"GPU-a":8192},"MpsServiceEnabled":true}"#;
        assert!(of_file(written).mps.is_some());
        let mut plain =
            of_file(&SHARED.replace("\"MpsServiceEnabled\":true", "\"MpsServiceEnabled\":false"));
        assert_eq!((plain.socket(), plain.complaint()), (None, None));
        assert!(!plain.looked(true) && !plain.are_shared());
        assert_eq!(plain.memory["GPU-a"], 22563);
    }

    #[test]
    fn what_keeps_gpus_from_being_shared_is_told() {
        for (from, to, words) in [
            ("22563", "0", "`GPUMemoryMiB` has no memory of GPU-a"),
            ("[\"GPU-a\"]", "[\"GPU-a\",\"GPU-b\"]", "no memory of GPU-b"),
            (
                "Present\":true",
                "Present\":false",
                "`MpsControlBinaryPresent` is false",
            ),
            ("HasVGPU\":false", "HasVGPU\":true", "`HasVGPU` is true"),
        ] {
            let mut info = of_file(&SHARED.replace(from, to));
            assert!(!info.looked(true) && !info.are_shared(), "{words}");
            assert!(!info.ids.is_empty(), "whole ones are given: {words}");
            let trouble = info.complaint().unwrap_or_default();
            assert!(
                trouble.contains(words) && trouble.contains(PATH),
                "{trouble}"
            );
        }
    }

    #[test]
    fn the_file_of_ecs_is_read_with_all_that_newer_ones_have_in_it() {
        let text = r#"{"DriverVersion":"535.104.05","GPUIDs":["GPU-b","GPU-a","GPU-b"],"MpsServiceEnabled":false}"#;
        let info = of_file(text);
        assert_eq!(info.driver_version.as_deref(), Some("535.104.05"));
        assert_eq!(info.ids, ["GPU-b", "GPU-a"]);
        assert_eq!(info.trouble, None);
    }

    #[test]
    fn a_file_without_gpus_is_trouble_and_says_what_would_be_right() {
        for (text, words) in [
            ("GPU-a", "is not JSON like `{\"DriverVersion\""),
            ("{}", "names no GPU in `GPUIDs`"),
            (r#"{"GPUIDs":null}"#, "names no GPU"),
            (r#"{"GPUIDs":["","a,b"]}"#, "names no GPU"),
        ] {
            let info = of_file(text);
            let trouble = info.trouble.unwrap_or_default();
            assert!(
                trouble.contains(words) && trouble.contains(PATH),
                "{trouble}"
            );
            assert!(info.ids.is_empty());
        }
    }

    #[test]
    fn the_driver_tells_ids_and_version() {
        let gpu = |id: &str| {
            format!("Model: \t\t Tesla T4\nIRQ:   \t\t 24\nGPU UUID: \t {id}\nBus Type: \t PCIe\n")
        };
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n\
                      GCC version:  gcc version 12.2.0\n";
        let info = GpuInfo::of_driver(Some(closed), &[gpu("GPU-1"), gpu("GPU-2")]);
        assert_eq!(info.driver_version.as_deref(), Some("535.104.05"));
        assert_eq!(info.ids, ["GPU-1", "GPU-2"]);
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (builder)";
        assert_eq!(driver_version(open).as_deref(), Some("550.54.14"));
        assert_eq!(driver_version("something else"), None);
    }

    #[test]
    fn a_driver_that_knows_no_id_yet_is_trouble() {
        let sleeping = "Model: Unknown\nGPU UUID: \t GPU-????????-????-????-????-????????????\n";
        let info = GpuInfo::of_driver(None, &[sleeping.to_owned()]);
        assert!(info.ids.is_empty());
        let trouble = info.trouble.unwrap_or_default();
        assert!(trouble.contains("nvidia-persistenced"), "{trouble}");
        let none = GpuInfo::of_driver(None, &[]).trouble.unwrap_or_default();
        assert!(none.contains("/proc/driver/nvidia/gpus"), "{none}");
    }
}
