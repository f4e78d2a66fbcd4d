//! The macros that declare metric families and label sets.

/// Declares enums with a label text per variant.
macro_rules! label_sets {
    ($( $(#[$doc:meta])* $set:ident { $( $(#[$vdoc:meta])* $value:ident = $text:literal ),+ $(,)? } )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $set { $( $(#[$vdoc])* $value ),+ }

        impl $set {
            /// All values in order.
            pub const ALL: &'static [Self] = &[ $( Self::$value ),+ ];

            /// Returns the text of the label value.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$value => $text ),+ }
            }
        }
    )+ };
}

/// Declares families: metric name, help text, label names, and a closed set of values.
macro_rules! families {
    ($( $(#[$doc:meta])* $family:ident($name:literal, $help:literal, $labels:literal)
        { $( $(#[$vdoc:meta])* $value:ident = $text:literal ),+ $(,)? } )+) => {
        label_sets! { $( $(#[$doc])* $family { $( $(#[$vdoc])* $value = $text ),+ } )+ }

        /// The index of each family's first counter in a shard.
        #[allow(non_snake_case, reason = "one field per family, named after it")]
        struct Layout { $( $family: usize, )+ total: usize }

        #[allow(non_snake_case, reason = "one index per family, named after it")]
        const LAYOUT: Layout = {
            let mut next = 0;
            $( let $family = next; next += $family::ALL.len(); )+
            Layout { $( $family, )+ total: next }
        };

        $(
            impl Label for $family {
                fn counter_index(self) -> usize { LAYOUT.$family + self as usize }
            }
        )+

        /// All families.
        pub(super) const FAMILIES: &[Family] = &[ $( Family {
            name: $name, help: $help, labels: $labels,
            values: &[ $( $text ),+ ], first_index: LAYOUT.$family,
        } ),+ ];
    };
}
