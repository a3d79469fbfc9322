//! What tasks hold of their host: room in its account, and GPUs. Both follow a task's steps, so a step on a host is one
//! call, whoever makes it: a worker, the simulator or a test.

use jiff::Timestamp;

use crate::account::Account;
use crate::gpu_info::GpuInfo;
use crate::gpus::Gpus;
use crate::ids::TaskUid;
use crate::task::{HostContext, Step, TaskMachine};

/// What the tasks of a host hold. Shared by them.
#[derive(Debug, Default)]
pub struct Holdings {
    /// CPU, memory and ports.
    pub account: Account,
    /// GPUs.
    pub gpus: Gpus,
}

impl Holdings {
    /// Of a host with these GPUs, none of them given.
    pub fn new(gpus: &GpuInfo) -> Self {
        Self {
            account: Account::default(),
            gpus: Gpus::new(gpus),
        }
    }

    /// One step of a task. What it holds is entered before, since the step asks whether there is room, and after, since
    /// the step may end it; a task that is STOPPED holds nothing more. Also returns other tasks that may start now.
    pub fn step(
        &self,
        machine: &mut TaskMachine,
        host: &HostContext,
        now: Timestamp,
    ) -> (Step, Vec<TaskUid>) {
        let mut freed = self.account.enter(machine);
        let step = machine.step(host, now);
        freed.extend(self.account.enter(machine));
        if step.record.is_stopped() {
            self.gpus.ended(&step.record.uid);
        }
        (step, freed)
    }
}
