//! Files without mistakes: defaults, spellings, merging.

use super::*;

#[test]
fn a_minimal_file_is_enough() {
    let place = Place::new();
    let (config, warnings) = place.parse(MINIMAL).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    println!(
        "{}",
        serde_json::to_string_pretty(&config.masked()).unwrap()
    );
    println!(
        "{}",
        place.diagnosis(
            r#"
access_keys_fil = "x"
[listeners.ccfs]
bnd = "127.0.0.1:0"
cluster = "cfs"
tls = { certificate = "gateway.pem", private_key = "other.key" }
validation = "enforced"
[clusters.ccfs]
nodes = ["https://10.0.0.1:8443", 5]
tls = { ca = "ca.pe" }
timeouts = { connect = "10 s", per_try = "20s", overall = 9 }
[access_keys.AK]
secret_key = "CANARY"
in_flight = 0
"#
        )
    );
}
