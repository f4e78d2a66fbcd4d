//! How a bench was asked to run.

/// Reads the arguments: `None` means not at all, which is what `cargo test --benches` wants: what is
/// measured here takes minutes, and proves nothing.
pub(crate) fn asked() -> Option<Effort> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    if !is_given("--bench") || is_given("--test") || is_given("--list") {
        println!("Measures for minutes; asked for by `cargo bench`.");
        return None;
    }
    Some(if is_given("--quick") {
        Effort::Quick
    } else {
        Effort::Full
    })
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effort {
    /// As much as figures need.
    Full,
    /// As little as shows that it works; the figures mean nothing.
    Quick,
}

impl Effort {
    /// One of two values.
    pub(crate) fn choose<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}
