//! Checksums in fields: what an upload must be, and what a reply says of its content (RFC 9530; RFC 1864 for
//! `Content-MD5`).

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use reactor::http::Headers;
use sha2::Sha512;

use super::structured::{Value, dictionary};
use crate::storage::Meta;

/// A checksum that this server knows. A digest by another is ignored, as the RFC asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// `sha-512`.
    Sha512,
    /// `sha-256`.
    Sha256,
    /// `md5`: against accidents only.
    Md5,
    /// `crc32c`, big-endian: against accidents only.
    Crc32c,
}

impl Algorithm {
    /// The safest first.
    const ALL: [Algorithm; 4] = [Algorithm::Sha512, Algorithm::Sha256, Algorithm::Md5, Algorithm::Crc32c];

    /// Its key in the fields.
    pub fn key(self) -> &'static str {
        match self {
            Algorithm::Sha512 => "sha-512",
            Algorithm::Sha256 => "sha-256",
            Algorithm::Md5 => "md5",
            Algorithm::Crc32c => "crc32c",
        }
    }

    fn of_key(key: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.key() == key)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Why the digests of a request cannot be used: 400.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DigestError {
    /// A field is not in its form.
    #[error("{field} is malformed: \"{value}\"; write {form}")]
    Malformed {
        /// Its name.
        field: &'static str,
        /// Its value, or the beginning of it.
        value: String,
        /// What it should look like.
        form: &'static str,
    },
    /// A digest has not the length of its algorithm's.
    #[error("{field} has a {algorithm} of {found} bytes: it has {expected}; send the whole digest in base64")]
    Length {
        /// The field's name.
        field: &'static str,
        /// The algorithm that it names.
        algorithm: Algorithm,
        /// Bytes that it has.
        found: usize,
        /// Bytes that it should have.
        expected: usize,
    },
    /// Two digests by one algorithm differ.
    #[error("two fields of the request have different {algorithm} digests: send one")]
    Contradiction {
        /// The algorithm that they name.
        algorithm: Algorithm,
    },
}

/// What arrived is not what its digest says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the content did not arrive as announced: its {algorithm} is {found}, not {expected}; send it again")]
pub struct Mismatch {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Of what arrived, in base64.
    pub found: String,
    /// What was announced, in base64.
    pub expected: String,
}

/// What the content of an upload must have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    /// For [`PutOptions::expected_sha256`](crate::storage::PutOptions::expected_sha256).
    pub sha256: Option<[u8; 32]>,
    /// For [`PutOptions::expected_crc32c`](crate::storage::PutOptions::expected_crc32c).
    pub crc32c: Option<u32>,
    /// For [`verifier`](Self::verifier).
    pub sha512: Option<[u8; 64]>,
    /// For [`verifier`](Self::verifier).
    pub md5: Option<[u8; 16]>,
}

const DICTIONARY_FORM: &str = "it as sha-256=:BASE64:";
const MD5_FORM: &str = "16 bytes in base64";

impl Expected {
    /// Reads `Repr-Digest`, `Content-Digest` and `Content-MD5`. All three are about the same bytes here, since an upload has
    /// no content coding and is no part of something.
    ///
    /// # Errors
    /// A digest that cannot be checked is refused, and not ignored: its sender relies on it.
    pub fn of(headers: &Headers) -> Result<Expected, DigestError> {
        Expected::read(|name| headers.all(name).collect())
    }

    fn read<'a>(all: impl Fn(&'static str) -> Vec<&'a [u8]>) -> Result<Expected, DigestError> {
        let mut expected = Expected::default();
        for field in ["Repr-Digest", "Content-Digest"] {
            let lines = all(field);
            let malformed = || malformed(field, &lines, DICTIONARY_FORM);
            for (key, value) in dictionary(lines.iter().copied()).ok_or_else(malformed)? {
                let Some(algorithm) = Algorithm::of_key(key) else { continue };
                let Value::Bytes(bytes) = value else { return Err(malformed()) };
                expected.add(field, algorithm, &bytes)?;
            }
        }
        let field = "Content-MD5";
        let lines = all(field);
        for line in &lines {
            let bytes = BASE64_STANDARD.decode(line).map_err(|_| malformed(field, &lines, MD5_FORM))?;
            expected.add(field, Algorithm::Md5, &bytes)?;
        }
        Ok(expected)
    }

    fn add(&mut self, field: &'static str, algorithm: Algorithm, bytes: &[u8]) -> Result<(), DigestError> {
        match algorithm {
            Algorithm::Sha512 => set(&mut self.sha512, field, algorithm, bytes, |sum| sum),
            Algorithm::Sha256 => set(&mut self.sha256, field, algorithm, bytes, |sum| sum),
            Algorithm::Md5 => set(&mut self.md5, field, algorithm, bytes, |sum| sum),
            Algorithm::Crc32c => set(&mut self.crc32c, field, algorithm, bytes, u32::from_be_bytes),
        }
    }

    /// What checks the digests that the store does not check; none if there are none.
    pub fn verifier(&self) -> Option<Verifier> {
        let sha512 = self.sha512.map(|sum| (Sha512::new(), sum));
        let md5 = self.md5.map(|sum| (Md5::new(), sum));
        (sha512.is_some() || md5.is_some()).then_some(Verifier { sha512, md5 })
    }
}

fn malformed(field: &'static str, lines: &[&[u8]], form: &'static str) -> DigestError {
    let value: String = lines.join(&b", "[..]).escape_ascii().map(char::from).take(100).collect();
    DigestError::Malformed { field, value, form }
}

fn set<T: PartialEq, const N: usize>(
    slot: &mut Option<T>,
    field: &'static str,
    algorithm: Algorithm,
    bytes: &[u8],
    make: fn([u8; N]) -> T,
) -> Result<(), DigestError> {
    let sum: [u8; N] = bytes.try_into().map_err(|_| DigestError::Length {
        field,
        algorithm,
        found: bytes.len(),
        expected: N,
    })?;
    let sum = make(sum);
    match slot {
        Some(have) if *have != sum => Err(DigestError::Contradiction { algorithm }),
        _ => {
            *slot = Some(sum);
            Ok(())
        }
    }
}

/// Hashes content on its way in.
#[derive(Clone, Debug)]
pub struct Verifier {
    sha512: Option<(Sha512, [u8; 64])>,
    md5: Option<(Md5, [u8; 16])>,
}

impl Verifier {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some((hasher, _)) = &mut self.sha512 {
            hasher.update(bytes);
        }
        if let Some((hasher, _)) = &mut self.md5 {
            hasher.update(bytes);
        }
    }

    /// Whether it was all as announced.
    ///
    /// # Errors
    /// [`Mismatch`] of the first that differs.
    pub fn finish(self) -> Result<(), Mismatch> {
        if let Some((hasher, expected)) = self.sha512 {
            check(Algorithm::Sha512, &hasher.finalize(), &expected)?;
        }
        if let Some((hasher, expected)) = self.md5 {
            check(Algorithm::Md5, &hasher.finalize(), &expected)?;
        }
        Ok(())
    }
}

fn check(algorithm: Algorithm, found: &[u8], expected: &[u8]) -> Result<(), Mismatch> {
    let text = |sum: &[u8]| BASE64_STANDARD.encode(sum);
    match found == expected {
        true => Ok(()),
        false => Err(Mismatch { algorithm, found: text(found), expected: text(expected) }),
    }
}

/// Which digests a client would like, the most wanted first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted(Vec<Algorithm>);

impl Wanted {
    /// Reads `Want-Repr-Digest`. A malformed one wants nothing: it is only a wish.
    pub fn of(headers: &Headers) -> Wanted {
        Wanted::read(headers.all("want-repr-digest"))
    }

    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Wanted {
        let mut wanted = Vec::new();
        for (key, value) in dictionary(lines).unwrap_or_default() {
            if let (Some(algorithm), Value::Integer(weight @ 1..=10)) = (Algorithm::of_key(key), value) {
                let safety = Algorithm::ALL.iter().position(|other| *other == algorithm);
                wanted.push((-weight, safety, algorithm));
            }
        }
        wanted.sort_by_key(|&(weight, safety, _)| (weight, safety));
        Wanted(wanted.into_iter().map(|(_, _, algorithm)| algorithm).collect())
    }

    /// Whether it is among them. An upload that wants a SHA-256 is stored with one.
    pub fn has(&self, algorithm: Algorithm) -> bool {
        self.0.contains(&algorithm)
    }

    /// The value of `Repr-Digest` in an answer about an object: the most wanted of those that are known, none if none is.
    ///
    /// For the content as it is. The packed form is another representation, whose digests are not known.
    pub fn repr_digest(&self, meta: &Meta) -> Option<String> {
        self.0.iter().find_map(|&algorithm| repr_digest(meta, algorithm))
    }
}

/// The value of `Repr-Digest` by one algorithm, if the store knows it of this object: CRC-32C always, SHA-256 if its writer
/// asked for it.
pub fn repr_digest(meta: &Meta, algorithm: Algorithm) -> Option<String> {
    let sum = match algorithm {
        Algorithm::Sha256 => BASE64_STANDARD.encode(meta.sha256?),
        Algorithm::Crc32c => BASE64_STANDARD.encode(meta.crc32c.to_be_bytes()),
        Algorithm::Sha512 | Algorithm::Md5 => return None,
    };
    Some(format!("{algorithm}=:{sum}:"))
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;

    use super::*;
    use crate::storage::{Class, Version};

    fn read(fields: &[(&str, &str)]) -> Result<Expected, DigestError> {
        Expected::read(|name| {
            fields.iter().filter(|(have, _)| *have == name).map(|(_, value)| value.as_bytes()).collect()
        })
    }

    /// Of `hello`, by other programs.
    const SHA256: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    const SHA512: &str =
        "m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==";
    const MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";
    const CRC32C: &str = "mnG7TA==";

    #[test]
    fn digests_of_hello() {
        let fields = [
            ("Repr-Digest", format!("sha-256=:{SHA256}:, crc32c=:{CRC32C}:")),
            ("Content-Digest", format!("sha-512=:{SHA512}:;x=1, unixsum=:MTIz:")),
            ("Content-Digest", "sha=\"whatever\", id-sha-256=?1".to_owned()),
            ("Content-MD5", MD5.to_owned()),
        ];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let expected = read(&fields).unwrap();
        assert_eq!(expected.sha256, Some(Sha256::digest("hello").into()));
        assert_eq!(expected.sha512, Some(Sha512::digest("hello").into()));
        assert_eq!(expected.md5, Some(Md5::digest("hello").into()));
        assert_eq!(expected.crc32c, Some(crc32c::crc32c(b"hello")));

        let mut right = expected.verifier().unwrap();
        right.update(b"hel");
        right.update(b"");
        right.update(b"lo");
        assert_eq!(right.finish(), Ok(()));
        let wrong = expected.verifier().unwrap().finish().unwrap_err();
        assert_eq!((wrong.algorithm, wrong.expected.as_str()), (Algorithm::Sha512, SHA512));
        let only_md5 = Expected { md5: expected.md5, ..Expected::default() };
        let mut wrong = only_md5.verifier().unwrap();
        wrong.update(b"hellO");
        let wrong = wrong.finish().unwrap_err();
        assert!(wrong.to_string().contains(&format!("not {MD5}; send it again")), "{wrong}");
    }

    #[test]
    fn nothing_is_expected_of_most_uploads() {
        assert_eq!(read(&[]), Ok(Expected::default()));
        assert_eq!(read(&[("Repr-Digest", "")]), Ok(Expected::default()));
        assert_eq!(read(&[("Repr-Digest", "sha-1024=:aGVsbG8=:")]), Ok(Expected::default()));
        assert!(Expected::default().verifier().is_none());
        let known = Expected { sha256: Some([0; 32]), crc32c: Some(0), ..Expected::default() };
        assert!(known.verifier().is_none());
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for (name, value) in [
            ("Repr-Digest", "sha-256"),
            ("Repr-Digest", "sha-256=abc"),
            ("Repr-Digest", "sha-256=:abc"),
            ("Repr-Digest", "SHA-256=:abc=:"),
            ("Content-Digest", "crc32c=12"),
            ("Content-MD5", "not base64"),
            ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg"),
            ("Content-MD5", "5d41402abc4b2a76b9719d911017c592, "),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{name} is malformed: \"{value}\"; write ")),
                "{error}"
            );
        }
        for (name, value) in [
            ("Repr-Digest", "sha-256=:aGVsbG8=:"),
            ("Content-Digest", "crc32c=::"),
            ("Content-MD5", ""),
            // In hex by mistake: also good base64.
            ("Content-MD5", "5d41402abc4b2a76b9719d911017c592"),
        ] {
            assert!(matches!(read(&[(name, value)]), Err(DigestError::Length { .. })), "{name}: {value}");
        }
        let other = BASE64_STANDARD.encode([7; 16]);
        let error = read(&[("Content-MD5", MD5), ("Repr-Digest", &format!("md5=:{other}:"))]);
        assert_eq!(error, Err(DigestError::Contradiction { algorithm: Algorithm::Md5 }));
        assert!(read(&[("Content-MD5", MD5), ("Repr-Digest", &format!("md5=:{MD5}:"))]).is_ok());
    }

    #[test]
    fn wishes_in_their_order() {
        let wanted = |text: &'static str| Wanted::read([text.as_bytes()].into_iter()).0;
        use Algorithm::{Crc32c, Md5, Sha256, Sha512};
        assert_eq!(wanted("sha-256=1, sha-512=10, crc32c=5"), [Sha512, Crc32c, Sha256]);
        assert_eq!(wanted("crc32c=3, md5=3, sha-256=3, sha-512=3"), [Sha512, Sha256, Md5, Crc32c]);
        assert_eq!(wanted("sha-256=0, crc32c=11, md5=-1, sha-512=1.5, other=9"), []);
        assert_eq!(wanted("sha-256"), []);
        assert_eq!(wanted("sha-256=5,"), []);
        assert_eq!(wanted(""), []);
    }

    #[test]
    fn replies_say_what_is_known() {
        let meta = Meta {
            version: Version(1),
            class: Class::Low,
            size: 5,
            stored: 5,
            crc32c: crc32c::crc32c(b"hello"),
            sha256: Some(Sha256::digest("hello").into()),
            modified: 0,
            created: 0,
        };
        let digest = |text: &'static str, meta: &Meta| {
            let wanted = Wanted::read([text.as_bytes()].into_iter());
            wanted.repr_digest(meta)
        };
        assert_eq!(digest("sha-512=9, sha-256=1", &meta), Some(format!("sha-256=:{SHA256}:")));
        assert_eq!(digest("sha-256=1, crc32c=2", &meta), Some(format!("crc32c=:{CRC32C}:")));
        let without = Meta { sha256: None, ..meta };
        assert_eq!(digest("sha-256=2, crc32c=1", &without), Some(format!("crc32c=:{CRC32C}:")));
        assert_eq!(digest("sha-256=2", &without), None);
        assert_eq!(digest("", &meta), None);
        assert!(Wanted::read([&b"sha-256=3"[..]].into_iter()).has(Algorithm::Sha256));
    }
}
