//! The lists of phones that the indices are made of.

use std::collections::HashMap;

use crate::token::InstanceId;

/// A list of an index: mostly of one phone, where a growing `Vec` would take room for four.
pub(super) fn one() -> Vec<InstanceId> {
    Vec::with_capacity(1)
}

/// Takes an id out of one list of an index, and the list with it when it was the last.
pub(super) fn drop_id<K, Q, S>(index: &mut HashMap<K, Vec<InstanceId>, S>, key: &Q, id: InstanceId)
where
    S: std::hash::BuildHasher,
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|i| *i != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
