//! The cheap rows of `make attack`.

use anyhow::{Result, ensure};

use crate::attack;
use crate::suite::Scenario;
use crate::user::User;

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "who tries to break in from a container, from another host and with a stolen host token gets nothing (rows of make attack)",
    run: reduced,
}];

fn reduced(user: &User<'_>) -> Result<()> {
    let rows: Vec<_> = attack::rows().filter(|row| row.reduced).collect();
    let mut lost = Vec::new();
    attack::run(user.lab, &rows, &mut |row, haul| {
        if !haul.held() {
            lost.push(format!(
                "row {}: {}",
                row.number,
                haul.complaints().join("; ")
            ));
        }
    })?;
    ensure!(lost.is_empty(), "{}", lost.join("\n  "));
    Ok(())
}
