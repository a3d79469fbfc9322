//! Runs and schedules: what users write, and what is there.

use serde_json::{Value, json};
use tallyman_crds::{RunTask, RunTaskStatus, ScheduledTask, ScheduledTaskStatus, StopCode};
use tallyman_operator_core::Kind;

use super::Bench;
use super::build::definition;

impl Bench {
    /// Hosts, and family `job`: one container of 256 CPU units and 512 MiB.
    pub fn with_job(hosts: u8) -> Bench {
        let mut bench = Bench::with_hosts(hosts);
        bench.apply_definition("job", definition("job:1"));
        bench.settle();
        bench
    }

    /// No host's silence wakes a pass: what does is the job's own.
    pub fn with_quiet_hosts(mut self) -> Bench {
        self.settings.agent_grace = std::time::Duration::from_secs(1_000_000);
        self.settings.replace_after = self.settings.agent_grace;
        self
    }

    /// Passes whose worlds nobody checks, with obedient agents.
    pub fn settle_unchecked(&mut self) {
        for _ in 0..6 {
            for plan in [self.families(), self.plan()] {
                self.apply(&plan);
            }
            self.stop_all();
        }
    }

    /// `kubectl create` of a RunTask of family `job`, with these fields beside it.
    pub fn apply_run(&mut self, name: &str, fields: Value) {
        let spec = serde_json::from_value(of_job(fields)).unwrap();
        self.create(Kind::RunTask, RunTask::new(name, spec));
    }

    /// `kubectl apply` of a ScheduledTask of family `job`, with these fields beside it.
    pub fn apply_schedule(&mut self, name: &str, fields: Value) {
        let mut spec = json!({ "runTask": { "taskDefinition": "job" } });
        super::merge(&mut spec, &fields);
        if self.names(Kind::ScheduledTask).contains(&name.to_owned()) {
            self.edit(Kind::ScheduledTask, name, &|v| v["spec"] = spec.clone());
        } else {
            let spec = serde_json::from_value(spec).unwrap();
            self.create(Kind::ScheduledTask, ScheduledTask::new(name, spec));
        }
    }

    /// Status of a run.
    pub fn run_status(&self, name: &str) -> RunTaskStatus {
        let mut all = self.objects.run_tasks.iter();
        let found = all.find(|r| r.metadata.name.as_deref() == Some(name));
        found.unwrap().status.clone().unwrap_or_default()
    }

    /// Reason of a run's Ready condition, and the types of its conditions that are True.
    pub fn run_says(&self, name: &str) -> (String, Vec<String>) {
        let conditions = self.run_status(name).conditions;
        let holds =
            |c: &&tallyman_crds::Condition| c.status == tallyman_crds::ConditionStatus::True;
        let types = conditions.iter().filter(holds).map(|c| c.type_.clone());
        (conditions[0].reason.clone(), types.collect())
    }

    /// Message of a run's Ready condition.
    pub fn run_message(&self, name: &str) -> String {
        self.run_status(name).conditions[0].message.clone()
    }

    /// Status of a schedule.
    pub fn schedule_status(&self, name: &str) -> ScheduledTaskStatus {
        let mut all = self.objects.scheduled_tasks.iter();
        let found = all.find(|s| s.metadata.name.as_deref() == Some(name));
        found.unwrap().status.clone().unwrap_or_default()
    }

    /// The task ends by itself: its one container has this exit code.
    pub fn exit(&mut self, task: &str, code: i32) {
        let more = json!({
            "stopCode": StopCode::EssentialContainerExited,
            "stoppedReason": "Essential container in task exited",
            "containers": [{ "name": "app", "lastStatus": "STOPPED", "exitCode": code }],
        });
        self.report(task, tallyman_crds::LastStatus::Stopped, &more);
    }

    /// Every task that runs ends well.
    pub fn exit_all(&mut self) {
        let runs = |t: &tallyman_crds::Task| {
            let status = t.status.as_ref();
            status.is_some_and(|s| s.last_status == tallyman_crds::LastStatus::Running)
        };
        for task in self.tasks(runs) {
            self.exit(&task, 0);
        }
    }
}

fn of_job(fields: Value) -> Value {
    let mut spec = json!({ "taskDefinition": "job" });
    super::merge(&mut spec, &fields);
    spec
}
