//! Objects and folders, moved, copied, removed and put in the other class.

use crate::host::{Host, sample};

fn names(host: &Host) -> Vec<String> {
    let json = host.get("/files/?delimiter=").json();
    json["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn objects_are_moved_and_copied() {
    let host = Host::new();
    for class in ["low", "deep"] {
        let content = sample(1_500_000);
        let headers = [("Storage-Class", class), ("X-OC-Mtime", "1000000000")];
        let tag = host.ask("PUT", "/files/a/b", &headers, &content).header("etag").unwrap().to_owned();

        let copied = host.ask("POST", "/files/a/b?copy=c%20d/e", &[], b"");
        assert_eq!((copied.status, copied.header("location")), (201, Some("/files/c%20d/e")));
        assert_eq!(
            (copied.json()["name"].as_str(), copied.header("storage-class")),
            (Some("c d/e"), Some(class))
        );
        let moved = host.ask("POST", "/files/a/b?move=m", &[], b"");
        assert_eq!((moved.status, moved.header("location")), (201, Some("/files/m")));
        assert_ne!(moved.header("etag"), Some(&tag[..]), "what was read there before was something else");
        assert_eq!(names(&host), ["c d/e", "m"]);
        for target in ["/files/m", "/files/c%20d/e"] {
            let reply = host.get(target);
            assert!(reply.body == content, "{class} {target}");
            assert_eq!(
                reply.header("last-modified"),
                Some("Sun, 09 Sep 2001 01:46:40 GMT"),
                "{class} {target}"
            );
        }
        // Over something else, of either class.
        host.put("/files/x", b"old");
        let moved = host.ask("POST", "/files/m?move=x", &[], b"");
        assert_eq!((moved.status, moved.header("location")), (200, None));
        assert!(host.get("/files/x").body == content);
        // To itself, which changes nothing.
        assert_eq!(host.ask("POST", "/files/x?move=x", &[], b"").status, 200);
        assert_eq!(host.ask("POST", "/files/x?copy=x", &[], b"").status, 200);
        assert!(host.get("/files/x").body == content);
        assert_eq!(names(&host), ["c d/e", "x"]);
        assert_eq!(host.ask("DELETE", "/files/?recursive", &[], b"").json()["objects"], 2);
        assert_eq!(host.files("low_storage").len() + host.files("deep_storage").len(), 0);
    }
}

#[test]
fn conditions_of_a_move_are_about_both_ends() {
    let host = Host::new();
    let tag = host.put("/files/a", b"a").header("etag").unwrap().to_owned();
    host.put("/files/b", b"b");
    for act in ["move", "copy"] {
        let ask = |headers: &[(&str, &str)]| host.ask("POST", &format!("/files/a?{act}=b"), headers, b"");
        let refused = ask(&[("If-None-Match", "*")]);
        assert_eq!((refused.status, refused.json()["name"].as_str()), (412, Some("b")));
        assert_eq!(ask(&[("If-Match", "\"0\"")]).status, 412);
        assert_eq!(ask(&[("If-Match", &tag), ("If-None-Match", "*")]).status, 412);
    }
    assert_eq!((host.get("/files/a").text(), host.get("/files/b").text()), ("a", "b"));
    let ask =
        |target: &str| host.ask("POST", target, &[("If-Match", &tag), ("If-None-Match", "*")], b"").status;
    assert_eq!(ask("/files/a?copy=c"), 201);
    assert_eq!(ask("/files/a?move=d"), 201);
    assert_eq!(names(&host), ["b", "c", "d"]);
}

#[test]
fn folders_are_moved_copied_and_removed() {
    let host = Host::new();
    for n in 0..150 {
        assert_eq!(host.put(&format!("/files/from/{}/{n}", n % 7), &sample(n)).status, 201);
    }
    host.ask("PUT", "/files/from/deep", &[("Storage-Class", "deep")], b"deep");
    let count = |method: &str, target: &str| {
        let reply = host.ask(method, target, &[], b"");
        (reply.status, reply.json()["objects"].as_u64())
    };
    assert_eq!(count("POST", "/files/from/?copy=copied/"), (200, Some(151)));
    assert_eq!(count("POST", "/files/from/?copy=copied/"), (412, None));
    assert_eq!(count("POST", "/files/from/?copy=copied/&replace"), (200, Some(151)));
    assert_eq!(count("POST", "/files/from/?copy=copied/&replace=false"), (412, None));
    assert_eq!(count("POST", "/files/from/?move=to%20there/"), (200, Some(151)));
    assert_eq!(host.get("/files/from/").status, 404);
    for n in 0..150 {
        assert!(host.get(&format!("/files/to%20there/{}/{n}", n % 7)).body == sample(n));
        assert!(host.get(&format!("/files/copied/{}/{n}", n % 7)).body == sample(n));
    }
    assert_eq!(host.get("/files/to%20there/deep").text(), "deep");
    for (target, code) in
        [("/files/copied/?move=copied/", "into_itself"), ("/files/copied/?copy=copied/a/", "into_itself")]
    {
        let reply = host.ask("POST", target, &[], b"");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (409, Some(code)));
    }
    // Where a folder goes is a folder, with a slash or without.
    assert_eq!(count("POST", "/files/copied/?move=elsewhere"), (200, Some(151)));
    assert_eq!(host.get("/files/elsewhere/deep").text(), "deep");
    assert_eq!(count("DELETE", "/files/to%20there/?recursive=true"), (200, Some(151)));
    assert_eq!(count("DELETE", "/files/to%20there/?recursive"), (404, None));
    assert_eq!(host.get("/files/to%20there/").status, 404);
}

#[test]
fn an_object_changes_its_class_and_nothing_else() {
    let host = Host::new();
    let content = sample(2_200_000);
    host.ask("PUT", "/files/a", &[("X-OC-Mtime", "1000000000")], &content);
    let mut tags = vec![host.get("/files/a").header("etag").unwrap().to_owned()];
    for class in ["deep", "low", "deep"] {
        let changed = host.ask("POST", &format!("/files/a?class={class}"), &[], b"");
        assert_eq!((changed.status, changed.header("storage-class")), (200, Some(class)));
        let reply = host.get("/files/a");
        assert!(reply.body == content, "{class}");
        assert_eq!(reply.header("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
        assert_eq!(reply.header("etag"), changed.header("etag"));
        assert!(!tags.contains(&reply.header("etag").unwrap().to_owned()));
        tags.push(reply.header("etag").unwrap().to_owned());
        let (low, deep) = (host.files("low_storage").len(), host.files("deep_storage").len());
        assert_eq!((low, deep), if class == "low" { (1, 0) } else { (0, 1) });
    }
    assert_eq!(host.ask("POST", "/files/a?class=low", &[("If-Match", &tags[0])], b"").status, 412);
    // The class that it has already.
    assert_eq!(host.ask("POST", "/files/a?class=deep", &[], b"").status, 200);
    // A put without a class is low.
    assert_eq!(host.put("/files/a", b"x").header("storage-class"), Some("low"));
    assert_eq!((host.files("low_storage").len(), host.files("deep_storage").len()), (1, 0));
}
