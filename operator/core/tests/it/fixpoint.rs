//! Properties: a plan is a fixpoint, worlds keep their invariants, a patch makes one status of another.

use crate::common;
use crate::common::Bench;
use crate::common::build::{checked, definition, service};
use crate::common::remembered::Remembered;
use crate::common::task_sets;
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tallyman_crds::{HealthStatus, LastStatus, StopCode, TaskStatus};
use tallyman_operator_core::plan::merge_patch;
use tallyman_operator_core::{Action, Kind};

/// Something that happens to a namespace.
#[derive(Clone, Debug)]
enum Event {
    Scale(u8, u8),
    Roll(u8, u8),
    Percent(u8, u8),
    Rules(u8, u8),
    Delete(u8),
    Restore(u8),
    RunAll,
    StopAll,
    Fail(u8),
    Sick(u8),
    Protect(u8, bool),
    Drain(u8, bool),
    Silence(u8, u16),
    Engine(u8, bool),
    UserTask(u8, bool),
    DeleteTask(u8),
    StopTask(u8),
    Deregister(u8, bool),
    Guard(u8, bool),
    Alarm(u8, bool),
    Restart(u8, u8),
    Pause(u8, bool),
    Run(u8, u8),
    DeleteRun(u8),
    Exit(u8, bool),
    Schedule(u8, u8),
    DeleteSchedule(u8),
    TaskSet(u8, u8),
    DeleteTaskSet(u8),
    Primary(u8),
    Controller(u8, bool),
    Wait(u16),
    Leader,
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    prop_oneof![
        (0..2_u8, 0..6_u8).prop_map(|(s, n)| Scale(s, n)),
        (0..2_u8, 0..4_u8).prop_map(|(s, n)| Roll(s, n)),
        (0..2_u8, 0..6_u8).prop_map(|(s, n)| Percent(s, n)),
        (0..2_u8, 0..5_u8).prop_map(|(s, n)| Rules(s, n)),
        (0..3_u8).prop_map(Delete),
        (0..2_u8).prop_map(Restore),
        Just(RunAll),
        Just(RunAll),
        Just(StopAll),
        Just(StopAll),
        any::<u8>().prop_map(Fail),
        any::<u8>().prop_map(Sick),
        (any::<u8>(), any::<bool>()).prop_map(|(n, on)| Protect(n, on)),
        (0..3_u8, any::<bool>()).prop_map(|(h, on)| Drain(h, on)),
        (0..3_u8, prop_oneof![Just(0), Just(60), Just(400)]).prop_map(|(h, s)| Silence(h, s)),
        (0..3_u8, any::<bool>()).prop_map(|(h, on)| Engine(h, on)),
        (0..6_u8, any::<bool>()).prop_map(|(n, placed)| UserTask(n, placed)),
        any::<u8>().prop_map(DeleteTask),
        any::<u8>().prop_map(StopTask),
        (0..3_u8, any::<bool>()).prop_map(|(h, force)| Deregister(h, force)),
        (0..2_u8, any::<bool>()).prop_map(|(s, back)| Guard(s, back)),
        (0..2_u8, any::<bool>()).prop_map(|(s, on)| Alarm(s, on)),
        (0..2_u8, 0..3_u8).prop_map(|(s, n)| Restart(s, n)),
        (0..2_u8, any::<bool>()).prop_map(|(s, on)| Pause(s, on)),
        (0..3_u8, any::<u8>()).prop_map(|(r, n)| Run(r, n)),
        (0..3_u8).prop_map(DeleteRun),
        (any::<u8>(), any::<bool>()).prop_map(|(n, well)| Exit(n, well)),
        (0..2_u8, any::<u8>()).prop_map(|(s, n)| Schedule(s, n)),
        (0..2_u8).prop_map(DeleteSchedule),
        (0..2_u8, 0..5_u8).prop_map(|(s, n)| TaskSet(s, n)),
        (0..2_u8, 0..5_u8).prop_map(|(s, n)| TaskSet(s, n)),
        (0..2_u8).prop_map(DeleteTaskSet),
        (0..2_u8).prop_map(Primary),
        (0..4_u8, any::<bool>()).prop_map(|(n, external)| Controller(n, external)),
        prop_oneof![Just(1), Just(45), Just(4000)].prop_map(Wait),
        Just(Leader),
    ]
}

const SERVICES: [&str; 2] = ["api", "web"];
/// A service of which somebody else runs the deployments, and its task sets.
const EXTERNAL: &str = "ext";
const SETS: [&str; 2] = ["blue", "green"];
const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];
const PERCENT: [(i64, i64); 6] = [
    (100, 200),
    (50, 100),
    (0, 100),
    (100, 150),
    (0, 50),
    (150, 200),
];

fn pick(bench: &Bench, n: u8, open: bool) -> Option<String> {
    let all = bench.tasks(|t| {
        !open
            || t.status
                .as_ref()
                .is_none_or(|s| s.last_status != LastStatus::Stopped)
                && t.metadata.labels.is_some()
    });
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()].clone())
}

fn exists(bench: &Bench, kind: Kind, name: &str) -> bool {
    bench.names(kind).contains(&name.to_owned())
}

fn happen(bench: &mut Bench, event: &Event) {
    match *event {
        Event::Scale(s, n) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.scale(SERVICES[s as usize], i64::from(n));
        }
        Event::Roll(s, n) => {
            let spec = if s == 0 {
                definition(&format!("a:{n}"))
            } else {
                checked(&format!("b:{n}"))
            };
            bench.apply_definition(SERVICES[s as usize], spec);
        }
        Event::Percent(s, n) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            let (min, max) = PERCENT[n as usize];
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                v["spec"]["deploymentConfiguration"] =
                    json!({ "minimumHealthyPercent": min, "maximumPercent": max });
            });
        }
        Event::Rules(s, n) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            let member_of = |text: &str| json!([{ "type": "memberOf", "expression": text }]);
            let (constraints, strategy) = match n {
                0 => (json!([]), json!([])),
                1 => (
                    json!([{ "type": "distinctInstance" }]),
                    json!([{ "type": "random" }]),
                ),
                2 => (
                    member_of("ec2InstanceId != host-b"),
                    json!([{ "type": "binpack", "field": "memory" }]),
                ),
                3 => (
                    member_of("not(task:group == service:api)"),
                    json!([{ "type": "spread", "field": "host" }]),
                ),
                _ => (
                    member_of("runningTasksCount < 2"),
                    json!([{ "type": "binpack", "field": "cpu" }, { "type": "random" }]),
                ),
            };
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                v["spec"]["placementConstraints"] = constraints.clone();
                v["spec"]["placementStrategy"] = strategy.clone();
            });
        }
        Event::Delete(s) => {
            let name = SERVICES.get(usize::from(s)).copied().unwrap_or(EXTERNAL);
            if exists(bench, Kind::Service, name) {
                bench.delete(Kind::Service, name);
            }
        }
        Event::Restore(s) if !exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.apply_service(
                SERVICES[s as usize],
                service(SERVICES[s as usize], 2, 100, 200),
            );
        }
        Event::RunAll => {
            bench.run_all();
            let undecided = |s: &TaskStatus| {
                s.last_status == LastStatus::Running && s.health_status == HealthStatus::Unknown
            };
            for name in bench.tasks(|t| t.status.as_ref().is_some_and(undecided)) {
                bench.health(&name, HealthStatus::Healthy);
            }
        }
        Event::StopAll => bench.stop_all(),
        Event::Fail(n) => {
            if let Some(name) = pick(bench, n, true).filter(|n| placed(bench, n)) {
                let ran = bench
                    .task(&name)
                    .status
                    .as_ref()
                    .is_some_and(|s| s.started_at.is_some());
                let code = if ran {
                    StopCode::EssentialContainerExited
                } else {
                    StopCode::TaskFailedToStart
                };
                bench.fail(&name, code);
            }
        }
        Event::Sick(n) => {
            if let Some(name) = pick(bench, n, true).filter(|n| placed(bench, n)) {
                bench.health(&name, HealthStatus::Unhealthy);
            }
        }
        Event::Protect(n, on) => {
            if let Some(name) = pick(bench, n, true).filter(|n| placed(bench, n)) {
                let until = bench.now + SignedDuration::from_mins(10);
                bench.edit(Kind::Task, &name, &|v| {
                    v["status"]["protectedUntil"] = if on { json!(until) } else { Value::Null };
                });
            }
        }
        Event::Drain(h, on) if exists(bench, Kind::ContainerInstance, HOSTS[h as usize]) => {
            bench.edit(Kind::ContainerInstance, HOSTS[h as usize], &|v| {
                v["spec"]["status"] = json!(if on { "DRAINING" } else { "ACTIVE" });
            });
        }
        Event::Silence(h, s) => bench.silent(HOSTS[h as usize], u64::from(s)),
        Event::Engine(h, on) if exists(bench, Kind::ContainerInstance, HOSTS[h as usize]) => {
            bench.edit(Kind::ContainerInstance, HOSTS[h as usize], &|v| {
                v["status"]["host"]["engineReachable"] = json!(on)
            });
        }
        Event::UserTask(n, named) => {
            let mut spec = json!({ "taskDefinition": SERVICES[usize::from(n % 2)] });
            if named {
                spec["containerInstance"] = json!(HOSTS[usize::from(n % 3)]);
            }
            bench.apply_task(&format!("user-{n}"), spec);
        }
        Event::DeleteTask(n) => {
            if let Some(name) = pick(bench, n, false) {
                bench.delete(Kind::Task, &name);
            }
        }
        Event::StopTask(n) => {
            if let Some(name) = pick(bench, n, false) {
                bench.edit(Kind::Task, &name, &|v| {
                    v["spec"]["desiredStatus"] = json!("STOPPED")
                });
            }
        }
        Event::Deregister(h, force)
            if exists(bench, Kind::ContainerInstance, HOSTS[h as usize]) =>
        {
            bench.edit(Kind::ContainerInstance, HOSTS[h as usize], &|v| {
                v["metadata"]["annotations"] =
                    json!({ "tallyman.dev/forceDeregistration": force.to_string() });
            });
            bench.delete(Kind::ContainerInstance, HOSTS[h as usize]);
        }
        Event::Guard(s, back) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                let configuration = &mut v["spec"]["deploymentConfiguration"];
                configuration["deploymentCircuitBreaker"] = json!({
                    "enable": true, "rollback": back,
                    "countedFailures": [
                        "TaskFailedToStart", "HealthCheckFailed", "EssentialContainerExited", "PlacementFailed"
                    ],
                });
                configuration["alarms"] =
                    json!({ "alarmNames": ["errors"], "enable": true, "rollback": back });
                configuration["timeoutInMinutes"] = json!(60);
                configuration["bakeTimeInMinutes"] = json!(1);
                if configuration["minimumHealthyPercent"].as_i64() <= Some(100) {
                    configuration["earlySuccessCriteria"] = json!({
                        "enable": true, "healthyPercent": 100,
                        "sourceServiceRevisionCleanup": if back { "BLOCKING" } else { "DEFERRED" },
                    });
                }
            });
        }
        Event::Alarm(s, on) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                let type_ = "alarm.tallyman.dev/errors";
                let list = v.pointer_mut("/status/conditions");
                if let Some(list) = list.and_then(Value::as_array_mut) {
                    list.retain(|c| c["type"] != type_);
                    list.push(json!({
                        "type": type_, "status": if on { "True" } else { "False" }, "reason": "Set",
                        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }));
                }
            });
        }
        Event::Restart(s, n) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                v["metadata"]["annotations"]["tallyman.dev/restartedAt"] = json!(n.to_string());
            });
        }
        Event::Pause(s, on) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                v["spec"]["paused"] = json!(on)
            });
        }
        Event::Run(r, n) => {
            let mut fields = json!({
                "taskDefinition": "api", "count": 1 + n % 4, "backoffLimit": n / 4 % 3,
                "waitForCapacity": n & 64 != 0,
            });
            if n & 128 != 0 {
                fields["containerInstances"] = json!([HOSTS[usize::from(n % 3)], "host-z"]);
            }
            bench.apply_run(&format!("run-{r}"), fields);
        }
        Event::DeleteRun(r) if exists(bench, Kind::RunTask, &format!("run-{r}")) => {
            bench.delete(Kind::RunTask, &format!("run-{r}"));
        }
        Event::Exit(n, well) => {
            if let Some(name) = pick(bench, n, true).filter(|n| placed(bench, n)) {
                bench.exit(&name, i32::from(!well));
            }
        }
        Event::Schedule(s, n) => {
            let policy = ["Allow", "Forbid", "Replace"][usize::from(n % 3)];
            let expression = [
                "rate(1 minute)",
                "cron(0/20 * * * ? *)",
                "*/30 * * * *",
                "cron(x)",
            ];
            let fields = json!({
                "scheduleExpression": expression[usize::from(n / 3 % 4)],
                "concurrencyPolicy": policy, "suspend": n & 32 != 0,
                "runTask": { "taskDefinition": "api", "count": 1 + n % 2 },
            });
            bench.apply_schedule(&format!("tick-{s}"), fields);
        }
        Event::DeleteSchedule(s) if exists(bench, Kind::ScheduledTask, &format!("tick-{s}")) => {
            bench.delete(Kind::ScheduledTask, &format!("tick-{s}"));
            collect(bench);
        }
        Event::TaskSet(s, n) => {
            let fields = json!({ "service": EXTERNAL, "taskDefinition": "api" });
            bench.apply_task_set(SETS[s as usize], f64::from(n) * 25.0, fields);
        }
        Event::DeleteTaskSet(s) if exists(bench, Kind::TaskSet, SETS[s as usize]) => {
            bench.delete(Kind::TaskSet, SETS[s as usize]);
        }
        Event::Primary(s) if exists(bench, Kind::Service, EXTERNAL) => {
            bench.edit(Kind::Service, EXTERNAL, &|v| {
                if v["spec"]["deploymentController"].is_object() {
                    v["spec"]["primaryTaskSet"] = json!(SETS[s as usize]);
                }
            });
        }
        // It comes, is scaled, goes over to the operator, and back.
        Event::Controller(n, external) => {
            let desired = i64::from(n);
            let spec = if external {
                task_sets::external(desired)
            } else {
                service("api", desired, 100, 200)
            };
            bench.apply_service(EXTERNAL, spec);
        }
        Event::Wait(seconds) => bench.pass_time(i64::from(seconds)),
        Event::Leader => bench.epoch += 1,
        _ => {}
    }
}

fn placed(bench: &Bench, task: &str) -> bool {
    let t = bench.task(task);
    t.metadata.finalizers.is_some()
        && (t.metadata.labels.as_ref().is_some_and(|l| {
            l.contains_key(tallyman_crds::labels::SERVICE)
                || l.contains_key(tallyman_crds::labels::RUN_TASK)
        }) || t
            .status
            .as_ref()
            .is_some_and(|s| s.container_instance.is_some()))
}

/// The garbage collector: what a schedule owned goes with it.
fn collect(bench: &mut Bench) {
    let schedules: Vec<_> = bench
        .objects
        .scheduled_tasks
        .iter()
        .map(|s| s.metadata.uid.clone())
        .collect();
    let mut orphans = Vec::new();
    for r in &bench.objects.run_tasks {
        let owner = r.metadata.owner_references.iter().flatten().next();
        if owner.is_some_and(|o| !schedules.contains(&Some(o.uid.clone()))) {
            orphans.extend(r.metadata.name.clone());
        }
    }
    for name in orphans {
        bench.delete(Kind::RunTask, &name);
    }
}

fn furnished() -> Bench {
    let mut bench = Bench::default();
    for host in HOSTS {
        bench.host(host, 1100, 2200);
    }
    bench.apply_definition("api", definition("a:0"));
    bench.apply_definition("web", checked("b:0"));
    bench.apply_service("api", service("api", 2, 100, 200));
    bench.apply_service("web", service("web", 2, 50, 100));
    bench.apply_service(EXTERNAL, task_sets::external(1));
    let mut log = definition("c:0");
    log["containerDefinitions"][0]["cpu"] = json!(64);
    bench.apply_definition("log", log);
    bench.apply_service(
        "log",
        json!({ "taskDefinition": "log", "schedulingStrategy": "DAEMON" }),
    );
    bench
}

/// Obedient agents and time until nothing moves; then nothing must be left over.
fn come_to_rest(bench: &mut Bench) {
    for name in bench.names(Kind::ScheduledTask) {
        bench.edit(Kind::ScheduledTask, &name, &|v| {
            v["spec"]["suspend"] = json!(true)
        });
    }
    for host in HOSTS {
        bench.silent(host, 0);
        if exists(bench, Kind::ContainerInstance, host) {
            bench.edit(Kind::ContainerInstance, host, &|v| {
                v["spec"]["status"] = json!("ACTIVE");
                v["status"]["host"]["engineReachable"] = json!(true);
            });
        }
    }
    for _ in 0..40 {
        bench.settle();
        bench.stop_all();
        bench.settle();
        bench.run_all();
        for name in bench.tasks(|t| {
            t.status
                .as_ref()
                .is_some_and(|s| s.last_status == LastStatus::Running)
        }) {
            bench.health(&name, HealthStatus::Healthy);
        }
        bench.settle();
        bench.pass_time(61);
    }
    bench.settle();
}

proptest! {
    // Whole histories, so few of them.
    #![proptest_config(common::cases(48))]

    #[test]
    fn a_plan_is_a_fixpoint_and_keeps_the_invariants(events in prop::collection::vec(event(), 1..24)) {
        let mut bench = furnished();
        bench.settle();
        for event in &events {
            happen(&mut bench, event);
            bench.settle();
        }
    }

    #[test]
    fn whatever_happened_the_system_comes_to_rest(events in prop::collection::vec(event(), 1..24)) {
        let mut bench = furnished();
        for event in &events {
            happen(&mut bench, event);
            bench.pass();
            let minted = bench.families();
            bench.apply(&minted);
        }
        come_to_rest(&mut bench);
        for name in bench.names(Kind::Service) {
            let status = bench.service_status(&name);
            let reason = status.conditions[0].reason.clone();
            let fine = ["SteadyState", "TasksNotPlaceable", "DeploymentConfigurationDeadlock", "DeploymentFailed",
                "DeploymentRolledBack", "Paused"].contains(&reason.as_str());
            // What somebody else has to do.
            let waits = name == EXTERNAL
                && ["NoPrimaryTaskSet", "PrimaryTaskSetNotFound", "HandingOver"].contains(&reason.as_str());
            prop_assert!(fine || waits, "{name}: {reason} {}", status.conditions[0].message);
            prop_assert!(bench.objects.services.iter().all(|s| s.metadata.deletion_timestamp.is_none()));
        }
        let stuck = bench.tasks(|t| t.metadata.deletion_timestamp.is_some());
        prop_assert!(stuck.is_empty(), "deleted and still there: {stuck:?}");
        let gone: Vec<_> = bench
            .objects
            .run_tasks
            .iter()
            .filter(|r| r.metadata.deletion_timestamp.is_some())
            .map(|r| r.metadata.name.clone())
            .collect();
        prop_assert!(gone.is_empty(), "runs deleted and still there: {gone:?}");
        for name in bench.names(Kind::RunTask) {
            let reason = bench.run_says(&name).0;
            let fine = ["TasksSucceeded", "TasksStarted", "TasksNotPlaced", "TasksStopped", "BackoffLimitExceeded", "TasksNotPlaceable"];
            prop_assert!(fine.contains(&reason.as_str()), "{name}: {}", bench.run_message(&name));
        }
        for set in &bench.objects.task_sets {
            let name = set.metadata.name.clone().unwrap_or_default();
            prop_assert!(set.metadata.deletion_timestamp.is_none(), "task set {name} deleted and still there");
            let (reason, message) = bench.set_says(&name);
            let fine = ["SteadyState", "TasksNotPlaceable", "ServiceNotExternal", "ServiceNotFound"];
            prop_assert!(fine.contains(&reason.as_str()), "task set {name}: {reason} {message}");
        }
        let orphans = bench.tasks(|t| {
            let service = t.metadata.labels.as_ref().and_then(|l| l.get(tallyman_crds::labels::SERVICE));
            service.is_some_and(|s| !exists(&bench, Kind::Service, s))
        });
        prop_assert!(orphans.is_empty(), "of services that are gone: {orphans:?}");
    }

    #[test]
    fn a_pass_over_what_changed_says_what_a_pass_over_everything_says(
        events in prop::collection::vec((event(), any::<u8>()), 1..24),
    ) {
        let mut bench = furnished();
        let mut remembered = Remembered::new(&bench);
        for (event, fate) in &events {
            happen(&mut bench, event);
            // Passes of which all is written, half, or no status; the last ones settle.
            for pass in 0..4 {
                let plans = remembered.pass(&bench);
                for mut plan in plans {
                    bench.check(&plan);
                    if pass < 2 && fate >> pass & 1 == 0 {
                        plan.actions.truncate(plan.actions.len().div_ceil(2));
                    }
                    if pass < 2 && fate >> (2 + pass) & 1 == 0 {
                        plan.publications.clear();
                    }
                    bench.apply(&plan);
                }
            }
        }
    }

    #[test]
    fn the_same_world_gives_the_same_plan(events in prop::collection::vec(event(), 1..12)) {
        let mut bench = furnished();
        for event in &events {
            happen(&mut bench, event);
            let (one, two) = (bench.plan(), bench.clone().plan());
            prop_assert_eq!(format!("{one:?}"), format!("{two:?}"));
            // The order in which a cache lists its objects decides nothing.
            let mut shuffled = bench.clone();
            shuffled.objects.tasks.reverse();
            shuffled.objects.instances.reverse();
            shuffled.objects.services.reverse();
            shuffled.objects.revisions.reverse();
            shuffled.objects.run_tasks.reverse();
            shuffled.objects.scheduled_tasks.reverse();
            prop_assert_eq!(format!("{:?}", bench.plan()), format!("{:?}", shuffled.plan()));
            prop_assert_eq!(format!("{:?}", bench.families()), format!("{:?}", shuffled.families()));
            bench.apply(&one);
        }
    }

    #[test]
    fn one_run_for_one_due_time_and_never_more_tasks_than_copies(
        policy in 0..3_u8, count in 1..4_u8, limit in 0..3_u8,
        steps in prop::collection::vec((1..5400_i64, any::<u8>()), 1..24),
    ) {
        let mut bench = Bench::with_job(2);
        let policy = ["Allow", "Forbid", "Replace"][usize::from(policy)];
        bench.apply_schedule("tick", json!({
            "scheduleExpression": "cron(0/30 * * * ? *)", "concurrencyPolicy": policy,
            "runTask": { "count": count, "backoffLimit": limit, "waitForCapacity": true },
        }));
        bench.settle();
        let mut made = std::collections::BTreeSet::new();
        for (seconds, chance) in steps {
            bench.pass_time(seconds);
            // Passes whose writes all arrive, of which half arrive, of which the statuses do not.
            for half in [chance & 1 != 0, chance & 2 != 0, false, false] {
                let mut plan = bench.plan();
                bench.check(&plan);
                if half {
                    plan.publications.clear();
                    let keep = plan.actions.len().div_ceil(2);
                    plan.actions.truncate(keep);
                }
                for action in &plan.actions {
                    if let Action::CreateRunTask(r) = action {
                        let at = r.metadata.annotations.clone();
                        let there = exists(&bench, Kind::RunTask, r.metadata.name.as_deref().unwrap());
                        prop_assert!(made.insert(at.clone()) || there, "{at:?} twice");
                    }
                }
                bench.apply(&plan);
                if policy == "Forbid" {
                    let open = bench.objects.run_tasks.iter().filter(|r| {
                        r.status.as_ref().is_none_or(|s| s.completion_time.is_none())
                    });
                    prop_assert!(open.count() <= 1);
                }
            }
            bench.stop_all();
            if chance & 4 != 0 {
                bench.run_all();
            }
            for task in bench.tasks(|t| t.status.as_ref().is_some_and(|s| s.last_status == LastStatus::Running)) {
                bench.exit(&task, i32::from(chance & 8 != 0));
            }
        }
        bench.settle();
    }

    #[test]
    fn no_number_is_given_twice(events in prop::collection::vec(event(), 1..24)) {
        let mut bench = furnished();
        let mut created = std::collections::BTreeSet::new();
        for event in &events {
            happen(&mut bench, event);
            let done = bench.settle();
            let mut uids: Vec<_> = bench.objects.services.iter().map(|s| (s.metadata.name.clone(), s.metadata.uid.clone())).collect();
            uids.extend(bench.objects.run_tasks.iter().map(|r| (r.metadata.name.clone(), r.metadata.uid.clone())));
            uids.extend(bench.objects.task_sets.iter().map(|s| (s.metadata.name.clone(), s.metadata.uid.clone())));
            for action in done {
                if let Action::CreateTask(t) = action {
                    let owner = t.metadata.owner_references.as_ref().unwrap()[0].clone();
                    prop_assert!(uids.contains(&(Some(owner.name), Some(owner.uid.clone()))));
                    prop_assert!(created.insert((t.metadata.name.clone(), owner.uid)), "{:?} twice", t.metadata.name);
                }
            }
        }
    }

    #[test]
    fn a_merge_patch_makes_the_new_of_the_old((old, new) in (object(), object())) {
        let mut patched = old.clone();
        match merge_patch(&old, &new) {
            None => prop_assert_eq!(&old, &new),
            Some(patch) => common::merge(&mut patched, &patch),
        }
        prop_assert_eq!(&patched, &new);
        prop_assert!(merge_patch(&new, &new).is_none());
    }
}

/// JSON objects as statuses are: no nulls, for a merge patch cannot make one.
fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d]", value, 0..4)
        .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>()))
}
