//! The page, as a browser asks for it.

use std::io::Write as _;

use crate::host::{Client, Host, Reply, options, sample};

/// What a browser says that it takes.
const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=xYz");
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn page(host: &Host, target: &str) -> Reply {
    host.ask("GET", target, &[HTML], b"")
}

fn field(name: &str, value: &str) -> Vec<u8> {
    format!("--xYz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").into_bytes()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/plain\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat()[..], b"--xYz--\r\n"].concat()
}

/// A harmless page is one, whatever it is about.
fn is_guarded(reply: &Reply) {
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(reply.header("content-security-policy"), Some(POLICY));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("same-origin"));
    for never in ["<script>", "javascript:", " style=", "<style", "\"http://", "\"https://"] {
        assert!(!reply.text().contains(never), "{never}: {}", reply.text());
    }
}

#[test]
fn people_get_a_page_and_programs_get_json() {
    let host = Host::new();
    host.put("/files/a/b.txt", b"hello");
    host.ask("PUT", "/files/a/c/d.bin", &[("Storage-Class", "deep")], &sample(1_500_000));
    for target in
        ["/", "/files/", "/files/a/", "/files/a/?sort=-size", "/files/a/?find=B", "/files/a/?delete"]
    {
        let reply = page(&host, target);
        assert_eq!(reply.status, 200, "{target}");
        is_guarded(&reply);
        assert_eq!(reply.header("vary"), Some("Accept, Accept-Language, Cookie"), "{target}");
        let head = host.ask("HEAD", target, &[HTML], b"");
        assert_eq!(
            (head.status, head.header("content-type")),
            (200, reply.header("content-type")),
            "{target}"
        );
    }
    // Who names no type gets the page where nothing else is, and JSON elsewhere.
    is_guarded(&host.get("/"));
    let json = host.get("/files/a/");
    assert_eq!(
        (json.header("content-type"), json.header("vary")),
        (Some("application/json"), Some("Accept"))
    );
    assert_eq!(host.ask("GET", "/files/a/b.txt?delete", &[], b"").text(), "hello");

    let folder = page(&host, "/files/a/");
    let text = folder.text();
    assert!(text.contains("href=\"/files/a/b.txt\"") && text.contains("href=\"/files/a/c/\""), "{text}");
    assert!(text.contains("title=\"5 bytes\">5 B<") && text.contains("b.txt?download"), "{text}");
    let deeper = page(&host, "/files/a/c/");
    assert!(deeper.text().contains(">1.5 MB<") && deeper.text().contains("tag deep"), "{}", deeper.text());
}

#[test]
fn names_are_never_markup() {
    let host = Host::new();
    // With its slash it is a folder.
    host.put("/files/%3Cscript%3Ealert(1)%3C/script%3E%20%E6%A8%A1%E5%9E%8B.bin", b"x");
    host.put("/files/%3Cscript%3Ealert(1)%3C%E2%88%95script%3E%20%E6%A8%A1%E5%9E%8B.bin", b"x");
    host.put("/files/%22%20onmouseover=%22alert(1).txt", b"x");
    host.put("/files/'%20onload='x%26amp;.txt", b"x");
    let shown = page(&host, "/");
    is_guarded(&shown);
    for expected in [
        "<bdi>&lt;script&gt;alert(1)&lt;</bdi>",
        "<bdi>&lt;script&gt;alert(1)&lt;\u{2215}script&gt; \u{6a21}\u{578b}.bin</bdi>",
        "<bdi>&quot; onmouseover=&quot;alert(1).txt</bdi>",
        "href=\"/files/%22%20onmouseover=%22alert(1).txt\"",
        "<bdi>&#39; onload=&#39;x&amp;amp;.txt</bdi>",
    ] {
        assert!(shown.text().contains(expected), "{expected}: {}", shown.text());
    }
    for target in [
        "/files/%3Cscript%3Ealert(1)%3C/",
        "/files/%3Cscript%3Ealert(1)%3C/?delete",
        "/files/?find=%3Cscript%3E",
        "/?find=%22%3E%3Cscript%3E",
        "/files/?done=stored&n=%3Cscript%3E",
        "/files/?done=%3Cscript%3E",
        "/?x=\"><script>alert(1)</script>",
    ] {
        is_guarded(&page(&host, target));
    }
    for target in
        ["/files/%3Cscript%3Ealert(1)%3C/none", "/%3Cscript%3E", "/<script>", "/files/?sort=<script>"]
    {
        let refused = page(&host, target);
        assert!(refused.status >= 400, "{target}");
        is_guarded(&refused);
    }
}

#[test]
fn what_is_stored_is_no_page_of_ours() {
    let host = Host::new();
    for name in ["x.html", "x.svg", "x.xhtml", "x.js", "x.xml"] {
        host.put(&format!("/files/{name}"), b"<script>alert(1)</script>");
        let reply = page(&host, &format!("/files/{name}"));
        assert_eq!(reply.header("content-security-policy"), Some("sandbox"), "{name}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{name}");
    }
}

#[test]
fn assets_have_the_name_of_their_content() {
    let host = Host::new();
    let shown = page(&host, "/");
    for (extension, content_type) in [
        ("css", "text/css; charset=utf-8"),
        ("js", "text/javascript; charset=utf-8"),
        ("svg", "image/svg+xml"),
    ] {
        let end = format!(".{extension}\"");
        let at = shown.text().split("\"/page/").skip(1).find_map(|rest| rest.split_once(&end)).unwrap().0;
        let asset = host.get(&format!("/page/{at}.{extension}"));
        assert_eq!((asset.status, asset.header("content-type")), (200, Some(content_type)));
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(asset.header("x-content-type-options"), Some("nosniff"));
        assert!(asset.body.len() > 100);
        assert_eq!(host.put(&format!("/page/{at}.{extension}"), b"x").status, 405);
    }
    assert_eq!(host.get("/page/0000000000000000.js").status, 404);
    assert_eq!(host.get("/page/").status, 404);
    assert_eq!(host.get("/favicon.ico").header("content-type"), Some("image/svg+xml"));
}

#[test]
fn languages() {
    let host = Host::new();
    host.put("/files/a/b", b"");
    for (headers, lang, word) in [
        (&[][..], "en", "Changed"),
        (&[("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8")], "zh", "\u{4fee}\u{6539}\u{65f6}\u{95f4}"),
        (&[("Accept-Language", "de,en;q=0.8,zh;q=0.5")], "en", "Changed"),
        (&[("Cookie", "x=y; lang=zh")], "zh", "\u{4fee}\u{6539}\u{65f6}\u{95f4}"),
        (&[("Cookie", "lang=en"), ("Accept-Language", "zh")], "en", "Changed"),
        (&[("Cookie", "lang=<script>")], "en", "Changed"),
    ] {
        let reply = host.ask("GET", "/files/a/", &[headers, &[HTML]].concat(), b"");
        is_guarded(&reply);
        assert!(reply.text().contains(&format!("<html lang=\"{lang}\">")), "{headers:?}");
        assert!(reply.text().contains(&format!(">{word}</a></th>")), "{headers:?}");
    }
    let chosen = page(&host, "/files/a/?sort=-size&lang=zh&find=x");
    assert_eq!((chosen.status, chosen.header("location")), (303, Some("/files/a/?sort=-size&find=x")));
    let cookie = chosen.header("set-cookie").unwrap();
    assert!(cookie.starts_with("lang=zh; ") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(page(&host, "/?lang=fr").status, 200);
    let problem = host.ask("GET", "/files/none", &[HTML, ("Cookie", "lang=zh")], b"");
    is_guarded(&problem);
    assert_eq!(problem.status, 404);
    assert!(
        problem.text().contains("\u{6ca1}\u{6709}\u{8fd9}\u{4e2a}\u{6587}\u{4ef6}"),
        "{}",
        problem.text()
    );
}

#[test]
fn refusals_are_pages_for_people() {
    let host = Host::new();
    host.put("/files/a/b", b"");
    for (method, target, status) in [
        ("GET", "/files/none", 404),
        ("GET", "/files/none/", 404),
        ("GET", "/files/none?delete", 404),
        ("GET", "/files/none/?delete", 404),
        ("GET", "/nothing", 404),
        ("GET", "/files/a//b", 400),
        ("GET", "/?sort=colour", 400),
        ("POST", "/files/none?delete", 404),
        ("POST", "/files/a/?delete", 409),
        ("POST", "/", 415),
        ("PATCH", "/", 405),
    ] {
        let reply = host.ask(method, target, &[HTML], b"");
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{method} {target}");
        is_guarded(&reply);
    }
    assert_eq!(host.ask("GET", "/nothing", &[("Accept", "*/*")], b"").json()["error"], "no_such_path");
}

#[test]
fn a_form_stores_files_and_goes_back_to_the_folder() {
    let host = Host::new();
    // More than is packed at once.
    let content = sample(8 << 20);
    let body = form(&[
        field("class", "deep"),
        field("folder", " new/sub/ "),
        file("a b%22.txt", b"hello"),
        file("\u{6a21}\u{578b}.bin", &content),
        file("tree/leaf", b""),
        field("unknown", "x"),
    ]);
    for (target, top) in [("/", ""), ("/files/x/", "x/")] {
        let reply = host.ask("POST", target, &[HTML, FORM], &body);
        let back = if top.is_empty() { "/" } else { "/files/x/" };
        assert_eq!(
            (reply.status, reply.header("location")),
            (303, Some(&*format!("{back}?done=stored&n=3")))
        );
        for (name, expected) in
            [("a%20b%22.txt", &b"hello"[..]), ("%E6%A8%A1%E5%9E%8B.bin", &content), ("tree/leaf", b"")]
        {
            let got = host.get(&format!("/files/{top}new/sub/{name}"));
            assert!(got.status == 200 && got.body == expected, "{name}");
            assert_eq!(got.header("storage-class"), Some("deep"));
        }
    }
    let back = page(&host, "/?done=stored&n=3");
    assert!(back.text().contains("<p>3 files were uploaded.</p>"), "{}", back.text());
    let nothing = host.ask("POST", "/", &[HTML, FORM], &form(&[field("class", "low"), file("", b"")]));
    assert_eq!(nothing.header("location"), Some("/?done=nothing"));
    host.until(|host| host.files("stage").is_empty());
}

#[test]
fn a_form_replaces_nothing_unless_it_says_so() {
    let host = Host::new();
    host.put("/files/a", b"old");
    let files = [file("a", b"new"), file("b", b"b"), file("a/c", b"c"), file("..", b"d"), file("e", b"e")];
    let reply = host.ask("POST", "/", &[FORM], &form(&files));
    assert_eq!(reply.status, 412, "{}", reply.text());
    let json = reply.json();
    assert_eq!((&json["folder"], &json["stored"]), (&"".into(), &2.into()));
    let failed: Vec<(&str, &str)> = json["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failed| (failed["name"].as_str().unwrap(), failed["error"].as_str().unwrap()))
        .collect();
    assert_eq!(failed, [("a", "precondition_failed"), ("a/c", "below_object"), ("..", "name_invalid")]);
    assert!(json["failed"][0]["message"].as_str().unwrap().contains("send replace=yes before the file"));
    assert_eq!(host.get("/files/a").text(), "old");
    assert_eq!((host.get("/files/b").text(), host.get("/files/e").text()), ("b", "e"));

    let told = host.ask("POST", "/", &[HTML, FORM], &form(&[file("a", b"new"), file("<b>", b"x")]));
    assert_eq!(told.status, 412);
    is_guarded(&told);
    for expected in ["1 file was uploaded.", "<bdi>a</bdi></b>: a file of this name is there already"] {
        assert!(told.text().contains(expected), "{}", told.text());
    }
    let replacing = form(&[field("replace", "yes"), file("a", b"new")]);
    assert_eq!(host.ask("POST", "/", &[HTML, FORM], &replacing).status, 303);
    assert_eq!(host.get("/files/a").text(), "new");
    let json = host.ask("POST", "/", &[FORM], &replacing).json();
    assert_eq!(json, serde_json::json!({"folder": "", "stored": 1, "failed": []}));
    host.until(|host| host.files("stage").is_empty());
}

#[test]
fn what_is_said_of_files_comes_before_them() {
    let host = Host::new();
    // Each field is about the files behind it.
    let parts = [file("a", b"a"), field("class", "deep"), file("b", b"b")];
    let reply = host.ask("POST", "/", &[FORM], &form(&parts));
    assert_eq!((reply.status, &reply.json()["stored"]), (200, &2.into()), "{}", reply.text());
    let class = |name: &str| host.get(name).header("storage-class").map(str::to_owned);
    assert_eq!((class("/files/a").as_deref(), class("/files/b").as_deref()), (Some("low"), Some("deep")));
    let late = [file("c", b"c"), field("class", "deep")];
    let reply = host.ask("POST", "/", &[FORM], &form(&late));
    let json = reply.json();
    assert_eq!((reply.status, &json["stored"]), (400, &1.into()), "{}", reply.text());
    assert!(
        json["failed"][0]["message"].as_str().unwrap().contains("class stands behind the files"),
        "{json}"
    );
}

#[test]
fn a_folder_without_its_slash_is_found_by_people() {
    let host = Host::new();
    assert_eq!(host.put("/files/a%20b/c", b"c").status, 201);
    let reply = host.ask("GET", "/files/a%20b", &[HTML], b"");
    assert_eq!((reply.status, reply.header("location")), (303, Some("/files/a%20b/")));
    assert_eq!(host.get("/files/a%20b").status, 404);
}

#[test]
fn a_form_may_come_in_any_pieces() {
    let host = Host::new();
    let body = form(&[field("class", "low"), file("a", b"one\r\n--xY\r\n"), file("b", b"two")]);
    for cut in (0..body.len()).step_by(7) {
        let mut client = host.connect();
        client.send("POST", "/", &[("Transfer-Encoding", "chunked"), FORM], b"");
        let replacing = [field("replace", "1"), body.clone()].concat();
        let at = cut + replacing.len() - body.len();
        for piece in [&replacing[..at], &replacing[at..]] {
            write!(client.stream, "{:x}\r\n", piece.len()).unwrap();
            client.stream.write_all(piece).unwrap();
            client.stream.write_all(b"\r\n").unwrap();
        }
        client.stream.write_all(b"0\r\n\r\n").unwrap();
        let reply = client.read(false).unwrap();
        assert_eq!(
            (reply.status, &reply.json()["stored"]),
            (200, &2.into()),
            "cut at {cut}: {}",
            reply.text()
        );
        assert_eq!(host.get("/files/a").text(), "one\r\n--xY\r\n");
    }
}

#[test]
fn a_malformed_form_is_refused_and_leaves_nothing_of_what_is_not_whole() {
    let host = Host::new();
    for (content_type, body, status, code) in [
        ("text/plain", &b"x"[..], 415, "form_expected"),
        ("application/x-www-form-urlencoded", b"a=b", 415, "form_expected"),
        ("multipart/form-data", b"--x", 400, "form_invalid"),
        ("multipart/form-data; boundary=xYz", b"", 400, "form_invalid"),
        ("multipart/form-data; boundary=xYz", b"hello", 400, "form_invalid"),
        ("multipart/form-data; boundary=xYz", b"--xYz\r\nno field\r\n\r\nx", 400, "form_invalid"),
        ("multipart/form-data; boundary=xYz", &file("cut", b"content"), 400, "form_invalid"),
        (
            "multipart/form-data; boundary=xYz",
            &form(&[field("class", "cold"), file("c", b"x")]),
            400,
            "class_invalid",
        ),
        (
            "multipart/form-data; boundary=xYz",
            &form(&[field("folder", "../x"), file("d", b"x")]),
            400,
            "name_invalid",
        ),
    ] {
        let reply = host.ask("POST", "/", &[("Content-Type", content_type)], body);
        assert_eq!((reply.status, reply.json()["error"].as_str()), (status, Some(code)), "{content_type}");
    }
    // A part that was whole stands, one that was cut does not.
    let cut = [file("whole", b"whole"), file("cut", b"cut")].concat();
    assert_eq!(host.ask("POST", "/", &[FORM], &cut[..cut.len() - 3]).status, 400);
    assert_eq!((host.get("/files/whole").text(), host.get("/files/cut").status), ("whole", 404));
    let packed = [FORM, ("Content-Encoding", "gzip")];
    assert_eq!(host.ask("POST", "/", &packed, &form(&[])).json()["error"], "content_coding");
    host.until(|host| host.files("stage").is_empty());
}

#[test]
fn an_aborted_form_leaves_nothing() {
    let host = Host::new();
    for class in ["low", "deep"] {
        let mut client = host.connect();
        let begun = [field("class", class), file("a", &sample(2_000_000))].concat();
        let length = (begun.len() + 1000).to_string();
        client.send("POST", "/", &[FORM, ("Content-Length", &length)], &begun[..begun.len() - 100]);
        host.until(|host| !host.files("stage").is_empty());
        drop(client);
        host.until(|host| host.files("stage").is_empty() && host.metric("cloudstore_uploads") == 0.0);
        assert_eq!(host.get("/files/a").status, 404);
    }
}

#[test]
fn the_rules_of_uploads_hold_for_forms() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = options(folder.path());
    limited.limits.max_body_bytes = 1000;
    let host = Host::with(limited);
    let reply = host.ask("POST", "/", &[FORM], &form(&[file("a", &sample(1001)), file("b", &sample(1000))]));
    assert_eq!((reply.status, &reply.json()["stored"]), (413, &1.into()), "{}", reply.text());
    assert_eq!((host.get("/files/a").status, host.get("/files/b").status), (404, 200));
    host.until(|host| host.files("stage").is_empty());
    drop(host);
    let mut full = options(folder.path());
    full.min_free_disk = u64::MAX;
    let host = Host::with(full);
    let reply = host.ask("POST", "/", &[FORM], &form(&[file("c", b"x")]));
    assert_eq!((reply.status, reply.json()["error"].as_str()), (507, Some("disk_full")));
}

#[test]
fn what_is_to_go_is_named_before_it_goes() {
    let host = Host::new();
    host.put("/files/a%20b/c", &sample(1000));
    host.put("/files/a%20b/d/e", &sample(500));
    host.put("/files/f", b"hello");
    let asked = page(&host, "/files/f?delete");
    for expected in
        ["\u{201c}f\u{201d} (5 B)", "<form method=\"post\" action=\"/files/f?delete\">", "href=\"/\""]
    {
        assert!(asked.text().contains(expected), "{}", asked.text());
    }
    let asked = page(&host, "/files/a%20b/?delete");
    for expected in [
        "\u{201c}a b/\u{201d} and the 2 files in it (1.5 kB)",
        "action=\"/files/a%20b/?delete&amp;recursive\"",
    ] {
        assert!(asked.text().contains(expected), "{}", asked.text());
    }
    assert_eq!(host.get("/files/f").text(), "hello", "to ask removes nothing");
    let gone = host.ask("POST", "/files/f?delete", &[HTML], b"");
    assert_eq!((gone.status, gone.header("location")), (303, Some("/?done=removed")));
    assert_eq!(host.get("/files/f").status, 404);
    let gone = host.ask("POST", "/files/a%20b/d/?delete&recursive", &[HTML], b"");
    assert_eq!(gone.header("location"), Some("/files/a%20b/?done=folder&n=1"));
    // The folder is gone with its last file; who has removed that is told so there.
    assert_eq!(host.ask("POST", "/files/a%20b/c?delete", &[], b"").status, 204);
    let emptied = page(&host, "/files/a%20b/?done=removed");
    assert!(emptied.status == 200 && emptied.text().contains("The file was deleted."), "{}", emptied.text());
    assert_eq!(page(&host, "/files/a%20b/").status, 404);
    host.put("/files/g/h", b"");
    let counted = host.ask("POST", "/files/g/?delete&recursive", &[], b"");
    assert_eq!((counted.status, &counted.json()["objects"]), (200, &1.into()));
}

#[test]
fn forms_of_other_pages_change_nothing() {
    let host = Host::new();
    host.put("/files/a", b"old");
    let body = form(&[field("replace", "yes"), file("a", b"new")]);
    for headers in [
        &[("Origin", "http://evil.example")][..],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://test")],
    ] {
        for (target, body) in [("/", &body[..]), ("/files/x/", &body), ("/files/a?delete", b"")] {
            let reply = host.ask("POST", target, &[headers, &[HTML, FORM]].concat(), body);
            assert_eq!(reply.status, 403, "{target} {headers:?}");
            is_guarded(&reply);
        }
    }
    assert_eq!(host.get("/files/a").text(), "old");
    assert_eq!(host.ask("POST", "/", &[("Origin", "http://test"), HTML, FORM], &body).status, 303);
}

#[test]
fn long_folders_come_in_pages() {
    let host = Host::new();
    let mut client: Client = host.connect();
    for n in 0..1001 {
        assert_eq!(client.ask("PUT", &format!("/files/long/{n:04}"), &[], b"").status, 201);
    }
    let first = page(&host, "/files/long/");
    assert_eq!(first.text().matches("<tr role=\"row\" data-kind=\"file\"").count(), 1000);
    assert!(first.text().contains("href=\"?after=long/0999\""), "a link to the next");
    assert!(first.text().contains("data-complete=\"no\""));
    let second = page(&host, "/files/long/?after=long/0999");
    assert_eq!(second.text().matches("<tr role=\"row\" data-kind=\"file\"").count(), 1);
    assert!(!second.text().contains("rel=\"next\"") && second.text().contains("href=\"/files/long/\""));
    let sorted = page(&host, "/files/long/?sort=-name");
    assert_eq!(sorted.text().matches("<tr role=\"row\" data-kind=\"file\"").count(), 1001);
    assert!(sorted.text().find("long/1000").unwrap() < sorted.text().find("long/0000").unwrap());
    let found = page(&host, "/?find=099");
    assert_eq!(found.text().matches("<tr role=\"row\" data-kind=\"file\"").count(), 11);
    assert!(found.text().contains("<bdi>long/0990</bdi>"), "{}", found.text());
    let cut = page(&host, "/?find=LONG");
    assert_eq!(cut.text().matches("<tr role=\"row\" data-kind=\"file\"").count(), 500);
    assert!(cut.text().contains("There may be more"));
    assert_eq!(page(&host, "/?find=nothing+like+it").status, 200);
}
