//! What befalls containers past the port.

use super::*;

impl World {
    pub(in crate::fake) fn kill(&mut self, name: &str, exit_code: i64) -> bool {
        let ending = Ending {
            at: self.now,
            exit_code,
            oom_killed: false,
        };
        match self.containers.get(name) {
            Some(container) if container.phase.kind().is_alive() => {
                self.end(name, ending, None);
                true
            }
            _ => false,
        }
    }

    pub(in crate::fake) fn destroy(&mut self, name: &str) {
        self.kill(name, KILLED);
        self.hint(name, Hint::Destroyed);
        self.containers.remove(name);
        self.wake();
    }

    pub(in crate::fake) fn kill_all(&mut self, exit_code: i64) {
        let names: Vec<String> = self.containers.keys().cloned().collect();
        for name in names {
            self.kill(&name, exit_code);
        }
    }

    pub(in crate::fake) fn distort(&mut self, name: &str, phase: Phase) {
        if let Some(container) = self.containers.get_mut(name) {
            container.phase = phase;
            container.ending = None;
            container.verdicts.clear();
        }
        self.wake();
    }

    pub(in crate::fake) fn set_health(&mut self, name: &str, health: Health) {
        if let Some(container) = self.containers.get_mut(name) {
            container.health = health;
            self.hint(name, Hint::HealthChanged);
        }
    }
}
