//! GPUs that a container asks for: one reading for the operator, which counts them, and for the agent, which hands
//! them out.

use crate::ecs::{
    ContainerDefinition, NvidiaMpsAllocation, ResourceRequirement, ResourceType, SharingStrategy,
};

/// Most GPUs of one container; no host has as many.
const MOST: u32 = 9999;

/// Why a container gets none of what it asks for: a clause about `resourceRequirements`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// ECS refuses it, too: no count of GPUs, or a type twice.
    Invalid(String),
    /// ECS has it, and hosts outside AWS do not.
    Unsupported(String),
}

impl Refusal {
    /// The clause.
    pub fn into_clause(self) -> String {
        match self {
            Self::Invalid(clause) | Self::Unsupported(clause) => clause,
        }
    }
}

/// What a container asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// No GPU.
    #[default]
    Nothing,
    /// So many whole GPUs; not 0.
    Whole(u32),
    /// A part of one GPU, which others share (ECS `nvidiaMps`).
    Part {
        /// MiB of its memory; not 0.
        memory: u32,
        /// Most of its compute in percent; `None` is what MPS has. A limit: nothing of it is reserved.
        max_compute_percent: Option<u32>,
    },
}

/// What a container gets: what its override says, else its definition (ECS ResourceRequirement).
///
/// # Errors
/// [`Refusal`]
pub fn wanted(
    defined: &[ResourceRequirement],
    overridden: &[ResourceRequirement],
) -> Result<Wanted, Refusal> {
    let requirements = if overridden.is_empty() {
        defined
    } else {
        overridden
    };
    let mut found = Wanted::Nothing;
    for ResourceRequirement {
        value,
        r#type,
        sharing_strategy,
    } in requirements
    {
        let name = match r#type {
            ResourceType::Gpu => None,
            ResourceType::InferenceAccelerator => Some("InferenceAccelerator"),
            ResourceType::NeuronDevice => Some("NeuronDevice"),
        };
        if let Some(name) = name {
            return Err(Refusal::Unsupported(format!(
                "must have `type: GPU` only; {name} is hardware of AWS"
            )));
        }
        if found != Wanted::Nothing {
            return Err(Refusal::Invalid("must have `type: GPU` once".to_owned()));
        }
        found = match (sharing_strategy, value) {
            (None, value) => whole(value.as_deref().unwrap_or_default())?,
            (Some(strategy), None) => part(strategy)?,
            (Some(_), Some(_)) => {
                return Err(Refusal::Invalid(
                    "must have `value` for whole GPUs or `sharingStrategy` for a part of one, and not both"
                        .to_owned(),
                ));
            }
        };
    }
    Ok(found)
}

fn whole(text: &str) -> Result<Wanted, Refusal> {
    let count = text.parse().ok();
    let count = count.filter(|count| (1..=MOST).contains(count));
    count.map(Wanted::Whole).ok_or_else(|| {
        Refusal::Invalid(format!(
            "must have a whole number of GPUs from 1 as `value`, not '{text}'"
        ))
    })
}

fn part(strategy: &SharingStrategy) -> Result<Wanted, Refusal> {
    let SharingStrategy { nvidia_mps } = strategy;
    let Some(NvidiaMpsAllocation {
        memory,
        max_compute_percent,
    }) = nvidia_mps
    else {
        return Err(Refusal::Invalid(
            "must have `nvidiaMps` as `sharingStrategy`".to_owned(),
        ));
    };
    let percent = |percent: i32| {
        let read = u32::try_from(percent).ok();
        read.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| {
            Refusal::Invalid(format!(
                "must have 1 to 100 as `sharingStrategy.nvidiaMps.maxComputePercent`, not {percent}"
            ))
        })
    };
    let most = max_compute_percent.map(percent).transpose()?;
    match u32::try_from(*memory) {
        Ok(memory) if memory > 0 => Ok(Wanted::Part {
            memory,
            max_compute_percent: most,
        }),
        _ => Err(Refusal::Invalid(format!(
            "must have MiB from 1 as `sharingStrategy.nvidiaMps.memory`, not {memory}"
        ))),
    }
}

/// What the containers of a task ask for together. What cannot be read is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Whole GPUs.
    pub whole: i64,
    /// MiB of the one GPU that those containers share that have a part; 0 is none.
    pub memory: i64,
}

impl Sum {
    /// Of containers that ask for this.
    pub fn of(wanted: impl Iterator<Item = Wanted>) -> Self {
        let mut sum = Self::default();
        for one in wanted {
            match one {
                Wanted::Nothing => {}
                Wanted::Whole(count) => sum.whole += i64::from(count),
                Wanted::Part { memory, .. } => sum.memory += i64::from(memory),
            }
        }
        sum
    }

    /// Of a task with these containers, as they are defined.
    pub fn of_definitions(containers: &[ContainerDefinition]) -> Self {
        let read = containers.iter();
        Self::of(read.filter_map(|c| wanted(&c.resource_requirements, &[]).ok()))
    }

    /// Why no task asks for this: a clause about `resourceRequirements` (ECS: the containers of a task that request GPUs all
    /// use the same option).
    pub fn wrong(&self) -> Option<&'static str> {
        (self.whole > 0 && self.memory > 0).then_some(
            "must be whole GPUs (`value`) in all containers of a task that ask for some, or parts of one (`sharingStrategy`) in \
             all of them",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(value: &str) -> ResourceRequirement {
        ResourceRequirement {
            value: Some(value.to_owned()),
            r#type: ResourceType::Gpu,
            sharing_strategy: None,
        }
    }

    fn shared(memory: i32, max_compute_percent: Option<i32>) -> ResourceRequirement {
        ResourceRequirement {
            value: None,
            r#type: ResourceType::Gpu,
            sharing_strategy: Some(SharingStrategy {
                nvidia_mps: Some(NvidiaMpsAllocation {
                    memory,
                    max_compute_percent,
                }),
            }),
        }
    }

    #[test]
    fn an_override_goes_before_the_definition() {
        assert_eq!(wanted(&[], &[]), Ok(Wanted::Nothing));
        assert_eq!(wanted(&[gpus("2")], &[]), Ok(Wanted::Whole(2)));
        assert_eq!(wanted(&[gpus("2")], &[gpus("1")]), Ok(Wanted::Whole(1)));
        assert_eq!(wanted(&[], &[gpus("4")]), Ok(Wanted::Whole(4)));
        let part = |memory, max_compute_percent| Wanted::Part {
            memory,
            max_compute_percent,
        };
        assert_eq!(wanted(&[shared(512, None)], &[]), Ok(part(512, None)));
        let other = [shared(64, Some(25))];
        assert_eq!(wanted(&[gpus("2")], &other), Ok(part(64, Some(25))));
    }

    #[test]
    fn what_containers_ask_for_is_added_up_and_must_be_of_one_kind() {
        let part = Wanted::Part {
            memory: 512,
            max_compute_percent: None,
        };
        let sum = |wanted: &[Wanted]| Sum::of(wanted.iter().copied());
        let whole = sum(&[Wanted::Whole(2), Wanted::Nothing, Wanted::Whole(1)]);
        assert_eq!((whole.whole, whole.memory, whole.wrong()), (3, 0, None));
        let parts = sum(&[part, Wanted::Nothing, part]);
        assert_eq!((parts.whole, parts.memory, parts.wrong()), (0, 1024, None));
        assert!(sum(&[part, Wanted::Whole(1)]).wrong().is_some());
    }

    #[test]
    fn what_is_no_count_and_no_part_is_refused_with_what_would_be_right() {
        let neuron = ResourceRequirement {
            r#type: ResourceType::NeuronDevice,
            ..gpus("1")
        };
        let both = ResourceRequirement {
            value: Some("1".to_owned()),
            ..shared(512, None)
        };
        let empty = ResourceRequirement {
            sharing_strategy: Some(SharingStrategy::default()),
            ..shared(512, None)
        };
        for (requirements, words) in [
            (vec![gpus("0")], "from 1 as `value`, not '0'"),
            (vec![gpus("half")], "not 'half'"),
            (vec![gpus("1.5")], "not '1.5'"),
            (vec![gpus("-1")], "not '-1'"),
            (vec![gpus("10000")], "not '10000'"),
            (vec![gpus("1"), gpus("1")], "once"),
            (vec![shared(1, None), gpus("1")], "once"),
            (vec![neuron], "NeuronDevice is hardware of AWS"),
            (vec![both], "and not both"),
            (vec![empty], "must have `nvidiaMps`"),
            (
                vec![shared(0, None)],
                "`sharingStrategy.nvidiaMps.memory`, not 0",
            ),
            (vec![shared(-5, None)], "not -5"),
            (vec![shared(512, Some(0))], "maxComputePercent`, not 0"),
            (vec![shared(512, Some(101))], "not 101"),
        ] {
            let refusal = wanted(&requirements, &[]).unwrap_err();
            let here = matches!(refusal, Refusal::Unsupported(_));
            assert_eq!(here, words.contains("AWS"));
            let said = refusal.into_clause();
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
