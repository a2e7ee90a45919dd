//! Tests of the tree writer on trees that were made for it, good and hostile.

use super::*;
