//! Which hosts are reached without a proxy (`NO_PROXY`), as Go's programs read it, kubectl and ECS' agent among them.

use std::net::IpAddr;

/// Whether `host` (a name or an address, without a port) is reached directly. `no_proxy` lists, apart by commas: names, which
/// mean the names below them, too (with a leading dot only those), addresses, blocks like `10.0.0.0/8`, or `*` for all. Ports
/// behind names are not looked at.
pub fn is_direct(host: &str, no_proxy: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    // Nobody asks a proxy for this machine.
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy
        .split(',')
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| match address {
            _ if entry == "*" => true,
            Some(address) => entry.parse() == Ok(address) || in_block(address, &entry),
            None => is_name(&host, &entry),
        })
}

fn is_name(host: &str, entry: &str) -> bool {
    let entry = entry.split(':').next().unwrap_or(entry);
    match entry.strip_prefix('.') {
        Some(above) => host
            .strip_suffix(above)
            .is_some_and(|rest| rest.ends_with('.')),
        None => {
            host == entry
                || host
                    .strip_suffix(entry)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

fn in_block(address: IpAddr, entry: &str) -> bool {
    let Some((first, length)) = entry.split_once('/') else {
        return false;
    };
    let (Ok(first), Ok(length)) = (first.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (address, first) {
        (IpAddr::V4(address), IpAddr::V4(first)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            u32::from(address) & mask == u32::from(first) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(first)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            u128::from(address) & mask == u128::from(first) & mask
        }
        (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_and_what_is_below_it_is_reached_directly() {
        for (host, no_proxy, direct) in [
            ("api.example.com", "", false),
            ("api.example.com", "example.com", true),
            ("api.example.com", "169.254.170.2, .example.com", true),
            ("example.com", ".example.com", false),
            ("example.com", "EXAMPLE.com:6443", true),
            ("notexample.com", "example.com", false),
            ("api.example.com", "*", true),
            ("10.1.2.3", "10.0.0.0/8,/var/run/docker.sock", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("11.1.2.3", "0.0.0.0/0", true),
            ("11.1.2.3", "fd00::/0", false),
            ("[fd00::1]", "fd00::/8", true),
            ("[fe00::1]", "fd00::/8", false),
            ("127.0.0.1", "", true),
            ("localhost", "", true),
        ] {
            assert_eq!(is_direct(host, no_proxy), direct, "{host} by {no_proxy}");
        }
    }
}
