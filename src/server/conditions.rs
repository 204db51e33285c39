//! What a request asks to be true before it is answered (RFC 9110, section 13), and the entity tags that it names.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reactor::http::Headers;

use crate::storage::{Meta, Precondition, Version};

/// What `ETag` says of a representation: which version of the object it is, and whether it is the packed form.
///
/// Always strong: `"67c2f9b3d1e40"`, and `"67c2f9b3d1e40-gz"` for the bytes that go out with `Content-Encoding: gzip`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntityTag {
    /// Of the object.
    pub version: Version,
    /// The bytes are packed.
    pub is_gzip: bool,
}

impl EntityTag {
    /// None for what is no tag of ours; without the quotes.
    fn parse(opaque: &[u8]) -> Option<EntityTag> {
        let (digits, is_gzip) = match opaque.strip_suffix(b"-gz") {
            Some(digits) => (digits, true),
            None => (opaque, false),
        };
        let is_canonical = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && (digits.first() != Some(&b'0') || digits.len() == 1);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_canonical)?;
        let version = Version(u64::from_str_radix(text, 16).ok()?);
        Some(EntityTag { version, is_gzip })
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}{}\"", self.version, if self.is_gzip { "-gz" } else { "" })
    }
}

/// What a condition is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Current {
    /// Of the representation that would be sent; for a write, of either.
    pub tag: EntityTag,
    /// When the object was last changed: seconds since 1970, as in `Last-Modified`.
    pub modified: i64,
}

impl Current {
    /// Of an object, as it is or packed.
    pub fn of(meta: &Meta, is_gzip: bool) -> Current {
        let tag = EntityTag { version: meta.version, is_gzip };
        Current { tag, modified: meta.modified.div_euclid(1_000_000) }
    }
}

/// How a GET or HEAD of something that is there goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As if there were no condition.
    Proceed {
        /// False if `If-Range` says that the client has bytes of something else: `Range` is to be ignored.
        allows_range: bool,
    },
    /// 304: the client has it. The answer has the fields that 200 would have: `ETag`, `Last-Modified`, `Vary`, …
    NotModified,
    /// 412: it is not what the client wants to read.
    Failed,
}

/// 412: a write that was not done, since the object is not as the client believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the object is not as the request's conditions say: read it again, then decide")]
pub struct ConditionFailed;

/// The conditions of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    if_modified_since: Option<i64>,
    if_unmodified_since: Option<i64>,
    if_range: Option<IfRange>,
}

/// The value of `If-Match` or `If-None-Match`, all lines together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tags {
    /// `*`: whatever is there.
    has_any: bool,
    /// Those that could be ours, and whether they are weak.
    tags: Vec<(EntityTag, bool)>,
    /// Some of it is no list of tags.
    is_malformed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IfRange {
    Tag(EntityTag),
    /// Weak, not ours, or malformed; also any date, since two versions may have one: a second is long, and writers set it.
    Never,
}

impl Conditions {
    /// Reads the fields of a request. A date that is malformed, or stands there twice, is no condition.
    pub fn of(headers: &Headers) -> Conditions {
        Conditions::read(headers.iter())
    }

    fn read<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Conditions {
        let mut conditions = Conditions::default();
        let (mut modified, mut unmodified, mut range) = (Single::None, Single::None, Single::None);
        for (name, value) in fields {
            // Most fields are others.
            if !name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("if-")) {
                continue;
            }
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("if-match") {
                conditions.if_match.get_or_insert_default().push_line(value);
            } else if is("if-none-match") {
                conditions.if_none_match.get_or_insert_default().push_line(value);
            } else if is("if-modified-since") {
                modified = modified.and(value);
            } else if is("if-unmodified-since") {
                unmodified = unmodified.and(value);
            } else if is("if-range") {
                range = range.and(value);
            }
        }
        let date = |single: Single<'_>| match single {
            Single::One(value) => parse_date(value),
            Single::None | Single::Several => None,
        };
        conditions.if_modified_since = date(modified);
        conditions.if_unmodified_since = date(unmodified);
        conditions.if_range = match range {
            Single::None => None,
            Single::One(value) => Some(IfRange::parse(value)),
            Single::Several => Some(IfRange::Never),
        };
        conditions
    }

    /// Whether there is `If-None-Match: *`: what is written must be new.
    pub fn is_create_only(&self) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.has_any && !tags.is_malformed)
    }

    /// The same but `If-None-Match`, for a move or copy: there it speaks of the name that something gets, the others of
    /// what is moved.
    pub fn without_none_match(self) -> Conditions {
        Conditions { if_none_match: None, ..self }
    }

    /// For GET and HEAD of something that is there; what is not is answered 404 without a look at conditions.
    pub fn for_read(&self, current: Current) -> Verdict {
        if let Some(wanted) = &self.if_match {
            if !wanted.has_any && !wanted.tags.contains(&(current.tag, false)) {
                return Verdict::Failed;
            }
        } else if self.if_unmodified_since.is_some_and(|date| current.modified > date) {
            return Verdict::Failed;
        }
        if let Some(had) = &self.if_none_match {
            if had.has_any || had.tags.iter().any(|&(tag, _)| tag == current.tag) {
                return Verdict::NotModified;
            }
        } else if self.if_modified_since.is_some_and(|date| current.modified <= date) {
            return Verdict::NotModified;
        }
        let allows_range = match self.if_range {
            None => true,
            Some(IfRange::Tag(tag)) => tag == current.tag,
            Some(IfRange::Never) => false,
        };
        Verdict::Proceed { allows_range }
    }

    /// For PUT, DELETE and whatever else changes the object: what the store is to check when it does so, since somebody
    /// may be faster. Either tag of a version names it. The dates of reads, and `If-Range`, mean nothing here.
    ///
    /// # Errors
    /// [`ConditionFailed`] if it does not hold already. A list that cannot be read lets no write through.
    pub fn for_write(&self, current: Option<Current>) -> Result<Precondition, ConditionFailed> {
        let version = current.map(|current| current.tag.version);
        let mut wanted = match &self.if_match {
            None => Precondition::None,
            Some(tags) if tags.is_malformed => return Err(ConditionFailed),
            Some(tags) if tags.has_any => Precondition::Present,
            // Strong comparison: a weak tag is equal to nothing.
            Some(tags) => Precondition::OneOf(tags.versions(|is_weak| !is_weak)),
        };
        if let (None, Some(date), Some(current)) = (&self.if_match, self.if_unmodified_since, current) {
            if current.modified > date {
                return Err(ConditionFailed);
            }
            wanted = Precondition::OneOf(vec![current.tag.version]);
        }
        let unwanted = match &self.if_none_match {
            None => Precondition::None,
            Some(tags) if tags.is_malformed => return Err(ConditionFailed),
            Some(tags) if tags.has_any => Precondition::Absent,
            Some(tags) => Precondition::NoneOf(tags.versions(|_| true)),
        };
        if !wanted.holds(version) || !unwanted.holds(version) {
            return Err(ConditionFailed);
        }
        Ok(match (wanted, unwanted) {
            (wanted, Precondition::None) => wanted,
            (Precondition::None, unwanted) => unwanted,
            // Both hold for what is there now, and one condition cannot say both.
            _ => version.map_or(Precondition::Absent, |version| Precondition::OneOf(vec![version])),
        })
    }
}

impl Tags {
    fn push_line(&mut self, line: &[u8]) {
        let mut rest = line.trim_ascii();
        loop {
            while let Some(after) = rest.strip_prefix(b",") {
                rest = after.trim_ascii_start();
            }
            if rest.is_empty() {
                break;
            }
            if let Some(after) = rest.strip_prefix(b"*") {
                self.has_any = true;
                rest = after.trim_ascii_start();
            } else if let Some((opaque, is_weak, after)) = take_tag(rest) {
                self.tags.extend(EntityTag::parse(opaque).map(|tag| (tag, is_weak)));
                rest = after.trim_ascii_start();
            } else {
                self.is_malformed = true;
                break;
            }
            if !rest.is_empty() && !rest.starts_with(b",") {
                self.is_malformed = true;
                break;
            }
        }
    }

    fn versions(&self, takes: impl Fn(bool) -> bool) -> Vec<Version> {
        self.tags.iter().filter(|(_, is_weak)| takes(*is_weak)).map(|(tag, _)| tag.version).collect()
    }
}

/// What is between the quotes of the tag that this begins with, whether it is weak, and what comes after.
fn take_tag(text: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (quoted, is_weak) = match text.strip_prefix(b"W/") {
        Some(quoted) => (quoted, true),
        None => (text, false),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    let end = inner.iter().position(|&byte| byte == b'"')?;
    let opaque = &inner[..end];
    let is_opaque = opaque.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    is_opaque.then_some((opaque, is_weak, &inner[end + 1..]))
}

impl IfRange {
    fn parse(value: &[u8]) -> IfRange {
        match take_tag(value) {
            Some((opaque, false, b"")) => EntityTag::parse(opaque).map_or(IfRange::Never, IfRange::Tag),
            _ => IfRange::Never,
        }
    }
}

/// The value of a field that may stand there once.
#[derive(Clone, Copy)]
enum Single<'a> {
    None,
    One(&'a [u8]),
    Several,
}

impl<'a> Single<'a> {
    fn and(self, value: &'a [u8]) -> Single<'a> {
        match self {
            Single::None => Single::One(value),
            Single::One(_) | Single::Several => Single::Several,
        }
    }
}

/// Seconds since 1970 of a date in any of the three forms of RFC 9110, section 5.6.7.
pub fn parse_date(value: &[u8]) -> Option<i64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// The first second of the year 10000, which the form cannot say.
const DATES_END: u64 = 253_402_300_800;

/// The value of `Last-Modified`, from seconds since 1970. Now for what lies ahead, since a server must not name a time that
/// has not come; none for what a date cannot say: before 1970, or from the year 10000 on.
pub fn last_modified(modified: i64, now: i64) -> Option<String> {
    let seconds = u64::try_from(modified.min(now)).ok().filter(|&seconds| seconds < DATES_END)?;
    let time: SystemTime = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(httpdate::fmt_http_date(time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SECOND_BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SECOND_AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const SECONDS: i64 = 784_111_777;

    fn read(fields: &[(&str, &str)]) -> Conditions {
        Conditions::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    fn current(version: u64, is_gzip: bool) -> Current {
        Current { tag: EntityTag { version: Version(version), is_gzip }, modified: SECONDS }
    }

    const GO: Verdict = Verdict::Proceed { allows_range: true };
    const WHOLE: Verdict = Verdict::Proceed { allows_range: false };

    #[test]
    fn tags_as_text() {
        let tag = EntityTag { version: Version(0x6_7c2f_9b3d), is_gzip: false };
        assert_eq!(tag.to_string(), "\"67c2f9b3d\"");
        assert_eq!(EntityTag { is_gzip: true, ..tag }.to_string(), "\"67c2f9b3d-gz\"");
        assert_eq!(EntityTag::parse(b"67c2f9b3d"), Some(tag));
        assert_eq!(EntityTag::parse(b"67c2f9b3d-gz"), Some(EntityTag { is_gzip: true, ..tag }));
        assert!(EntityTag::parse(b"0").is_some() && EntityTag::parse(b"ffffffffffffffff").is_some());
        for other in
            ["", "-gz", "067c", "67C", "67c-gzip", "67c-gz-gz", "+1", "x", "10000000000000000", "\u{e9}"]
        {
            assert_eq!(EntityTag::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn reads_of_each_field() {
        let table = [
            // Nothing is asked.
            (&[][..], GO),
            (&[("Host", "x"), ("if", "x"), ("If-Matching", "\"0\"")], GO),
            // If-Match: strong comparison with what would be sent.
            (&[("If-Match", "\"ab\"")], GO),
            (&[("if-match", "*")], GO),
            (&[("If-Match", "\"1\", \"ab\"")], GO),
            (&[("If-Match", ",, \"1\" ,, \"ab\" ,")], GO),
            (&[("If-Match", "\"1\""), ("If-Match", "\"ab\"")], GO),
            (&[("If-Match", "\"a,b\",\"ab\"")], GO),
            (&[("If-Match", "W/\"ab\"")], Verdict::Failed),
            (&[("If-Match", "\"ab-gz\"")], Verdict::Failed),
            (&[("If-Match", "\"1\"")], Verdict::Failed),
            (&[("If-Match", "\"x\"")], Verdict::Failed),
            (&[("If-Match", "ab")], Verdict::Failed),
            (&[("If-Match", "\"ab")], Verdict::Failed),
            (&[("If-Match", "")], Verdict::Failed),
            // If-Unmodified-Since, only without If-Match.
            (&[("If-Unmodified-Since", THEN)], GO),
            (&[("If-Unmodified-Since", SECOND_AFTER)], GO),
            (&[("If-Unmodified-Since", SECOND_BEFORE)], Verdict::Failed),
            (&[("If-Unmodified-Since", SECOND_BEFORE), ("If-Match", "\"ab\"")], GO),
            (&[("If-Unmodified-Since", "yesterday")], GO),
            (&[("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:36")], GO),
            (&[("If-Unmodified-Since", SECOND_BEFORE), ("If-Unmodified-Since", SECOND_BEFORE)], GO),
            // If-None-Match: weak comparison.
            (&[("If-None-Match", "\"ab\"")], Verdict::NotModified),
            (&[("If-None-Match", "W/\"ab\"")], Verdict::NotModified),
            (&[("If-None-Match", "\"1\",W/\"ab\"")], Verdict::NotModified),
            (&[("If-None-Match", "\"1\""), ("If-None-Match", "\"ab\"")], Verdict::NotModified),
            (&[("If-None-Match", "*")], Verdict::NotModified),
            (&[("If-None-Match", "\"1\"")], GO),
            (&[("If-None-Match", "\"ab-gz\"")], GO),
            (&[("If-None-Match", "w/\"ab\"")], GO),
            (&[("If-None-Match", "ab")], GO),
            // If-Modified-Since, only without If-None-Match.
            (&[("If-Modified-Since", THEN)], Verdict::NotModified),
            (&[("If-Modified-Since", SECOND_AFTER)], Verdict::NotModified),
            (&[("If-Modified-Since", SECOND_BEFORE)], GO),
            (&[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], Verdict::NotModified),
            (&[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], Verdict::NotModified),
            (&[("If-Modified-Since", THEN), ("If-None-Match", "\"1\"")], GO),
            (&[("If-Modified-Since", THEN), ("If-Modified-Since", THEN)], GO),
            (&[("If-Modified-Since", "0")], GO),
            // What fails wins over what is not modified.
            (&[("If-None-Match", "\"ab\""), ("If-Match", "\"1\"")], Verdict::Failed),
            (&[("If-Modified-Since", THEN), ("If-Unmodified-Since", SECOND_BEFORE)], Verdict::Failed),
            (&[("If-None-Match", "\"ab\""), ("If-Match", "\"ab\"")], Verdict::NotModified),
            (&[("If-None-Match", "\"ab\""), ("If-Range", "\"1\"")], Verdict::NotModified),
            // If-Range: a strong tag, and no date.
            (&[("If-Range", "\"ab\"")], GO),
            (&[("If-Range", THEN)], WHOLE),
            (&[("If-Range", "\"1\"")], WHOLE),
            (&[("If-Range", "\"ab-gz\"")], WHOLE),
            (&[("If-Range", "W/\"ab\"")], WHOLE),
            (&[("If-Range", "\"ab\", \"1\"")], WHOLE),
            (&[("If-Range", "\"ab\""), ("If-Range", "\"ab\"")], WHOLE),
            (&[("If-Range", SECOND_BEFORE)], WHOLE),
            (&[("If-Range", SECOND_AFTER)], WHOLE),
            (&[("If-Range", "*")], WHOLE),
            (&[("If-Range", "")], WHOLE),
        ];
        for (fields, expected) in table {
            assert_eq!(read(fields).for_read(current(0xab, false)), expected, "{fields:?}");
        }
    }

    #[test]
    fn the_packed_form_has_a_tag_of_its_own() {
        let packed = current(0xab, true);
        assert_eq!(read(&[("If-None-Match", "\"ab-gz\"")]).for_read(packed), Verdict::NotModified);
        assert_eq!(read(&[("If-None-Match", "\"ab\"")]).for_read(packed), GO);
        assert_eq!(read(&[("If-Match", "\"ab\"")]).for_read(packed), Verdict::Failed);
        assert_eq!(read(&[("If-Range", "\"ab-gz\"")]).for_read(packed), GO);
        assert_eq!(read(&[("If-Range", "\"ab\"")]).for_read(packed), WHOLE);
    }

    #[test]
    fn writes_of_each_field() {
        let one_of =
            |versions: &[u64]| Ok(Precondition::OneOf(versions.iter().copied().map(Version).collect()));
        let none_of =
            |versions: &[u64]| Ok(Precondition::NoneOf(versions.iter().copied().map(Version).collect()));
        let no = || Err(ConditionFailed);
        // What the request says; what it means for version ab; what it means for an object that is not there.
        let table = [
            (&[][..], Ok(Precondition::None), Ok(Precondition::None)),
            (&[("If-Match", "*")], Ok(Precondition::Present), no()),
            (&[("If-Match", "\"ab\"")], one_of(&[0xab]), no()),
            (&[("If-Match", "\"ab-gz\"")], one_of(&[0xab]), no()),
            (&[("If-Match", "\"1\""), ("If-Match", "\"ab\", \"?\"")], one_of(&[1, 0xab]), no()),
            (&[("If-Match", "W/\"ab\"")], no(), no()),
            (&[("If-Match", "\"1\"")], no(), no()),
            (&[("If-Match", "")], no(), no()),
            (&[("If-Match", "\"ab\", x")], no(), no()),
            (&[("If-Match", "\"ab\" \"1\"")], no(), no()),
            (&[("If-Match", "*x")], no(), no()),
            (&[("If-None-Match", "*")], no(), Ok(Precondition::Absent)),
            (&[("If-None-Match", "\"ab\"")], no(), none_of(&[0xab])),
            (&[("If-None-Match", "W/\"ab-gz\"")], no(), none_of(&[0xab])),
            (&[("If-None-Match", "\"1\"")], none_of(&[1]), none_of(&[1])),
            (&[("If-None-Match", "x")], no(), no()),
            (&[("If-Unmodified-Since", THEN)], one_of(&[0xab]), Ok(Precondition::None)),
            (&[("If-Unmodified-Since", SECOND_BEFORE)], no(), Ok(Precondition::None)),
            (&[("If-Unmodified-Since", "soon")], Ok(Precondition::None), Ok(Precondition::None)),
            (&[("If-Unmodified-Since", SECOND_BEFORE), ("If-Match", "*")], Ok(Precondition::Present), no()),
            (&[("If-Modified-Since", THEN)], Ok(Precondition::None), Ok(Precondition::None)),
            (&[("If-Range", "\"1\"")], Ok(Precondition::None), Ok(Precondition::None)),
            // Two at a time: what is there now is what is replaced.
            (&[("If-Match", "*"), ("If-None-Match", "\"1\"")], one_of(&[0xab]), no()),
            (&[("If-Match", "\"ab\",\"2\""), ("If-None-Match", "\"2\"")], one_of(&[0xab]), no()),
            (&[("If-Match", "*"), ("If-None-Match", "*")], no(), no()),
            (&[("If-Unmodified-Since", THEN), ("If-None-Match", "\"1\"")], one_of(&[0xab]), none_of(&[1])),
        ];
        for (fields, there, not_there) in table {
            assert_eq!(read(fields).for_write(Some(current(0xab, false))), there, "{fields:?}");
            assert_eq!(read(fields).for_write(Some(current(0xab, true))), there, "{fields:?}, packed");
            assert_eq!(read(fields).for_write(None), not_there, "{fields:?}, not there");
        }
    }

    #[test]
    fn dates_there_and_back() {
        assert_eq!(parse_date(THEN.as_bytes()), Some(SECONDS));
        assert_eq!(last_modified(SECONDS, SECONDS).as_deref(), Some(THEN));
        assert_eq!(last_modified(i64::MAX, SECONDS).as_deref(), Some(THEN));
        assert_eq!(last_modified(0, SECONDS).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        let last = DATES_END as i64 - 1;
        assert_eq!(last_modified(last, i64::MAX).as_deref(), Some("Fri, 31 Dec 9999 23:59:59 GMT"));
        for (modified, now) in
            [(-1, SECONDS), (i64::MIN, SECONDS), (last + 1, i64::MAX), (i64::MAX, i64::MAX)]
        {
            assert_eq!(last_modified(modified, now), None);
        }
        for bad in [&b""[..], b"\xff", b"Sun, 32 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:37 CET"] {
            assert_eq!(parse_date(bad), None);
        }
    }

    #[test]
    fn a_time_before_1970_is_in_its_second() {
        let meta = Meta {
            version: Version(7),
            class: crate::storage::Class::Low,
            size: 0,
            stored: 0,
            crc32c: 0,
            sha256: None,
            modified: -1,
            created: 0,
        };
        assert_eq!(Current::of(&meta, false).modified, -1);
        assert_eq!(Current::of(&Meta { modified: 1_999_999, ..meta }, false).modified, 1);
    }

    proptest! {
        #[test]
        fn a_write_passes_only_if_its_precondition_holds(
            fields in proptest::collection::vec((0usize..4, "[\"*W/, ]{0,3}\"(ab|1|ab-gz)\"[, *]{0,2}"), 0..4),
            is_there in any::<bool>(),
        ) {
            let names = ["If-Match", "If-None-Match", "If-Unmodified-Since", "If-Range"];
            let fields: Vec<_> = fields.iter().map(|(name, value)| (names[*name], value.as_str())).collect();
            let current = is_there.then(|| current(0xab, false));
            if let Ok(precondition) = read(&fields).for_write(current) {
                prop_assert!(precondition.holds(current.map(|current| current.tag.version)));
            }
        }

        #[test]
        fn any_value_is_read_without_harm(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            for name in ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"] {
                let conditions = Conditions::read([(name, &value[..])].into_iter());
                let _ = conditions.for_read(current(1, false));
                let _ = conditions.for_write(Some(current(1, false)));
            }
        }
    }
}
