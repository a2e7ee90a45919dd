//! The one integration binary: drives the real daemon over git, SSH and HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]
#![allow(clippy::print_stderr, reason = "a failing test shows the daemon's log")]

mod architecture;
mod archive;
mod backups;
mod browser;
mod build;
mod certificates;
mod cli;
mod commands;
mod container;
mod cron;
mod dashboard;
mod deploy;
mod docs;
mod front;
mod git;
mod image;
mod openapi;
mod metrics;
mod plugins;
mod power;
mod proxy;
mod pushes;
mod services;
mod sshd;
mod storage;
mod support;
mod survival;
mod web;
mod zero_drop;
