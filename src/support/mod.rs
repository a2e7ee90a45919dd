//! Ground: what the standard library lacks and every layer needs.
//!
//! **Invariant.** Knows nothing of Staithe's nouns; touches the kernel only through `std`.

pub mod atomic_file;
pub mod backoff;
pub mod openmetrics;
pub mod report;
pub mod shutdown;
pub mod tasks;

pub use report::report;
