//! Names that both ends of the control socket agree on.

/// What every path begins with; a change that breaks clients gets a new number.
pub const API_PREFIX: &str = "/api/v1";

/// The request header by which a trusted caller names the person it acts for.
pub const ACTOR_HEADER: &str = "x-staithe-actor";

/// The request header by which a trusted caller tells from which address that person came.
pub const ACTOR_FROM_HEADER: &str = "x-staithe-actor-from";

/// The request header by which a trusted caller tells by which door that person came, if not `ssh`.
pub const ACTOR_VIA_HEADER: &str = "x-staithe-actor-via";

/// The answer header that the server's log carries as well.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// What `run`, `enter` and `ssh/exec` upgrade the connection to (RFC 9110 §7.8): frames both ways.
pub const SESSION_PROTOCOL: &str = "staithe-session";

/// Media type of operations, logs and build output: one JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";

/// Media type of server-sent events (WHATWG HTML §9.2).
pub const SSE: &str = "text/event-stream";

/// Media type of errors (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";
