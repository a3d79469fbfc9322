//! GPUs of the host.

use super::group::settings;
use super::values::{Wrong, flag, some, text};

settings! {
    /// GPUs of the host.
    pub struct GpuSettings {
        enabled: bool = false,
            ["ECS_ENABLE_GPU_SUPPORT", "GPUSupportEnabled",
             "true: register the host's NVIDIA GPUs, and give them to containers that ask for some (default false)"],
            flag;
        runtime: Option<String> = None,
            ["ECS_NVIDIA_RUNTIME", "NvidiaRuntime",
             "runtime of the engine that starts containers with GPUs, such as nvidia (default: none is needed, the \
              engine's own device driver is asked)"],
            some(runtime);
        info_file: String = "/var/lib/ecs/gpu/nvidia-gpu-info.json".to_owned(),
            ["ECS_NVIDIA_GPU_INFO_FILE", "NvidiaGPUInfoFile",
             "JSON file that names the GPUs for tasks, also some of the host's or parts (MIG) alone (default \
              /var/lib/ecs/gpu/nvidia-gpu-info.json, as ECS' setup writes it; without it all that the driver names)"],
            text;
        mps_pipe_directory: String = "/run/mps-ecs".to_owned(),
            ["ECS_NVIDIA_MPS_PIPE_DIRECTORY", "NvidiaMPSPipeDirectory",
             "directory of the pipes of NVIDIA's MPS control daemon, by which tasks share GPUs (default /run/mps-ecs, as on an \
              ECS host)"],
            directory;
    }
}

/// An absolute path, without a slash at its end.
fn directory(text: &str) -> Result<String, Wrong> {
    let path = text.trim_end_matches('/');
    if path.starts_with('/') && !path.contains(':') {
        Ok(path.to_owned())
    } else {
        Err(Wrong::wanted("the absolute path of a directory"))
    }
}

/// As engines take names of runtimes.
fn runtime(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::wanted("the name of a runtime of the engine"))
    }
}
