//! The one integration binary: drives the real daemon over git, SSH and HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where by panicking")]

mod git;
