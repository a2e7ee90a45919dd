//! The one integration binary: drives the real daemon over git, SSH and HTTP.

mod container;
