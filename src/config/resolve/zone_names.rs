//! Advice on time zones that are not known.

use crate::ccfs::parse_zone;

/// Returns the zone that an unknown one may mean, or the forms that are known.
pub(super) fn zone_help(written: &str) -> String {
    match meant_zone(written) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "must be an IANA zone such as \"Asia/Shanghai\", or an offset such as \"GMT+8\""
            .to_owned(),
    }
}

fn meant_zone(written: &str) -> Option<String> {
    let name = written.trim().to_ascii_lowercase();
    if CHINA.contains(&name.as_str()) {
        return Some("Asia/Shanghai".to_owned());
    }
    if let Some(offset) = offset_of(&name) {
        return parse_zone(&offset).map(|_| offset);
    }
    if name.len() > MAX_LENGTH {
        return None;
    }
    let known = jiff::tz::db().available().map(|name| name.to_string());
    known
        .filter(|known| known.contains('/'))
        .map(|known| {
            (
                strsim::osa_distance(&name, &known.to_ascii_lowercase()),
                known,
            )
        })
        .filter(|(distance, _)| *distance <= MAX_DISTANCE)
        .min()
        .map(|(_, known)| known)
}

/// Returns `GMT+8` for `+08:00`, `UTC +8` and the like.
fn offset_of(name: &str) -> Option<String> {
    let offset = ["utc", "gmt", ""]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let offset = offset.trim();
    let (sign, digits) = offset.split_at_checked(1)?;
    if !matches!(sign, "+" | "-") {
        return None;
    }
    let (hours, minutes) = match digits.trim().split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits.trim(), "00"),
    };
    let hours: u8 = hours.parse().ok()?;
    Some(match minutes {
        "00" | "0" => format!("GMT{sign}{hours}"),
        minutes => format!("GMT{sign}{hours}:{minutes}"),
    })
}

/// Every zone's name is shorter; the distance takes quadratic time.
const MAX_LENGTH: usize = 64;

/// Edits between a name and the one it is taken for. Our choice: fewer than between two names.
const MAX_DISTANCE: usize = 2;

/// What people call the time of China, beside the IANA name.
const CHINA: [&str; 10] = [
    "asia/beijing",
    "asia/peking",
    "asia/shenzhen",
    "beijing",
    "china",
    "china standard time",
    "cst",
    "cst-8",
    "cst+8",
    "shanghai",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_people_mean_is_suggested() {
        for (written, meant) in [
            ("Asia/Beijing", "Asia/Shanghai"),
            ("CST", "Asia/Shanghai"),
            ("+08:00", "GMT+8"),
            ("+0530", "GMT+5:30"),
            ("UTC +8", "GMT+8"),
            ("-3", "GMT-3"),
            ("Asia/Shangai", "Asia/Shanghai"),
            ("Europe/Berln", "Europe/Berlin"),
        ] {
            assert_eq!(meant_zone(written).as_deref(), Some(meant), "{written}");
        }
        for written in ["", "+", "nowhere at all", "Asia/Shangri-La", "+99:00"] {
            assert_eq!(meant_zone(written), None, "{written}");
        }
    }
}
