//! The proxy as a process: real sockets on both sides, real signals.

mod bodies;
mod hops;
mod life;
mod pages;
mod switch;
mod tls;
mod world;
