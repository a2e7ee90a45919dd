//! Helpers that let tests read as sentences: a whole Staithe, a user with git and ssh, a browser.

pub(crate) mod app;
pub(crate) mod browser;
pub(crate) mod bucket;
pub(crate) mod http;
pub(crate) mod leftovers;
pub(crate) mod load;
mod number;
pub(crate) mod staithe;

pub(crate) use app::Repo;
pub(crate) use staithe::Staithe;

use std::time::{Duration, Instant};

/// Asks until the answer is yes; fails with the last answer after `deadline`. The only wait there is.
pub(crate) fn eventually<T: std::fmt::Debug>(
    deadline: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        match ask() {
            Ok(value) => return value,
            Err(last) if Instant::now() > end => {
                panic!("{what}: not within {deadline:?}; last: {last}")
            }
            Err(_) => pause(),
        }
    }
}

/// Between two looks of [`eventually`].
#[allow(clippy::disallowed_methods, reason = "the poll interval of the one wait there is")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Counts a test as skipped, for `script/test`, which prints them and fails in CI.
pub(crate) fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    let Ok(path) = std::env::var("STAITHE_TEST_SKIPPED") else { return };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, format!("{reason}\n").as_bytes()).unwrap();
}
