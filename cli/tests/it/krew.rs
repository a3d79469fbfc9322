//! The manifest for krew is what krew and its index ask for, once its template is filled in.
use serde_json::Value;

const TEMPLATE: &str = include_str!("../../krew/tally.yaml");
const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The template as krew-release-bot fills it in: `uri` where its words stand, and `sha256` four spaces in, whatever stands around.
fn filled(template: &str, tag: &str) -> String {
    let mut text = String::new();
    for line in template.lines().filter(|l| !l.starts_with('#')) {
        match line.split_once("{{ addURIAndSha \"") {
            Some((before, rest)) => {
                let (url, end) = rest.rsplit_once('"').unwrap();
                assert_eq!(end, " .TagName }}");
                text.push_str(&format!("{before}uri: {url}\n    sha256: {SHA}\n"));
            }
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text.replace("{{ .TagName }}", tag)
}

/// Everything that krew refuses, and that reviewers of its index do.
fn wrong(manifest: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    must(
        manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2",
        "apiVersion",
    );
    must(manifest["kind"] == "Plugin", "kind");
    let name = text(&manifest["metadata"]["name"]);
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    must(
        !name.is_empty() && name.chars().all(kebab),
        "metadata.name is small letters, digits and hyphens",
    );
    must(
        !name.starts_with("kube"),
        "metadata.name does not begin with kube",
    );
    let spec = &manifest["spec"];
    let version = text(&spec["version"]);
    let numbers: Vec<&str> = version.trim_start_matches('v').split('.').collect();
    let whole = numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok());
    must(
        version.starts_with('v') && whole,
        "spec.version is v and a semantic version",
    );
    must(
        text(&spec["homepage"]).starts_with("https://"),
        "spec.homepage",
    );
    let short = text(&spec["shortDescription"]);
    must(
        !short.is_empty() && short.len() <= 50 && !short.contains('\n') && !short.ends_with('.'),
        "spec.shortDescription is one line of 50 letters, without a full stop",
    );
    must(
        !short.to_lowercase().contains("kubectl"),
        "spec.shortDescription does not say kubectl",
    );
    must(!text(&spec["description"]).is_empty(), "spec.description");
    let platforms = spec["platforms"].as_array().cloned().unwrap_or_default();
    must(!platforms.is_empty(), "spec.platforms");
    for platform in &platforms {
        let labels = platform["selector"]["matchLabels"].as_object();
        let labels = labels.cloned().unwrap_or_default();
        must(
            labels.keys().eq(["arch", "os"]),
            "selector.matchLabels has os and arch",
        );
        let uri = text(&platform["uri"]);
        let arch = text(labels.get("arch").unwrap_or(&Value::Null));
        must(
            uri.starts_with("https://") && uri.contains(&format!("/{version}/")),
            "uri is that of the version",
        );
        must(
            uri.ends_with(&format!("_{arch}.tar.gz")),
            "uri is that of the platform",
        );
        let sha = text(&platform["sha256"]);
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        must(sha.len() == 64 && sha.chars().all(digit), "sha256");
        must(
            text(&platform["bin"]) == format!("kubectl-{name}"),
            "bin is what kubectl looks for",
        );
    }
    wrong
}

#[test]
fn krew_takes_the_manifest_of_a_release() {
    let text = filled(TEMPLATE, concat!("v", env!("CARGO_PKG_VERSION")));
    let manifest: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    assert_eq!(wrong(&manifest), Vec::<String>::new());
    assert_eq!(manifest["metadata"]["name"], "tally");
    assert_eq!(manifest["spec"]["platforms"].as_array().unwrap().len(), 2);
}

#[test]
fn what_krew_refuses_is_seen() {
    let bad = TEMPLATE
        .replace("name: tally", "name: kubectl_tally")
        .replace("Docker hosts", "Docker hosts with kubectl")
        .replacen("bin: kubectl-tally", "bin: tally", 1)
        .replace("  homepage: https", "  homepage: http");
    let manifest: Value = serde_saphyr::from_str(&filled(&bad, "0.1.0")).unwrap();
    let wrong = wrong(&manifest);
    for part in [
        "metadata.name is",
        "metadata.name does not",
        "version is",
        "homepage",
        "does not say kubectl",
        "bin is",
    ] {
        assert!(wrong.iter().any(|w| w.contains(part)), "{part}: {wrong:?}");
    }
    // The fields of a platform stand where the bot writes.
    let deeper = TEMPLATE
        .replace("\n  -", "\n    -")
        .replace("\n    {{", "\n      {{")
        .replace("\n    bin", "\n      bin");
    assert!(serde_saphyr::from_str::<Value>(&filled(&deeper, "v1.0.0")).is_err());
}
