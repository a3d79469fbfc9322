//! Placement strategies: which of the hosts that could take a task is preferred (ECS API reference, PlacementStrategy).

use sha2::{Digest as _, Sha256};
use tallyman_crds::ecs::{PlacementStrategy, PlacementStrategyType};

use crate::problem::Problem;

/// The attribute over which services are spread by default.
const ZONE: &str = "ecs.availability-zone";
/// The most steps of a strategy (ECS API reference, CreateService).
pub(super) const MOST: usize = 5;

/// A chain of preferences. Each keeps, of the hosts that the ones before it left, those that it likes best; what is still
/// equal after the last is settled by order or by lot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strategy {
    /// The preferences, first one first.
    pub steps: Vec<Preference>,
    /// A step is `random`: the last choice is by lot. Without one, the host with fewer tasks wins, then the one with more
    /// memory left, then the smaller name. (ECS always draws; we have no reason to.)
    pub lot: bool,
}

/// One preference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// The fewest tasks of the group for the value of the field.
    Spread(Field),
    /// The least of the resource left.
    Binpack(Resource),
}

/// Over what tasks are spread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Container instances: `instanceId` or `host`.
    Instance,
    /// The values of an attribute. Instances that lack it count as having one value together.
    Attribute(String),
}

/// What hosts are filled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// CPU units.
    Cpu,
    /// Memory.
    Memory,
}

impl Default for Strategy {
    /// Spread over zones, then over instances (ECS API reference, Service: the service scheduler's default).
    fn default() -> Self {
        Strategy {
            steps: vec![
                Preference::Spread(Field::Attribute(ZONE.to_owned())),
                Preference::Spread(Field::Instance),
            ],
            lot: false,
        }
    }
}

impl Strategy {
    /// Reads `placementStrategy` below `at`, such as `spec`. None given is the default.
    ///
    /// # Errors
    /// Every problem, each naming its field.
    pub fn parse(at: &str, given: &[PlacementStrategy]) -> Result<Strategy, Vec<Problem>> {
        if given.is_empty() {
            return Ok(Strategy::default());
        }
        let mut problems = Vec::new();
        let mut strategy = Strategy {
            steps: Vec::new(),
            lot: false,
        };
        if given.len() > MOST {
            let message = format!("must have at most {MOST} steps, not {}", given.len());
            problems.push(Problem::new(format!("{at}.placementStrategy"), message));
        }
        for (i, step) in given.iter().enumerate() {
            let at = format!("{at}.placementStrategy[{i}]");
            let field = step.field.as_deref().unwrap_or_default();
            let read = match step.r#type {
                None => {
                    let message = "must be `random`, `spread` or `binpack`";
                    problems.push(Problem::new(format!("{at}.type"), message));
                    continue;
                }
                Some(PlacementStrategyType::Random) => {
                    strategy.lot = true;
                    continue;
                }
                Some(PlacementStrategyType::Spread) => spread(field),
                Some(PlacementStrategyType::Binpack) => binpack(field),
            };
            match read {
                Ok(step) => strategy.steps.push(step),
                Err(message) => problems.push(Problem::new(format!("{at}.field"), message)),
            }
        }
        if problems.is_empty() {
            Ok(strategy)
        } else {
            Err(problems)
        }
    }

    /// Attributes over which it spreads, in order.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Preference::Spread(Field::Attribute(name)) => Some(name.as_str()),
            Preference::Spread(Field::Instance) | Preference::Binpack(_) => None,
        })
    }

    /// A step counts tasks of the group.
    pub(super) fn counts(&self) -> bool {
        let spreads = |step: &Preference| matches!(step, Preference::Spread(_));
        self.steps.iter().any(spreads)
    }
}

fn spread(field: &str) -> Result<Preference, String> {
    if field.eq_ignore_ascii_case("instanceId") || field.eq_ignore_ascii_case("host") {
        return Ok(Preference::Spread(Field::Instance));
    }
    match field.strip_prefix("attribute:") {
        Some(name) if !name.is_empty() => Ok(Preference::Spread(Field::Attribute(name.to_owned()))),
        Some(_) | None => Err(format!(
            "must be `instanceId`, `host` or `attribute:<name>` with `type: spread`, not '{field}'"
        )),
    }
}

fn binpack(field: &str) -> Result<Preference, String> {
    if field.eq_ignore_ascii_case("cpu") {
        Ok(Preference::Binpack(Resource::Cpu))
    } else if field.eq_ignore_ascii_case("memory") {
        Ok(Preference::Binpack(Resource::Memory))
    } else {
        Err(format!(
            "must be `cpu` or `memory` with `type: binpack`, not '{field}'"
        ))
    }
}

/// The lot of whoever has this identity: the same for the same parts, and without relation between others.
///
/// ```
/// # use tallyman_operator_core::placement::seed;
/// assert_eq!(seed(&["service-uid", "web-000001"]), seed(&["service-uid", "web-000001"]));
/// assert_ne!(seed(&["service-uid", "web-000001"]), seed(&["service-uid", "web-000002"]));
/// ```
pub fn seed(parts: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |n, b| (n << 8) | u64::from(*b))
}
