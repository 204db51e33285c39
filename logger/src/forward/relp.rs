//! RELP, the rsyslog protocol: numbered frames, each answered.
//!
//! A frame is `TXNR SP COMMAND SP DATALEN [SP DATA] LF`; one without data has neither the space nor the data. The client
//! numbers its frames 1, 2, 3 and so on, and the server answers each with a `rsp` frame of that number. Number 0 is for
//! what wants no answer: the server's `serverclose`.

use std::fmt::{self, Debug};

use crate::format::push_number;

/// The largest number of a frame; 1 comes after it.
pub(crate) const LAST_TXNR: u32 = 999_999_999;
/// Digits of a number and of a length.
const MAX_DIGITS: usize = 9;
/// Letters of a command.
const MAX_COMMAND: usize = 32;

/// What both sides say when a connection is opened.
const OFFERS: &str =
    concat!("relp_version=0\nrelp_software=cloudstore,", env!("CARGO_PKG_VERSION"), "\ncommands=syslog");

/// What stands before the data of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) txnr: u32,
    pub(crate) command: &'a [u8],
    pub(crate) data_len: usize,
}

/// A whole frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) txnr: u32,
    pub(crate) command: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// These bytes are no RELP.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RelpError {
    #[error("{0} where a frame's number belongs, which has 1 to 9 digits and a space behind it")]
    Txnr(Excerpt),
    #[error("{0} where a command belongs, which has 1 to 32 letters and a space behind it")]
    Command(Excerpt),
    #[error(
        "{0} where the length of the data belongs, which has 1 to 9 digits, then a space and the data, or a line end \
         if it is 0"
    )]
    DataLen(Excerpt),
    #[error("a frame with {len} bytes of data, when at most {max} are taken")]
    TooLong { len: usize, max: usize },
    #[error("{0} where a line end belongs, behind the data of a frame")]
    Trailer(Excerpt),
    #[error("the answer {0}, which begins with no code of three digits and a space")]
    Response(Excerpt),
    #[error("the offers {0}, of which one is no NAME=VALUE")]
    Offer(Excerpt),
}

/// The first bytes of what came, for a message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Excerpt(Vec<u8>);

impl Excerpt {
    const MAX: usize = 40;

    pub(crate) fn of(bytes: &[u8]) -> Excerpt {
        Excerpt(bytes[..bytes.len().min(Excerpt::MAX)].to_vec())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number behind this one.
pub(crate) fn next_txnr(txnr: u32) -> u32 {
    if txnr >= LAST_TXNR { 1 } else { txnr + 1 }
}

/// What stands before the data, and how long it is, with the space in front of the data. `data_len` bytes and a line end
/// follow. `None`: more bytes are needed, which there are never more than 53 of.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, RelpError> {
    let Some((txnr, rest)) = digits(bytes).map_err(|()| RelpError::Txnr(Excerpt::of(bytes)))? else {
        return Ok(None);
    };
    let [b' ', rest @ ..] = rest else { return Err(RelpError::Txnr(Excerpt::of(bytes))) };

    let refused = || RelpError::Command(Excerpt::of(rest));
    let len = rest.iter().take(MAX_COMMAND + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
    if len > MAX_COMMAND {
        return Err(refused());
    }
    let (command, rest) = rest.split_at(len);
    let rest = match rest {
        [] => return Ok(None),
        [b' ', rest @ ..] if len > 0 => rest,
        _ => return Err(refused()),
    };

    let refused = || RelpError::DataLen(Excerpt::of(rest));
    let Some((data_len, rest)) = digits(rest).map_err(|()| refused())? else { return Ok(None) };
    let rest = match (data_len, rest) {
        (0, [b'\n', ..]) => rest,
        (1.., [b' ', rest @ ..]) => rest,
        _ => return Err(refused()),
    };
    let head = Head { txnr, command, data_len: data_len as usize };
    Ok(Some((head, bytes.len() - rest.len())))
}

/// A number and what stands behind it, which is at least one byte; `None` while that is not there.
fn digits(bytes: &[u8]) -> Result<Option<(u32, &[u8])>, ()> {
    let len = bytes.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if len > MAX_DIGITS || (len == 0 && !bytes.is_empty()) {
        return Err(());
    }
    let (digits, rest) = bytes.split_at(len);
    let number = digits.iter().fold(0, |number: u32, digit| number * 10 + u32::from(digit - b'0'));
    Ok((!rest.is_empty()).then_some((number, rest)))
}

/// A whole frame and its length in bytes; `None`: more bytes are needed.
pub(crate) fn parse_frame(bytes: &[u8], max_data: usize) -> Result<Option<(Frame<'_>, usize)>, RelpError> {
    let Some((Head { txnr, command, data_len }, start)) = parse_head(bytes)? else { return Ok(None) };
    if data_len > max_data {
        return Err(RelpError::TooLong { len: data_len, max: max_data });
    }
    let rest = &bytes[start..];
    match rest.get(data_len) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((Frame { txnr, command, data: &rest[..data_len] }, start + data_len + 1))),
        Some(_) => Err(RelpError::Trailer(Excerpt::of(&rest[data_len..]))),
    }
}

/// Appends a frame. `data` must be shorter than a gigabyte, which no length of nine digits passes.
pub(crate) fn write_frame(out: &mut Vec<u8>, txnr: u32, command: &str, data: &[u8]) {
    write_head(out, txnr, command, data.len());
    out.extend_from_slice(data);
    out.push(b'\n');
}

/// Appends what stands before the data of a frame; the data and a line end are to follow.
pub(crate) fn write_head(out: &mut Vec<u8>, txnr: u32, command: &str, data_len: usize) {
    push_number(out, u64::from(txnr));
    out.push(b' ');
    out.extend_from_slice(command.as_bytes());
    out.push(b' ');
    push_number(out, data_len as u64);
    if data_len > 0 {
        out.push(b' ');
    }
}

/// The data of a client's `open`.
pub(crate) fn open_data() -> &'static [u8] {
    OFFERS.as_bytes()
}

/// The data of a server's answer to `open`.
pub(crate) fn open_response() -> Vec<u8> {
    [b"200 OK\n", OFFERS.as_bytes()].concat()
}

/// What a side says about itself in `open` or in the answer to it. What is not known is passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Offers<'a> {
    pub(crate) version: Option<&'a [u8]>,
    pub(crate) software: Option<&'a [u8]>,
    commands: Option<&'a [u8]>,
}

impl<'a> Offers<'a> {
    /// Lines of `NAME=VALUE`; empty ones are passed over.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Offers<'a>, RelpError> {
        let mut offers = Offers::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let Some(equals) = line.iter().position(|&byte| byte == b'=') else {
                return Err(RelpError::Offer(Excerpt::of(line)));
            };
            let value = Some(&line[equals + 1..]);
            match &line[..equals] {
                b"relp_version" => offers.version = value,
                b"relp_software" => offers.software = value,
                b"commands" => offers.commands = value,
                _ => (),
            }
        }
        Ok(offers)
    }

    /// Whether that side knows the command. One that names no commands at all is taken to know all.
    pub(crate) fn has_command(&self, command: &str) -> bool {
        let Some(commands) = self.commands else { return true };
        commands.split(|&byte| byte == b',').any(|known| known.trim_ascii() == command.as_bytes())
    }
}

/// The data of a `rsp` frame: `200 OK`, and behind a line end what the command asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Response<'a> {
    pub(crate) code: u16,
    pub(crate) text: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> Response<'a> {
    /// The answer to `close` has no data at all; it is read as `200`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Response<'a>, RelpError> {
        if bytes.is_empty() {
            return Ok(Response { code: 200, text: b"", data: b"" });
        }
        let (head, data) = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) => (&bytes[..end], &bytes[end + 1..]),
            None => (bytes, &b""[..]),
        };
        let text = match head.get(3..) {
            Some([]) => b"",
            Some([b' ', text @ ..]) => text,
            _ => return Err(RelpError::Response(Excerpt::of(bytes))),
        };
        let mut code = 0;
        for digit in &head[..3] {
            if !digit.is_ascii_digit() {
                return Err(RelpError::Response(Excerpt::of(bytes)));
            }
            code = code * 10 + u16::from(digit - b'0');
        }
        Ok(Response { code, text, data })
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.code == 200
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(txnr: u32, command: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, txnr, command, data);
        out
    }

    #[test]
    fn frames_as_they_stand_on_the_wire() {
        assert_eq!(frame(1, "syslog", b"hello"), b"1 syslog 5 hello\n");
        assert_eq!(frame(LAST_TXNR, "close", b""), b"999999999 close 0\n");
        assert_eq!(frame(0, "serverclose", b""), b"0 serverclose 0\n");
    }

    #[test]
    fn numbers_begin_again() {
        assert_eq!(next_txnr(1), 2);
        assert_eq!(next_txnr(LAST_TXNR - 1), LAST_TXNR);
        assert_eq!(next_txnr(LAST_TXNR), 1);
        assert_eq!(next_txnr(u32::MAX), 1);
    }

    #[test]
    fn what_is_no_frame_is_refused_with_what_came() {
        use RelpError::{Command, DataLen, Trailer, Txnr};
        type Case = (&'static [u8], fn(Excerpt) -> RelpError, &'static [u8]);
        let cases: [Case; 18] = [
            (b"x", Txnr, b"x"),
            (b" 1", Txnr, b" 1"),
            (b"-1 open 0\n", Txnr, b"-1 open 0\n"),
            (b"1234567890", Txnr, b"1234567890"),
            (b"1\n", Txnr, b"1\n"),
            (b"1  open", Command, b" open"),
            (b"1 op3n", Command, b"op3n"),
            (b"1 open\n", Command, b"open\n"),
            (b"1 abcdefghijklmnopqrstuvwxyzabcdefg", Command, b"abcdefghijklmnopqrstuvwxyzabcdefg"),
            (b"1 open x", DataLen, b"x"),
            (b"1 open \n", DataLen, b"\n"),
            (b"1 open 5\n", DataLen, b"5\n"),
            (b"1 open 0 ", DataLen, b"0 "),
            (b"1 open -1", DataLen, b"-1"),
            (b"1 open 1000000000", DataLen, b"1000000000"),
            (b"1 open 00 \n", DataLen, b"00 \n"),
            (b"1 syslog 2 abc", Trailer, b"c"),
            (b"1 syslog 1 \n\r\n", Trailer, b"\r\n"),
        ];
        for (bytes, error, came) in cases {
            assert_eq!(parse_frame(bytes, 100), Err(error(Excerpt::of(came))), "{}", bytes.escape_ascii());
        }
        assert_eq!(parse_frame(b"1 syslog 101 ", 100), Err(RelpError::TooLong { len: 101, max: 100 }));
        let said = parse_frame(b"GET / HTTP/1.1\r\n", 100).unwrap_err().to_string();
        assert!(said.starts_with("\"GET / HTTP/1.1\\r\\n\" where a frame's number belongs"), "{said}");
    }

    #[test]
    fn a_head_is_there_before_its_data() {
        assert_eq!(parse_head(b"7 syslog 999999999"), Ok(None));
        let head = Head { txnr: 7, command: b"syslog", data_len: 999_999_999 };
        assert_eq!(parse_head(b"7 syslog 999999999 ab"), Ok(Some((head, 19))));
    }

    #[test]
    fn offers_are_read_and_unknown_ones_passed_over() {
        let ours = Offers::parse(open_data()).unwrap();
        assert_eq!(ours.version, Some(&b"0"[..]));
        assert!(ours.software.unwrap().starts_with(b"cloudstore,"));
        assert!(ours.has_command("syslog") && !ours.has_command("starttls"));
        let librelp = b"\nrelp_version=1\r\nrelp_software=librelp,1.2.14,http://librelp.adiscon.com\n\
                        commands=starttls, syslog\nx=\n";
        let offers = Offers::parse(librelp).unwrap();
        assert_eq!(offers.version, Some(&b"1"[..]));
        assert!(offers.has_command("syslog") && !offers.has_command("sys"));
        assert!(Offers::parse(b"").unwrap().has_command("syslog"));
        assert_eq!(Offers::parse(b"a=b\nc"), Err(RelpError::Offer(Excerpt::of(b"c"))));
    }

    #[test]
    fn responses_are_read() {
        let open = open_response();
        let response = Response::parse(&open).unwrap();
        assert_eq!((response.code, response.text, response.data), (200, &b"OK"[..], open_data()));
        assert!(response.is_ok());
        assert!(Response::parse(b"").unwrap().is_ok());
        assert!(Response::parse(b"200").unwrap().is_ok());
        let refused = Response::parse(b"500 error: no space\nx").unwrap();
        assert_eq!((refused.code, refused.text, refused.data), (500, &b"error: no space"[..], &b"x"[..]));
        for bytes in [&b"20"[..], b"20\n", b"2000", b"200OK", b"2x0 OK", b" 200", b"\n200 OK"] {
            assert_eq!(Response::parse(bytes), Err(RelpError::Response(Excerpt::of(bytes))));
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_and_every_beginning_is_incomplete(
            txnr in 0..=LAST_TXNR,
            command in "[a-zA-Z]{1,32}",
            data in proptest::collection::vec(any::<u8>(), 0..200),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = frame(txnr, &command, &data);
            let len = bytes.len();
            for end in 0..len {
                prop_assert_eq!(parse_frame(&bytes[..end], 200), Ok(None));
            }
            bytes.extend_from_slice(&behind);
            let expected = Frame { txnr, command: command.as_bytes(), data: &data };
            prop_assert_eq!(parse_frame(&bytes, 200), Ok(Some((expected, len))));
        }

        #[test]
        fn any_bytes_are_a_frame_or_none_and_more_bytes_do_not_change_that(
            bytes in "[0-9a-z \\n]{0,40}",
            more in "[0-9a-z \\n]{0,10}",
        ) {
            let now = parse_frame(bytes.as_bytes(), 30);
            let longer = [bytes.as_bytes(), more.as_bytes()].concat();
            match now {
                Ok(None) => (),
                Ok(Some(_)) => prop_assert_eq!(now, parse_frame(&longer, 30)),
                Err(_) => prop_assert!(parse_frame(&longer, 30).is_err()),
            }
        }

        #[test]
        fn no_bytes_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_frame(&bytes, 30);
            let _ = Offers::parse(&bytes);
            let _ = Response::parse(&bytes);
        }
    }
}
