//! Opens many connections and sends nothing of use.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// Holds up to `count` connections to `address` open for so long, each with a request that is begun and not ended; those that are closed are
/// opened again. How many were opened.
pub fn hold(address: SocketAddr, count: usize, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut held: Vec<TcpStream> = Vec::new();
    let mut opened = 0;
    while Instant::now() < until {
        held.retain(is_open);
        while held.len() < count && Instant::now() < until {
            let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
                break;
            };
            let begun = stream.write_all(b"GET /v4/x HTTP/1.1\r\nHost: ");
            if begun.is_ok() && stream.set_nonblocking(true).is_ok() {
                opened += 1;
                held.push(stream);
            }
        }
        std::thread::sleep(PAUSE);
    }
    opened
}

/// Nothing came, and it was not closed.
fn is_open(stream: &TcpStream) -> bool {
    let mut stream = stream;
    let read = stream.read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
