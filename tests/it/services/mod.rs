//! Databases: made, linked, cut off, killed, copied.

mod apps;
mod life;
mod links;
