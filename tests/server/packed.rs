//! Deep objects, sent packed to those who unpack them.

use std::io::Read;

use crate::host::{Host, Reply, sample};

fn unpacked(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&reply.body[..]).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn who_takes_gzip_gets_it_with_a_tag_of_its_own() {
    let host = Host::new();
    let content = sample(2_500_000);
    let stored = host.ask("PUT", "/files/a", &[("Storage-Class", "deep")], &content);
    let tag = stored.header("etag").unwrap();
    let packed = host.ask("GET", "/files/a", &[("Accept-Encoding", "gzip, br")], b"");
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    assert!(packed.body.len() < content.len() && unpacked(&packed) == content);
    assert_eq!(packed.header("etag").unwrap(), format!("{}-gz\"", tag.strip_suffix('"').unwrap()));
    assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
    assert_eq!(packed.header("accept-ranges"), Some("none"));

    let plain = host.get("/files/a");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
    assert_eq!(plain.header("etag"), Some(tag));
    assert!(plain.body == content);
    // A range is one of the content, by the content's tag.
    let headers = [("Accept-Encoding", "gzip"), ("Range", "bytes=0-9"), ("If-Range", tag)];
    let part = host.ask("GET", "/files/a", &headers, b"");
    assert_eq!((part.status, part.header("content-encoding"), part.header("etag")), (206, None, Some(tag)));
    assert_eq!(part.body, content[..10]);
    let headers =
        [("Accept-Encoding", "gzip"), ("Range", "bytes=0-9"), ("If-Range", packed.header("etag").unwrap())];
    let whole = host.ask("GET", "/files/a", &headers, b"");
    assert!(whole.status == 200 && whole.header("content-encoding").is_none() && whole.body == content);
    // The stored file is what goes out, and a seek table.
    let file = std::fs::read(host.data().join("deep_storage/a.gz")).unwrap();
    assert!(file.starts_with(&packed.body));
    // A low object goes out as it is.
    host.put("/files/low", b"hello");
    let low = host.ask("GET", "/files/low", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!((low.header("content-encoding"), low.header("vary"), low.text()), (None, None, "hello"));
}

#[test]
fn a_condition_chooses_the_form_that_it_names() {
    let host = Host::new();
    host.ask("PUT", "/files/a", &[("Storage-Class", "deep")], b"hello");
    let plain = host.get("/files/a").header("etag").unwrap().to_owned();
    let packed =
        host.ask("GET", "/files/a", &[("Accept-Encoding", "gzip")], b"").header("etag").unwrap().to_owned();
    for (headers, status, tag, coding) in [
        (&[("If-Match", &plain[..])][..], 200, Some(&plain), None),
        (&[("If-Match", &packed)], 412, None, None),
        (&[("If-None-Match", &plain)], 304, Some(&plain), None),
        (&[("If-None-Match", &packed)], 200, Some(&plain), None),
        (&[("Accept-Encoding", "gzip"), ("If-Match", &packed)], 200, Some(&packed), Some("gzip")),
        // Who wrote the object knows its tag, and takes gzip too.
        (&[("Accept-Encoding", "gzip"), ("If-Match", &plain)], 200, Some(&plain), None),
        (&[("Accept-Encoding", "gzip"), ("If-Match", "\"0\"")], 412, None, None),
        (&[("Accept-Encoding", "gzip"), ("If-None-Match", &packed)], 304, Some(&packed), None),
        (&[("Accept-Encoding", "gzip"), ("If-None-Match", &plain)], 304, Some(&plain), None),
        (&[("Accept-Encoding", "gzip"), ("If-None-Match", "\"0\"")], 200, Some(&packed), Some("gzip")),
        (&[("Accept-Encoding", "gzip"), ("If-None-Match", "*")], 304, Some(&packed), None),
    ] {
        let reply = host.ask("GET", "/files/a", headers, b"");
        assert_eq!((reply.status, reply.header("etag")), (status, tag.map(|tag| &tag[..])), "{headers:?}");
        assert_eq!(reply.header("content-encoding"), coding, "{headers:?}");
        if status != 412 {
            assert_eq!(reply.header("vary"), Some("Accept-Encoding"), "{headers:?}");
        }
    }
}

#[test]
fn a_damaged_block_cuts_the_download_and_not_the_question_for_its_head() {
    let host = Host::new();
    let content = sample(3 << 20);
    host.ask("PUT", "/files/a", &[("Storage-Class", "deep")], &content);
    let path = host.data().join("deep_storage/a.gz");
    let mut file = std::fs::read(&path).unwrap();
    let middle = file.len() / 2;
    file[middle..middle + 64].fill(0x55);
    // In place: the metadata stays on the file.
    std::fs::write(&path, &file).unwrap();
    let mut client = host.connect();
    let head = client.ask("HEAD", "/files/a", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("3145728")));
    let part = client.ask("GET", "/files/a", &[("Range", "bytes=0-9")], b"");
    assert_eq!(
        (part.status, &part.body[..]),
        (206, &content[..10]),
        "the connection is in step, the first block whole"
    );
    client.send("GET", "/files/a", &[], b"");
    assert!(client.read(false).is_none(), "the body is cut short, and not filled up with something");
    assert_eq!(host.metric("cloudstore_http_cut_total"), 1.0);
}
