//! Spreadsheets as people keep them.

use super::*;

fn imported(bytes: &[u8]) -> (String, Sheet) {
    let text = encoding::decode(bytes).unwrap();
    let sheet = Sheet::read(&text);
    let mut toml = String::new();
    sheet.rows.iter().for_each(|row| row.write(&mut toml));
    (toml, sheet)
}

fn messages(notes: &[Note]) -> Vec<String> {
    let text = |note: &Note| format!("{}:{} {}", note.line, note.column, note.message);
    notes.iter().map(text).collect()
}

const PLAIN: &str = "ak,sk,zone,rate,burst,name,plan,not_after\n\
    a1,s1,Asia/Shanghai,50,100,坐席一组,standard,2026-12-31\n\
    \n\
    a2, s2 ,GMT+8,12/min,,\"Desk, two\",,2026-12-31T23:59:59+08:00\n\
    ,,,,,,,\n\
    a3,\"s\"\"3\\\",UTC,500/h,20,,,2026/12/31\n";

const MADE: &str = r#"[access_keys.a1]
secret_key = "s1"
time_zone = "Asia/Shanghai"
plan = "standard"
name = "坐席一组"
rate_limit = { per_second = 50, burst = 100 }
not_after = 2026-12-31T16:00:00Z

[access_keys.a2]
secret_key = "s2"
time_zone = "GMT+8"
name = "Desk, two"
rate_limit = { per_minute = 12 }
not_after = 2026-12-31T15:59:59Z

[access_keys.a3]
secret_key = 's"3\'
time_zone = "UTC"
rate_limit = { per_hour = 500, burst = 20 }
not_after = 2027-01-01T00:00:00Z

"#;

#[test]
fn every_encoding_and_separator_makes_the_same_file() {
    let utf16 = |order: fn(u16) -> [u8; 2], mark: &[u8]| -> Vec<u8> {
        let units = PLAIN.encode_utf16().flat_map(order);
        mark.iter().copied().chain(units).collect()
    };
    let (gbk, _, _) = encoding_rs::GBK.encode(PLAIN);
    let semicolons = PLAIN
        .replace("\"Desk, two\"", "Desk# two")
        .replace(',', ";")
        .replace('#', ",");
    let tabs = PLAIN
        .replace("\"Desk, two\"", "Desk# two")
        .replace(',', "\t")
        .replace('#', ",");
    for (what, bytes) in [
        ("UTF-8", PLAIN.as_bytes().to_vec()),
        ("BOM", format!("\u{feff}{PLAIN}").into_bytes()),
        ("CRLF", PLAIN.replace('\n', "\r\n").into_bytes()),
        ("GBK", gbk.into_owned()),
        ("UTF-16LE", utf16(u16::to_le_bytes, b"\xff\xfe")),
        ("UTF-16BE", utf16(u16::to_be_bytes, b"\xfe\xff")),
        ("UTF-16LE without a mark", utf16(u16::to_le_bytes, b"")),
        ("semicolons", semicolons.into_bytes()),
        ("tabs", tabs.into_bytes()),
    ] {
        let (toml, sheet) = imported(&bytes);
        assert_eq!(messages(&sheet.errors), [""; 0], "{what}");
        let parsed = |text: &str| toml::from_str::<toml::Value>(text).unwrap();
        assert_eq!(parsed(&toml), parsed(MADE), "{what}: {toml}");
    }
}

#[test]
fn mistakes_have_line_and_column_and_show_no_cell() {
    let text = "AK;SK;Zone;Rate;Burst;Not after;Remark\n\
        CANARY/1;CANARY;Mars;CANARY;5;\n\
        a2;;UTC;;5;CANARY\n\
        2.79E+15;CANARY;UTC\n\
        a4;CANARY;UTC;1;;;;CANARY\n\
        a5;CANARY;UTC\n\
        a5;CANARY;UTC\n\
        a5;CANARY2;UTC\n\
        a6;CANARY;;;;2026-12-31\n";
    let (_, sheet) = imported(text.as_bytes());
    assert_eq!(
        messages(&sheet.errors),
        [
            "2:1 not an access key",
            "2:3 unknown time zone",
            "2:4 not a rate",
            "3:2 sk is empty",
            "3:5 a burst without a rate",
            "3:6 not a date",
            "4:1 a number that the spreadsheet has shortened",
            "5:8 more cells than columns",
            "8:1 this ak is in line 6 too, with other values",
            "9:6 not a date",
        ]
    );
    assert_eq!(
        messages(&sheet.warnings),
        ["1:7 this column is not known", "7:0 the same as line 6"]
    );
    assert!(!format!("{sheet:?}").contains("CANARY"), "{sheet:?}");
}

#[test]
fn a_file_without_a_header_shows_nothing_of_it() {
    for text in [
        "CANARY,CANARY2\na,b\n",
        "",
        "ak,sk\n",
        "sk,zone\nCANARY,UTC\n",
    ] {
        let (_, sheet) = imported(text.as_bytes());
        assert_eq!(sheet.errors.len(), 1, "{text}");
        assert!(!format!("{sheet:?}").contains("CANARY"), "{sheet:?}");
    }
    let workbook = b"PK\x03\x04\x14\x00\x06\x00\xff\xff\xff";
    let error = encoding::decode(workbook).unwrap_err();
    assert!(error.help.contains("not as a workbook"));
}
