//! What a file is, by its name, and as what it is saved.

use std::fmt::Write as _;

/// Of a name without an extension that is known.
pub const DEFAULT_TYPE: &str = "application/octet-stream";

/// The media type of an object, by the extension of its name, as a value of `Content-Type`.
///
/// Plain text goes out as UTF-8: `.txt`, `.csv`, `.md`, source code. HTML, CSS and XML say no `charset` here, since the
/// field would win over the one that the file itself declares.
pub fn content_type(name: &str) -> &'static str {
    let leaf = name.rsplit('/').next().unwrap_or(name);
    let Some((_, extension)) = leaf.rsplit_once('.') else { return DEFAULT_TYPE };
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..extension.len()) else { return DEFAULT_TYPE };
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    let found = TYPES.binary_search_by(|(known, _)| known.as_bytes().cmp(lower));
    found.ok().and_then(|at| TYPES.get(at)).map_or(DEFAULT_TYPE, |(_, media_type)| media_type)
}

/// Bytes of the longest extension that is known.
const LONGEST: usize = 11;

/// Of a PDF.
pub(crate) const PDF: &str = "application/pdf";
const TEXT: &str = "text/plain; charset=utf-8";

/// Extensions, in order. What browsers show or play, what offices and archives use; all else is bytes.
const TYPES: [(&str, &str); 110] = [
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("c", TEXT),
    ("cc", TEXT),
    ("conf", TEXT),
    ("cpp", TEXT),
    ("css", "text/css"),
    ("csv", "text/csv; charset=utf-8"),
    ("deb", "application/vnd.debian.binary-package"),
    ("diff", TEXT),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("go", TEXT),
    ("gz", "application/gzip"),
    ("h", TEXT),
    ("heic", "image/heic"),
    ("hpp", TEXT),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/vnd.microsoft.icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("ini", TEXT),
    ("iso", "application/vnd.efi.iso"),
    ("jar", "application/java-archive"),
    ("java", TEXT),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jxl", "image/jxl"),
    ("log", TEXT),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("markdown", "text/markdown; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("mid", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mkv", "video/matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("parquet", "application/vnd.apache.parquet"),
    ("patch", TEXT),
    ("pdf", PDF),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("ps", "application/postscript"),
    ("py", TEXT),
    ("rar", "application/vnd.rar"),
    ("rpm", "application/x-rpm"),
    ("rs", TEXT),
    ("rst", TEXT),
    ("rtf", "application/rtf"),
    ("sh", TEXT),
    ("sql", "application/sql"),
    ("sqlite", "application/vnd.sqlite3"),
    ("srt", "application/x-subrip"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tex", "text/x-tex; charset=utf-8"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("ttf", "font/ttf"),
    ("txt", TEXT),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The value of `Content-Disposition` that saves an object under the last segment of its name (RFC 6266).
///
/// What old clients read is ASCII; if the name has more, or a character that they read in different ways, those are `_`
/// there, and the name itself follows in the form of RFC 8187, which all others prefer.
pub fn attachment(name: &str) -> String {
    let leaf = name.rsplit('/').next().unwrap_or(name);
    let mut value = String::from("attachment; filename=\"");
    let mut is_exact = true;
    for character in leaf.chars() {
        // Some undo percent signs and backslashes in quotes, some do not.
        let is_plain = matches!(character, ' '..='~') && !matches!(character, '"' | '\\' | '%');
        is_exact &= is_plain;
        value.push(if is_plain { character } else { '_' });
    }
    value.push('"');
    if !is_exact {
        value.push_str("; filename*=UTF-8''");
        for byte in leaf.bytes() {
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                value.push(char::from(byte));
            } else {
                let _ = write!(value, "%{byte:02X}");
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_well_formed() {
        assert!(TYPES.is_sorted_by(|(a, _), (b, _)| a < b));
        assert_eq!(TYPES.iter().map(|(extension, _)| extension.len()).max(), Some(LONGEST));
        for (extension, media_type) in TYPES {
            assert!(extension.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
            let essence = media_type.strip_suffix("; charset=utf-8").unwrap_or(media_type);
            let (kind, subtype) = essence.split_once('/').unwrap();
            assert!(
                ["application", "audio", "font", "image", "text", "video"].contains(&kind),
                "{media_type}"
            );
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            assert!(!subtype.is_empty() && subtype.bytes().all(is_token), "{media_type}");
        }
    }

    #[test]
    fn types_by_extension() {
        for (name, expected) in [
            ("a.txt", "text/plain; charset=utf-8"),
            ("folder.zip/A.JPG", "image/jpeg"),
            ("\u{4e2d}\u{6587}.Md", "text/markdown; charset=utf-8"),
            ("index.html", "text/html"),
            ("site.webmanifest", "application/manifest+json"),
            ("a.tar.gz", "application/gzip"),
            (".txt", "text/plain; charset=utf-8"),
            ("txt", DEFAULT_TYPE),
            ("folder.txt/file", DEFAULT_TYPE),
            ("a.", DEFAULT_TYPE),
            ("", DEFAULT_TYPE),
            ("a.unheardof", DEFAULT_TYPE),
            ("a.webmanifests", DEFAULT_TYPE),
            ("a.\u{4e2d}\u{6587}", DEFAULT_TYPE),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }

    #[test]
    fn names_of_saved_files() {
        for (name, expected) in [
            ("a.txt", "attachment; filename=\"a.txt\""),
            ("folder/a b's.txt", "attachment; filename=\"a b's.txt\""),
            ("a\"b\\c.txt", "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"),
            ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
            (
                "x/\u{4e2d} (1)'.txt",
                "attachment; filename=\"_ (1)'.txt\"; filename*=UTF-8''%E4%B8%AD%20%281%29%27.txt",
            ),
            ("\u{1f600}", "attachment; filename=\"_\"; filename*=UTF-8''%F0%9F%98%80"),
            ("a\r\nb: c", "attachment; filename=\"a__b: c\"; filename*=UTF-8''a%0D%0Ab%3A%20c"),
        ] {
            assert_eq!(attachment(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_makes_a_field_that_gives_it_back(name in any::<String>()) {
            let value = attachment(&name);
            prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            let rest = value.strip_prefix("attachment; filename=\"").unwrap();
            let (fallback, rest) = rest.split_once('"').unwrap();
            let leaf = name.rsplit('/').next().unwrap();
            match rest.strip_prefix("; filename*=UTF-8''") {
                None => prop_assert!(rest.is_empty() && fallback == leaf),
                Some(encoded) => {
                    let (mut bytes, mut encoded) = (Vec::new(), encoded.bytes());
                    while let Some(byte) = encoded.next() {
                        bytes.push(match byte {
                            b'%' => {
                                let digits = [encoded.next().unwrap(), encoded.next().unwrap()];
                                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                            }
                            _ => byte,
                        });
                    }
                    prop_assert_eq!(bytes, leaf.as_bytes());
                }
            }
            let _ = content_type(&name);
        }
    }
}
