//! Heads: where one ends, and what it says. Pure: bytes in, a [`Head`] or a [`ParseError`] out.
//!
//! httparse reads lines and tokens; what it lets pass and RFC 9112 does not is refused before and after it.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{ParserConfig, Status as Parsed};
use memchr::memchr;

use super::headers::{Field, Headers, has_member, members};
use super::status::Status;
use super::uri::{Target, is_authority};

/// Which rule a message breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A line ends in LF alone.
    #[error("a line ends without CR: end lines in CR LF")]
    BareLf,
    /// A CR stands inside a line.
    #[error("a CR stands inside a line")]
    BareCr,
    /// More empty lines than any client sends come before the request.
    #[error("too many empty lines come before the message")]
    EmptyLines,
    /// The request line is not method, target and version with one space between.
    #[error("the request line is not method, target and version with one space between")]
    RequestLine,
    /// The status line is not version, code and reason.
    #[error("the status line is not version, code and reason")]
    StatusLine,
    /// The target has none of the four forms, or not the one of its method.
    #[error("the request target is malformed, or not of the form that the method takes")]
    Target,
    /// A field has no proper name: also a space before the colon, and a folded line.
    #[error("a header field has a malformed name, a space before its colon, or is folded")]
    HeaderName,
    /// A field's value has a forbidden character.
    #[error("a header field's value has a forbidden character")]
    HeaderValue,
    /// An HTTP/1.1 request without `Host`, or any with several, or with one that is no host.
    #[error("there must be one Host header field that holds a host")]
    Host,
    /// `Content-Length` is not one plain number.
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    /// `Transfer-Encoding` does not end in `chunked`, or has it twice.
    #[error("Transfer-Encoding is not chunked, once and last")]
    TransferEncoding,
    /// A transfer coding besides `chunked`.
    #[error("a transfer coding besides chunked is not implemented")]
    UnknownCoding,
    /// `Transfer-Encoding` together with `Content-Length`.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndCoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    CodingInOldVersion,
    /// A version other than HTTP/1.0 to 1.9.
    #[error("the major version is not HTTP/1")]
    Version,
    /// The target is longer than allowed.
    #[error("the request target is longer than allowed")]
    TargetTooLong,
    /// The head is longer than allowed, or has more fields.
    #[error("the head is longer than allowed, or has too many fields")]
    HeadTooLong,
    /// An expectation other than `100-continue`.
    #[error("an expectation other than 100-continue cannot be met")]
    Expectation,
    /// The chunk size is not a hexadecimal number of at most 16 digits.
    #[error("a chunk size is not a hexadecimal number of at most 16 digits")]
    ChunkSize,
    /// A chunk extension has a forbidden character, or they are too long.
    #[error("a chunk extension is malformed, or the extensions are too long")]
    ChunkExtension,
    /// A chunk does not end in CR LF.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer field is malformed, or the trailers are too long.
    #[error("a trailer field is malformed, or the trailers are too long")]
    Trailer,
}

impl ParseError {
    /// What a server answers.
    pub fn status(self) -> Status {
        Status::from(match self {
            ParseError::UnknownCoding => 501,
            ParseError::Version => 505,
            ParseError::TargetTooLong => 414,
            ParseError::HeadTooLong => 431,
            ParseError::Expectation => 417,
            _ => 400,
        })
    }
}

/// How long a head may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    /// Of the request target, in bytes.
    pub(super) target: usize,
    /// Of the whole head, in bytes.
    pub(super) head: usize,
}

/// More header fields than this are too many. They are parsed on the stack.
pub(super) const MAX_FIELDS: usize = 128;
/// What a request line has beside its target: a method of a registered length, two spaces and the version.
const BESIDE_TARGET: usize = 48;
/// RFC 9112, 2.2: at least one empty line before a request is to be overlooked.
const MOST_EMPTY_LINES: u8 = 4;

/// The way through the bytes of a head that comes in pieces. Each byte is looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Where the head begins, behind empty lines.
    start: usize,
    line: usize,
    seen: usize,
    empty: u8,
    has_first_line: bool,
}

impl Scan {
    /// Where the head is in `bytes`, once it is whole. `bytes` begins with what it began with before, and may be longer.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<Range<usize>>, ParseError> {
        while let Some(at) = bytes.get(self.seen..).and_then(|rest| memchr(b'\n', rest)) {
            let end = self.seen + at;
            let line = &bytes[self.line..end];
            let Some(line) = line.strip_suffix(b"\r") else { return Err(ParseError::BareLf) };
            if memchr(b'\r', line).is_some() {
                return Err(ParseError::BareCr);
            }
            self.seen = end + 1;
            self.line = self.seen;
            if line.is_empty() && self.has_first_line {
                self.check_length(limits)?;
                return Ok(Some(self.start..self.seen));
            }
            if line.is_empty() {
                self.empty += 1;
                self.start = self.seen;
                if self.empty > MOST_EMPTY_LINES {
                    return Err(ParseError::EmptyLines);
                }
            } else if !self.has_first_line {
                self.has_first_line = true;
                check_target(line, limits)?;
            }
        }
        self.seen = bytes.len();
        if !self.has_first_line && self.seen - self.start > limits.target.saturating_add(BESIDE_TARGET) {
            return Err(ParseError::TargetTooLong);
        }
        self.check_length(limits)?;
        Ok(None)
    }

    fn check_length(&self, limits: &HeadLimits) -> Result<(), ParseError> {
        if self.seen - self.start > limits.head { Err(ParseError::HeadTooLong) } else { Ok(()) }
    }

    /// Whether a head has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.seen > self.start
    }
}

/// Refuses a target by its length before anything else of the line.
fn check_target(line: &[u8], limits: &HeadLimits) -> Result<(), ParseError> {
    let first = memchr(b' ', line).unwrap_or(line.len());
    let last = memchr::memrchr(b' ', line).unwrap_or(line.len());
    if last.saturating_sub(first + 1) > limits.target { Err(ParseError::TargetTooLong) } else { Ok(()) }
}

/// How a message's body is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
    /// Until the connection ends; responses alone.
    Close,
}

/// What header fields say that concerns the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    hosts: u8,
    has_length: bool,
    length: u64,
    has_coding: bool,
    is_chunked: bool,
    has_other_coding: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) headers: Headers,
    method: Range<u32>,
    target: Range<u32>,
    parts: Target,
    /// 1.1, else 1.0.
    pub(super) is_modern: bool,
    pub(super) framing: Framing,
    /// The client keeps the connection.
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
}

impl Head {
    /// Reads a whole head, as [`Scan`] delimits it, in place of what was here before.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.headers.clear();
        self.headers.bytes.extend_from_slice(bytes);
        match self.read() {
            Err(ParseError::Version) if lower_minor_version(&mut self.headers.bytes) => self.read(),
            outcome => outcome,
        }
    }

    /// Reads what the header fields have as bytes.
    fn read(&mut self) -> Result<(), ParseError> {
        let Headers { bytes, fields } = &mut self.headers;
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let outcome =
            ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut slots);
        match outcome {
            Ok(Parsed::Complete(n)) if n == bytes.len() => (),
            Ok(_) => return Err(ParseError::RequestLine),
            Err(error) => return Err(reason(error, bytes, ParseError::RequestLine)),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(ParseError::RequestLine);
        };
        self.method = place(bytes, method.as_bytes());
        self.target = place(bytes, target.as_bytes());
        self.is_modern = version >= 1;
        self.parts = Target::parse(method, target).ok_or(ParseError::Target)?;
        let mut facts = Facts::default();
        for field in request.headers.iter() {
            facts.note(field.name.as_bytes(), field.value)?;
            fields.push(field_of(bytes, field));
        }
        self.judge(&facts)
    }

    fn judge(&mut self, facts: &Facts) -> Result<(), ParseError> {
        if facts.hosts > 1 || (facts.hosts == 0 && self.is_modern) {
            return Err(ParseError::Host);
        }
        self.framing = facts.framing(self.is_modern)?.unwrap_or(Framing::None);
        self.keeps_alive = !facts.close && (self.is_modern || facts.keep_alive);
        self.expects_continue = self.is_modern && facts.expects_continue;
        Ok(())
    }

    pub(super) fn method(&self) -> &str {
        self.headers.str(&self.method)
    }

    pub(super) fn target(&self) -> &str {
        self.headers.str(&self.target)
    }

    pub(super) fn path(&self) -> &str {
        match self.part(&self.parts.path) {
            "" => "/",
            path => path,
        }
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.parts.query.as_ref().map(|query| self.part(query))
    }

    /// Of the target if it has one, else of `Host`.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.parts.authority {
            Some(authority) => Some(self.part(authority)),
            None => self.headers.text("host"),
        }
    }

    fn part(&self, range: &Range<u32>) -> &str {
        self.target().get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseHead {
    pub(super) headers: Headers,
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) keeps_alive: bool,
}

impl ResponseHead {
    /// Reads a whole head. `to_head`: it answers a HEAD request.
    pub(super) fn parse(&mut self, bytes: &[u8], to_head: bool) -> Result<(), ParseError> {
        self.headers.clear();
        self.headers.bytes.extend_from_slice(bytes);
        let Headers { bytes, fields } = &mut self.headers;
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let outcome =
            ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut slots);
        match outcome {
            Ok(Parsed::Complete(n)) if n == bytes.len() => (),
            Ok(_) => return Err(ParseError::StatusLine),
            Err(error) => return Err(reason(error, bytes, ParseError::StatusLine)),
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(ParseError::StatusLine);
        };
        if !(100..=599).contains(&status) {
            return Err(ParseError::StatusLine);
        }
        self.status = status;
        let is_modern = version >= 1;
        let mut facts = Facts::default();
        for field in response.headers.iter() {
            // A server's Host and Expect mean nothing.
            if !field.name.eq_ignore_ascii_case("host") && !field.name.eq_ignore_ascii_case("expect") {
                facts.note(field.name.as_bytes(), field.value)?;
            }
            fields.push(field_of(bytes, field));
        }
        let framing = facts.framing(is_modern)?;
        self.framing = match framing {
            _ if to_head || Status::from(status).is_bodiless() => Framing::None,
            Some(framing) => framing,
            None => Framing::Close,
        };
        let stays = if is_modern { !facts.close } else { facts.keep_alive && !facts.close };
        self.keeps_alive = stays && self.framing != Framing::Close;
        Ok(())
    }
}

impl Facts {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), ParseError> {
        // Few names have these lengths.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts = self.hosts.saturating_add(1);
                if !is_authority(value) {
                    return Err(ParseError::Host);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if self.expects_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(ParseError::Expectation);
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.close |= has_member(value, b"close");
                self.keep_alive |= has_member(value, b"keep-alive");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.has_length {
                    return Err(ParseError::ContentLength);
                }
                self.has_length = true;
                self.length = decimal(value).ok_or(ParseError::ContentLength)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.note_codings(value)?,
            _ => (),
        }
        Ok(())
    }

    fn note_codings(&mut self, value: &[u8]) -> Result<(), ParseError> {
        self.has_coding = true;
        for coding in members(value) {
            // Nothing comes after chunked.
            if self.is_chunked {
                return Err(ParseError::TransferEncoding);
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.is_chunked = true;
            } else {
                self.has_other_coding = true;
            }
        }
        Ok(())
    }

    /// `None` if nothing is said.
    fn framing(&self, is_modern: bool) -> Result<Option<Framing>, ParseError> {
        match (self.has_coding, self.has_length) {
            (true, _) if !is_modern => Err(ParseError::CodingInOldVersion),
            (true, true) => Err(ParseError::LengthAndCoding),
            (true, false) if !self.is_chunked => Err(ParseError::TransferEncoding),
            (true, false) if self.has_other_coding => Err(ParseError::UnknownCoding),
            (true, false) => Ok(Some(Framing::Chunked)),
            (false, true) if self.length == 0 => Ok(Some(Framing::None)),
            (false, true) => Ok(Some(Framing::Length(self.length))),
            (false, false) => Ok(None),
        }
    }
}

/// A plain number: digits alone, and no more than a file can have.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    i64::try_from(n).is_ok().then_some(n)
}

fn reason(error: httparse::Error, head: &[u8], first_line: ParseError) -> ParseError {
    match error {
        httparse::Error::HeaderName => ParseError::HeaderName,
        httparse::Error::HeaderValue => ParseError::HeaderValue,
        httparse::Error::NewLine if has_sound_first_line(head) => ParseError::HeaderName,
        httparse::Error::TooManyHeaders => ParseError::HeadTooLong,
        httparse::Error::Version if is_other_version(head) => ParseError::Version,
        _ => first_line,
    }
}

fn has_sound_first_line(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    [&b"HTTP/1.0"[..], b"HTTP/1.1"]
        .into_iter()
        .any(|version| line.ends_with(version) || line.starts_with(version))
}

/// Makes 1.1 of a request's HTTP/1.2 to 1.9, as which they are to be understood (RFC 9110, 2.5).
fn lower_minor_version(head: &mut [u8]) -> bool {
    let end = memchr(b'\r', head).unwrap_or(head.len());
    match head[..end].last_chunk_mut() {
        Some([b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9']) => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

/// Whether the first line names a version of HTTP, in either kind of message.
fn is_other_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let is_version = |word: &[u8]| match word.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        Some([major]) => major.is_ascii_digit(),
        _ => false,
    };
    let mut words = line.split(|&b| b == b' ');
    words.clone().count() == 3
        && (words.next().is_some_and(is_version) || words.next_back().is_some_and(is_version))
}

fn field_of(head: &[u8], field: &httparse::Header<'_>) -> Field {
    Field { name: place(head, field.name.as_bytes()), value: place(head, field.value) }
}

/// Where `part` is in `whole`, of which it is a part.
fn place(whole: &[u8], part: &[u8]) -> Range<u32> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize) as u32;
    start..start + part.len() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { target: 100, head: 400 };

    /// What a head comes to when it arrives in pieces that end at these offsets.
    fn at_cuts(
        bytes: &[u8],
        cuts: impl IntoIterator<Item = usize>,
    ) -> Result<Option<(Head, usize)>, ParseError> {
        let mut scan = Scan::default();
        for end in cuts.into_iter().chain([bytes.len()]) {
            if let Some(range) = scan.advance(&bytes[..end], &LIMITS)? {
                let mut head = Head::default();
                head.parse(&bytes[range.clone()])?;
                return Ok(Some((head, range.end)));
            }
        }
        Ok(None)
    }

    /// The same for every way to cut it once, and byte by byte.
    fn parsed(bytes: &[u8]) -> Result<Option<(Head, usize)>, ParseError> {
        let show = |outcome: &Result<Option<(Head, usize)>, ParseError>| format!("{outcome:?}");
        let whole = at_cuts(bytes, []);
        for cut in 0..bytes.len() {
            assert_eq!(show(&at_cuts(bytes, [cut])), show(&whole), "{} at {cut}", bytes.escape_ascii());
        }
        assert_eq!(show(&at_cuts(bytes, 0..bytes.len())), show(&whole), "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn a_whole_head() {
        let bytes = b"\r\nPUT /files/a%20b?x=1 HTTP/1.1\r\nHost: h:80\r\nX:  two words \t\r\nx:\r\nContent-Length: 007\r\n\r\nbody";
        let (head, end) = parsed(bytes).unwrap().unwrap();
        assert_eq!(&bytes[end..], b"body");
        assert_eq!((head.method(), head.path(), head.query()), ("PUT", "/files/a%20b", Some("x=1")));
        assert_eq!((head.host(), head.framing), (Some("h:80"), Framing::Length(7)));
        assert!(head.is_modern && head.keeps_alive && !head.expects_continue);
        assert_eq!(head.headers.get("x"), Some(&b"two words"[..]));
        assert_eq!(head.headers.all("X").collect::<Vec<_>>(), [&b"two words"[..], b""]);
        assert_eq!(head.headers.len(), 4);
    }

    #[test]
    fn what_a_connection_is_to_do() {
        for (lines, framing, keeps_alive, expects) in [
            ("", Framing::None, true, false),
            ("Connection: x, Close\r\n", Framing::None, false, false),
            ("Connection: keep-alive\r\n", Framing::None, true, false),
            ("Transfer-Encoding: Chunked\r\n", Framing::Chunked, true, false),
            ("transfer-encoding:, chunked ,\r\n", Framing::Chunked, true, false),
            ("Content-Length: 0\r\n", Framing::None, true, false),
            ("Content-Length: 9223372036854775807\r\n", Framing::Length(i64::MAX as u64), true, false),
            ("Expect: 100-Continue\r\nContent-Length: 1\r\n", Framing::Length(1), true, true),
        ] {
            let (head, _) =
                parsed(format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").as_bytes()).unwrap().unwrap();
            assert_eq!(
                (head.framing, head.keeps_alive, head.expects_continue),
                (framing, keeps_alive, expects),
                "{lines}"
            );
        }
        let (head, _) =
            parsed(b"GET http://other/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().unwrap();
        assert!(head.keeps_alive && !head.is_modern);
        assert_eq!(head.host(), Some("other"));
        for (head, keeps_alive, is_modern) in [
            ("GET / HTTP/1.0\r\n\r\n", false, false),
            ("GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false, false),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: TE, close\r\n\r\n",
                false,
                true,
            ),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", true, true),
            ("GET / HTTP/1.9\r\nHost: h\r\n\r\n", true, true),
        ] {
            let (parsed, _) = parsed(head.as_bytes()).unwrap().unwrap();
            assert_eq!((parsed.keeps_alive, parsed.is_modern), (keeps_alive, is_modern), "{head:?}");
        }
    }

    #[test]
    fn malformed_heads() {
        use ParseError::*;
        let host = "Host: h\r\n";
        let long = "x".repeat(101);
        let wide = format!("X: {}\r\n", "y".repeat(400));
        let many: String = (0..129).map(|_| "a:\r\n").collect();
        for (head, error, status) in [
            ("GET / HTTP/1.1\nHost: h\r\n\r\n".to_owned(), BareLf, 400),
            (format!("GET / HTTP/1.1\r\n{host}\n"), BareLf, 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"), BareCr, 400),
            (format!("GET / HTTP/1.1\r\r\n{host}\r\n"), BareCr, 400),
            ("\r\n\r\n\r\n\r\n\r\n".to_owned(), EmptyLines, 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"), HeaderValue, 400),
            (format!("GET /\0 HTTP/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET  / HTTP/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET /  HTTP/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET\t/ HTTP/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET / HTTP/1.1 \r\n{host}\r\n"), RequestLine, 400),
            (format!(" GET / HTTP/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("G(T / HTTP/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET /\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET / http/1.1\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET / HTTP/1.1x\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET / HTTP/2.0\r\n{host}\r\n"), Version, 505),
            (format!("GET / HTTP/0.9\r\n{host}\r\n"), Version, 505),
            (format!("GET / HTTP/1.10\r\n{host}\r\n"), RequestLine, 400),
            (format!("GET / HTTP/1.2\r\n{host}X: a\0b\r\n\r\n"), HeaderValue, 400),
            ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Version, 505),
            (format!("GET * HTTP/1.1\r\n{host}\r\n"), Target, 400),
            (format!("GET a HTTP/1.1\r\n{host}\r\n"), Target, 400),
            (format!("GET /a#b HTTP/1.1\r\n{host}\r\n"), Target, 400),
            (format!("GET / HTTP/1.1\r\n{host}X : a\r\n\r\n"), HeaderName, 400),
            (format!("GET / HTTP/1.1\r\n{host}X\r\n\r\n"), HeaderName, 400),
            (format!("GET / HTTP/1.1\r\n{host}: a\r\n\r\n"), HeaderName, 400),
            (format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), HeaderName, 400),
            (format!("GET / HTTP/1.1\r\n Host: h\r\n{host}\r\n"), HeaderName, 400),
            (format!("GET / HTTP/1.1\r\n{host}X\u{e4}: a\r\n\r\n"), HeaderName, 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), Host, 400),
            (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), Host, 400),
            (format!("GET / HTTP/1.0\r\n{host}{host}\r\n"), Host, 400),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), Host, 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), Host, 400),
            ("GET / HTTP/1.0\r\nHost: a/b\r\n\r\n".to_owned(), Host, 400),
            ("GET http://h/ HTTP/1.1\r\n\r\n".to_owned(), Host, 400),
            (format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), TargetTooLong, 414),
            (format!("GET /{}", long.repeat(2)), TargetTooLong, 414),
            (format!("GET / HTTP/1.1\r\n{host}{wide}\r\n"), HeadTooLong, 431),
            (format!("GET / HTTP/1.1\r\n{host}{wide}"), HeadTooLong, 431),
            (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), HeadTooLong, 431),
            (format!("GET / HTTP/1.1\r\n{host}Expect: 200-ok\r\n\r\n"), Expectation, 417),
        ] {
            assert_eq!(parsed(head.as_bytes()).map(|_| ()), Err(error), "{head:?}");
            assert_eq!(error.status().code(), status, "{head:?}");
        }
        for (lines, error, status) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", ContentLength, 400),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", ContentLength, 400),
            ("Content-Length: 1, 1\r\n", ContentLength, 400),
            ("Content-Length: +1\r\n", ContentLength, 400),
            ("Content-Length: -1\r\n", ContentLength, 400),
            ("Content-Length: 0x1\r\n", ContentLength, 400),
            ("Content-Length: 1 1\r\n", ContentLength, 400),
            ("Content-Length: 1.0\r\n", ContentLength, 400),
            ("Content-Length:\r\n", ContentLength, 400),
            ("Content-Length: 9223372036854775808\r\n", ContentLength, 400),
            ("Content-Length: 99999999999999999999999\r\n", ContentLength, 400),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding, 400),
            ("Transfer-Encoding: chunked\r\ncontent-length: 0\r\n", LengthAndCoding, 400),
            ("Transfer-Encoding: gzip\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: identity\r\n", TransferEncoding, 400),
            ("Transfer-Encoding:\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: chunked, gzip\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: chunked;a=b\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: \"chunked\"\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: xchunked\r\n", TransferEncoding, 400),
            ("Transfer-Encoding: \x0bchunked\r\n", HeaderValue, 400),
            ("Transfer-Encoding : chunked\r\n", HeaderName, 400),
            ("Transfer-Encoding:\r\n chunked\r\n", HeaderName, 400),
            ("Transfer-Encoding: gzip, chunked\r\n", UnknownCoding, 501),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", UnknownCoding, 501),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{host}{lines}\r\n");
            assert_eq!(parsed(head.as_bytes()).map(|_| ()), Err(error), "{head:?}");
            assert_eq!(error.status().code(), status, "{head:?}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parsed(old).map(|_| ()), Err(CodingInOldVersion));
    }

    #[test]
    fn every_prefix_of_a_head_is_partial() {
        let bytes = b"GET /a?b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n";
        for n in 0..bytes.len() {
            assert!(at_cuts(&bytes[..n], 0..n).unwrap().is_none(), "{n}");
        }
    }

    #[test]
    fn raw_utf_8_in_a_target_is_taken_as_it_is() {
        let (head, _) = parsed("GET /ä HTTP/1.1\r\nHost: h\r\n\r\n".as_bytes()).unwrap().unwrap();
        assert_eq!(head.path(), "/ä");
        assert!(parsed(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n").is_err());
    }

    fn response(bytes: &[u8], to_head: bool) -> Result<ResponseHead, ParseError> {
        let mut head = ResponseHead::default();
        head.parse(bytes, to_head).map(|()| head)
    }

    #[test]
    fn responses() {
        for (head, to_head, status, framing, keeps_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, 200, Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, 200, Framing::None, true),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false, 200, Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n", false, 200, Framing::Close, false),
            ("HTTP/1.1 204 No\r\n\r\n", false, 204, Framing::None, true),
            (
                "HTTP/1.1 304 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
                false,
                304,
                Framing::None,
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, 200, Framing::Length(5), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
                false,
                200,
                Framing::Length(5),
                true,
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", false, 100, Framing::None, true),
        ] {
            let got = response(head.as_bytes(), to_head).unwrap();
            assert_eq!(
                (got.status, got.framing, got.keeps_alive),
                (status, framing, keeps_alive),
                "{head:?}"
            );
        }
        for head in [
            "HTTP/1.1 99 X\r\n\r\n",
            "HTTP/1.1 600 X\r\n\r\n",
            "HTTP/2.0 200 X\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ] {
            assert!(response(head.as_bytes(), false).is_err(), "{head:?}");
        }
    }

    proptest! {
        /// Whatever comes, however it is cut, the outcome is one, and what is accepted is what its bytes say.
        #[test]
        fn anything_is_judged_alike_however_it_is_cut(
            words in proptest::collection::vec(proptest::sample::select(&[
                "GET ", "/", "/a?b", "*", " HTTP/1.1", " HTTP/1.0", "\r\n", "\r\n", "\r\n", "\n", "\r", "\0", " ", ":", "\t",
                "Host: h\r\n", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "X: y\r\n", "\u{e4}", "a",
            ][..]), 0..12),
        ) {
            let text = words.concat();
            if let Ok(Some((head, end))) = parsed(text.as_bytes()) {
                let lines = &text[..end];
                prop_assert!(lines.ends_with("\r\n\r\n") && !lines.contains('\0'));
                prop_assert_eq!(lines.matches('\n').count(), lines.matches("\r\n").count());
                prop_assert_eq!(lines.matches('\r').count(), lines.matches("\r\n").count());
                prop_assert!(!(lines.contains("Content-Length") && lines.contains("Transfer-Encoding")));
                prop_assert!(head.headers.iter().all(|(name, value)| is_token(name) && is_value(value)));
            }
        }
    }

    fn is_token(name: &str) -> bool {
        crate::http::headers::is_token(name.as_bytes())
    }

    fn is_value(value: &[u8]) -> bool {
        crate::http::headers::is_value(value)
    }
}
