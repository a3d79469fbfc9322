//! What the Helm charts and the plain manifests take from elsewhere: the definitions of this crate, the operator's rules and the
//! admission policies of `deploy/`. `crdgen` writes it, so that no second copy is kept by hand.
//!
//! Nothing of a schema changes on the way. Only `metadata` gets what Helm wants there.

use super::crds;

const ORIGIN: &str = "Written by crdgen";

/// The files of `deploy/` that are a source.
pub const OPERATOR: &str = "deploy/10-operator.yaml";
/// As [`OPERATOR`].
pub const POLICIES: [&str; 2] = [
    "deploy/20-host-status-policy.yaml",
    "deploy/30-host-join-policy.yaml",
];

/// As [`OPERATOR`].
pub const AUTHORITY: &str = "deploy/40-certificate-authority.yaml";

/// Labels that stand at every object of these files, and for which the charts have their own.
const LABELS: &str =
    "  labels:\n    app.kubernetes.io/name: tallyman\n    app.kubernetes.io/part-of: tallyman\n";

/// A file to be written.
pub struct Written {
    /// Path from the root of the source tree.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// Text of the files that are a source.
pub struct Sources<'a> {
    /// Of [`OPERATOR`].
    pub operator: &'a str,
    /// Of [`POLICIES`].
    pub policies: [&'a str; 2],
    /// Of [`AUTHORITY`].
    pub authority: &'a str,
}

/// Every file that is derived of `sources`.
///
/// # Errors
/// A sentence about what one of them lacks.
pub fn derived(sources: &Sources<'_>) -> Result<Vec<Written>, String> {
    let mut files = Vec::new();
    let mut plain = format!("# {ORIGIN} from the types in crds/src; do not edit.\n");
    for crd in crds() {
        let yaml = crd
            .yaml()
            .map_err(|error| format!("{}: {error}", crd.file))?;
        // Its first line says where it comes from.
        let body = yaml.split_once('\n').map_or("", |(_, body)| body);
        plain += "---\n";
        plain += body;
        files.push(Written {
            path: format!("charts/tallyman/templates/crds/{}", crd.file),
            text: format!(
                "{{{{- /* {ORIGIN} from the types in crds/src; do not edit. */}}}}\n{{{{- if .Values.crds.enabled }}}}\n{}{{{{- end }}}}\n",
                definition(&crd.file, body, "tallyman.crd-metadata")?
            ),
        });
        files.push(Written {
            path: format!("charts/tallyman-crds/templates/{}", crd.file),
            text: format!(
                "{{{{- /* {ORIGIN} from the types in crds/src; do not edit. */}}}}\n{}",
                definition(&crd.file, body, "tallyman-crds.crd-metadata")?
            ),
        });
    }
    files.push(Written {
        path: "deploy/install/crds.yaml".into(),
        text: plain,
    });
    files.push(Written {
        path: "charts/tallyman/templates/_operator-rules.tpl".into(),
        text: format!(
            "{{{{- /* {ORIGIN} from {OPERATOR}; do not edit. */}}}}\n{{{{- define \"tallyman.operator-rules\" }}}}\n{}{{{{- end }}}}\n",
            rules(sources.operator)?
        ),
    });
    let mut templates = Vec::new();
    for (file, policies) in POLICIES.iter().zip(sources.policies) {
        templates.push(with_metadata(
            file,
            policies,
            "{{- include \"tallyman.policy-metadata\" . | nindent 2 }}",
        )?);
    }
    files.push(Written {
        path: "charts/tallyman/templates/policies.yaml".into(),
        text: format!(
            "{{{{- /* {ORIGIN} from {}; do not edit. */}}}}\n{{{{- if .Values.policies.enabled }}}}\n{}{{{{- end }}}}\n",
            POLICIES.join(" and "),
            templates.join("---\n")
        ),
    });
    files.push(Written {
        path: "charts/tallyman/templates/certificate-authority.yaml".into(),
        text: format!(
            "{{{{- /* {ORIGIN} from {AUTHORITY}; do not edit. */}}}}\n{{{{- if and .Values.join.certificateAuthority (eq .Release.Namespace \"tallyman-system\") }}}}\n{}{{{{- end }}}}\n",
            with_metadata(
                AUTHORITY,
                sources.authority,
                "labels:\n    {{- include \"tallyman.labels\" . | nindent 4 }}"
            )?
        ),
    });
    Ok(files)
}

/// A definition as a template: its text, with what the chart's template `metadata` says below its name.
fn definition(file: &str, body: &str, metadata: &str) -> Result<String, String> {
    let (head, rest) = body
        .split_once("\nspec:\n")
        .ok_or_else(|| format!("{file} has no spec"))?;
    Ok(format!(
        "{}\n  {{{{- include \"{metadata}\" . | nindent 2 }}}}\nspec:\n{}",
        literal(head),
        literal(rest)
    ))
}

/// The rules of the operator's ClusterRole, as they stand there.
fn rules(operator: &str) -> Result<&str, String> {
    let role = operator
        .split("---\n")
        .find(|document| document.contains("\nkind: ClusterRole\n"))
        .ok_or_else(|| format!("{OPERATOR} has no ClusterRole"))?;
    let (_, rules) = role
        .split_once("\nrules:\n")
        .ok_or_else(|| format!("the ClusterRole of {OPERATOR} must end with its rules"))?;
    Ok(rules)
}

/// Objects with what the chart says in place of their labels.
fn with_metadata(file: &str, objects: &str, metadata: &str) -> Result<String, String> {
    let documents = objects.split("---\n").count();
    let found = objects.matches(LABELS).count();
    if found != documents {
        return Err(format!(
            "{file} has {documents} objects, and {found} of them have the labels name and part-of"
        ));
    }
    Ok(literal(objects).replace(LABELS, &format!("  {metadata}\n")))
}

/// Text that a template prints as it is.
fn literal(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}
