//! The proxy as a process: real sockets on both sides, real signals.

mod admission;
mod apps;
mod bodies;
mod h2;
mod h2_apps;
mod h2_hostile;
mod hops;
mod life;
mod metrics;
mod pages;
mod passwords;
mod routing;
mod switch;
mod tls;
mod upgrade;
mod world;
