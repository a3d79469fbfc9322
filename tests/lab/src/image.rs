//! Images without a registry: a static busybox and its links, imported.

use std::path::Path;

use anyhow::{Context, Result};

use crate::command::Tool;
use crate::paths;

/// Name of the hello image.
pub const HELLO: &str = "localhost/tallyman/hello:1";

/// Name of the plain image of tests: a shell and the usual commands.
pub const BUSYBOX: &str = "localhost/tallyman/busybox:1";

/// What the hello image is beside its files; the recipe says the same.
pub const HELLO_CHANGES: &[&str] = &[
    "ENTRYPOINT [\"/bin/entrypoint\"]",
    "ENV PATH=/bin",
    "EXPOSE 80",
];

/// What the plain image is beside its files.
pub const BUSYBOX_CHANGES: &[&str] = &["ENV PATH=/bin", "CMD [\"sh\"]"];

/// The recipe that newcomers read.
fn recipe(root: &Path) -> std::path::PathBuf {
    root.join("examples/hello/image/build.sh")
}

/// Root file system of the hello image, which has all that tests need, too.
///
/// # Errors
/// When the recipe fails, for want of a static busybox.
pub fn rootfs() -> Result<Vec<u8>> {
    let recipe = recipe(&paths::source_root()?);
    Tool::new(&recipe)
        .arg("--rootfs")
        .check_bytes()
        .context("the hello image cannot be made")
}

/// Makes the hello image on an engine, with the recipe alone.
///
/// # Errors
/// When the recipe fails.
pub fn build_hello(docker_host: &str) -> Result<()> {
    Tool::new(recipe(&paths::source_root()?))
        .env("DOCKER_HOST", docker_host)
        .check()?;
    Ok(())
}

/// Imports a root file system; `docker` is a docker command that knows its engine.
///
/// # Errors
/// When the engine refuses.
pub fn import(docker: Tool, rootfs: &[u8], name: &str, changes: &[&str]) -> Result<()> {
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    docker
        .arg("import")
        .args(changes)
        .args(["-", name])
        .stdin(rootfs)
        .check()?;
    Ok(())
}
