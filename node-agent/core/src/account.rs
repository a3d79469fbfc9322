//! What the host has left, task by task (ECS agent, host resource manager).
//!
//! The operator counts before it places, but it may be early: it frees what a task took when it gives up the host, or as
//! one of two leaders. So a task starts here only when what it takes is free, in the order in which they came, and what it
//! takes is free again when it is STOPPED. What runs already, of an earlier agent perhaps, holds what it takes though it be
//! more than there is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallyman_crds::HostReport;
use tallyman_crds::size::Size;

use crate::ids::TaskUid;
use crate::task::TaskMachine;
use crate::task::machine::Claim;

/// Whether there is room for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// It may start.
    #[default]
    Granted,
    /// It waits.
    Awaited {
        /// Tasks that wait and came before.
        before: usize,
        /// What it lacks, if it is the first.
        lacks: Option<Lack>,
    },
}

/// What of a host is not free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// CPU units.
    #[error("CPU (needs {needed} units, {free} are free)")]
    Cpu {
        /// Of the task.
        needed: i64,
        /// Of the host.
        free: i64,
    },
    /// Memory.
    #[error("memory (needs {needed} MiB, {free} are free)")]
    Memory {
        /// Of the task, MiB.
        needed: i64,
        /// Of the host, MiB.
        free: i64,
    },
    /// A port.
    #[error("port {0}")]
    Port(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capacity {
    cpu: i64,
    memory: i64,
}

/// The account of a host. Shared by its tasks.
#[derive(Debug, Default)]
pub struct Account(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    /// `None` as long as the engine has not said: then nobody is held up.
    capacity: Option<Capacity>,
    held: BTreeMap<TaskUid, Size>,
    /// In the order in which they came.
    waiting: Vec<(TaskUid, Size)>,
}

impl Account {
    /// Takes in what the host registers. Tasks that may start now.
    pub fn registered(&self, report: &HostReport) -> Vec<TaskUid> {
        let capacity = Capacity {
            cpu: report.registered_resources.cpu,
            memory: report.registered_resources.memory,
        };
        let mut books = self.books();
        // Without an engine that ever described itself it registers nothing.
        if report.engine.is_empty() || books.capacity == Some(capacity) {
            return Vec::new();
        }
        books.capacity = Some(capacity);
        books.grant()
    }

    /// Enters a task as it is now, and tells it whether there is room for it: before and after each of its steps. Other
    /// tasks that may start now.
    pub fn enter(&self, machine: &mut TaskMachine) -> Vec<TaskUid> {
        let mut books = self.books();
        let (task, size) = (&machine.task().uid, &machine.record().size);
        let (room, freed) = match machine.claim() {
            Claim::Holds => (books.hold(task, size), Vec::new()),
            Claim::Asks => (books.ask(task, size), Vec::new()),
            Claim::Over => (Room::Granted, books.end(task)),
        };
        drop(books);
        machine.set_room(room);
        freed
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Takes in those who wait as far as there is room, the first first. Who needs more than the host has at all holds
    /// nobody up.
    fn grant(&mut self) -> Vec<TaskUid> {
        let mut granted = Vec::new();
        let mut later = Vec::new();
        let mut full = false;
        for (task, size) in std::mem::take(&mut self.waiting) {
            if !full && self.lack(&size).is_none() {
                granted.push(task.clone());
                self.held.insert(task, size);
            } else {
                full |= self.could(&size);
                later.push((task, size));
            }
        }
        self.waiting = later;
        granted
    }

    /// What runs already holds what it takes, whatever there is.
    fn hold(&mut self, task: &TaskUid, size: &Size) -> Room {
        if !self.held.contains_key(task) {
            self.waiting.retain(|(uid, _)| uid != task);
            self.held.insert(task.clone(), size.clone());
        }
        Room::Granted
    }

    /// Asked again, a task keeps its place.
    fn ask(&mut self, task: &TaskUid, size: &Size) -> Room {
        if self.held.contains_key(task) {
            return Room::Granted;
        }
        if !self.waiting.iter().any(|(uid, _)| uid == task) {
            self.waiting.push((task.clone(), size.clone()));
            self.grant();
        }
        self.room(task)
    }

    fn end(&mut self, task: &TaskUid) -> Vec<TaskUid> {
        let before = self.waiting.len();
        self.waiting.retain(|(uid, _)| uid != task);
        let held = self.held.remove(task).is_some();
        if held || self.waiting.len() < before {
            self.grant()
        } else {
            Vec::new()
        }
    }

    fn room(&self, task: &TaskUid) -> Room {
        let place = self.waiting.iter().position(|(uid, _)| uid == task);
        match place.and_then(|before| Some((before, self.waiting.get(before)?))) {
            None => Room::Granted,
            Some((before, (_, size))) => Room::Awaited {
                before,
                lacks: self.lack(size),
            },
        }
    }

    /// An empty host would do.
    fn could(&self, size: &Size) -> bool {
        self.capacity
            .is_none_or(|has| size.cpu <= has.cpu && size.memory <= has.memory)
    }

    fn lack(&self, size: &Size) -> Option<Lack> {
        let has = self.capacity?;
        let held = self.held.values();
        let cpu = has.cpu - held.clone().map(|one| one.cpu).sum::<i64>();
        let memory = has.memory - held.clone().map(|one| one.memory).sum::<i64>();
        // Who takes nothing of it lacks nothing, even where too much is taken.
        if size.cpu > cpu.max(0) {
            return Some(Lack::Cpu {
                needed: size.cpu,
                free: cpu.max(0),
            });
        }
        if size.memory > memory.max(0) {
            return Some(Lack::Memory {
                needed: size.memory,
                free: memory.max(0),
            });
        }
        let mut taken = held.flat_map(|one| {
            let tcp = one.ports.intersection(&size.ports);
            tcp.chain(one.ports_udp.intersection(&size.ports_udp))
        });
        taken.next().map(|port| Lack::Port(*port))
    }
}
