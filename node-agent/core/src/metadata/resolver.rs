//! Where a task with an address of its own asks for names: what `resolv.conf` says to its containers.

/// Name servers and domains (`DomainNameServers` and `DomainNameSearchList` of ECS task metadata v4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Addresses, in the order in which they are asked.
    pub servers: Vec<String>,
    /// Domains in which short names are looked for.
    pub search: Vec<String>,
}

impl Resolver {
    /// Reads the text of a `resolv.conf` (resolv.conf(5)): of several `search` or `domain` lines the last one counts.
    pub fn read(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => {
                    // A dot stands for no domain at all.
                    resolver.search = words.filter(|d| *d != ".").map(str::to_owned).collect();
                }
                Some(_) | None => {}
            }
        }
        resolver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_resolvers_read_it() {
        let none: [&str; 0] = [];
        for (text, servers, search) in [
            ("", &none[..], &none[..]),
            (
                "# Generated\nsearch old.example\nnameserver 127.0.0.11\n\tsearch a.example  b.example\noptions edns0 ndots:0\n",
                &["127.0.0.11"],
                &["a.example", "b.example"],
            ),
            (
                "nameserver 10.0.0.2\nnameserver fd00::2\nnameserver\ndomain x.example\n; nameserver 1.1.1.1\n",
                &["10.0.0.2", "fd00::2"],
                &["x.example"],
            ),
            ("search .\n", &none, &none),
        ] {
            let read = Resolver::read(text);
            assert_eq!(
                (&read.servers[..], &read.search[..]),
                (
                    &servers.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..],
                    &search.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]
                ),
                "{text}"
            );
        }
    }
}
