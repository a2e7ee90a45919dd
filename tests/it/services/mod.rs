//! Databases: made, linked, cut off, killed, copied.

mod apps;
mod brokers;
mod disks;
mod life;
mod links;
mod upgrades;
