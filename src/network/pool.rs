//! The numbering plan: which container has which pair of addresses.
