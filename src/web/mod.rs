//! What every HTTP door shares: who asks, whether they may, how it ends.
//!
//! ```text
//!  door ─ edge (request id, log, problems) ─ identify (each door its own) ─ Routes: guard(verb) ─ handler
//! ```
//!
//! The control socket identifies by the kernel's word, the web by tokens and sessions; all put a
//! [`Caller`] in place, and the guard in front of each route asks [`Grants::allow`] with the route's
//! verb.
//!
//! **Invariant.** No route exists without a verb, and nothing but the guard and `Caller::may` decide.
//!
//! [`Grants::allow`]: crate::domain::access::Grants::allow

mod caller;
mod edge;
mod error;
mod extract;
mod guard;
mod identify;
mod origin;
mod rate;
pub mod routing;
mod server;

pub use caller::Caller;
pub use edge::{RequestId, edge, log_failure};
pub use error::{Refusal, problem, problem_response};
pub use extract::{App, Body, Id, Query, Text, Type, TypeAndName};
pub use guard::Routes;
pub use identify::{Found, Identities, Lookup, PLAIN_COOKIE, SECURE_COOKIE};
pub use origin::Origin;
pub use rate::Rates;
pub use server::{ACCEPT_RETRY, Config, connection, door, serve, unknown_method, unknown_path};
