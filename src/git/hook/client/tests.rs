//! Tests of the conversation, against a small server.
