//! One suite of cases that every engine behind the port must pass, the fake included.
//!
//! Why: the simulator is worth as much as the fake is true. What a real engine does is written once,
//! here, and checked against the fake and against every supported engine generation.
//!
//! Where: a test target implements [`Bench`] for its engine and calls [`cases`]; the fake's is
//! `tests/conformance.rs` of this crate, Docker's that of the adapter's.
//!
//! Never: a case names no engine and sleeps for no fixed time; it waits for a condition through
//! [`Bench::pass`] and says what never came true. A case leaves nothing behind.

mod bench;
mod gpus;
mod groups;
mod health;
mod images;
mod lifecycle;
mod links;
mod names;
mod networks;
mod parameters;
mod settings;
mod sharing;
mod sights;
mod telling;
mod volumes;
mod watching;

use futures::future::BoxFuture;

pub use bench::{Bench, Program, Settings};
pub use sights::{Sight, UNSEEN};

use bench::Ground;

/// Nothing, or one sentence about what was not as it must be.
pub type Verdict = Result<(), String>;

/// One named case of the suite.
pub struct Case<B: Bench> {
    name: &'static str,
    run: for<'a> fn(&'a Ground<'a, B>) -> BoxFuture<'a, Verdict>,
}

impl<B: Bench> Case<B> {
    /// What it checks, unique in the suite.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case on a bench and cleans up after it. Cases may run at the same time on one bench.
    ///
    /// # Errors
    /// What was not as it must be.
    pub async fn run(&self, bench: &B) -> Verdict {
        let ground = Ground::new(bench, self.name);
        ground.clear().await?;
        let verdict = (self.run)(&ground).await;
        let cleared = ground.clear().await;
        verdict.and(cleared)
    }
}

/// Fails the case with a sentence unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(format!($($sentence)+));
        }
    };
}
use ensure;

macro_rules! suite {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        /// All cases of the suite.
        pub fn cases<B: Bench>() -> Vec<Case<B>> {
            vec![$(Case {
                name: stringify!($case),
                run: |ground| Box::pin($module::$case(ground)),
            }),+]
        }
    };
}

suite![
    telling::address_on_the_bridge_is_told_while_it_runs,
    telling::host_network_has_no_address_of_its_own,
    telling::mounts_are_told,
    telling::the_last_health_check_is_told,
    telling::use_is_told_while_it_runs,
    telling::use_of_a_container_without_network_is_told,
    lifecycle::describes_engine_and_host,
    lifecycle::runs_from_create_to_remove,
    lifecycle::every_verb_twice_is_fine,
    lifecycle::absent_container_is_told_as_such,
    lifecycle::reports_exit_codes,
    lifecycle::exited_container_starts_again,
    lifecycle::stop_honoured_ends_with_the_programs_code,
    lifecycle::stop_ignored_ends_with_137_after_the_grace,
    lifecycle::stop_of_created_container_is_fine,
    lifecycle::running_container_is_not_removed,
    lifecycle::killed_from_outside_is_137,
    lifecycle::destroyed_from_outside_is_absent,
    lifecycle::out_of_memory_is_told_as_such,
    names::same_labels_are_adopted,
    names::running_container_is_adopted_untouched,
    names::foreign_labels_are_name_taken,
    names::extra_labels_do_not_hinder_adoption,
    names::list_shows_the_scope_only,
    images::cached_image_is_used_when_the_pull_fails,
    images::once_and_prefer_cached_do_not_pull_what_is_there,
    images::always_fails_when_the_pull_fails,
    images::missing_image_is_told_by_prepare,
    images::missing_image_is_told_by_create,
    images::many_at_once_agree,
    images::images_and_whose_they_are_are_listed,
    images::an_image_in_use_stays_and_another_goes,
    images::an_image_goes_with_its_last_name,
    images::an_image_that_lost_its_name_is_known_by_its_id,
    groups::containers_share_the_limits_of_a_group,
    groups::quota_of_one_container_is_set,
    settings::cpu_memory_and_limits_are_set,
    settings::entrypoint_and_command_are_passed,
    settings::user_directory_and_environment_are_seen_inside,
    settings::secrets_reach_the_container_and_its_log_driver,
    settings::labels_are_kept_verbatim,
    settings::engine_restarts_and_removes_nothing,
    settings::too_little_memory_is_invalid,
    settings::unknown_program_cannot_start,
    parameters::no_parameters_are_the_engines_own,
    parameters::limits_are_seen_inside,
    parameters::rights_and_devices_are_seen_inside,
    parameters::names_and_resolvers_are_seen_inside,
    parameters::terminal_and_open_input_are_seen_inside,
    parameters::host_processes_and_memory_are_shared,
    parameters::swap_and_privilege_are_set,
    parameters::log_driver_and_options_are_set,
    parameters::unknown_names_are_invalid,
    parameters::what_the_host_lacks_cannot_start,
    gpus::gpus_are_asked_for_by_id,
    gpus::an_unknown_runtime_is_invalid,
    networks::fixed_port_is_published,
    networks::dynamic_ports_are_chosen_and_differ,
    networks::udp_port_is_published,
    networks::one_address_is_honoured,
    networks::published_port_leads_inside,
    networks::taken_port_is_told,
    networks::port_is_free_again_after_the_end,
    networks::host_network_publishes_nothing,
    networks::no_network_publishes_nothing,
    sharing::brought_image_is_made_once_and_runs_until_sigterm,
    sharing::network_is_made_once_and_gives_addresses,
    sharing::network_that_is_not_there_is_told,
    sharing::containers_share_one_network,
    sharing::one_network_more_leads_to_the_host_and_nowhere_else,
    sharing::containers_share_processes_and_memory,
    sharing::nobody_to_share_with_cannot_start,
    links::linked_container_is_reached_by_its_alias,
    links::link_to_nobody_is_invalid,
    links::link_to_a_container_that_does_not_run_cannot_start,
    volumes::two_containers_share_a_volume,
    volumes::read_only_volume_is_not_written,
    volumes::host_path_is_made_and_reached,
    volumes::volumes_from_shows_the_mounts_of_another,
    volumes::volumes_from_nobody_are_refused,
    volumes::two_mounts_at_one_path_are_refused,
    volumes::every_volume_verb_twice_is_fine,
    volumes::a_volume_over_nfs_is_made_as_told,
    volumes::volume_outlives_containers_and_goes_when_told,
    volumes::volume_of_somebody_else_is_refused_and_stays,
    volumes::volumes_are_listed_by_scope,
    volumes::unknown_driver_and_option_are_invalid,
    health::passing_check_becomes_healthy,
    health::failing_check_becomes_unhealthy,
    health::no_check_is_no_health,
    health::stopped_container_has_no_verdict,
    watching::hints_tell_start_end_and_removal,
    watching::hints_tell_health,
    watching::hints_keep_to_the_scope,
];
