//! GPUs that a container asks for: one reading for the operator, which counts them, and for the agent, which hands
//! them out.

use crate::ecs::{ResourceRequirement, ResourceType};

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

/// How many GPUs a container gets: what its override says, else its definition (ECS ResourceRequirement). 0 without.
///
/// # Errors
/// [`Refusal`]
pub fn count(
    defined: &[ResourceRequirement],
    overridden: &[ResourceRequirement],
) -> Result<u32, Refusal> {
    let wanted = if overridden.is_empty() {
        defined
    } else {
        overridden
    };
    let mut count = 0;
    for ResourceRequirement {
        value,
        r#type,
        sharing_strategy,
    } in wanted
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
        if sharing_strategy.is_some() {
            let clause = "must have no `sharingStrategy`; GPUs are given whole";
            return Err(Refusal::Unsupported(clause.to_owned()));
        }
        if count > 0 {
            return Err(Refusal::Invalid("must have `type: GPU` once".to_owned()));
        }
        let text = value.as_deref().unwrap_or_default();
        count = text
            .parse()
            .ok()
            .filter(|count| (1..=MOST).contains(count))
            .ok_or_else(|| {
                Refusal::Invalid(format!(
                    "must have a whole number of GPUs from 1 as `value`, not '{text}'"
                ))
            })?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::SharingStrategy;

    fn gpus(value: &str) -> ResourceRequirement {
        ResourceRequirement {
            value: Some(value.to_owned()),
            r#type: ResourceType::Gpu,
            sharing_strategy: None,
        }
    }

    #[test]
    fn an_override_goes_before_the_definition() {
        assert_eq!(count(&[], &[]), Ok(0));
        assert_eq!(count(&[gpus("2")], &[]), Ok(2));
        assert_eq!(count(&[gpus("2")], &[gpus("1")]), Ok(1));
        assert_eq!(count(&[], &[gpus("4")]), Ok(4));
    }

    #[test]
    fn what_is_no_count_of_whole_gpus_is_refused_with_what_would_be_right() {
        for (requirements, words) in [
            (vec![gpus("0")], "from 1 as `value`, not '0'"),
            (vec![gpus("half")], "not 'half'"),
            (vec![gpus("1.5")], "not '1.5'"),
            (vec![gpus("-1")], "not '-1'"),
            (vec![gpus("10000")], "not '10000'"),
            (vec![gpus("1"), gpus("1")], "once"),
            (
                vec![ResourceRequirement {
                    r#type: ResourceType::NeuronDevice,
                    ..gpus("1")
                }],
                "NeuronDevice is hardware of AWS",
            ),
            (
                vec![ResourceRequirement {
                    sharing_strategy: Some(SharingStrategy::default()),
                    ..gpus("1")
                }],
                "sharingStrategy",
            ),
        ] {
            let refusal = count(&requirements, &[]).unwrap_err();
            let here = matches!(refusal, Refusal::Unsupported(_));
            assert_eq!(here, words.contains("AWS") || words.contains("Strategy"));
            let said = refusal.into_clause();
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
