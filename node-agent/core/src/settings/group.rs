//! What a group of settings is made of: one entry per variable, and everything else follows from it.

/// A variable that the agent reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// `ECS_...`
    pub name: &'static str,
    /// Its field in ECS' configuration file; empty when that has none.
    pub key: &'static str,
    /// What it does, with default and range, for `--help`.
    pub what: &'static str,
}

/// Declares a group: a struct of fields with their defaults, its list of variables, and how it is read.
///
/// An entry is `field: type = default, ["VARIABLE", "KeyInTheFile", "what it does"], reader;`, where the reader
/// is a function of [`values`](super::values) or one like it: from a text that is not empty to the value, or
/// to what is [`Wrong`](super::Wrong).
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $group:ident {
            $( $field:ident: $type:ty = $default:expr, [$name:literal, $key:literal, $what:expr], $read:expr; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $group {
            $(
                #[doc = concat!("`", $name, "`: ", $what, ".")]
                pub $field: $type,
            )*
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $group {
            /// The variables of this group.
            pub(super) const VARIABLES: &'static [$crate::settings::Variable] = &[
                $( $crate::settings::Variable { name: $name, key: $key, what: $what }, )*
            ];

            /// Reads the variables of this group.
            pub(super) fn read(from: &mut $crate::settings::Reader<'_>) -> Self {
                Self { $( $field: from.value($name, $key, $default, $read), )* }
            }
        }
    };
}

pub(super) use settings;
