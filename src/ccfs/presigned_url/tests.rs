use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn seconds(url: &str) -> Option<i64> {
    expires_at(url).map(Timestamp::as_second)
}

fn with_query(query: &str) -> Option<i64> {
    seconds(&format!(
        "https://bucket.obs.example.com/ccfs/a%26Expires%3D1.wav?{query}"
    ))
}

#[test]
fn samples_of_the_official_sdk() {
    let samples = include_str!("../../../tests/vectors/obs-urls.json");
    let samples: Vec<Value> = serde_json::from_str(samples).unwrap();
    assert_eq!(samples.len(), 4);
    for sample in samples {
        let url = sample["url"].as_str().unwrap();
        assert_eq!(
            seconds(url),
            sample["expires_at"].as_i64(),
            "{}",
            sample["name"]
        );
    }
}

#[test]
fn readable() {
    let readable = [
        // The order of the parameters is free, others may stand anywhere between.
        "AccessKeyId=A&Expires=1637936620&Signature=S%3D",
        "Signature=S&x-obs-security-token=T%26Expires%3D1&Expires=1637936620&AccessKeyId=A",
        "AWSAccessKeyId=A&Expires=1637936620&Signature=S",
        // A name and a value may be encoded.
        "AccessKeyId=A&%45xpires=%31637936620&Signature=S",
        "response-expires=1&AccessKeyId=A&Expires=1637936620&Signature=a/b+c=",
        "AccessKeyId=A&Expires=1637936620&Signature=S#Expires=1",
        "X-Amz-Date=20211126T062340Z&X-Amz-Expires=28800&X-Amz-Signature=S",
        "&&AccessKeyId=A&Expires=1637936620&Signature=S&",
    ];
    for query in readable {
        assert_eq!(with_query(query), Some(1_637_936_620), "{query}");
    }
    for url in [
        "HTTPS://h:443/p?AccessKeyId=A&Expires=5&Signature=S",
        "http://[::1]?AccessKeyId=A&Expires=5&Signature=S",
    ] {
        assert_eq!(seconds(url), Some(5), "{url}");
    }
}

#[test]
fn unreadable() {
    let unreadable = [
        "",
        "Expires=1637936620",
        "AccessKeyId=A&Expires=1637936620",
        "Expires=1637936620&Signature=S",
        "AccessKeyId=&Expires=1637936620&Signature=S",
        "AccessKeyId=A&Expires=1637936620&Signature",
        // Two responses.
        "AccessKeyId=A&Expires=1637936620&Expires=1637936620&Signature=S",
        "AccessKeyId=A&Expires=1637936620&%45xpires=5&Signature=S",
        "AccessKeyId=A&AWSAccessKeyId=A&Expires=1637936620&Signature=S",
        "AccessKeyId=A&Expires=1637936620&Signature=S&X-Amz-Expires=1",
        "X-Amz-Date=20211126T062340Z&X-Amz-Expires=1&X-Amz-Signature=S&Expires=5",
        // Names in another case.
        "AccessKeyId=A&expires=1637936620&Signature=S",
        "AccessKeyId=A&Expires=1637936620&expires=5&Signature=S",
        "AccessKeyId=A&amp;Expires=1637936620&amp;Signature=S",
        // Not a plain number, or no year of ours.
        "AccessKeyId=A&Expires=+1637936620&Signature=S",
        "AccessKeyId=A&Expires=-1&Signature=S",
        "AccessKeyId=A&Expires=1637936620.5&Signature=S",
        "AccessKeyId=A&Expires=0x61a0&Signature=S",
        "AccessKeyId=A&Expires=1637936620000&Signature=S",
        "AccessKeyId=A&Expires=999999999999&Signature=S",
        "AccessKeyId=A&Expires=%D9%A1&Signature=S",
        "AccessKeyId=A&Expires=16379%3&Signature=S",
        "AccessKeyId=A&Expires=1637936620&Signature=%ff",
        // The parts of version 4.
        "X-Amz-Date=20211126T062340Z&X-Amz-Expires=28800",
        "X-Amz-Date=20211126T062340&X-Amz-Expires=28800&X-Amz-Signature=S",
        "X-Amz-Date=2021-11-26T06:23:40Z&X-Amz-Expires=28800&X-Amz-Signature=S",
        "X-Amz-Date=20211326T062340Z&X-Amz-Expires=28800&X-Amz-Signature=S",
        "X-Amz-Date=20210230T062340Z&X-Amz-Expires=28800&X-Amz-Signature=S",
        "X-Amz-Date=20211126T062360Z&X-Amz-Expires=28800&X-Amz-Signature=S",
        "X-Amz-Date=20211126T062340Z&X-Amz-Expires=604801&X-Amz-Signature=S",
        "X-Amz-Date=20211126T062340Z&X-Amz-Expires=8h&X-Amz-Signature=S",
    ];
    for query in unreadable {
        assert_eq!(with_query(query), None, "{query}");
    }
}

#[test]
fn what_is_no_plain_http_url_is_unreadable() {
    let parameters = "AccessKeyId=A&Expires=5&Signature=S";
    for before in [
        "",
        "obs://h/p?",
        "//h/p?",
        "https:///p?",
        "https://?",
        "https://user@h/p?",
        "https://user:password@h/p?",
        "https://h/p#?",
        "https://h/a b?",
        "https://h/\u{e4}?",
        "https://h/{p}?",
        "https://h/\\?",
        "https://h/p&",
    ] {
        assert_eq!(seconds(&format!("{before}{parameters}")), None, "{before}");
    }
}

proptest! {
    #[test]
    fn never_panics(url in any::<String>()) {
        expires_at(&url);
        expires_at(&format!("https://h/p?{url}"));
        expires_at(&format!("https://h/p?X-Amz-Signature=S&X-Amz-Expires=1&X-Amz-Date={url}"));
    }

    #[test]
    fn the_order_of_parameters_is_free(
        expires in 0_i64..253_402_207_200,
        order in Just(vec![
            "AccessKeyId=A".to_owned(),
            "Signature=a%26Expires%3D1".to_owned(),
            "x-obs-security-token=Expires%3D2".to_owned(),
            "response-expires=3".to_owned(),
        ]).prop_shuffle(),
        place in 0_usize..5,
    ) {
        let mut order = order;
        order.insert(place, format!("Expires={expires}"));
        prop_assert_eq!(with_query(&order.join("&")), Some(expires));
    }

    #[test]
    fn a_date_and_a_lifetime_add_up(signed_at in 0_i64..4_102_444_800, lifetime in 0_i64..=604_800) {
        let date = Timestamp::from_second(signed_at).unwrap().strftime("%Y%m%dT%H%M%SZ");
        let query = format!("X-Amz-Signature=S&X-Amz-Expires={lifetime}&X-Amz-Date={date}");
        prop_assert_eq!(with_query(&query), Some(signed_at + lifetime));
    }
}
