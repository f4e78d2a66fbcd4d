//! Command-line arguments of the benches.

/// Parses the arguments. `None` means not to run, which is what `cargo test --benches` needs: the
/// measurements take minutes.
pub(crate) fn asked() -> Option<Effort> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    if !is_given("--bench") || is_given("--test") || is_given("--list") {
        println!("Measures for minutes; run by `cargo bench`.");
        return None;
    }
    Some(if is_given("--quick") {
        Effort::Quick
    } else {
        Effort::Full
    })
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effort {
    /// Enough for meaningful figures.
    Full,
    /// Just enough to show that the bench works; the figures mean nothing.
    Quick,
}

impl Effort {
    /// Selects one of two values.
    pub(crate) fn choose<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}
