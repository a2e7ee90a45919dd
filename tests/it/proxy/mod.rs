//! The proxy as a process: real sockets on both sides, real signals.

mod admission;
mod bodies;
mod h2;
mod hops;
mod life;
mod pages;
mod routing;
mod switch;
mod tls;
mod upgrade;
mod world;
