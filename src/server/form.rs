//! `multipart/form-data` (RFC 7578) taken apart as its bytes come. Pure.

use memchr::memmem::Finder;

/// Bytes of the fields in front of one part.
const MOST_HEAD: usize = 16 * 1024;
/// Of a boundary (RFC 2046, 5.1.1).
const MOST_BOUNDARY: usize = 70;

/// What comes next of a form.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing before more bytes are there.
    More,
    /// A part begins.
    Part(Head),
    /// Bytes of the part.
    Data(&'a [u8]),
    /// The part is whole.
    PartEnd,
    /// The form is whole; what stands behind it means nothing.
    End,
}

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The name of the field.
    pub name: String,
    /// Of a file: its name, which may be empty if none was chosen.
    pub file: Option<Vec<u8>>,
}

/// Why a body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The type of the body names no boundary.
    #[error("the Content-Type of the form has no boundary of 1 to 70 characters")]
    Boundary,
    /// It does not begin with its boundary.
    #[error("the form does not begin with its boundary")]
    Start,
    /// A boundary is followed by something else.
    #[error("a boundary of the form is not followed by a line end")]
    Line,
    /// The fields in front of a part are too long.
    #[error("the fields in front of a part are longer than 16 KiB")]
    HeadTooLong,
    /// A part does not say which field it is.
    #[error("a part does not say which field it is: it has no Content-Disposition: form-data; name=\"…\"")]
    Disposition,
    /// The last boundary is missing.
    #[error("the form ended before its last boundary")]
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In front of the first boundary.
    Start,
    /// Behind a boundary.
    Boundary,
    Head,
    Content,
    /// Behind the last boundary.
    Over,
}

/// Takes one form apart. It keeps no bytes: what a step does not use is given again, with more behind it.
///
/// ```
/// use cloudstore::server::form::{Form, Step};
///
/// let mut form = Form::new("multipart/form-data; boundary=x")?;
/// let mut body = &b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--"[..];
/// let (mut names, mut content) = (Vec::new(), Vec::new());
/// loop {
///     let (used, step) = form.step(body)?;
///     match step {
///         Step::More if used == 0 => break,
///         Step::Part(head) => names.push(head.name),
///         Step::Data(bytes) => content.extend_from_slice(bytes),
///         Step::More | Step::PartEnd | Step::End => (),
///     }
///     body = &body[used..];
/// }
/// form.finish()?;
/// assert_eq!((names, content), (vec!["a".to_owned()], b"1".to_vec()));
/// # Ok::<(), cloudstore::server::form::FormError>(())
/// ```
#[derive(Debug)]
pub struct Form {
    /// A line end, two hyphens and the boundary.
    delimiter: Finder<'static>,
    state: State,
}

impl Form {
    /// For a body of this `Content-Type`.
    ///
    /// # Errors
    /// [`FormError::Boundary`].
    pub fn new(content_type: &str) -> Result<Form, FormError> {
        let boundary = parameter(content_type, "boundary").ok_or(FormError::Boundary)?;
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if !(1..=MOST_BOUNDARY).contains(&boundary.len()) || !boundary.bytes().all(is_known) {
            return Err(FormError::Boundary);
        }
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        Ok(Form { delimiter: Finder::new(&delimiter).into_owned(), state: State::Start })
    }

    /// What the bytes begin with, and how many of them it takes. With [`Step::More`] and none taken it waits for more of them.
    ///
    /// # Errors
    /// What is wrong with them; then the form is over.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Step<'a>), FormError> {
        match self.state {
            State::Start => self.start(input),
            State::Boundary => match input {
                [b'-', b'-', ..] => self.to(State::Over, 2, Step::End),
                [b'\r', b'\n', ..] => self.to(State::Head, 2, Step::More),
                [] | [b'-' | b'\r'] => Ok((0, Step::More)),
                _ => Err(FormError::Line),
            },
            State::Head => self.head(input),
            State::Content => self.content(input),
            State::Over => Ok((input.len(), Step::More)),
        }
    }

    /// Whether it ended as a form does.
    ///
    /// # Errors
    /// [`FormError::Truncated`].
    pub fn finish(&self) -> Result<(), FormError> {
        if self.state == State::Over { Ok(()) } else { Err(FormError::Truncated) }
    }

    fn to<'a>(&mut self, state: State, used: usize, step: Step<'a>) -> Result<(usize, Step<'a>), FormError> {
        self.state = state;
        Ok((used, step))
    }

    fn start<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Step<'a>), FormError> {
        // The line end in front of the first one may be there or not.
        let whole = self.delimiter.needle();
        let first = if input.first() == Some(&b'\r') { whole } else { &whole[2..] };
        match input.len() < first.len() {
            true if first.starts_with(input) => Ok((0, Step::More)),
            false if input.starts_with(first) => {
                let used = first.len();
                self.to(State::Boundary, used, Step::More)
            }
            _ => Err(FormError::Start),
        }
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Step<'a>), FormError> {
        let near = input.get(..MOST_HEAD).unwrap_or(input);
        let (fields, used) = match near {
            [b'\r', b'\n', ..] => (&near[..0], 2),
            _ => match memchr::memmem::find(near, b"\r\n\r\n") {
                Some(at) => (&near[..at], at + 4),
                None if near.len() == MOST_HEAD => return Err(FormError::HeadTooLong),
                None => return Ok((0, Step::More)),
            },
        };
        let head = parse_head(fields).ok_or(FormError::Disposition)?;
        self.to(State::Content, used, Step::Part(head))
    }

    fn content<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Step<'a>), FormError> {
        let length = self.delimiter.needle().len();
        Ok(match self.delimiter.find(input) {
            // A part is whole only if what ends it is a boundary to its end: else a half would be stored.
            Some(0) => match &input[length..] {
                [b'-', b'-', ..] | [b'\r', b'\n', ..] => {
                    self.state = State::Boundary;
                    (length, Step::PartEnd)
                }
                [] | [b'-' | b'\r'] => (0, Step::More),
                _ => return Err(FormError::Line),
            },
            Some(at) => (at, Step::Data(&input[..at])),
            None => {
                // The end may be the beginning of a boundary.
                let tail = input.len().saturating_sub(length - 1);
                let kept = (tail..input.len())
                    .find(|at| self.delimiter.needle().starts_with(&input[*at..]))
                    .unwrap_or(input.len());
                if kept == 0 { (0, Step::More) } else { (kept, Step::Data(&input[..kept])) }
            }
        })
    }
}

/// The fields of a part; others than the one that counts are passed over.
fn parse_head(fields: &[u8]) -> Option<Head> {
    let lines = fields.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let value = lines.into_iter().find_map(|line| {
        let at = memchr::memchr(b':', line)?;
        line[..at]
            .trim_ascii()
            .eq_ignore_ascii_case(b"content-disposition")
            .then(|| line[at + 1..].trim_ascii())
    })?;
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    if !value[..end].trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let mut rest = value.get(end + 1..).unwrap_or_default();
    let (mut name, mut file) = (None, None);
    loop {
        rest = rest.trim_ascii_start();
        let Some(at) = memchr::memchr(b'=', rest) else { break };
        let key = rest[..at].trim_ascii();
        let (value, behind) = quoted(&rest[at + 1..])?;
        if key.eq_ignore_ascii_case(b"name") {
            name = Some(value);
        } else if key.eq_ignore_ascii_case(b"filename") {
            file = Some(value);
        } else if key.eq_ignore_ascii_case(b"filename*") {
            // RFC 7578, section 4.2: not in forms. Taken for a field, the file would be lost.
            return None;
        }
        let Some(next) = memchr::memchr(b';', behind) else { break };
        rest = &behind[next + 1..];
    }
    Some(Head { name: String::from_utf8(name?).ok()?, file })
}

/// A value, in quotes or not, and what stands behind it.
///
/// Browsers write a quote as `%22` and line ends as `%0D` and `%0A`, and all else as it is; others put a backslash in front
/// of a quote.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let text = text.trim_ascii_start();
    let Some(inner) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        return Some((text[..end].trim_ascii().to_vec(), &text[end..]));
    };
    let is_end = |&at: &usize| at == 0 || inner[at - 1] != b'\\';
    // A name may end with a backslash.
    let end = memchr::memchr_iter(b'"', inner).find(is_end).or_else(|| memchr::memrchr(b'"', inner))?;
    let (mut value, mut rest) = (Vec::with_capacity(end), &inner[..end]);
    while let Some(&byte) = rest.first() {
        let (written, used) = match rest {
            [b'\\', b'"', ..] => (b'"', 2),
            [b'%', b'2', b'2', ..] => (b'"', 3),
            [b'%', b'0', b'D' | b'd', ..] => (b'\r', 3),
            [b'%', b'0', b'A' | b'a', ..] => (b'\n', 3),
            _ => (byte, 1),
        };
        value.push(written);
        rest = &rest[used..];
    }
    Some((value, &inner[end + 1..]))
}

/// Whether a body of this type is a form with files.
pub fn is_form(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("multipart/form-data")
}

/// A parameter of a media type.
fn parameter(content_type: &str, wanted: &str) -> Option<String> {
    let mut rest = content_type.split_once(';')?.1;
    loop {
        let (key, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let (value, after) = match behind.strip_prefix('"') {
            Some(inner) => inner.split_once('"')?,
            None => behind.split_at(behind.find(';').unwrap_or(behind.len())),
        };
        if key.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim_end().to_owned());
        }
        rest = after.split_once(';')?.1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xYz";

    /// A part: its field, its file name, its content.
    type Part = (String, Option<Vec<u8>>, Vec<u8>);

    /// Reads a form that comes in pieces which end at these places.
    fn read(whole: &[u8], ends: &[usize]) -> Result<Vec<Part>, FormError> {
        let mut form = Form::new(TYPE)?;
        let (mut parts, mut pending): (Vec<Part>, Vec<u8>) = (Vec::new(), Vec::new());
        let (mut from, mut is_open) = (0, false);
        for &end in ends.iter().chain([&whole.len()]) {
            pending.extend_from_slice(&whole[from..end]);
            from = end;
            loop {
                let (used, step) = form.step(&pending)?;
                match step {
                    Step::More if used == 0 => break,
                    Step::More | Step::End => (),
                    Step::Part(head) => {
                        assert!(!std::mem::replace(&mut is_open, true));
                        parts.push((head.name, head.file, Vec::new()));
                    }
                    Step::Data(bytes) => {
                        assert!(is_open && !bytes.is_empty());
                        parts.last_mut().unwrap().2.extend_from_slice(bytes);
                    }
                    Step::PartEnd => assert!(std::mem::replace(&mut is_open, false)),
                }
                pending.drain(..used);
            }
            // Nothing is kept but what may be a boundary, or a head.
            assert!(pending.len() < MOST_HEAD);
        }
        form.finish().map(|()| parts)
    }

    fn sample() -> (Vec<u8>, Vec<Part>) {
        let body = b"--xYz\r\nContent-Disposition: form-data; name=\"class\"\r\n\r\ndeep\r\n\
            --xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22b.txt\"\r\nContent-Type: text/plain\r\n\r\n\
            one\r\n--xY\r\n\r\n--xY\r\n\r\n--xYz\r\ncontent-disposition:form-data;filename=plain;name=file\r\n\r\n\r\n\
            --xYz--\r\nwhatever follows";
        let parts = vec![
            ("class".to_owned(), None, b"deep".to_vec()),
            ("file".to_owned(), Some(b"a\"b.txt".to_vec()), b"one\r\n--xY\r\n\r\n--xY\r\n".to_vec()),
            ("file".to_owned(), Some(b"plain".to_vec()), Vec::new()),
        ];
        (body.to_vec(), parts)
    }

    #[test]
    fn a_form_is_the_same_however_it_is_cut() {
        let (body, parts) = sample();
        assert_eq!(read(&body, &[]), Ok(parts.clone()));
        for first in 0..=body.len() {
            assert_eq!(read(&body, &[first]), Ok(parts.clone()), "cut at {first}");
            for second in first..=body.len().min(first + 12) {
                assert_eq!(read(&body, &[first, second]), Ok(parts.clone()), "cut at {first} and {second}");
            }
        }
        let each: Vec<usize> = (0..body.len()).collect();
        assert_eq!(read(&body, &each), Ok(parts));
    }

    #[test]
    fn a_form_that_ends_early_is_not_whole() {
        let (body, _) = sample();
        let whole = body.len() - b"\r\nwhatever follows".len();
        for end in 0..whole {
            assert_eq!(read(&body[..end], &[]), Err(FormError::Truncated), "{end}");
        }
        assert!(read(&body[..whole], &[]).is_ok());
    }

    #[test]
    fn a_part_that_has_the_boundary_in_it_is_not_whole() {
        let mut form = Form::new(TYPE).unwrap();
        let body = b"--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\none\r\n--xYzz two\r\n--xYz--";
        let mut rest = &body[..];
        let error = loop {
            match form.step(rest) {
                Ok((_, Step::PartEnd)) => panic!("half of it would be stored"),
                Ok((used, _)) => rest = &rest[used..],
                Err(error) => break error,
            }
        };
        assert_eq!(error, FormError::Line);
    }

    #[test]
    fn what_is_no_form() {
        for (body, expected) in [
            ("hello", FormError::Start),
            ("--xY!\r\n", FormError::Start),
            ("\n--xYz\r\n", FormError::Start),
            ("--xYzz\r\n", FormError::Line),
            ("--xYz\n", FormError::Line),
            ("--xYz-\r\n", FormError::Line),
            ("--xYz\r\n\r\nx", FormError::Disposition),
            ("--xYz\r\nContent-Type: text/plain\r\n\r\nx", FormError::Disposition),
            ("--xYz\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nx", FormError::Disposition),
            ("--xYz\r\nContent-Disposition: form-data\r\n\r\nx", FormError::Disposition),
            ("--xYz\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx", FormError::Disposition),
            ("--xYz\r\nContent-Disposition: form-data; filename=\"a\"\r\n\r\nx", FormError::Disposition),
            (
                "--xYz\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''a\r\n\r\nx",
                FormError::Disposition,
            ),
        ] {
            assert_eq!(read(body.as_bytes(), &[]), Err(expected), "{body:?}");
        }
        let long = format!("--xYz\r\nX: {}", "y".repeat(MOST_HEAD));
        assert_eq!(read(long.as_bytes(), &[]), Err(FormError::HeadTooLong));
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=a\u{e9}",
            "multipart/form-data; boundary=\"a\r\nb\"",
        ] {
            assert_eq!(Form::new(content_type).err(), Some(FormError::Boundary), "{content_type:?}");
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert_eq!(Form::new(&long).err(), Some(FormError::Boundary));
        assert!(Form::new("Multipart/Form-Data; charset=\"a;b\"; Boundary=\"a b\"").is_ok());
    }

    #[test]
    fn names_of_files() {
        for (field, expected) in [
            ("filename=\"a b.txt\"", "a b.txt"),
            ("filename=\"\"", ""),
            ("filename=\"模型.bin\"", "模型.bin"),
            ("filename=\"a;b=c.txt\"", "a;b=c.txt"),
            ("filename=\"folder/a.txt\"", "folder/a.txt"),
            ("filename=\"a\\\"b.txt\"", "a\"b.txt"),
            ("filename=\"a\\\"", "a\\"),
            ("filename=\"100%.txt\"; x=y", "100%.txt"),
            ("filename=\"a%0D%0Ab\"", "a\r\nb"),
            ("FileName = bare.txt", "bare.txt"),
        ] {
            let fields = format!("Content-Disposition: form-data; name=\"file\"; {field}");
            let head = parse_head(fields.as_bytes()).unwrap();
            assert_eq!(
                (head.name.as_str(), head.file),
                ("file", Some(expected.as_bytes().to_vec())),
                "{field}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_parts_come_back_at_random_cuts(
            contents in prop::collection::vec(prop::collection::vec(prop::sample::select(b"\r\n-xYz!".to_vec()), 0..60), 0..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut body = Vec::new();
            for content in &contents {
                body.extend_from_slice(b"--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n");
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--xYz--\r\n");
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
            ends.sort_unstable();
            let whole = read(&body, &[]);
            prop_assert_eq!(&read(&body, &ends), &whole);
            let has_boundary = |content: &Vec<u8>| memchr::memmem::find(&[b"\r\n", &content[..], b"\r"].concat(), b"\r\n--xYz").is_some();
            if !contents.iter().any(has_boundary) {
                let back: Vec<Vec<u8>> = whole.unwrap().into_iter().map(|(_, _, content)| content).collect();
                prop_assert_eq!(back, contents);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(b"\r\n-xYz: ;=\"ab".to_vec()), 0..300)) {
            let _ = read(&[b"--xYz\r\n", &bytes[..]].concat(), &[]);
            let _ = read(&[&b"--xYz\r\nContent-Disposition: form-data; name=\""[..], &bytes[..]].concat(), &[]);
            let _ = parse_head(&bytes);
        }
    }
}
