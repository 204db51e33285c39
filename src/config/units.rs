//! Sizes and times as people write them.

use std::time::Duration;

/// Bytes: `67108864`, or a number with K, M or G (powers of 1024), as in `64M`.
///
/// # Errors
/// What to write instead.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    if !is_number(number) {
        return Err("write plain bytes, or a number with K, M or G, as in 64M".to_owned());
    }
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("write at most {} bytes", u64::MAX))
}

/// The longest time that can be set; longer than that is for ever.
const MAX_SECONDS: u64 = 366 * 24 * 60 * 60;

/// A time: seconds as in `30`, or a number with ms, s, m or h, as in `5m`; at most 366 days.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis_of_unit = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => 0,
    };
    if number.is_empty() || millis_of_unit == 0 {
        return Err("write seconds, or a number with ms, s, m or h, as in 5m".to_owned());
    }
    let millis = number.parse().ok().and_then(|number: u64| number.checked_mul(millis_of_unit));
    let millis = millis.filter(|&millis| millis <= MAX_SECONDS * 1000);
    millis.map(Duration::from_millis).ok_or_else(|| "write at most 8784h, which is 366 days".to_owned())
}

/// A time in the largest unit that says it exactly, as [`duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_and_without_a_unit() {
        for (text, expected) in [
            ("0", 0),
            ("64", 64),
            ("3K", 3 << 10),
            ("64M", 64 << 20),
            ("2G", 2 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for text in ["", "K", "x", "64m", "64MB", "64 M", "+1", "-1", "1.5M", "\u{e9}", "1\u{e9}", "K1"] {
            assert!(bytes(text).unwrap_err().contains("64M"), "{text}");
        }
        for text in ["18446744073709551616", "17179869184G"] {
            assert!(bytes(text).unwrap_err().contains("at most"), "{text}");
        }
    }

    #[test]
    fn times_with_and_without_a_unit() {
        for (text, millis, shown) in [
            ("0", 0, "0s"),
            ("30", 30_000, "30s"),
            ("30s", 30_000, "30s"),
            ("300", 300_000, "5m"),
            ("5m", 300_000, "5m"),
            ("90s", 90_000, "90s"),
            ("250ms", 250, "250ms"),
            ("2h", 7_200_000, "2h"),
            ("8784h", MAX_SECONDS * 1000, "8784h"),
        ] {
            let expected = Duration::from_millis(millis);
            assert_eq!(duration(text), Ok(expected));
            assert_eq!(duration_text(expected), shown);
            assert_eq!(duration(shown), Ok(expected));
        }
        for text in ["", "s", "x", "1.5", "-1", "+1", "5 m", "5M", "5min", "5d", "\u{e9}", "1\u{e9}"] {
            assert!(duration(text).unwrap_err().contains("as in 5m"), "{text}");
        }
        for text in ["8785h", "31622401", "18446744073709551616", "18446744073709551615h"] {
            assert!(duration(text).unwrap_err().contains("at most"), "{text}");
        }
    }
}
