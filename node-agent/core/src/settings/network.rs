//! How tasks reach the network.

use std::collections::BTreeMap;

use super::group::settings;
use super::values::{Wrong, flag, some, texts};
use crate::dynamic_ports::PortRange;
use crate::pause::TO_AGENT_NETWORK;

settings! {
    /// How tasks reach the network.
    pub struct Networking {
        dynamic_ports: Option<PortRange> = None,
            ["ECS_DYNAMIC_HOST_PORT_RANGE", "DynamicHostPortRange",
             "host ports of mappings that name none, like 40000-40999 (default: the kernel's ip_local_port_range)"],
            some(range);
        task_eni: bool = true,
            ["ECS_ENABLE_TASK_ENI", "TaskENIEnabled",
             "false: no tasks with an address of their own (`networkMode: awsvpc`) on this host (default true)"],
            flag;
        awsvpc_network: Option<String> = None,
            ["ECS_AWSVPC_NETWORK", "AWSVPCNetwork",
             "network of the engine that gives those tasks their addresses, such as one of `docker network create \
              --driver macvlan` (default: a bridge `tallyman` that the agent makes)"],
            some(network);
        block_imds: bool = false,
            ["ECS_AWSVPC_BLOCK_IMDS", "AWSVPCBlockInstanceMetdata",
             "true: tasks with an address of their own do not reach a cloud's instance metadata at 169.254.169.254 (default false)"],
            flag;
        pause_labels: BTreeMap<String, String> = BTreeMap::new(),
            ["ECS_PAUSE_LABELS", "",
             "labels for pause containers, beside those of every container, JSON object of texts (default {})"],
            labels;
    }
}

fn labels(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    texts("{\"team\":\"shop\"}", text)
}

fn range(text: &str) -> Result<PortRange, Wrong> {
    PortRange::parse(text).ok_or_else(|| Wrong::wanted("a range of ports like `40000-40999`"))
}

/// As Docker takes names; two of its own networks give no address, and one of ours leads nowhere but here.
fn network(text: &str) -> Result<String, Wrong> {
    let mut letters = text.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if begins && goes_on && !["host", "none", "default", TO_AGENT_NETWORK].contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::wanted(
            "the name of a network of the engine that gives addresses",
        ))
    }
}
