//! The experiments of `docs/results.md`.

macro_rules! experiments {
    ($($name:literal,)*) => {
        /// Each experiment: its name, and the text of its file.
        pub const EXPERIMENTS: &[(&str, &str)] = &[$(
            ($name, include_str!(concat!("../experiments/", $name, ".toml"))),
        )*];
    };
}

experiments! {
    "answer",
    "bound",
    "broken",
    "cost",
    "cpus",
    "crowds",
    "depth",
    "fences",
    "ict",
    "irqs",
    "itesid",
    "obeys",
    "prepare",
    "reset",
    "tail",
    "units",
    "zombie",
}
