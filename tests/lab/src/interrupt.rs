//! Ctrl-C: everything that live ledgers hold is taken away before the process ends.
//!
//! Making things and tearing them down must not overlap, or a thing made in between stays behind. Whoever makes something holds
//! [`busy`] while it is made and recorded; the handler waits for those and lets no more begin. Threads that come to such a place later
//! stop there for good: the handler ends the process when all is gone.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock, RwLockReadGuard, Weak};

use tokio::signal::unix::{SignalKind, signal};

use crate::command;
use crate::state::Ledger;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static MAKING: RwLock<()> = RwLock::new(());
static LEDGERS: Mutex<Vec<Weak<Ledger>>> = Mutex::new(Vec::new());
static HANDLER: Once = Once::new();

/// Exit code of a process ended by Ctrl-C, as shells report it.
const INTERRUPTED_EXIT_CODE: i32 = 130;

thread_local! {
    /// The handler's own thread goes on where others stop.
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// Does not return once Ctrl-C was pressed.
pub fn check() {
    if INTERRUPTED.load(Ordering::SeqCst) && !HANDLES.get() {
        loop {
            std::thread::park();
        }
    }
}

/// Held while something is made on the machine. Never nest two of them in one thread. Does not return after Ctrl-C.
pub fn busy() -> RwLockReadGuard<'static, ()> {
    check();
    let guard = MAKING.read().unwrap_or_else(PoisonError::into_inner);
    if INTERRUPTED.load(Ordering::SeqCst) {
        drop(guard);
        check();
        return MAKING.read().unwrap_or_else(PoisonError::into_inner);
    }
    guard
}

/// From now on the ledger is cleared on SIGINT, SIGTERM and SIGHUP, unless it is kept or gone by then.
pub(crate) fn register(ledger: &Arc<Ledger>) {
    let mut ledgers = LEDGERS.lock().unwrap_or_else(PoisonError::into_inner);
    ledgers.retain(|known| known.strong_count() > 0);
    ledgers.push(Arc::downgrade(ledger));
    drop(ledgers);
    HANDLER.call_once(|| {
        std::thread::spawn(|| {
            if wait_for_signal().is_ok() {
                clear_all();
            }
        });
    });
}

fn wait_for_signal() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        Ok(())
    })
}

fn clear_all() {
    HANDLES.set(true);
    INTERRUPTED.store(true, Ordering::SeqCst);
    let _nothing_is_being_made = MAKING.write().unwrap_or_else(PoisonError::into_inner);
    let ledgers: Vec<_> = LEDGERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|ledger| !ledger.is_kept())
        .collect();
    eprintln!("interrupted: taking everything down");
    command::end_running();
    for ledger in &ledgers {
        if let Err(error) = ledger.clear() {
            eprintln!("{error:#}");
        }
    }
    std::process::exit(INTERRUPTED_EXIT_CODE);
}
