//! Some rows of `make chaos`, with small counts.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::chaos::{self, Load, Times};
use crate::suite::Scenario;
use crate::user::User;

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "agents, engines, links and leaders that fail, and copies of hosts, double nothing and lose no exit (rows 1, 2, 5, 6, 10a, 16, 17, 26 of make chaos)",
    run: reduced,
}];

/// Rows, and how often.
const ROWS: [(&str, u32); 9] = [
    ("1", 8),
    ("2", 8),
    ("5", 8),
    ("6", 1),
    ("10a", 1),
    ("16", 2),
    ("17a", 2),
    ("17b", 1),
    ("26", 1),
];

/// As the suite starts its operator.
const TIMES: Times = Times {
    grace: Duration::from_secs(25),
    replace_after: Duration::from_secs(40),
    lease: Duration::from_secs(4),
};

const LOAD: Load = Load {
    standing: 6,
    rolling: 3,
    sturdy: 0,
};

/// Random moments, the same in each run.
const SEED: u64 = 1;

fn reduced(user: &User<'_>) -> Result<()> {
    let mut rows = Vec::new();
    for (number, count) in ROWS {
        let row = chaos::rows().find(|row| row.number == number);
        rows.push((row.with_context(|| format!("no row {number}"))?, count));
    }
    let mut missed = Vec::new();
    chaos::run(
        user.lab,
        LOAD,
        TIMES,
        None,
        SEED,
        &rows,
        &mut |row, outcome| {
            if !outcome.held(row.bound) {
                let why = outcome.complaints(row.bound).join("; ");
                missed.push(format!("row {}, {}: {why}", row.number, row.name));
            }
        },
    )?;
    ensure!(missed.is_empty(), "{}", missed.join("\n  "));
    Ok(())
}
