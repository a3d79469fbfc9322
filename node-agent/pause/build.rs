//! Compiles the program of the pause container and packs it as a root file system of one file.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

const SOURCE: &str = "src/pause.c";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let program = out.join("pause");
    let compiler = cc::Build::new()
        .opt_level_str("s")
        .debug(false)
        .pic(false)
        .try_get_compiler()?;
    let built = compiler
        .to_command()
        .args(["-static", "-nostdlib", "-nostartfiles", "-ffreestanding"])
        .args(["-fno-stack-protector", "-fno-asynchronous-unwind-tables"])
        .args(["-no-pie", "-Wl,--build-id=none", "-Wl,-s"])
        .arg("-o")
        .arg(&program)
        .arg(SOURCE)
        .status()?;
    if !built.success() {
        return Err(format!(
            "{} cannot compile {SOURCE}: {built}",
            compiler.path().display()
        )
        .into());
    }
    let archive = archive(&fs::read(&program)?)?;
    println!("cargo::rustc-env=PAUSE_TAG={:016x}", hash(&archive));
    fs::write(out.join("pause.tar"), archive)?;
    Ok(())
}

/// The same program gives the same bytes, whenever and wherever it is packed.
fn archive(program: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(program.len())?);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "pause", program)?;
    Ok(archive.into_inner()?)
}

/// FNV-1a: other content, other tag.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
