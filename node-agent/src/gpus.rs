//! GPUs of the host: the core knows what to make of what is read here.

use std::io::ErrorKind;
use std::path::Path;

use tallyman_agent_core::GpuInfo;
use tallyman_agent_core::settings::gpus::GpuSettings;
use tracing::{info, warn};

use crate::host_files::listens;

/// Where NVIDIA's kernel driver shows itself.
const DRIVER: &str = "/proc/driver/nvidia";

/// The GPUs that tasks of this host may have, told in one line of the log; none unless the settings say so.
pub fn find(settings: &GpuSettings) -> GpuInfo {
    if !settings.enabled {
        return GpuInfo::default();
    }
    let mut found = look(settings, Path::new(DRIVER));
    look_again(&mut found);
    if let Some(trouble) = found.complaint() {
        warn!(trouble, "GPUs");
    }
    if !found.ids.is_empty() {
        info!(
            driver = found.driver_version.as_deref(),
            ids = found.ids.join(","),
            shared = found.are_shared(),
            "GPUs"
        );
    }
    found
}

/// Looks whether MPS' control daemon runs; says whether it came or went.
pub fn look_again(gpus: &mut GpuInfo) -> bool {
    let socket = gpus.socket();
    socket.is_some_and(|socket| gpus.looked(listens(Path::new(&socket))))
}

fn look(settings: &GpuSettings, driver: &Path) -> GpuInfo {
    let path = &settings.info_file;
    match std::fs::read_to_string(path) {
        Ok(text) => GpuInfo::of_file(path, &text, &settings.mps_pipe_directory),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let version = std::fs::read_to_string(driver.join("version")).ok();
            GpuInfo::of_driver(version.as_deref(), &information(driver))
        }
        Err(error) => GpuInfo::none(format!("`{path}` cannot be read: {error}")),
    }
}

/// What the driver tells of each GPU, in order of their places on the bus.
fn information(driver: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(driver.join("gpus"));
    let mut folders: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.sort();
    let texts = folders.iter();
    texts
        .filter_map(|folder| std::fs::read_to_string(folder.join("information")).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_file_goes_before_the_driver_and_the_driver_is_enough() {
        let folder = std::env::temp_dir().join(format!("tallyman-gpus-{}", std::process::id()));
        let driver = folder.join("driver");
        for (place, id) in [("0000:65:00.0", "GPU-late"), ("0000:17:00.0", "GPU-early")] {
            let gpu = driver.join("gpus").join(place);
            std::fs::create_dir_all(&gpu).unwrap();
            std::fs::write(gpu.join("information"), format!("GPU UUID: \t {id}\n")).unwrap();
        }
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat\n";
        std::fs::write(driver.join("version"), version).unwrap();
        let settings = GpuSettings {
            enabled: true,
            info_file: folder.join("gpus.json").display().to_string(),
            mps_pipe_directory: folder.join("mps").display().to_string(),
            ..GpuSettings::default()
        };
        let found = look(&settings, &driver);
        assert_eq!(found.ids, ["GPU-early", "GPU-late"]);
        assert_eq!(found.driver_version.as_deref(), Some("535.104.05"));
        std::fs::write(&settings.info_file, r#"{"GPUIDs":["MIG-1"]}"#).unwrap();
        assert_eq!(look(&settings, &driver).ids, ["MIG-1"]);
        let shared =
            r#"{"GPUIDs":["GPU-1"],"GPUMemoryMiB":{"GPU-1":1024},"MpsServiceEnabled":true}"#;
        std::fs::write(&settings.info_file, shared).unwrap();
        let mut found = find(&settings);
        assert!(!found.are_shared() && !look_again(&mut found));
        // The daemon makes its directory, listens, is killed, and begins again as it does: what it left goes first.
        let socket = found.socket().unwrap();
        assert_eq!(socket, format!("{}/control", settings.mps_pipe_directory));
        std::fs::create_dir(&settings.mps_pipe_directory).unwrap();
        assert!(!look_again(&mut found));
        for _ in 0..2 {
            let daemon = UnixListener::bind(&socket).unwrap();
            assert!(look_again(&mut found) && found.are_shared());
            assert!(!look_again(&mut found));
            drop(daemon);
            assert!(Path::new(&socket).exists());
            assert!(look_again(&mut found) && !found.are_shared());
            std::fs::remove_file(&socket).unwrap();
            assert!(!look_again(&mut found));
        }
        let daemon = UnixListener::bind(&socket).unwrap();
        assert!(find(&settings).are_shared());
        drop(daemon);
        assert_eq!(find(&GpuSettings::default()), GpuInfo::default());
        std::fs::remove_dir_all(&folder).unwrap();
        let trouble = look(&settings, &driver).trouble.unwrap_or_default();
        assert!(
            trouble.contains("ECS_ENABLE_GPU_SUPPORT is set"),
            "{trouble}"
        );
    }
}
