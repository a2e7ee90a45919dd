//! The dashboard as people use it: a real browser against the real daemon.

mod harness;
