//! Databases: made, linked, cut off, killed, copied.

mod apps;
mod disks;
mod life;
mod links;
