//! Clients of a service, as a load balancer would have them: each knows where its tasks are, and asks the next one when one does not
//! answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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
    /// Tells them where tasks are now.
    pub fn know(&self, addresses: Vec<SocketAddr>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Does `work` while they ask, from the time on when they know somebody.
    pub fn ask_during<T>(&self, work: impl FnOnce() -> T) -> (T, Served) {
        let worked = std::thread::scope(|scope| {
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
            let mut known = self
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if !known.is_empty() {
                let first = turn % known.len();
                known.rotate_left(first);
                self.requests.fetch_add(1, Ordering::Relaxed);
                if !known.iter().any(answers) {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
                turn = turn.wrapping_add(1);
            }
            std::thread::sleep(PAUSE);
        }
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
            clients.know(known);
            let enough = || {
                while clients.requests.load(Ordering::Relaxed) < 2 * CLIENTS {
                    std::thread::yield_now();
                }
            };
            clients.ask_during(enough).1
        };
        assert_eq!(asked(vec![nobody, address]).failed, 0);
        let served = asked(vec![nobody]);
        assert_eq!(served.failed, served.requests);
    }
}
