//! Tests of what a relayed session is made of.
