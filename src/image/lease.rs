//! Leases: what must outlive a collection although nothing names it yet.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Digest;

/// All leases of a store. The lock is held for map operations only, and always inside the store's.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    held: HashMap<u64, HashSet<Digest>>,
}

/// The entry of one lease; removed when dropped.
#[derive(Debug)]
pub(super) struct LeaseEntry {
    leases: Leases,
    id: u64,
}

impl Leases {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Map operations cannot leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self) -> LeaseEntry {
        let mut table = self.table();
        table.next += 1;
        let id = table.next;
        table.held.insert(id, HashSet::new());
        LeaseEntry { leases: self.clone(), id }
    }

    pub(super) fn all(&self) -> HashSet<Digest> {
        self.table().held.values().flatten().copied().collect()
    }
}

impl LeaseEntry {
    pub(super) fn hold(&self, digest: Digest) {
        self.leases.table().held.entry(self.id).or_default().insert(digest);
    }
}

impl Drop for LeaseEntry {
    fn drop(&mut self) {
        self.leases.table().held.remove(&self.id);
    }
}
