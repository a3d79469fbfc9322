//! A whole machine: Debian 12 in QEMU, made by `dev/tools.sh machine`, on the bridge of the lab.
//!
//! It is emulated, not virtualised, so that it runs where a hypervisor does not; everything takes ten times as long. Its disk is thrown
//! away with it. Commands go in by SSH.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tallyman_lab::command::{Output, Tool};
use tallyman_lab::{CommandSpec, EngineGeneration, Lab, Process, image, paths, wait_until};

/// How long anything may take in there.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Programs of an engine that take the place of Debian's.
const ENGINE: [&str; 5] = [
    "dockerd",
    "docker-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
];

/// Nothing is searched for that QEMU does not give it.
const COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off \
                            modprobe.blacklist=kvm_amd,powernow_k8,ata_piix,floppy";

/// What a machine is to be.
pub struct Kind {
    /// Its engine.
    pub engine: EngineGeneration,
    /// Who makes its control groups: `systemd` or `cgroupfs`.
    pub groups: &'static str,
}

/// A machine that runs.
pub struct Machine {
    address: Ipv4Addr,
    emulator: Process,
    /// One connection that all commands share.
    line: Process,
    socket: PathBuf,
    key: PathBuf,
}

impl Machine {
    /// Starts a machine of this name with `package`, a Debian package, on its second disk, and waits until it can be logged in to.
    pub fn boot(lab: &Lab, name: &str, kind: &Kind, package: &Path) -> Result<Self> {
        let folder = paths::source_root()?.join(".tools/machine");
        let file = |name: &str| -> Result<String> {
            let path = folder.join(name);
            ensure!(
                path.is_file(),
                "{} is missing: run `dev/tools.sh machine`",
                path.display()
            );
            Ok(path.display().to_string())
        };
        let (kernel, initrd, root) = (file("vmlinuz")?, file("initrd")?, file("root.img")?);
        let tap = lab.network().tap(0)?;
        let work = lab.ledger().folder(name)?;
        let key = work.join("key");
        Tool::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .check()?;
        let seed = seed(lab, &work, name, tap.address, kind, package)?;
        let emulator = CommandSpec::new("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-chardev", "stdio,id=console,signal=off"])
            .args(["-serial", "chardev:console"])
            .args(["-kernel", &kernel, "-initrd", &initrd, "-append"])
            .arg(COMMAND_LINE)
            .arg("-drive")
            .arg(format!("file={root},format=raw,if=virtio,snapshot=on"))
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,readonly=on",
                seed.display()
            ))
            .arg("-netdev")
            .arg(format!(
                "tap,id=net,ifname={},script=no,downscript=no",
                tap.name
            ))
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-device", "virtio-rng-pci"]);
        let socket = lab.ledger().run().join("ssh");
        let line = CommandSpec::new("ssh")
            .args(["-N", "-M"])
            .args(how(&socket, &key, tap.address));
        let machine = Machine {
            address: tap.address,
            emulator: Process::spawn(lab.ledger(), name, emulator)?,
            line: Process::new(lab.ledger(), &format!("{name}-ssh"), line)?,
            socket,
            key,
        };
        machine.wait_up("")?;
        Ok(machine)
    }

    /// Its address on the lab's network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs a script of bash as root; its failure is an answer like any other.
    pub fn run(&self, script: &str) -> Result<Output> {
        self.tool(PATIENCE).stdin(script).run()
    }

    /// Runs a script of bash as root, to its first command that fails, and returns what it prints.
    pub fn sh(&self, script: &str) -> Result<String> {
        let said = self
            .tool(PATIENCE)
            .stdin(format!("set -euo pipefail\n{script}"))
            .check()
            .with_context(|| format!("on the machine: {script}"))?;
        Ok(said.trim().to_owned())
    }

    /// Waits until a script of bash ends well, and returns what it prints.
    pub fn until(&self, what: &str, script: &str) -> Result<String> {
        wait_until(what, PATIENCE, || self.sh(script).map(Some))
    }

    /// Changes with each boot.
    pub fn boot_id(&self) -> Result<String> {
        self.sh("cat /proc/sys/kernel/random/boot_id")
    }

    /// Reboots it as an administrator does, and waits until it is up again.
    pub fn reboot(&self) -> Result<()> {
        let before = self.boot_id()?;
        // The connection may end before the command does.
        self.run("systemctl reboot")?;
        self.wait_up(&before)
    }

    /// Keeps what it told with the logs of the lab.
    pub fn save_journal(&self, lab: &Lab) -> Result<()> {
        let told = self.tool(PATIENCE).stdin("journalctl --no-pager").check()?;
        std::fs::write(lab.log_path("machine-journal")?, told)?;
        Ok(())
    }

    fn wait_up(&self, before: &str) -> Result<()> {
        self.emulator
            .wait_ready("the machine to come up", PATIENCE, || {
                let boot = self
                    .tool(Duration::from_secs(20))
                    .stdin("cat /proc/sys/kernel/random/boot_id")
                    .check()?;
                Ok(boot.trim() != before)
            })?;
        self.line.kill9()?;
        if self.socket.exists() {
            std::fs::remove_file(&self.socket)?;
        }
        self.line.start()?;
        self.line
            .wait_ready("the connection to the machine", PATIENCE, || {
                Ok(self.socket.exists())
            })?;
        self.until(
            "its services to be up",
            "docker version >/dev/null; systemctl is-active nfs-server docker seed",
        )?;
        Ok(())
    }

    fn tool(&self, timeout: Duration) -> Tool {
        Tool::new("ssh")
            .args(how(&self.socket, &self.key, self.address))
            .args(["bash", "-s"])
            .timeout(timeout)
    }
}

/// By the shared connection where there is one, else by one of its own.
fn how(socket: &Path, key: &Path, address: Ipv4Addr) -> Vec<String> {
    let mut args = vec!["-F".to_owned(), "none".to_owned()];
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ServerAliveInterval=5",
        &format!("ControlPath={}", socket.display()),
        &format!("IdentityFile={}", key.display()),
    ] {
        args.extend(["-o".to_owned(), option.to_owned()]);
    }
    args.push(format!("root@{address}"));
    args
}

/// The second disk: what says which machine this is, and what its administrator brings.
fn seed(
    lab: &Lab,
    work: &Path,
    name: &str,
    address: Ipv4Addr,
    kind: &Kind,
    package: &Path,
) -> Result<PathBuf> {
    let files = work.join("seed");
    std::fs::create_dir_all(files.join("engine"))?;
    let gateway = lab.network().gateway();
    let boot = format!(
        r#"set -eu
ip link set eth0 up
ip address add {address}/24 dev eth0
ip route add default via {gateway}
[ ! -e /etc/seeded ] || exit 0
hostname {name}
echo {name} >/etc/hostname
echo 127.0.1.1 {name} >>/etc/hosts
install -D -m 0600 /seed/key.pub /root/.ssh/authorized_keys
install -D -m 0644 /seed/daemon.json /etc/docker/daemon.json
for program in /seed/engine/*; do
  [ ! -e "$program" ] || install -m 0755 "$program" "$(command -v "${{program##*/}}")"
done
touch /etc/seeded
"#
    );
    std::fs::write(files.join("boot"), boot)?;
    std::fs::copy(work.join("key.pub"), files.join("key.pub"))?;
    let daemon =
        serde_json::json!({ "exec-opts": [format!("native.cgroupdriver={}", kind.groups)] });
    std::fs::write(files.join("daemon.json"), daemon.to_string())?;
    std::fs::write(files.join("rootfs.tar"), image::rootfs()?)?;
    let package_name = package.file_name().context("a package is a file")?;
    std::fs::copy(package, files.join(package_name))?;
    if kind.engine == EngineGeneration::Current {
        // Says what is missing.
        kind.engine.programs()?;
        let programs = paths::source_root()?.join(".tools/engines/current/bin");
        for program in ENGINE {
            std::fs::copy(programs.join(program), files.join("engine").join(program))?;
        }
    }
    let disk = work.join("seed.img");
    Tool::new("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .arg(&files)
        .arg(&disk)
        .arg("1G")
        .check()?;
    Ok(disk)
}
