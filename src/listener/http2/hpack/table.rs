//! The static and the dynamic table (RFC 7541, 2.3), of each entry only what the observer needs.

use std::collections::VecDeque;

/// What a field name is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum NameKind {
    /// `:path`.
    Path,
    /// Another name that begins with a colon (RFC 9113, 8.3).
    PseudoHeader,
    #[default]
    Regular,
}

/// One entry of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) name: NameKind,
    /// A `#` is in the value.
    pub(super) has_fragment: bool,
    pub(super) name_length: u16,
    value_length: u16,
}

impl Entry {
    /// RFC 7541, 4.1.
    fn size(&self) -> usize {
        usize::from(self.name_length) + usize::from(self.value_length) + ENTRY_OVERHEAD
    }
}

/// The dynamic table, which the client's encoder controls.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
}

impl Default for DynamicTable {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: MAX_SIZE,
        }
    }
}

impl DynamicTable {
    /// Returns an entry of the joint address space (RFC 7541, 2.3.3).
    pub(super) fn get(&self, index: usize) -> Option<Entry> {
        let index = index.checked_sub(1)?;
        match STATIC_NAMES.get(index) {
            Some(&name_length) => Some(Entry {
                name: match index + 1 {
                    4 | 5 => NameKind::Path,
                    1..=14 => NameKind::PseudoHeader,
                    _ => NameKind::Regular,
                },
                // The paths of the table are `/` and `/index.html`.
                has_fragment: false,
                name_length: name_length.into(),
                // Entries of this table are not evicted.
                value_length: 0,
            }),
            None => self.entries.get(index - STATIC_NAMES.len()).copied(),
        }
    }

    /// Inserts an entry at the front and evicts the oldest ones (RFC 7541, 4.4). One that is larger than
    /// the table empties it.
    pub(super) fn insert(
        &mut self,
        (name_length, value_length): (usize, usize),
        name: NameKind,
        has_fragment: bool,
    ) {
        let size = name_length + value_length + ENTRY_OVERHEAD;
        self.evict_until(self.max_size.saturating_sub(size));
        let lengths = u16::try_from(name_length)
            .ok()
            .zip(u16::try_from(value_length).ok());
        if let Some((name_length, value_length)) = lengths
            && size <= self.max_size
        {
            self.size += size;
            self.entries.push_front(Entry {
                name,
                has_fragment,
                name_length,
                value_length,
            });
        }
    }

    /// Changes the maximum size (RFC 7541, 6.3). Returns `None` if it is more than the gateway allows.
    pub(super) fn resize(&mut self, max_size: usize) -> Option<()> {
        if max_size > MAX_SIZE {
            return None;
        }
        self.max_size = max_size;
        self.evict_until(max_size);
        Some(())
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    fn evict_until(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// SETTINGS_HEADER_TABLE_SIZE: the gateway announces no other than the default (RFC 9113, 6.5.2).
const MAX_SIZE: usize = 4096;

/// RFC 7541, 4.1.
const ENTRY_OVERHEAD: usize = 32;

/// The lengths of the names of the static table (RFC 7541, appendix A).
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, // :authority to :status
    14, 15, 15, 13, 6, 27, 3, 5, 13, 13, // accept-charset to cache-control
    19, 16, 16, 14, 16, 13, 12, 6, 4, 4, // content-disposition to date
    6, 7, 4, 4, 8, 17, 13, 8, 19, 13, // expect to if-range ...
    4, 8, 12, 18, 19, 5, 7, 7, 11, 6, // link ... server
    10, 25, 17, 10, 4, 3, 16, // set-cookie to www-authenticate
];
