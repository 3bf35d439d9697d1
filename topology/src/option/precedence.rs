//! Whose item counts where several sources name one of a kind.

use super::items::Items;
use super::kinds::ItemKind;

impl Items {
    /// These items, completed by `fallback` where a kind is not named.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        let mut both = self.clone();
        for item in fallback.iter() {
            both.add(item);
        }
        both
    }

    /// Drops the items of the kinds in `locked`; gives back the kinds that were named.
    pub fn drop_kinds(&mut self, locked: &[ItemKind]) -> Vec<ItemKind> {
        let mut dropped = locked.to_vec();
        dropped.retain(|kind| self.remove(*kind));
        dropped
    }
}
