//! Where things are: the source tree, the tools, and the short folder for sockets.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names the source tree when neither the working folder nor the place of the build tells it.
pub const ROOT_VARIABLE: &str = "TALLYMAN_ROOT";

/// The source tree: the nearest folder at or above the working folder that holds `dev/tools.sh`, or the one this was built in.
///
/// # Errors
/// When there is none.
pub fn source_root() -> Result<PathBuf> {
    if let Some(root) = env::var_os(ROOT_VARIABLE) {
        return Ok(root.into());
    }
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR"));
    env::current_dir()?
        .ancestors()
        .chain(built_in.ancestors())
        .find(|folder| folder.join("dev/tools.sh").is_file())
        .map(Path::to_owned)
        .with_context(|| {
            format!(
                "the Tallyman source tree is not here; run this inside it or set {ROOT_VARIABLE}"
            )
        })
}

/// A program of the control plane: from `KUBEBUILDER_ASSETS` if it is there, else as `dev/tools.sh` built it.
///
/// # Errors
/// When it is in neither.
pub fn control_plane_tool(name: &str) -> Result<PathBuf> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS") {
        let path = Path::new(&folder).join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let path = source_root()?.join(".tools/bin").join(name);
    if !path.is_file() {
        bail!(
            "{name} is missing: run `dev/tools.sh control-plane`, or set KUBEBUILDER_ASSETS to a folder that has it"
        );
    }
    Ok(path)
}

/// Helm, or a part of a Kubernetes node, as `dev/tools.sh` built it.
///
/// # Errors
/// When it is missing.
pub fn node_tool(name: &str) -> Result<PathBuf> {
    let path = source_root()?.join(".tools/bin").join(name);
    if !path.is_file() {
        bail!("{name} is missing: run `dev/tools.sh node`");
    }
    Ok(path)
}

/// A program that tests need beside the engines, as `dev/tools.sh` built it.
///
/// # Errors
/// When it is missing.
pub fn test_tool(name: &str) -> Result<PathBuf> {
    let path = source_root()?.join(".tools/engines/bin").join(name);
    if !path.is_file() {
        bail!("{name} is missing: run `dev/tools.sh engines`");
    }
    Ok(path)
}

/// A program of Tallyman, as cargo built it beside the running one (a test runs one folder deeper).
///
/// # Errors
/// When it was not built.
pub fn built_program(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{name} was not built beside {}: run `cargo build`",
                own.display()
            )
        })
}

/// Sockets need paths under 108 characters, so every run has a short folder below this one.
pub fn run_root() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        PathBuf::from("/run/tallyman-lab")
    } else {
        PathBuf::from(format!("/tmp/tallyman-lab-{}", user.as_raw()))
    }
}

/// Root rights are needed for network namespaces and engines.
///
/// # Errors
/// Without them.
pub fn need_root(purpose: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("{purpose} needs root");
    }
    Ok(())
}

/// Creates a folder that only its owner may enter.
///
/// # Errors
/// Of the file system.
pub fn private_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// Of the file system.
pub fn private_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let beside = path.with_added_extension("new");
    // Gone first, so that the permissions below are those of a new file.
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error.into());
    }
    {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .with_context(|| format!("cannot write {}", beside.display()))?;
        file.write_all(content.as_ref())?;
    }
    std::fs::rename(&beside, path)?;
    Ok(())
}
