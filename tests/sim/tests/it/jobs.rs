//! Runs and schedules: through crashes of every process, with leaders that hang, over days.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tallyman_agent_engine::fake::Program;
use tallyman_operator_core::Kind;
use tallyman_sim::{Sim, deaths, story};

/// A run of five, from its start to its deletion.
fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.define_job(3, 0);
    sim.start_run("etl", &json!({ "count": 5, "backoffLimit": 1 }));
    sim.until("the run is complete", 600, |s| s.run_is("etl", "Complete"));
    assert_eq!(tasks(sim).len(), 5, "{:?}", tasks(sim));
    sim.come_to_rest();
    sim.delete(Kind::RunTask, "etl");
    sim.until("nothing is left", 600, |s| {
        s.nothing_left() && runs(s).is_empty()
    });
    sim.come_to_rest();
}

/// A run whose copies fail and are tried again, to its end.
fn hard_life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.define_job(2, 1);
    sim.start_run("etl", &json!({ "count": 2, "backoffLimit": 2 }));
    sim.until("the run has failed", 600, |s| s.run_is("etl", "Failed"));
    assert_eq!(tasks(sim).len(), 4, "{:?}", tasks(sim));
    sim.come_to_rest();
}

/// Two due times of a schedule that lets no two runs be, and the first run is deleted as the second one ends.
fn scheduled_life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.define_job(5, 0);
    let fields = json!({
        "scheduleExpression": "rate(1 minute)", "concurrencyPolicy": "Forbid", "successfulRunsHistoryLimit": 1,
    });
    sim.schedule("tick", &fields);
    sim.run(65);
    sim.schedule("tick", &json!({ "suspend": true }));
    sim.come_to_rest();
    let status = &sim
        .shared
        .server
        .get(Kind::ScheduledTask, "tick")
        .map(|s| s["status"].clone());
    let result = status.as_ref().map(|s| s["lastResult"].clone());
    assert!(
        result.is_some_and(|r| r.as_str().is_some_and(|r| r.contains("complete"))),
        "{status:?}"
    );
}

fn tasks(sim: &Sim) -> Vec<String> {
    sim.tasks(|_| true)
}

fn runs(sim: &Sim) -> Vec<String> {
    sim.shared
        .server
        .all(Kind::RunTask)
        .map(|(n, _)| n.to_owned())
        .collect()
}

fn schedule(sim: &Sim) -> Value {
    let found = sim.shared.server.get(Kind::ScheduledTask, "tick");
    found.map(|s| s["status"].clone()).unwrap_or_default()
}

#[test]
fn the_operator_dies_at_every_write_of_a_run() {
    deaths::of_operator("the_operator_dies_at_every_write_of_a_run", 2, life);
}

#[test]
fn the_operator_dies_at_every_write_of_a_run_that_fails() {
    deaths::of_operator(
        "the_operator_dies_at_every_write_of_a_run_that_fails",
        2,
        hard_life,
    );
}

#[test]
fn the_operator_dies_at_every_write_of_a_schedule() {
    deaths::of_operator(
        "the_operator_dies_at_every_write_of_a_schedule",
        2,
        scheduled_life,
    );
}

#[test]
fn an_agent_dies_at_every_deed_of_a_run() {
    deaths::of_agent(
        "an_agent_dies_at_every_deed_of_a_run",
        2,
        |at| at % 2 == 0,
        life,
    );
}

#[test]
fn what_fails_is_tried_again_until_it_does_not() {
    story("what_fails_is_tried_again_until_it_does_not", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.define_job(2, 9);
        sim.start_run("etl", &json!({ "count": 3, "backoffLimit": 10 }));
        sim.run(25);
        assert!(!sim.run_is("etl", "Failed"));
        sim.program(
            "job:1",
            &Program::exits(0, std::time::Duration::from_secs(2)),
        );
        sim.until("the run is complete", 600, |s| s.run_is("etl", "Complete"));
        sim.come_to_rest();
        let status = sim
            .shared
            .server
            .get(Kind::RunTask, "etl")
            .map(|r| r["status"].clone());
        let failed = status.and_then(|s| s["failed"].as_i64()).unwrap_or(0);
        assert!((3..=9).contains(&failed), "{failed} tasks failed");
    });
}

#[test]
fn a_deadline_stops_everything() {
    story("a_deadline_stops_everything", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.define_job(10_000, 0);
        sim.start_run(
            "etl",
            &json!({ "count": 4, "activeDeadlineSeconds": 40, "backoffLimit": 9 }),
        );
        sim.until("every copy runs", 60, |s| s.run_is("etl", "Ready"));
        sim.until("the run has failed", 120, |s| s.run_is("etl", "Failed"));
        sim.come_to_rest();
        let alive = sim.agents.iter().flat_map(|a| a.engine.containers());
        assert_eq!(alive.filter(|c| c.phase.is_alive()).count(), 0);
    });
}

#[test]
fn a_run_waits_until_a_service_makes_room() {
    story("a_run_waits_until_a_service_makes_room", 6, 1, |sim| {
        sim.shared.lag = 40;
        // 16 tasks of 512 MiB and 256 units fill the host.
        sim.deployed("web", 16, 0, 100);
        sim.define_job(3, 0);
        sim.start_run("etl", &json!({ "count": 5, "waitForCapacity": true }));
        sim.run(120);
        assert!(!sim.run_is("etl", "Complete") && !sim.run_is("etl", "Failed"));
        sim.scale("web", 2);
        sim.until("the run is complete", 600, |s| s.run_is("etl", "Complete"));
        sim.come_to_rest();
    });
}

#[test]
fn a_lost_host_is_a_try_that_failed() {
    story("a_lost_host_is_a_try_that_failed", 4, 2, |sim| {
        sim.shared.lag = 40;
        sim.define_job(30, 0);
        sim.start_run("etl", &json!({ "count": 2, "backoffLimit": 4 }));
        sim.until("every copy runs", 60, |s| s.run_is("etl", "Ready"));
        sim.shared.monitor.faults = true;
        sim.agents[0].power_off(&mut sim.shared);
        sim.until("the run is complete", 900, |s| s.run_is("etl", "Complete"));
        sim.agents[0].power_on(&mut sim.shared);
        sim.come_to_rest();
    });
}

#[test]
fn leaders_hang_while_runs_are_started() {
    story("leaders_hang_while_runs_are_started", 20, 2, |sim| {
        sim.shared.lag = 40;
        sim.define_job(4, 0);
        for n in 0..3 {
            sim.start_run(
                &format!("etl-{n}"),
                &json!({ "count": 4, "backoffLimit": 2 }),
            );
            let writes = sim.operators.last().map_or(0, |o| o.writes);
            let at = writes + u64::try_from(sim.shared.rng.below(12)).unwrap_or(0);
            if let Some(leader) = sim.operators.last_mut() {
                leader.pause_at = Some(at);
            }
            sim.run(3);
            sim.depose();
            let seconds = i64::try_from(sim.shared.rng.below(30)).unwrap_or(0);
            sim.run(seconds);
            sim.resume();
        }
        let done = |s: &Sim| (0..3).all(|n| s.run_is(&format!("etl-{n}"), "Complete"));
        sim.until("every run is complete", 600, done);
        sim.come_to_rest();
    });
}

#[test]
fn leaders_hang_while_runs_fall_due() {
    for policy in ["Allow", "Forbid", "Replace"] {
        story("leaders_hang_while_runs_fall_due", 6, 2, |sim| {
            sim.shared.lag = 40;
            sim.define_job(45, 0);
            let fields = json!({
                "scheduleExpression": "rate(1 minute)", "concurrencyPolicy": policy,
                "successfulRunsHistoryLimit": 0, "failedRunsHistoryLimit": 0,
            });
            sim.schedule("tick", &fields);
            for _ in 0..6 {
                let seconds = i64::try_from(sim.shared.rng.below(50)).unwrap_or(0);
                sim.run(20 + seconds);
                let writes = sim.operators.last().map_or(0, |o| o.writes);
                let at = writes + u64::try_from(sim.shared.rng.below(4)).unwrap_or(0);
                if let Some(leader) = sim.operators.last_mut() {
                    leader.pause_at = Some(at);
                }
                sim.run(30);
                sim.depose();
                // Long enough for others to start, end and delete what the one that hangs had decided on.
                let seconds = i64::try_from(sim.shared.rng.below(200)).unwrap_or(0);
                sim.run(seconds);
                sim.resume();
            }
            sim.schedule("tick", &json!({ "suspend": true }));
            sim.come_to_rest();
        });
    }
}

#[test]
fn a_day_of_a_schedule_with_an_hour_without_operator() {
    let name = "a_day_of_a_schedule_with_an_hour_without_operator";
    story(name, 1, 1, |sim| {
        sim.define_job(20, 0);
        // Every twenty minutes, from midnight, and ten minutes of tolerance.
        let fields = json!({
            "scheduleExpression": "cron(0/20 * * * ? *)", "startingDeadlineSeconds": 600,
            "successfulRunsHistoryLimit": 5,
        });
        sim.schedule("tick", &fields);
        let mut seen = BTreeSet::new();
        for hour in 0..24 {
            match hour {
                // From 10:05 to 11:05: nobody is there at 10:20 and 10:40, and 11:00 is in time.
                10 => sim.without_operator(3600),
                0 => sim.run(3900),
                _ => sim.run(3600),
            }
            seen.extend(runs(sim));
        }
        let status = schedule(sim);
        assert_eq!(status["missedRuns"], 2, "{status}");
        assert_eq!(seen.len(), 3 * 24 - 2, "{seen:?}");
        sim.schedule("tick", &json!({ "suspend": true }));
        sim.come_to_rest();
    });
}
