//! Flux' own checks of conditions, over every version of every object that operator and agents report while scenarios run: a program
//! beside the lab watches (`dev/gitops`), and is asked after each scenario what it found.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tallyman_lab::paths;

/// It waits twenty seconds for a status that is behind its object, and for an API server that is away.
const ANSWER: Duration = Duration::from_secs(60);

/// What watches. It ends with its input, also when this test is killed.
pub struct Conditions {
    child: Child,
    ends: Mutex<Ends>,
}

struct Ends {
    asks: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// What was found since it was asked last.
#[derive(Debug)]
pub struct Found {
    /// Objects that there are now.
    pub objects: u64,
    /// Versions that were looked at.
    pub versions: u64,
    /// What Flux takes for wrong, each with its object and its conditions.
    pub failures: Vec<String>,
    /// What Flux would have otherwise.
    pub warnings: Vec<String>,
}

impl Conditions {
    /// Begins to watch.
    ///
    /// # Errors
    /// The program is missing.
    pub fn watch(kubeconfig: &Path) -> Result<Conditions> {
        let program = paths::test_tool("gitops")?;
        let mut child = Command::new(&program)
            .args(["conditions", "--kubeconfig"])
            .arg(kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let asks = child.stdin.take();
        let answer = child.stdout.take().context("it has no output")?;
        let (sends, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(answer).lines().map_while(Result::ok) {
                if sends.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Conditions {
            child,
            ends: Mutex::new(Ends { asks, answers }),
        })
    }

    /// Has everything looked at that there is, and takes what was found since the last time.
    ///
    /// # Errors
    /// The program ended, or does not answer.
    pub fn found(&self) -> Result<Found> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let asks = ends.asks.as_mut().context("it was ended")?;
        asks.write_all(b"\n")
            .context("what watches conditions has ended")?;
        let line = ends
            .answers
            .recv_timeout(ANSWER)
            .context("what watches conditions does not answer")?;
        let said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let number = |field: &str| said[field].as_u64().with_context(|| line.clone());
        let texts = |field: &str| -> Vec<String> {
            let list = said[field].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(Found {
            objects: number("objects")?,
            versions: number("versions")?,
            failures: texts("failures"),
            warnings: texts("warnings"),
        })
    }

    /// Fails with what Flux takes for wrong; tells what it would have otherwise.
    ///
    /// # Errors
    /// A check failed, or none was made.
    pub fn hold(&self) -> Result<()> {
        let found = self.found()?;
        for warning in &found.warnings {
            println!("  Flux warns of {warning}");
        }
        // The cluster and its hosts are always there.
        ensure!(found.objects > 3, "only {} objects", found.objects);
        ensure!(
            found.failures.is_empty(),
            "not reported as Flux' controllers do, of {} versions: {}",
            found.versions,
            found.failures.join("; ")
        );
        Ok(())
    }
}

impl Drop for Conditions {
    fn drop(&mut self) {
        let ends = self.ends.get_mut().unwrap_or_else(PoisonError::into_inner);
        ends.asks = None;
        let _ = self.child.wait();
    }
}
