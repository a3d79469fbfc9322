//! What is to be placed, and the door through which constraints and strategies come.

use tallyman_crds::ecs::{
    PlacementConstraint, PlacementConstraintType, PlacementStrategy,
    TaskDefinitionPlacementConstraint,
};

use super::query::Query;
use super::strategy::Strategy;
use crate::definition::Demand;
use crate::names::Group;
use crate::problem::Problem;

/// The most constraints of a request, and of a task definition (ECS API reference, RunTask).
const MOST: usize = 10;

/// One task that needs a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it takes.
    pub demand: Demand,
    /// What must hold of its host, and which host is preferred.
    pub rules: Rules,
    /// Its group: what `spread` and `distinctInstance` count.
    pub group: Group,
    /// Its lot, where the strategy draws; derived from the identity of what is placed.
    pub seed: u64,
}

/// What must hold of a host, and which host is preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    /// What must hold.
    pub constraints: Constraints,
    /// What is preferred.
    pub strategy: Strategy,
}

/// Constraints: all of them hold, or the host does not take the task (ECS API reference, PlacementConstraint).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraints {
    /// No other task of the group is to run on the host.
    pub distinct_instance: bool,
    /// Expressions that are true of the host: those of the request, then those of the task definition.
    pub member_of: Vec<Query>,
}

impl Rules {
    /// Reads `placementConstraints` and `placementStrategy` below `at`, such as `spec`.
    ///
    /// # Errors
    /// Every problem, each naming its field and, in an expression, the column.
    pub fn parse(
        at: &str,
        constraints: &[PlacementConstraint],
        strategy: &[PlacementStrategy],
    ) -> Result<Rules, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut rules = Rules::default();
        too_many(at, constraints.len(), &mut problems);
        for (i, c) in constraints.iter().enumerate() {
            let at = format!("{at}.placementConstraints[{i}]");
            match c.r#type {
                None => {
                    let message = "must be `distinctInstance` or `memberOf`";
                    problems.push(Problem::new(format!("{at}.type"), message));
                }
                Some(PlacementConstraintType::DistinctInstance) => {
                    rules.constraints.distinct_instance = true;
                    if c.expression.as_ref().is_some_and(|e| !e.is_empty()) {
                        problems.push(Problem::new(
                            format!("{at}.expression"),
                            "must be absent with `type: distinctInstance`",
                        ));
                    }
                }
                Some(PlacementConstraintType::MemberOf) => {
                    let query = expression(&at, c.expression.as_deref(), &mut problems);
                    rules.constraints.member_of.extend(query);
                }
            }
        }
        match Strategy::parse(at, strategy) {
            Ok(strategy) => rules.strategy = strategy,
            Err(found) => problems.extend(found),
        }
        if problems.is_empty() {
            Ok(rules)
        } else {
            Err(problems)
        }
    }

    /// The same, and the expressions of the task definition.
    #[must_use]
    pub fn with(mut self, member_of: &[Query]) -> Rules {
        self.constraints.member_of.extend(member_of.iter().cloned());
        self
    }
}

/// Reads `spec.placementConstraints` of a task definition; what is wrong goes to `problems`.
pub fn member_of(
    given: &[TaskDefinitionPlacementConstraint],
    problems: &mut Vec<Problem>,
) -> Vec<Query> {
    too_many("spec", given.len(), problems);
    let mut queries = Vec::new();
    for (i, c) in given.iter().enumerate() {
        let at = format!("spec.placementConstraints[{i}]");
        if c.r#type.is_none() {
            problems.push(Problem::new(format!("{at}.type"), "must be `memberOf`"));
        } else {
            queries.extend(expression(&at, c.expression.as_deref(), problems));
        }
    }
    queries
}

fn too_many(at: &str, count: usize, problems: &mut Vec<Problem>) {
    if count > MOST {
        let message = format!("must have at most {MOST} constraints, not {count}");
        problems.push(Problem::new(format!("{at}.placementConstraints"), message));
    }
}

fn expression(at: &str, given: Option<&str>, problems: &mut Vec<Problem>) -> Option<Query> {
    let field = format!("{at}.expression");
    let Some(text) = given.filter(|text| !text.trim().is_empty()) else {
        let message = "must be given with `type: memberOf`, such as `attribute:stack == prod`";
        problems.push(Problem::new(field, message));
        return None;
    };
    match Query::parse(text) {
        Ok(query) => Some(query),
        Err(wrong) => {
            problems.push(Problem::in_text(field, wrong.column, wrong.message));
            None
        }
    }
}
