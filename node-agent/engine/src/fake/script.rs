//! What a test may do to the fake and ask of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fake::FakeEngine;
use crate::fake::calls::{Call, Crash, Mishap};
use crate::fake::images::RegistryMood;
use crate::fake::ports::ANY;
use crate::fake::program::{Interpreter, Program};
use crate::{
    ContainerSpec, ContainerState, ContainerSummary, EngineDescription, EngineError, Group, Health,
    Moment, Phase, Protocol, PublishedPort, RegistryCredentials, Verb, VolumeSpec, VolumeState,
};

/// Time.
impl FakeEngine {
    /// The engine's time.
    pub fn now(&self) -> Moment {
        self.lock().now
    }

    /// Sets the time; programs and health checks do what falls due on the way. Never goes back.
    pub fn set_now(&self, now: Moment) {
        self.lock().set_now(now);
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        let mut world = self.lock();
        let then = world.now + span;
        world.set_now(then);
    }

    /// When a program or a health check will do something next.
    pub fn next_event(&self) -> Option<Moment> {
        self.lock().next_event()
    }

    /// Whether a stop takes its time: its future then waits until [`FakeEngine::advance`] has brought
    /// the container's end. Otherwise (the default) a stop is over when first polled, whatever the
    /// grace, and `finished_at` says when it would have been.
    pub fn hold_stops(&self, hold: bool) {
        self.lock().hold_stops = hold;
    }
}

/// Host, images, programs.
impl FakeEngine {
    /// What [`crate::Engine::describe`] answers.
    pub fn set_description(&self, description: EngineDescription) {
        self.lock().description = description;
    }

    /// What containers of this image do. Goes before [`FakeEngine::interpret`].
    pub fn set_program(&self, image: &str, program: Program) {
        self.lock().programs.insert(image.to_owned(), program);
    }

    /// What all other containers do: a function of the spec and of the ports that running containers
    /// publish at that moment. It must not call this engine.
    pub fn interpret(
        &self,
        interpret: impl Fn(&ContainerSpec, &[PublishedPort]) -> Program + Send + Sync + 'static,
    ) {
        self.lock().interpreter = Some(Interpreter(Arc::new(interpret)));
    }

    /// Whether the engine has the driver that gives GPUs to containers; without it none of them starts.
    pub fn set_gpu_driver(&self, has: bool) {
        self.lock().gpu_driver = has;
    }

    /// The limits of a group that was made.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.lock().groups.get(name).cloned()
    }

    /// How the registry answers pulls.
    pub fn set_registry(&self, mood: RegistryMood) {
        self.lock().images.set_mood(mood);
    }

    /// The registry does not have this image.
    pub fn set_missing(&self, image: &str) {
        self.lock().images.declare_missing(image);
    }

    /// The registry gives this image only to these credentials.
    pub fn keep_private(&self, image: &str, credentials: RegistryCredentials) {
        self.lock().images.keep_private(image, credentials);
    }

    /// The registry has this image (again).
    pub fn publish_image(&self, image: &str) {
        self.lock().images.publish(image);
    }

    /// The host has this image, and no registry does.
    pub fn import_image(&self, image: &str) {
        self.lock().images.import(image);
    }

    /// An image of the host gets another name, which an image that has it loses. Says whether there is such an image.
    pub fn name_image(&self, image: &str, name: &str) -> bool {
        self.lock().images.name_too(image, name)
    }

    /// The host loses this image; existing containers keep it.
    pub fn forget_image(&self, image: &str) {
        self.lock().images.forget(image);
    }

    /// Pulls tried so far.
    pub fn pulls(&self) -> u64 {
        self.lock().images.pulls()
    }

    /// A process of the host, no container, listens on this port.
    pub fn occupy_port(&self, port: u16, protocol: Protocol) {
        self.lock().ports.occupy(port, protocol);
    }

    /// Whether nobody listens on this port of the host: what an agent sees that tries to.
    pub fn is_port_free(&self, port: u16, protocol: Protocol) -> bool {
        self.lock().ports.is_free(port, protocol, ANY)
    }

    /// The process of [`FakeEngine::occupy_port`] is gone.
    pub fn vacate_port(&self, port: u16, protocol: Protocol) {
        self.lock().ports.vacate(port, protocol);
    }
}

/// Mishaps.
impl FakeEngine {
    /// The next call of this verb meets a mishap; several queue up in order.
    pub fn next(&self, verb: Verb, mishap: Mishap) {
        self.lock().calls.script(verb, None, mishap);
    }

    /// The next call of this verb for this container, image or scope value meets a mishap.
    pub fn next_for(&self, verb: Verb, target: &str, mishap: Mishap) {
        self.lock().calls.script(verb, Some(target), mishap);
    }

    /// The call of this number ([`Call::number`]) meets a mishap, whichever verb it is.
    pub fn at_call(&self, number: u64, mishap: Mishap) {
        self.lock().calls.at_call(number, mishap);
    }

    /// The next `times` calls of this verb are refused.
    pub fn fail(&self, verb: Verb, times: usize, error: &EngineError) {
        let mut world = self.lock();
        for _ in 0..times {
            let mishap = Mishap::Refused(error.clone());
            world.calls.script(verb, None, mishap);
        }
    }

    /// Whether nobody listens on the engine's socket. Going away breaks every watch; containers run on.
    pub fn set_unreachable(&self, unreachable: bool) {
        let mut world = self.lock();
        world.calls.set_unreachable(unreachable);
        if unreachable {
            world.break_watches();
        }
    }

    /// Kills the agent at an engine call; see [`Crash`].
    pub fn crash(&self, crash: Crash) {
        self.lock().calls.set_crash(crash);
    }

    /// Whether the crash has happened, so that the test drops its agent.
    pub fn crashed(&self) -> bool {
        self.lock().calls.crashed()
    }

    /// Takes back crash, unreachability and all scripted mishaps, and breaks the watches of the agent
    /// that died.
    pub fn mend(&self) {
        let mut world = self.lock();
        world.calls.mend();
        world.break_watches();
    }

    /// Breaks every watch, and nothing else.
    pub fn break_watches(&self) {
        self.lock().break_watches();
    }

    /// Whether hints are lost in silence.
    pub fn mute_hints(&self, mute: bool) {
        self.lock().mute = mute;
    }
}

/// Behind the agent's back. None of these counts as a call.
impl FakeEngine {
    /// Somebody creates and starts a container, its image imported for it.
    ///
    /// # Errors
    /// As the port's create and start.
    pub fn run_outside(&self, spec: &ContainerSpec) -> Result<(), EngineError> {
        let mut world = self.lock();
        if !world.images.has(&spec.image) {
            world.images.import(&spec.image);
        }
        world.create(spec)?;
        world.start(&spec.name)
    }

    /// `docker kill`: SIGKILL, exit code 137. Says whether it ran.
    pub fn kill(&self, name: &str) -> bool {
        self.lock().kill(name, 137)
    }

    /// The container's first process ends now with this code. Says whether it ran.
    pub fn exit(&self, name: &str, exit_code: i64) -> bool {
        self.lock().kill(name, exit_code)
    }

    /// `docker rm --force`.
    pub fn destroy(&self, name: &str) {
        self.lock().destroy(name);
    }

    /// Changes a container's health.
    pub fn set_health(&self, name: &str, health: Health) {
        self.lock().set_health(name, health);
    }

    /// Forces a phase that no verb leads to (paused, dead, removing); no hint, ports stay as they are.
    pub fn distort(&self, name: &str, phase: Phase) {
        self.lock().distort(name, phase);
    }

    /// `docker volume create` by somebody.
    ///
    /// # Errors
    /// As the port's verb.
    pub fn create_volume_outside(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        self.lock().volumes.create(spec)
    }

    /// `docker volume rm`. Says whether it was there and not in use.
    pub fn destroy_volume(&self, name: &str) -> bool {
        self.lock().destroy_volume(name)
    }

    /// `docker network rm`, of one that nobody is on. Says whether it was there.
    pub fn destroy_network(&self, name: &str) -> bool {
        self.lock().networks.remove(name).is_some()
    }

    /// The engine restarts: watches break; without live restore every container exits with 255, the
    /// code for "lost sight of".
    pub fn restart_engine(&self, live_restore: bool) {
        let mut world = self.lock();
        world.break_watches();
        if !live_restore {
            world.kill_all(255);
        }
    }
}

/// What the test sees. None of these counts as a call.
impl FakeEngine {
    /// A container as inspect would show it.
    pub fn peek(&self, name: &str) -> Option<ContainerState> {
        self.lock().inspect(name)
    }

    /// All containers, in and out of any scope, sorted by name.
    pub fn containers(&self) -> Vec<ContainerSummary> {
        self.lock().list(None)
    }

    /// All volumes, in and out of any scope, sorted by name.
    pub fn volumes(&self) -> Vec<VolumeState> {
        self.lock().volumes.list(None)
    }

    /// Labels of a network; `None` when there is none of the name.
    pub fn network_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.lock().networks.get(name).cloned()
    }

    /// Whether the engine made this directory of the host.
    pub fn made_directory(&self, path: &str) -> bool {
        self.lock().volumes.made_directory(path)
    }

    /// What a container was created with.
    pub fn spec(&self, name: &str) -> Option<ContainerSpec> {
        self.lock().spec(name)
    }

    /// Calls so far, over all verbs.
    pub fn call_count(&self) -> u64 {
        self.lock().calls.count()
    }

    /// Calls so far of one verb.
    pub fn calls_of(&self, verb: Verb) -> u64 {
        self.lock().calls.of(verb)
    }

    /// The last calls, oldest first.
    pub fn call_log(&self) -> Vec<Call> {
        self.lock().calls.log()
    }

    /// The last calls, oldest first, and forgets them; counters stay.
    pub fn take_call_log(&self) -> Vec<Call> {
        self.lock().calls.take_log()
    }
}
