//! Regular expressions of the schema, in the syntax of the API server (RE2).

/// Letters, digits, hyphens, underscores: families, container names, services as ECS spells them.
pub const NAME: &str = "^[A-Za-z0-9_-]+$";
/// A cluster by name, or by the ARN that ends in its name. The name is a label value on tasks.
pub const REFERENCE: &str = "^(arn:[^ ]+:cluster/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
/// A service by name, or by the ARN that ends in its name.
pub const SERVICE: &str = "^(arn:[^ ]+:service/([A-Za-z0-9._-]{1,255}/)?)?[A-Za-z0-9._-]{1,255}$";
/// `family` or `family:revision`, or an ARN that ends in one of them.
pub const TASK_DEFINITION: &str =
    "^(arn:[^ ]+:task-definition/)?[A-Za-z0-9_-]{1,255}(:[0-9]{1,9})?$";
/// CPU of a task: units (`512`) or virtual cores (`.5 vCPU`, `1 vcpu`).
pub const CPU: &str = r"^([0-9]+|([0-9]+(\.[0-9]+)?|\.[0-9]+) ?[vV][cC][pP][uU])$";
/// Memory of a task: MiB (`512`) or gigabytes (`0.5GB`, `1 GB`).
pub const MEMORY: &str = r"^([0-9]+|([0-9]+(\.[0-9]+)?|\.[0-9]+) ?[gG][bB])$";
/// `first-last`.
pub const PORT_RANGE: &str = "^[0-9]{1,5}-[0-9]{1,5}$";
/// Type of a Kubernetes condition.
pub const CONDITION_TYPE: &str = r"^[A-Za-z]([A-Za-z0-9_./-]*[A-Za-z0-9])?$";
/// Reason of a Kubernetes condition.
pub const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
/// Name of an object whose name others are made of.
pub const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Fingerprint of a key.
pub const FINGERPRINT: &str = "^sha256:[0-9a-f]{64}$";
/// A time of RFC 3339 from 1970 to 2999, with at most nanoseconds, on a day that there is.
pub const TIME: &str = r"^(((19[7-9][0-9]|2[0-9]{3})-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])))|((19(7[26]|8[048]|9[26])|2[0-9](0[48]|[2468][048]|[13579][26])|2[048]00)-02-29))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
