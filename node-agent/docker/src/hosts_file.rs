//! A container's `/etc/hosts`, which Docker writes.
//!
//! Docker has a line with the container's host name for each network that it is on. Resolvers put link-local addresses
//! before others (RFC 6724, rule 8), so a program that looks up its own name would get the address that only the host
//! reaches, and tell it to its peers.

use std::net::Ipv4Addr;

/// Takes an address out of the file. One that is not seen from here, as by an agent in a container, stays as it is, and so does
/// one that cannot be written: that is said, and stops no task.
pub(crate) fn forget(path: &str, address: Ipv4Addr) {
    let told = match std::fs::read_to_string(path) {
        Ok(text) => match without(&text, address) {
            kept if kept == text => Ok(()),
            // In place: containers have this very file mounted.
            kept => std::fs::write(path, kept),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tracing::warn!(
            path,
            %address,
            %error,
            "cannot take the address that leads to the agent out of a task's hosts file: the task may take it for its own"
        );
    }
}

fn without(text: &str, address: Ipv4Addr) -> String {
    let address = address.to_string();
    let lines = text.split_inclusive('\n');
    lines
        .filter(|line| line.split_whitespace().next() != Some(address.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_one_address_go_and_no_other() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.64\tc0\n169.254.170.1\tc0\n169.254.170.10\tdb\n# 169.254.170.1 is\n";
        let kept = without(text, Ipv4Addr::new(169, 254, 170, 1));
        assert_eq!(
            kept,
            "127.0.0.1\tlocalhost\n10.0.0.64\tc0\n169.254.170.10\tdb\n# 169.254.170.1 is\n"
        );
        assert_eq!(without(&kept, Ipv4Addr::new(169, 254, 170, 1)), kept);
    }
}
