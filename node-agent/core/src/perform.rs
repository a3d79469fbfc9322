//! An action carried out on any engine: the one place that turns an [`Action`] into a call of the port.

use tallyman_agent_engine::{ContainerState, Created, Engine, EngineError, Prepared, Verb};

use crate::task::Action;

/// What a verb came to.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Action::Prepare`].
    Prepared(Result<Prepared, EngineError>),
    /// Of [`Action::Create`].
    Created(Result<Created, EngineError>),
    /// Of [`Action::Start`].
    Started(Result<(), EngineError>),
    /// Of [`Action::Inspect`].
    Inspected(Result<Option<Box<ContainerState>>, EngineError>),
    /// Of [`Action::Stop`].
    Stopped(Result<(), EngineError>),
    /// Of [`Action::Remove`].
    Removed(Result<(), EngineError>),
}

impl Outcome {
    /// The verb that it is of.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Prepared(_) => Verb::Prepare,
            Self::Created(_) => Verb::Create,
            Self::Started(_) => Verb::Start,
            Self::Inspected(_) => Verb::Inspect,
            Self::Stopped(_) => Verb::Stop,
            Self::Removed(_) => Verb::Remove,
        }
    }

    /// The failure, if it is one.
    pub fn error(&self) -> Option<&EngineError> {
        match self {
            Self::Prepared(result) => result.as_ref().err(),
            Self::Created(result) => result.as_ref().err(),
            Self::Inspected(result) => result.as_ref().err(),
            Self::Started(result) | Self::Stopped(result) | Self::Removed(result) => {
                result.as_ref().err()
            }
        }
    }
}

/// Calls the engine once. Retries are [`crate::task::step`]'s.
pub async fn perform<E: Engine>(engine: &E, action: &Action) -> Outcome {
    match action {
        Action::Prepare {
            image, behavior, ..
        } => Outcome::Prepared(engine.prepare(image, *behavior).await),
        Action::Create { spec, .. } => Outcome::Created(engine.create(spec).await),
        Action::Start { name, .. } => Outcome::Started(engine.start(name).await),
        Action::Inspect { name, .. } => {
            Outcome::Inspected(engine.inspect(name).await.map(|state| state.map(Box::new)))
        }
        Action::Stop { name, grace, .. } => Outcome::Stopped(engine.stop(name, *grace).await),
        Action::Remove { name, .. } => Outcome::Removed(engine.remove(name).await),
    }
}
