//! Backups of services.

mod flow;
