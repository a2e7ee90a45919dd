//! The one integration binary: drives the real daemon over git, SSH and HTTP.

mod container;
mod image;
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

mod proxy;
mod build;
