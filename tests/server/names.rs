//! Names in every spelling, and those that are none.

use std::os::unix::fs::symlink;

use crate::host::Host;

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Names that files have, as their users call them.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a b",
        " a",
        "a ",
        "a+b",
        "100%",
        "%2e%2e",
        "a#b",
        "a?b",
        "a&b=c;d",
        "\"a\"",
        "'a'",
        "<b>&amp;",
        "[x]{y}|^`~",
        "...",
        ".hidden",
        "a.gz",
        "~",
        "-rf",
        "模块/二.bin",
        "🙂🙂/🙂",
        "e\u{301}",
        "\u{e9}",
        "\u{202e}txt.exe",
        "a\u{2028}b",
        "\u{feff}a",
        "CON",
        "a:b",
        "C:",
        "a*b",
        "nul\u{fffd}",
        "a\u{a0}b",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(250));
    names
        .push(["y".repeat(250), "z".repeat(250), "w".repeat(250), "v".repeat(250), "u".repeat(20)].join("/"));
    names.push("模".repeat(83));
    names
}

#[test]
fn names_in_every_spelling_are_one_name() {
    let host = Host::new();
    for name in odd_names() {
        for class in ["low", "deep"] {
            let target = format!("/files/{}", encoded(&name));
            let stored = host.ask("PUT", &target, &[("Storage-Class", class)], name.as_bytes());
            assert_eq!(stored.status, if class == "low" { 201 } else { 200 }, "{name}: {}", stored.text());
            assert_eq!(stored.json()["name"], name.as_str());
            let mut spellings = vec![target.clone(), target.to_uppercase().replace("/FILES/", "/files/")];
            spellings.extend(stored.header("location").map(str::to_owned));
            spellings.push(format!("/download/{}", encoded(&name)));
            spellings.push(format!("http://test{target}"));
            // As it is, where that is a request at all.
            if !name.contains(['%', '#', '?', ' ', '\u{a0}', '\u{2028}']) {
                spellings.push(format!("/files/{name}"));
            }
            for spelling in spellings {
                let reply = host.get(&spelling);
                assert_eq!((reply.status, reply.text()), (200, name.as_str()), "{spelling}");
            }
            let saved = host.get(&format!("{target}?download"));
            assert!(saved.header("content-disposition").unwrap().starts_with("attachment; filename=\""));
        }
    }
}

#[test]
fn odd_names_are_listed_in_good_json() {
    let host = Host::new();
    let mut names = odd_names();
    for name in &names {
        assert_eq!(host.put(&format!("/files/{}", encoded(name)), b"").status, 201, "{name}");
    }
    names.sort();
    let listed = |target: &str, list: &str| -> Vec<String> {
        let json = host.get(target).json();
        let entries = json[list].as_array().unwrap();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("/files/?delimiter=", "entries"), names);
    assert_eq!(listed("/list", "files"), names);
    for file in host.get("/list").json()["files"].as_array().unwrap() {
        assert_eq!(host.get(file["url"].as_str().unwrap()).status, 200, "{file}");
    }
    // Cursors take them too.
    let mut paged = Vec::new();
    let mut target = "/files/?delimiter=&limit=1".to_owned();
    loop {
        let json = host.get(&target).json();
        paged.push(json["entries"][0]["name"].as_str().unwrap().to_owned());
        let Some(next) = json["next"].as_str() else { break };
        target = format!("/files/?delimiter=&limit=1&after={}", encoded(next));
    }
    assert_eq!(paged, names);
}

#[test]
fn names_that_lead_out_are_refused() {
    let host = Host::new();
    let outside = host.data().parent().unwrap().join(format!("outside-{}", std::process::id()));
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let long = format!("a/{}", "x".repeat(251));
    let longer = vec!["x".repeat(200); 6].join("/");
    for name in [
        "..",
        ".",
        "../secret",
        "a/../../secret",
        "a/./b",
        "./a",
        "/etc/passwd",
        "//etc/passwd",
        "a//b",
        "..\\secret",
        "a\\b",
        "a%00b",
        "%00",
        "a%0ab",
        "a%0d%0aX:%20y",
        "a%1fb",
        "a%7fb",
        "%2e%2e",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "..%2fsecret",
        "%2e./secret",
        "a%c2%85b",
        "%c0%ae%c0%ae/secret",
        "%ff",
        "a%ed%a0%80",
        "%",
        "%2",
        "%zz",
        "a%",
        &long,
        &longer,
    ] {
        for (method, target) in [
            ("GET", format!("/files/{name}")),
            ("HEAD", format!("/files/{name}")),
            ("PUT", format!("/files/{name}")),
            ("DELETE", format!("/files/{name}")),
            ("POST", format!("/files/{name}?move=x")),
            ("GET", format!("/files/{name}/")),
            ("DELETE", format!("/files/{name}/?recursive")),
            ("GET", format!("/download/{name}")),
        ] {
            let reply = host.ask(method, &target, &[], b"");
            assert_eq!(reply.status, 400, "{method} {target}");
            // A backslash as it is makes no request at all.
            if method != "HEAD" && !name.contains('\\') {
                assert_eq!(reply.json()["error"], "name_invalid", "{method} {target}");
            }
        }
    }
    // Links that somebody has put there are not followed.
    host.put("/files/a/b", b"");
    symlink(&outside, host.data().join("low_storage/link")).unwrap();
    symlink(outside.join("secret"), host.data().join("low_storage/a/link")).unwrap();
    for target in ["/files/link/secret", "/files/a/link"] {
        for method in ["GET", "PUT", "DELETE"] {
            let reply = host.ask(method, target, &[], b"changed");
            assert!(
                reply.status >= 400 && !reply.text().contains("secret\n"),
                "{method} {target}: {}",
                reply.status
            );
        }
    }
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    std::fs::remove_dir_all(&outside).unwrap();
}

#[test]
fn content_types_go_by_names_and_nothing_runs_as_a_page() {
    let host = Host::new();
    for (name, expected) in [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.HTML", "text/html"),
        ("a.png", "image/png"),
        ("a.pdf", "application/pdf"),
        ("a.svg", "image/svg+xml"),
        ("a", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
    ] {
        let target = format!("/files/{name}");
        host.put(&target, b"<script>");
        let reply = host.get(&target);
        assert_eq!(reply.header("content-type"), Some(expected));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let sandbox = Some("sandbox").filter(|_| name != "a.pdf");
        assert_eq!(reply.header("content-security-policy"), sandbox, "{name}");
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        assert_eq!(reply.header("content-disposition"), None);
        let saved = host.get(&format!("{target}?download"));
        assert_eq!(saved.header("content-disposition").unwrap(), format!("attachment; filename=\"{name}\""));
        assert_eq!(host.get(&format!("{target}?download=false")).header("content-disposition"), None);
    }
}
