//! What of it a host can do. ECS' agent looks for programs and for a file of the kernel module; a host may have both and
//! not do it, or the module built in and no file. So the agent tries, in a network that exists for the try alone.

use crate::fault_injection::tools::{Command, NotRun, Ran, Tools};
use crate::fault_injection::{black_hole, impairment};

/// A thing to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// To drop packets of a port.
    BlackHolePort,
    /// To delay and lose packets.
    Impairment,
}

/// What a host can do; the default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// To drop packets of a port.
    pub black_hole_port: bool,
    /// To delay and lose packets; without this, asking for it is answered with why not.
    pub impairment: bool,
}

impl Abilities {
    /// Tries all. Beside what a host can do, why it cannot do the rest.
    pub fn tried(tools: &impl Tools) -> (Self, Vec<(Ability, String)>) {
        let mut abilities = Self::default();
        let mut reasons = Vec::new();
        for ability in [Ability::BlackHolePort, Ability::Impairment] {
            let why = tried(&rehearsal(ability), tools).err();
            let can = match ability {
                Ability::BlackHolePort => &mut abilities.black_hole_port,
                Ability::Impairment => &mut abilities.impairment,
            };
            *can = why.is_none();
            reasons.extend(why.map(|why| (ability, why)));
        }
        (abilities, reasons)
    }
}

/// Does all that a fault needs in a network that goes with the command; `nsenter` and `ip` are looked for, too.
fn rehearsal(ability: Ability) -> Command {
    let lines = match ability {
        Ability::BlackHolePort => black_hole::rehearsal(),
        Ability::Impairment => impairment::rehearsal(),
    };
    let script = format!(
        "nsenter --version && ip -j address show && {}",
        lines.join(" && ")
    );
    Command::script("unshare --net sh -c", script)
}

fn tried(command: &Command, tools: &impl Tools) -> Result<(), String> {
    match tools.run(command) {
        Ok(ran) if ran.succeeded() => Ok(()),
        Ok(Ran { err, .. }) => Err(err.trim().replace('\n', " ")),
        Err(NotRun::TimedOut) => Err("it took too long".to_owned()),
        Err(NotRun::Absent(why)) => Err(why),
    }
}
