//! Which GPUs the host has: what the file of ECS' setup says (`nvidia-gpu-info.json`), or what the kernel driver shows
//! below `/proc`. Neither needs a library of the vendor.

use serde::Deserialize;

/// The host's GPUs for tasks. The default is a host without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuInfo {
    /// Version of the driver, such as `535.104.05`.
    pub driver_version: Option<String>,
    /// Ids as the driver has them, such as `GPU-8a1f...`; each once.
    pub ids: Vec<String>,
    /// Why there are none though there should be some, in a sentence.
    pub trouble: Option<String>,
}

/// What ECS' setup writes; it has more that is not needed here.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "DriverVersion", default)]
    driver_version: Option<String>,
    #[serde(rename = "GPUIDs", default)]
    ids: Option<Vec<String>>,
}

/// What the driver shows in place of an id before it has talked to the GPU.
const UNKNOWN: char = '?';

impl GpuInfo {
    /// Reads the text of the file at `path`.
    pub fn of_file(path: &str, text: &str) -> Self {
        let file: File = match serde_json::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                return Self::none(format!(
                    "`{path}` is not JSON like `{{\"DriverVersion\":\"535.104.05\",\"GPUIDs\":[\"GPU-1\"]}}`: {error}"
                ));
            }
        };
        let ids = distinct(file.ids.unwrap_or_default());
        if ids.is_empty() {
            return Self::none(format!("`{path}` names no GPU in `GPUIDs`"));
        }
        Self {
            driver_version: file.driver_version.filter(|version| !version.is_empty()),
            ids,
            trouble: None,
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
            trouble: None,
        }
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

/// Ids that can be told apart: they are written in one line, with commas between.
fn distinct(ids: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for id in ids {
        let fine = !id.is_empty() && !id.contains(|c: char| c == ',' || c.is_whitespace());
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

    #[test]
    fn the_file_of_ecs_is_read_with_all_that_newer_ones_have_in_it() {
        let text = r#"{"DriverVersion":"535.104.05","GPUIDs":["GPU-b","GPU-a","GPU-b"],"MpsServiceEnabled":false}"#;
        let info = GpuInfo::of_file(PATH, text);
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
            let info = GpuInfo::of_file(PATH, text);
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
