//! What containers may ask of their agent, and who else may.

use super::group::settings;
use super::values::{Wrong, flag, some, text};

/// How often a container may ask the metadata endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, in the long run.
    pub steady: u32,
    /// Requests at once.
    pub burst: u32,
}

impl Rate {
    const ECS: Self = Self {
        steady: 40,
        burst: 60,
    };
}

settings! {
    /// What containers may ask of their agent, and who else may.
    pub struct Metadata {
        region: Option<String> = None,
            ["AWS_DEFAULT_REGION", "AWSRegion",
             "region that containers are told to be in, and that ARNs name (default none)"],
            some(text);
        rate: Rate = Rate::ECS,
            ["ECS_TASK_METADATA_RPS_LIMIT", "",
             "requests a second and at once that each container may make (default 40,60)"],
            rate;
        task_roles: bool = true,
            ["ECS_ENABLE_TASK_IAM_ROLE", "TaskIAMRoleEnabled",
             "false: give no container credentials for the role of its task (default true, as on hosts that ECS' own init prepares)"],
            flag;
        task_roles_network_host: bool = true,
            ["ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", "TaskIAMRoleEnabledForNetworkHost",
             "false: none in network mode host (default true, likewise)"],
            flag;
        files: bool = false,
            ["ECS_ENABLE_CONTAINER_METADATA", "ContainerMetadataEnabled",
             "true: give each container a file about itself (default false)"],
            flag;
        host_data_dir: Option<String> = None,
            ["ECS_HOST_DATA_DIR", "DataDirOnHost",
             "where the host has the folder above ECS_DATADIR, when the agent runs in a container (default: ECS_DATADIR is of the host)"],
            some(absolute);
        offhost_introspection: bool = false,
            ["ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS", "",
             "true: serve introspection on every address of the host (default false: loopback only)"],
            flag;
        serve_metrics: bool = false,
            ["ECS_ENABLE_PROMETHEUS_METRICS", "PrometheusMetricsEnabled",
             "true: serve /metrics to others than this host, at 0.0.0.0:51680 or where --metrics-address says (default false)"],
            flag;
        disable_usage: bool = false,
            ["ECS_DISABLE_METRICS", "DisableMetrics",
             "true: do not measure what containers use when /metrics is asked (default false)"],
            flag;
    }
}

fn rate(text: &str) -> Result<Rate, Wrong> {
    let wanted = || Wrong::wanted("two numbers like `40,60`");
    let (steady, burst) = text.split_once(',').ok_or_else(wanted)?;
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wanted());
    let rate = Rate {
        steady: number(steady)?,
        burst: number(burst)?,
    };
    if rate.steady == 0 || rate.burst < rate.steady {
        return Err(Wrong::OutOfRange(
            "of which the first must be at least 1 and the second not less".to_owned(),
        ));
    }
    Ok(rate)
}

fn absolute(text: &str) -> Result<String, Wrong> {
    if text.starts_with('/') {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(Wrong::wanted("an absolute path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_two_numbers() {
        for (text, steady, burst) in [("40,60", 40, 60), ("5, 5", 5, 5)] {
            assert_eq!(rate(text), Ok(Rate { steady, burst }), "{text}");
        }
        for text in ["40", "40,", "a,b", "-1,5"] {
            assert!(matches!(rate(text), Err(Wrong::Wanted(_))), "{text}");
        }
        for text in ["0,60", "60,40"] {
            assert!(matches!(rate(text), Err(Wrong::OutOfRange(_))), "{text}");
        }
    }

    #[test]
    fn a_folder_of_the_host_is_an_absolute_path() {
        assert_eq!(absolute("/var/lib/ecs/"), Ok("/var/lib/ecs".to_owned()));
        assert!(absolute("ecs").is_err());
    }
}
