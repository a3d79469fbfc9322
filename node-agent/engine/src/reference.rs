//! Image references, as far as pulling needs them taken apart.

/// Docker Hub, as references without a registry mean it.
pub const DOCKER_HUB: &str = "docker.io";
/// Docker Hub, as Docker clients keep its credentials.
pub const DOCKER_HUB_INDEX: &str = "index.docker.io";

/// A reference split into what is pulled and which version of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Registry and repository.
    pub repository: &'a str,
    /// Tag or digest, `latest` without either. Never empty: without one, Docker would pull every tag.
    pub version: &'a str,
}

impl<'a> Reference<'a> {
    /// Splits an image reference.
    pub fn split(image: &'a str) -> Self {
        if let Some((named, digest)) = image.split_once('@') {
            let repository = split_tag(named).map_or(named, |(repository, _)| repository);
            return Self {
                repository,
                version: digest,
            };
        }
        let (repository, version) = split_tag(image).unwrap_or((image, "latest"));
        Self {
            repository,
            version,
        }
    }

    /// The registry that is asked: what stands before the first slash, when it looks like a host.
    pub fn registry(&self) -> &'a str {
        match self.repository.split_once('/') {
            Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => host,
            _ => DOCKER_HUB,
        }
    }
}

/// Whether it may stand in a path of the Engine API. Docker's own grammar is narrower and has the last
/// word; this keeps a reference from naming another resource than an image.
pub fn is_plausible(image: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "._-/:@+".contains(letter);
    !image.is_empty() && image.chars().all(fine) && !image.contains("..")
}

/// A colon after the last slash begins a tag; one before it, a registry's port.
fn split_tag(named: &str) -> Option<(&str, &str)> {
    let (repository, tag) = named.rsplit_once(':')?;
    (!tag.is_empty() && !tag.contains('/')).then_some((repository, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_reach_a_path() {
        assert!(is_plausible("quay.io/a/b:c@sha256:12"));
        for image in ["", "../containers/json", "a b", "a?b", "a#b", "a%2fb", "ü"] {
            assert!(!is_plausible(image), "{image}");
        }
    }

    #[test]
    fn references_split_into_registry_repository_and_version() {
        for (image, registry, repository, version) in [
            ("nginx", "docker.io", "nginx", "latest"),
            ("nginx:1.27", "docker.io", "nginx", "1.27"),
            ("library/nginx", "docker.io", "library/nginx", "latest"),
            ("localhost/web:1", "localhost", "localhost/web", "1"),
            (
                "localhost:5000/web",
                "localhost:5000",
                "localhost:5000/web",
                "latest",
            ),
            ("quay.io/a/b:c", "quay.io", "quay.io/a/b", "c"),
            (
                "quay.io/a/b:c@sha256:12",
                "quay.io",
                "quay.io/a/b",
                "sha256:12",
            ),
            ("h:1/a@sha256:12", "h:1", "h:1/a", "sha256:12"),
        ] {
            let split = Reference::split(image);
            assert_eq!(
                split,
                Reference {
                    repository,
                    version
                },
                "{image}"
            );
            assert_eq!(split.registry(), registry, "{image}");
        }
    }
}
