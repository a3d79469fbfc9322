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
