//! Fails when a crate names what its wall keeps out, and when code stands where it does not belong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use tallyman_walls::{CORES, DISALLOWED, STATUS_WRITERS, WALLS, named, reached, root, sources};

#[test]
fn no_manifest_names_what_its_wall_keeps_out() {
    let named = named().unwrap();
    let mut broken = Vec::new();
    for wall in WALLS {
        let names = named
            .get(wall.package)
            .unwrap_or_else(|| panic!("there is no crate {}", wall.package));
        for name in names {
            let ours = name.starts_with("tallyman-");
            if (ours && !wall.ours.contains(&name.as_str()))
                || wall.never_named.contains(&name.as_str())
            {
                broken.push(format!("{} names {name}", wall.package));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "walls are broken:\n{}",
        broken.join("\n")
    );
}

#[test]
fn no_crate_reaches_what_its_wall_keeps_out() {
    let mut broken = Vec::new();
    for wall in WALLS {
        let tree = reached(wall.package).unwrap();
        assert!(
            tree.contains(wall.package),
            "cargo says nothing of {}",
            wall.package
        );
        broken.extend(
            wall.never_reached
                .iter()
                .filter(|n| tree.contains(**n))
                .map(|n| format!("{} reaches {n}", wall.package)),
        );
    }
    assert!(
        broken.is_empty(),
        "walls are broken:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_crate_has_a_wall_or_is_a_test() {
    for package in named().unwrap().keys() {
        let tests = [
            "tallyman-bench",
            "tallyman-lab",
            "tallyman-e2e",
            "tallyman-node",
            "tallyman-walls",
        ];
        let known = WALLS.iter().any(|w| w.package == package) || tests.contains(&package.as_str());
        assert!(
            known,
            "{package} has no line in the table of tests/walls/src/lib.rs"
        );
    }
}

#[test]
fn every_core_gives_up_clocks_chance_and_unordered_maps() {
    for core in CORES {
        let path = root().join(core).join("clippy.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for item in DISALLOWED {
            assert!(
                text.contains(&format!("\"{item}\"")),
                "{core}/clippy.toml does not disallow {item}"
            );
        }
    }
}

/// Lines of code, without comments and without the text of this test.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn only_the_adapter_names_bollard() {
    for (file, text) in sources().unwrap() {
        if file.starts_with("node-agent/docker/") || file.starts_with("tests/walls/") {
            continue;
        }
        let line = code(&text)
            .find(|line| line.contains("bollard::") || line.contains("extern crate bollard"));
        assert!(line.is_none(), "{file} names bollard: {line:?}");
    }
}

#[test]
fn a_status_is_written_in_known_files_only() {
    let mut writers = Vec::new();
    for (file, text) in sources().unwrap() {
        if file.starts_with("tests/") || file.starts_with("crds/tests/") {
            continue;
        }
        let writes = [
            "patch_status(",
            "replace_status(",
            "patch_subresource(",
            "replace_subresource(",
        ];
        if code(&text).any(|line| writes.iter().any(|w| line.contains(w)) && !line.contains("fn "))
        {
            writers.push(file);
        }
    }
    let unknown: Vec<_> = writers
        .iter()
        .filter(|w| !STATUS_WRITERS.contains(&w.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "these write a status too: {unknown:?}; known are {STATUS_WRITERS:?}"
    );
    assert!(
        !writers.is_empty(),
        "nobody writes a status: the search is wrong"
    );
}

#[test]
fn no_source_of_a_core_names_a_client_or_a_runtime() {
    for (file, text) in sources().unwrap() {
        let core = CORES.iter().any(|c| file.starts_with(&format!("{c}/src/")));
        if !core {
            continue;
        }
        for word in [
            "kube::",
            "tokio::",
            "bollard::",
            "HashMap",
            "HashSet",
            "async fn",
        ] {
            let line = code(&text).find(|line| line.contains(word));
            // What calls the engine port waits for it; the port's futures need no runtime.
            let calls = [
                "node-agent/core/src/perform.rs",
                "node-agent/core/src/images/cycle.rs",
            ];
            let port = word == "async fn" && calls.contains(&file.as_str());
            assert!(line.is_none() || port, "{file} names {word}: {line:?}");
        }
    }
}
