//! Which wire a connection speaks, from its first bytes.

/// How records stand on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    /// RELP frames, which are acknowledged.
    Relp,
    /// Syslog messages, each behind its length.
    Counted,
    /// Syslog messages, each a line.
    Syslog,
    /// Lines of any text.
    Bare,
}

/// What the first bytes say; `None`: more are needed, which there are never more than 38 of. At the end of a stream, what
/// is undecided is [`Wire::Bare`].
///
/// RELP begins with `1 open 85 relp_version=` or `1 open 0` and a line end, octet counting with `120 <`, a syslog line
/// with `<`. The numbers have up to nine digits. Anything else is bare text: `404 not found`, `1 open door`.
pub(crate) fn sniff(bytes: &[u8]) -> Option<Wire> {
    match bytes {
        [] => return None,
        [b'<', ..] => return Some(Wire::Syslog),
        _ => (),
    }
    let counted = is_counted(bytes);
    let relp = is_relp(bytes);
    match (relp, counted) {
        (Some(true), _) => Some(Wire::Relp),
        (_, Some(true)) => Some(Wire::Counted),
        (Some(false), Some(false)) => Some(Wire::Bare),
        _ => None,
    }
}

fn is_counted(bytes: &[u8]) -> Option<bool> {
    let rest = behind_number(bytes)?;
    let begins = |rest| begins_with(rest, b" <");
    Some(bytes.first() != Some(&b'0') && rest.map_or(Some(false), begins)?)
}

fn is_relp(bytes: &[u8]) -> Option<bool> {
    const COMMAND: &[u8] = b" open ";
    let Some(rest) = behind_number(bytes)? else { return Some(false) };
    if !begins_with(rest, COMMAND)? {
        return Some(false);
    }
    let number = &rest[COMMAND.len()..];
    let Some(rest) = behind_number(number)? else { return Some(false) };
    let is_zero = number[..number.len() - rest.len()].iter().all(|&digit| digit == b'0');
    begins_with(rest, if is_zero { b"\n" } else { b" relp_version=" })
}

/// What stands behind a number of one to nine digits, which is at least one byte; `Some(None)` if there is no such
/// number, `None` if that is not known yet.
fn behind_number(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let digits = bytes.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    match digits {
        0 if !bytes.is_empty() => Some(None),
        10 => Some(None),
        _ if digits == bytes.len() => None,
        _ => Some(Some(&bytes[digits..])),
    }
}

/// `None` while `bytes` may still become what it looks for.
fn begins_with(bytes: &[u8], prefix: &[u8]) -> Option<bool> {
    if bytes.len() >= prefix.len() {
        return Some(bytes.starts_with(prefix));
    }
    if prefix.starts_with(bytes) { None } else { Some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_bytes_say_which_wire_it_is() {
        for (bytes, wire, decided_at) in [
            ("1 open 85 relp_version=0\n", Wire::Relp, 23),
            ("999999999 open 999999999 relp_version=", Wire::Relp, 38),
            ("1 open 0\n", Wire::Relp, 9),
            ("5 <13>a", Wire::Counted, 3),
            ("123456789 <", Wire::Counted, 11),
            ("<13>a", Wire::Syslog, 1),
            ("<html>", Wire::Syslog, 1),
            ("hello\n", Wire::Bare, 1),
            ("\n", Wire::Bare, 1),
            (" 1 open", Wire::Bare, 1),
            ("404 not found\n", Wire::Bare, 5),
            ("1 open door\n", Wire::Bare, 8),
            ("1 open 5\n", Wire::Bare, 9),
            ("1 open 5 doors\n", Wire::Bare, 10),
            ("1 open 0 relp_version=\n", Wire::Bare, 9),
            ("1 open 85 relp_versions", Wire::Bare, 23),
            ("1234567890 <", Wire::Bare, 10),
            ("1 open 1234567890 relp_version=", Wire::Bare, 17),
            ("0 <13>", Wire::Bare, 3),
            ("12\n", Wire::Bare, 3),
        ] {
            for end in 0..decided_at {
                assert_eq!(sniff(&bytes.as_bytes()[..end]), None, "{bytes:?} to {end}");
            }
            for end in decided_at..=bytes.len() {
                assert_eq!(sniff(&bytes.as_bytes()[..end]), Some(wire), "{bytes:?} to {end}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_decision_stays_and_comes_within_38_bytes(bytes in "[019 <openrlpv_siu=\\n]{0,60}") {
            let bytes = bytes.as_bytes();
            let decided: Vec<_> = (0..=bytes.len()).filter_map(|end| sniff(&bytes[..end])).collect();
            prop_assert!(decided.windows(2).all(|pair| pair[0] == pair[1]));
            prop_assert!(bytes.len() < 38 || !decided.is_empty());
            if bytes.contains(&b'\n') {
                prop_assert!(!decided.is_empty());
            }
        }
    }
}
