use hmac::Mac as _;

use super::super::mac::new_mac;
use super::*;

fn key(text: &str) -> Mac {
    new_mac(text.as_bytes())
}

fn signs_like(found: Option<&Mac>, text: &str) -> bool {
    let sign = |mut mac: Mac| {
        mac.update(b"message");
        mac.finalize().into_bytes()
    };
    found.is_some_and(|found| sign(found.clone()) == sign(key(text)))
}

#[test]
fn a_kept_key_is_found_by_its_prefix_and_secret_only() {
    let mut table = Table::new();
    table.insert("one", 1, key("1/one"));
    table.insert("one", 2, key("2/one"));
    table.insert("two", 1, key("1/two"));

    assert!(signs_like(table.get("one", 1), "1/one"));
    assert!(signs_like(table.get("one", 2), "2/one"));
    assert!(signs_like(table.get("two", 1), "1/two"));
    assert!(table.get("two", 2).is_none());
    assert!(table.get("three", 1).is_none());
}

#[test]
fn the_hash_alone_never_decides() {
    for (prefix, secret_id) in [("two", 1), ("one", 2)] {
        let mut table = Table::new();
        table.insert("one", 1, key("1/one"));
        let mut entry = table.sets.iter_mut().flatten().find_map(Option::take);
        let hash = table.hash(prefix, secret_id);
        entry.as_mut().unwrap().hash = hash;
        table.set(hash)[0] = entry;

        assert!(table.get(prefix, secret_id).is_none());
    }
}

#[test]
fn the_table_is_bounded_and_the_least_recently_used_goes() {
    let mut table = Table::new();
    for index in 0..30_000 {
        table.insert("hot", 0, key("hot"));
        table.insert(&format!("prefix {index}"), index, key("cold"));
        assert!(signs_like(table.get("hot", 0), "hot"));
    }
    let kept = table.sets.iter().flatten().flatten().count();
    assert!(kept <= SETS * WAYS);

    let mut table = Table::new();
    let first = table.hash("a", 0);
    let rivals: Vec<u64> = (1..)
        .filter(|id| table.hash("a", *id) % SETS as u64 == first % SETS as u64)
        .take(WAYS)
        .collect();
    table.insert("a", 0, key("first"));
    for id in &rivals[..WAYS - 1] {
        table.insert("a", *id, key("rival"));
    }
    assert!(
        table.get("a", 0).is_some(),
        "used again, so now the youngest"
    );
    table.insert("a", rivals[WAYS - 1], key("rival"));
    assert!(table.get("a", 0).is_some());
    assert!(table.get("a", rivals[0]).is_none());
}

#[test]
fn secrets_of_the_same_bytes_have_keys_of_their_own() {
    let (old, new) = (Secret::new(b"sk".to_vec()), Secret::new(b"sk".to_vec()));
    let copy = old.clone();
    insert("prefix", &old, key("derived"));

    assert!(get("prefix", &old).is_some());
    assert!(get("prefix", &copy).is_some());
    assert!(get("prefix", &new).is_none());
}
