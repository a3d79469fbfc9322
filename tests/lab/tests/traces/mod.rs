//! What must not be left.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use tallyman_lab::command::Tool;
use tallyman_lab::{Kubectl, process, procfs, wait_until};

/// What a run leaves on the machine, if it leaves something.
pub fn traces(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in procfs::with_variable(process::MARK, id) {
        found.push(format!("process {}", process.pid));
    }
    for folder in ["/run/netns", "/sys/class/net", "/run/tallyman-lab"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(id) {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        for entry in std::fs::read_dir(hierarchy.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(id) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
        }
    }
    for file in ["/proc/self/mountinfo", "/proc/net/unix"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        found.extend(
            table
                .lines()
                .filter(|line| line.contains(id))
                .map(str::to_owned),
        );
    }
    let rules = Tool::new("iptables-save").check().unwrap_or_default();
    found.extend(
        rules
            .lines()
            .filter(|line| line.contains(id))
            .map(str::to_owned),
    );
    found
}

/// What a cluster has that an administrator would not want to find changed.
pub fn inventory(kubectl: &Kubectl) -> Result<BTreeSet<String>> {
    let kinds = "customresourcedefinitions,clusterroles,clusterrolebindings,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings,namespaces";
    let mut found = BTreeSet::new();
    for list in [
        vec!["get", kinds],
        vec![
            "get",
            "serviceaccounts,roles,rolebindings,secrets,configmaps,leases",
            "-A",
        ],
    ] {
        let list = kubectl.json(list)?;
        for o in list["items"].as_array().into_iter().flatten() {
            let meta = &o["metadata"];
            found.insert(format!(
                "{} {} {}",
                o["kind"], meta["namespace"], meta["name"]
            ));
        }
    }
    Ok(found)
}

/// The cluster has again what it had.
pub fn is_again(kubectl: &Kubectl, before: &BTreeSet<String>) -> Result<()> {
    let what = "the cluster to be as it was";
    wait_until(what, Duration::from_secs(60), || {
        let now = inventory(kubectl)?;
        let differ: Vec<_> = now.symmetric_difference(before).collect();
        ensure!(differ.is_empty(), "{differ:?}");
        Ok(true)
    })
}
