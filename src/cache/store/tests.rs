use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// What [`Store`] promises, without its structure: entries from the newest to the oldest.
#[derive(Default)]
struct Model {
    entries: Vec<(u8, u32, u32)>,
    max_weight: u64,
}

impl Model {
    fn get(&mut self, key: u8) -> Option<u32> {
        let place = self.entries.iter().position(|(known, ..)| *known == key)?;
        let entry = self.entries.remove(place);
        self.entries.insert(0, entry);
        Some(entry.1)
    }

    fn insert(&mut self, key: u8, value: u32, weight: u32) -> bool {
        self.entries.retain(|(known, ..)| *known != key);
        if u64::from(weight) > self.max_weight {
            return false;
        }
        self.entries.insert(0, (key, value, weight));
        while self.weight() > self.max_weight {
            self.entries.pop();
        }
        true
    }

    fn weight(&self) -> u64 {
        self.entries
            .iter()
            .map(|(.., weight)| u64::from(*weight))
            .sum()
    }
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Insert(u8, u32, u32),
    Remove(u8),
    RemoveOdd,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..24u8).prop_map(Step::Get),
        6 => (0..24u8, any::<u32>(), 1..60u32).prop_map(|(key, value, weight)| Step::Insert(key, value, weight)),
        1 => (0..24u8).prop_map(Step::Remove),
        1 => Just(Step::RemoveOdd),
    ]
}

proptest! {
    /// One shard is an exact LRU: at each step it holds what the model holds, and evicts in its order.
    #[test]
    fn a_shard_evicts_what_was_not_used_for_longest(
        steps in proptest::collection::vec(step(), 0..200),
        max_weight in 1..400u64,
    ) {
        let store = Store::new(max_weight);
        let mut model = Model { max_weight, ..Model::default() };
        for step in steps {
            match step {
                Step::Get(key) => prop_assert_eq!(store.get(&key), model.get(key)),
                Step::Insert(key, value, weight) => {
                    let is_stored = store.insert(key, value, weight);
                    prop_assert_eq!(is_stored, model.insert(key, value, weight));
                }
                Step::Remove(key) => {
                    store.remove(&key);
                    model.entries.retain(|(known, ..)| *known != key);
                }
                Step::RemoveOdd => {
                    let before = model.entries.len();
                    model.entries.retain(|(key, ..)| key % 2 == 0);
                    let removed = store.remove_if(|key, _| key % 2 == 1);
                    prop_assert_eq!(removed, before - model.entries.len());
                }
            }
            prop_assert_eq!(store.size(), (model.entries.len() as u64, model.weight()));
            let mut held = HashSet::new();
            store.for_each(|key, value| { held.insert((*key, *value)); });
            let expected = model.entries.iter().map(|(key, value, _)| (*key, *value));
            prop_assert_eq!(held, expected.collect::<HashSet<_>>());
        }
    }
}

/// Many shards, many threads: the bound holds, what was stored last is there, and the sums are right.
#[test]
fn threads_share_the_bound_and_lose_nothing_that_fits() {
    let store = Store::new(64 << 20);
    assert_eq!(store.shards.len(), 64);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..20_000u64 {
                    let key = thread << 32 | number;
                    assert!(store.insert(key, number, 8 << 10));
                    assert_eq!(store.get(&key), Some(number), "stored last");
                    if number % 7 == 0 {
                        store.remove(&key);
                    }
                    let (_, weight) = (0, store.weight.load(Ordering::Relaxed));
                    // Each other thread may be about to evict for one of its own.
                    assert!(weight <= (64 << 20) + 4 * (8 << 10), "{weight}");
                }
            });
        }
    });
    let (count, weight) = store.size();
    assert_eq!(weight, count * (8 << 10));
    assert!(weight <= 64 << 20 && weight > 60 << 20, "{count}");
    let removed = store.remove_if(|_, number| number % 2 == 0);
    let (left, weight) = store.size();
    assert_eq!((left + removed as u64, weight), (count, left * (8 << 10)));
    store.remove_if(|_, _| true);
    assert_eq!(store.size(), (0, 0));
}

/// A heavy entry takes the place of many, in whatever shards they are.
#[test]
fn an_entry_as_heavy_as_the_bound_evicts_all_others() {
    let store = Store::new(8 << 20);
    for key in 0..1_000u32 {
        assert!(store.insert(key, key, 1 << 10));
    }
    assert!(store.insert(5_000, 5_000, 8 << 20));
    assert_eq!(store.size(), (1, 8 << 20));
    assert_eq!(store.get(&5_000), Some(5_000));
    assert!(!store.insert(5_000, 1, (8 << 20) + 1), "it never fits");
    assert_eq!(
        store.get(&5_000),
        None,
        "what it would have replaced is gone"
    );
}
