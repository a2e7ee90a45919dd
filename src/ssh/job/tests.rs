//! Tests of children with pipes and terminals.
