//! Kernel, host, terminal and log: what the spec asks for is what the program finds inside.

use std::net::{IpAddr, Ipv4Addr};

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::sights::{Sight, UNSEEN};
use crate::conformance::{Verdict, ensure};
use crate::{ContainerSpec, Device, Engine, EngineError, Ipc, Log, Network, Phase};
use crate::{Parameters, Processes, Swap, Tmpfs, Ulimit};

const MIB: i64 = 1024 * 1024;
const DATABASE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7));
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 53));
/// A device that engines give to no container by themselves.
const DEVICE: &str = "/dev/kmsg";

/// Runs a program that looks around; `set` changes its parameters.
async fn sees<B: Bench>(
    ground: &Ground<'_, B>,
    role: &str,
    set: impl FnOnce(&mut ContainerSpec),
    sights: Vec<Sight>,
) -> Verdict {
    let mut spec = ground.spec(role, &Program::Sees(sights.clone()));
    set(&mut spec);
    ground.launch(&spec).await?;
    let state = ground.until_exited(&spec.name).await?;
    let Phase::Exited { exit_code, .. } = state.phase else {
        return Err(unexpected(&state, "an exit code"));
    };
    let unseen = usize::try_from(exit_code - i64::from(UNSEEN))
        .ok()
        .and_then(|index| sights.get(index));
    ensure!(unseen.is_none(), "{role} does not see {unseen:?}");
    ensure!(exit_code == 0, "{role} ended with {exit_code}");
    Ok(())
}

pub(super) async fn no_parameters_are_the_engines_own<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let sights = vec![
        Sight::ProcessesAtMost(None),
        Sight::SharedMemory(Some(64 * MIB)),
        Sight::WritableRoot(true),
        Sight::Capability("CHOWN", true),
        Sight::Capability("SYS_PTRACE", false),
        Sight::NoNewPrivileges(false),
        Sight::EngineInit(false),
        Sight::Device(DEVICE, false),
        Sight::OnlyLoopback(false),
        Sight::Terminal(false),
        Sight::OpenInput(false),
        Sight::HostProcesses(false),
    ];
    sees(ground, "plain", |_| {}, sights).await?;
    let settings = ground.bench.settings(&ground.name("plain")).await?;
    ensure!(!settings.privileged, "privileged: {settings:?}");
    ensure!(settings.log.is_none(), "log: {settings:?}");
    ensure!(settings.swap.is_none(), "swap: {settings:?}");
    Ok(())
}

pub(super) async fn limits_are_seen_inside<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let limit = |name, soft, hard| Ulimit { name, soft, hard };
    let set = |spec: &mut ContainerSpec| {
        spec.parameters = Parameters {
            ulimits: vec![
                limit("nofile", 512, 1024),
                limit("core", -1, -1),
                limit("nproc", 60, 70),
            ],
            pids_limit: Some(50),
            sysctls: [
                ("net.core.somaxconn".to_owned(), "77".to_owned()),
                ("kernel.msgmax".to_owned(), "4096".to_owned()),
            ]
            .into(),
            shared_memory_bytes: Some(16 * MIB),
            tmpfs: vec![Tmpfs {
                path: "/scratch".to_owned(),
                bytes: 8 * MIB,
                options: vec!["noexec".to_owned(), "mode=1770".to_owned()],
            }],
            ..Parameters::default()
        };
    };
    let seen = |name, soft, hard| Sight::Limit { name, soft, hard };
    let sights = vec![
        seen("nofile", 512, 1024),
        seen("core", -1, -1),
        seen("nproc", 60, 70),
        Sight::ProcessesAtMost(Some(50)),
        Sight::Sysctl("net.core.somaxconn", "77"),
        Sight::Sysctl("kernel.msgmax", "4096"),
        Sight::SharedMemory(Some(16 * MIB)),
        Sight::InMemory("/scratch", 8 * MIB, "noexec"),
        Sight::InMemory("/scratch", 8 * MIB, "mode=1770"),
    ];
    sees(ground, "limited", set, sights).await
}

pub(super) async fn rights_and_devices_are_seen_inside<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let set = |spec: &mut ContainerSpec| {
        spec.parameters = Parameters {
            added_capabilities: vec!["SYS_PTRACE".to_owned()],
            dropped_capabilities: vec!["CHOWN".to_owned()],
            security_options: vec!["no-new-privileges".to_owned()],
            read_only_root: true,
            init: true,
            devices: vec![
                device(DEVICE, "/dev/written", true),
                device(DEVICE, "/dev/kept", false),
            ],
            ..Parameters::default()
        };
    };
    let sights = vec![
        Sight::Capability("SYS_PTRACE", true),
        Sight::Capability("CHOWN", false),
        Sight::Capability("KILL", true),
        Sight::NoNewPrivileges(true),
        Sight::WritableRoot(false),
        Sight::EngineInit(true),
        Sight::Device("/dev/written", true),
        Sight::Device("/dev/kept", true),
    ];
    sees(ground, "able", set, sights).await?;
    let set = |spec: &mut ContainerSpec| {
        spec.parameters.dropped_capabilities = vec!["ALL".to_owned()];
        spec.parameters.added_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
        spec.parameters.devices = vec![device(DEVICE, "/dev/kept", false)];
    };
    let sights = vec![
        Sight::Capability("NET_BIND_SERVICE", true),
        Sight::Capability("KILL", false),
        Sight::WritableDevice("/dev/kept", false),
    ];
    sees(ground, "unable", set, sights).await?;
    let set = |spec: &mut ContainerSpec| {
        spec.parameters.devices = vec![device(DEVICE, "/dev/written", true)];
    };
    let sights = vec![Sight::WritableDevice("/dev/written", true)];
    sees(ground, "writer", set, sights).await
}

fn device(host: &str, inside: &str, write: bool) -> Device {
    Device {
        host_path: host.to_owned(),
        container_path: inside.to_owned(),
        read: true,
        write,
        mknod: false,
    }
}

pub(super) async fn names_and_resolvers_are_seen_inside<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    for (role, network) in [
        ("bridge", Network::Bridge),
        ("host", Network::Host),
        ("none", Network::None),
    ] {
        let set = |spec: &mut ContainerSpec| {
            spec.network = network.clone();
            spec.parameters.hostname = Some("cart".to_owned());
            spec.parameters.extra_hosts = vec![("db".to_owned(), DATABASE)];
            spec.parameters.dns_servers = vec![RESOLVER];
            spec.parameters.dns_search_domains =
                vec!["shop.internal".to_owned(), "internal".to_owned()];
        };
        let sights = vec![
            Sight::Hostname("cart"),
            Sight::Host(DATABASE, "db"),
            Sight::Nameserver(RESOLVER),
            Sight::SearchDomains("shop.internal internal"),
            Sight::OnlyLoopback(network == Network::None),
        ];
        sees(ground, role, set, sights).await?;
    }
    Ok(())
}

pub(super) async fn terminal_and_open_input_are_seen_inside<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let set = |spec: &mut ContainerSpec| spec.parameters.terminal = true;
    sees(ground, "terminal", set, vec![Sight::Terminal(true)]).await?;
    let set = |spec: &mut ContainerSpec| spec.parameters.interactive = true;
    let sights = vec![Sight::OpenInput(true), Sight::Terminal(false)];
    sees(ground, "interactive", set, sights).await
}

pub(super) async fn host_processes_and_memory_are_shared<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let set = |spec: &mut ContainerSpec| spec.parameters.processes = Processes::Host;
    let sights = vec![Sight::HostProcesses(true)];
    sees(ground, "processes", set, sights).await?;
    let set = |spec: &mut ContainerSpec| spec.parameters.ipc = Ipc::None;
    sees(ground, "unshared", set, vec![Sight::SharedMemory(None)]).await?;
    let mut spec = ground.spec("shared", &Program::Runs);
    spec.parameters.ipc = Ipc::Host;
    ground.launch(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.ipc == Ipc::Host, "ipc: {settings:?}");
    Ok(())
}

/// Seen from outside: what swap a kernel has is the machine's, and not every machine can give all rights.
pub(super) async fn swap_and_privilege_are_set<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    // The second version of control groups has no such weight, and engines leave it out there.
    let described = ground.engine().describe().await.map_err(told("describe"))?;
    let weighs = described.cgroup_version == "1";
    for (role, bytes, swappiness) in [("none", 0, None), ("some", 32 * MIB, Some(7))] {
        let mut spec = ground.spec(role, &Program::Runs);
        spec.memory_bytes = Some(64 * MIB);
        spec.parameters.swap = Some(Swap { bytes, swappiness });
        ground.launch(&spec).await?;
        let settings = ground.bench.settings(&spec.name).await?;
        let wanted = swappiness.filter(|_| weighs);
        ensure!(
            (settings.swap, settings.swappiness) == (Some(bytes), wanted),
            "swap: {settings:?}"
        );
    }
    let mut spec = ground.spec("privileged", &Program::Runs);
    spec.parameters.privileged = true;
    ground.create(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.privileged, "privileged: {settings:?}");
    Ok(())
}

pub(super) async fn log_driver_and_options_are_set<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let options = [
        ("max-size", "1m"),
        ("mode", "non-blocking"),
        ("max-buffer-size", "10m"),
    ];
    for (driver, options) in [
        ("json-file", &options[..]),
        ("local", &options[..]),
        ("none", &[]),
    ] {
        let mut spec = ground.spec(driver, &Program::Runs);
        let log = Log {
            driver: driver.to_owned(),
            options: options
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Log::default()
        };
        spec.parameters.log = Some(log.clone());
        ground.launch(&spec).await?;
        let settings = ground.bench.settings(&spec.name).await?;
        ensure!(settings.log == Some(log), "log: {settings:?}");
    }
    Ok(())
}

pub(super) async fn unknown_names_are_invalid<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let log = |driver: &str, option: &str| {
        Some(Log {
            driver: driver.to_owned(),
            options: [(option.to_owned(), "1".to_owned())].into(),
            ..Log::default()
        })
    };
    let cases = [
        (
            "capability",
            Parameters {
                added_capabilities: vec!["FLY".to_owned()],
                ..Parameters::default()
            },
        ),
        (
            "security",
            Parameters {
                security_options: vec!["fly".to_owned()],
                ..Parameters::default()
            },
        ),
        (
            "driver",
            Parameters {
                log: log("fly", "max-file"),
                ..Parameters::default()
            },
        ),
        (
            "option",
            Parameters {
                log: log("json-file", "fly"),
                ..Parameters::default()
            },
        ),
    ];
    for (role, parameters) in cases {
        let mut spec = ground.spec(role, &Program::Runs);
        spec.parameters = parameters;
        match ground.engine().create(&spec).await {
            Err(EngineError::InvalidSpec { message }) => {
                ensure!(message.to_lowercase().contains("fly"), "{role}: {message}");
            }
            answer => return Err(unexpected(&answer, format!("{role} is invalid"))),
        }
    }
    Ok(())
}

pub(super) async fn what_the_host_lacks_cannot_start<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let sysctl = |name: &str| [(name.to_owned(), "1".to_owned())].into();
    let cases = [
        (
            "device",
            "/dev/nope",
            Network::Bridge,
            Parameters {
                devices: vec![device("/dev/nope", "/dev/nope", true)],
                ..Parameters::default()
            },
        ),
        (
            "sysctl",
            "vm.swappiness",
            Network::Bridge,
            Parameters {
                sysctls: sysctl("vm.swappiness"),
                ..Parameters::default()
            },
        ),
        (
            "host-sysctl",
            "net.core.somaxconn",
            Network::Host,
            Parameters {
                sysctls: sysctl("net.core.somaxconn"),
                ..Parameters::default()
            },
        ),
        (
            "tmpfs",
            "fly",
            Network::Bridge,
            Parameters {
                tmpfs: vec![Tmpfs {
                    path: "/scratch".to_owned(),
                    bytes: MIB,
                    options: vec!["fly".to_owned()],
                }],
                ..Parameters::default()
            },
        ),
    ];
    for (role, word, network, parameters) in cases {
        let mut spec = ground.spec(role, &Program::Runs);
        spec.network = network;
        spec.parameters = parameters;
        ground.create(&spec).await?;
        match ground.engine().start(&spec.name).await {
            Err(EngineError::CannotStart { message, .. }) => {
                ensure!(message.contains(word), "{role}: {message}");
            }
            answer => return Err(unexpected(&answer, format!("{role} cannot start"))),
        }
    }
    Ok(())
}
