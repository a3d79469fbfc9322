//! Clients of a service, as a load balancer would have them: each knows where its tasks are, and asks the next one when one does not
//! answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tallyman_lab::http;

/// Who ask at the same time.
const CLIENTS: usize = 4;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(20);

/// What clients know and what became of their requests.
#[derive(Debug, Default)]
pub struct Clients {
    known: Mutex<Vec<SocketAddr>>,
    done: AtomicBool,
    requests: AtomicUsize,
    failed: AtomicUsize,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// How many there were.
    pub requests: usize,
    /// Those that no task answered.
    pub failed: usize,
}

/// The task whose port this is answers with its page.
pub fn answers(address: &SocketAddr) -> bool {
    http::get(*address, "/", Duration::from_secs(2)).is_ok_and(|r| r.status == 200)
}

impl Clients {
    /// Does `work` while they ask, from the time on when they know somebody. `find` says where tasks are, and is asked all the time.
    pub fn ask_during<T>(
        &self,
        find: impl Fn() -> Option<Vec<SocketAddr>> + Send,
        work: impl FnOnce() -> T,
    ) -> (T, Served) {
        let worked = std::thread::scope(|scope| {
            scope.spawn(move || {
                while !self.done.load(Ordering::Relaxed) {
                    if let Some(addresses) = find() {
                        *self.known() = addresses;
                    }
                    std::thread::sleep(PAUSE);
                }
            });
            for client in 0..CLIENTS {
                scope.spawn(move || self.ask(client));
            }
            let worked = work();
            self.done.store(true, Ordering::Relaxed);
            worked
        });
        let served = Served {
            requests: self.requests.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        };
        (worked, served)
    }

    fn ask(&self, client: usize) {
        let mut turn = client;
        while !self.done.load(Ordering::Relaxed) {
            if !self.known().is_empty() {
                self.requests.fetch_add(1, Ordering::Relaxed);
                if !self.is_answered(turn) {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
                turn = turn.wrapping_add(1);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Somebody answers. Who does not is given up after seconds only, so the next to ask is one of those who are known by then.
    fn is_answered(&self, turn: usize) -> bool {
        let mut asked = Vec::new();
        while let Some(next) = self.next(turn, &asked) {
            if answers(&next) {
                return true;
            }
            asked.push(next);
        }
        false
    }

    fn next(&self, turn: usize, asked: &[SocketAddr]) -> Option<SocketAddr> {
        let known = self.known();
        let in_turn = known.iter().cycle().skip(turn % known.len().max(1));
        let mut in_turn = in_turn.take(known.len());
        in_turn.find(|address| !asked.contains(address)).copied()
    }

    fn known(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_request_fails_when_no_task_answers_and_not_when_one_does_not() {
        let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = somebody.local_addr().unwrap();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let nobody = nobody.unwrap();
        std::thread::spawn(move || {
            for stream in somebody.incoming() {
                let mut stream = stream.unwrap();
                // All of the request: what is left of it when a connection is closed takes the answer with it.
                let asked = BufReader::new(&stream).lines();
                let headers = asked.take_while(|line| line.as_ref().is_ok_and(|l| !l.is_empty()));
                assert!(headers.count() > 0);
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                    .unwrap();
            }
        });
        let asked = |known: Vec<SocketAddr>| {
            let clients = Clients::default();
            let enough = || {
                while clients.requests.load(Ordering::Relaxed) < 2 * CLIENTS {
                    std::thread::yield_now();
                }
            };
            clients.ask_during(|| Some(known.clone()), enough).1
        };
        assert_eq!(asked(vec![nobody, address]).failed, 0);
        let served = asked(vec![nobody]);
        assert_eq!(served.failed, served.requests);
    }
}
