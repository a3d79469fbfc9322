//! Stories, histories and planned perturbations. One program, so that it is linked once.

mod crashes;
mod daemons;
mod disconnect;
mod faults;
mod gpus;
mod histories;
mod jobs;
mod perturbations;
mod placement;
mod restores;
mod rollouts;
mod secrets;
mod sharing;
mod stories;
mod task_sets;
mod volumes;

/// Histories are small objects that come and go: an eighth of their time was the C library's heap.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;
