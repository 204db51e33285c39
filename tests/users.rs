//! Who may do what: over the wire, and with the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/host.rs"]
mod host;
#[path = "util/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudstore::users::token::rfc3339;
use cloudstore::users::{Draft, PasswordHash, Token, UsersError, UsersFile};
use host::{Client, Host, Reply, options};
use program::{Program, cloudstore, run};

const PASSWORD: &str = "correct horse";

/// A server with users, in a folder of its own.
struct Site {
    host: Host,
    file: UsersFile,
    _folder: tempfile::TempDir,
}

/// What a request says of who sends it.
#[derive(Clone)]
struct Says(String);

impl Says {
    fn password(name: &str, password: &str) -> Says {
        Says(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
    }

    fn token(text: &str) -> Says {
        Says(format!("Bearer {text}"))
    }

    fn nothing() -> Says {
        Says(String::new())
    }
}

impl Site {
    fn without_users() -> Site {
        Site::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut cloudstore::server::Options)) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let file = UsersFile::new(folder.path().join("users.json"));
        let mut options = options(&folder.path().join("data"));
        options.users = Some(file.path().to_owned());
        change(&mut options);
        Site { host: Host::with(options), file, _folder: folder }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Draft>)) {
        self.file
            .change(|users| {
                change(users);
                Ok::<_, UsersError>(())
            })
            .unwrap();
    }

    /// A user with these rules, or an admin; it has a token.
    fn user(&self, name: &str, rules: &[&str]) -> Says {
        let (text, token) = Token::new("", None).unwrap();
        let draft = Draft {
            rules: rules.iter().filter(|rule| **rule != "admin").map(|rule| rule.parse().unwrap()).collect(),
            admin: rules.contains(&"admin"),
            // It cannot have one.
            tokens: if name == "anonymous" { Vec::new() } else { vec![token] },
            ..Draft::new(name.parse().unwrap())
        };
        self.change(|users| users.push(draft));
        Says::token(&text)
    }

    /// Waits until the server knows what the file says now, which somebody shows who is known from then on.
    fn settle(&self) {
        let probe = self.user(&format!("probe-{}", rand()), &["read:/"]);
        self.host.until(|_| self.ask(&probe, "GET", "/files/", b"").status != 401);
    }

    fn ask(&self, who: &Says, method: &str, target: &str, body: &[u8]) -> Reply {
        self.ask_with(who, method, target, &[], body)
    }

    fn ask_with(
        &self,
        who: &Says,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut headers = headers.to_vec();
        if !who.0.is_empty() {
            headers.push(("Authorization", &who.0));
        }
        self.host.ask(method, target, &headers, body)
    }
}

/// A number that no other call gives.
fn rand() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn file_name(name: &str) -> String {
    STANDARD.encode(name)
}

#[test]
fn every_call_needs_its_verbs_and_no_others() {
    let site = Site::without_users();
    let admin = site.user("admin", &["admin"]);
    let verbs = ["read", "create", "replace", "delete"];
    // Of each set of verbs a user.
    let users: Vec<(Vec<&str>, Says)> = (1..16_u32)
        .map(|set| {
            let mine: Vec<&str> = verbs
                .iter()
                .enumerate()
                .filter(|(n, _)| set & (1 << n) != 0)
                .map(|(_, verb)| *verb)
                .collect();
            let rule = format!("{}:/box/", mine.join(","));
            let says = site.user(&format!("u{set}"), &[&rule]);
            (mine, says)
        })
        .collect();
    site.settle();
    let prepare = || {
        site.ask(&admin, "DELETE", "/files/box/?recursive", b"");
        for name in ["old", "other", "in/x", "full/x"] {
            assert_eq!(site.ask(&admin, "PUT", &format!("/files/box/{name}"), name.as_bytes()).status, 201);
        }
    };
    let state = || {
        let listed = site.ask(&admin, "GET", "/files/?delimiter=", b"").json();
        let entries = listed["entries"].as_array().unwrap().iter();
        entries.map(|entry| format!("{} {}", entry["name"], entry["etag"])).collect::<Vec<_>>()
    };
    let (old, new) = (file_name("box/old"), file_name("box/new"));
    for (method, target, name, needs) in [
        ("GET", "/files/box/old", "", "read"),
        ("HEAD", "/files/box/old", "", "read"),
        ("GET", "/download/box/old", "", "read"),
        ("GET", "/files/box/", "", "read"),
        ("HEAD", "/files/box/in/", "", "read"),
        ("GET", "/files/", "", "read"),
        ("GET", "/list", "", "read"),
        ("PUT", "/files/box/new", "", "create"),
        ("PUT", "/files/box/old", "", "replace"),
        ("POST", "/upload", &new, "create"),
        ("PUT", "/upload", &old, "replace"),
        ("DELETE", "/files/box/old", "", "delete"),
        ("DELETE", "/files/box/?recursive", "", "delete"),
        ("POST", "/remove", &old, "delete"),
        ("GET", "/remove", &old, "delete"),
        ("DELETE", "/remove", &old, "delete"),
        ("POST", "/files/box/old?move=box/new", "", "read delete create"),
        ("POST", "/files/box/old?move=box/other", "", "read delete replace"),
        ("POST", "/files/box/old?copy=box/new", "", "read create"),
        ("POST", "/files/box/old?copy=box/other", "", "read replace"),
        ("POST", "/files/box/old?class=deep", "", "read replace"),
        ("POST", "/files/box/in/?copy=box/out/", "", "read create"),
        ("POST", "/files/box/in/?copy=box/full/&replace", "", "read create replace"),
        ("POST", "/files/box/in/?move=box/out/", "", "read create delete"),
        ("POST", "/files/box/in/?move=box/full/&replace", "", "read create replace delete"),
        ("GET", "/metrics", "", "admin"),
        ("GET", "/index", "", "admin"),
        ("POST", "/index?check", "", "admin"),
        ("POST", "/index?rebuild", "", "admin"),
        ("POST", "/index?import", "", "admin"),
    ] {
        prepare();
        let mut before = state();
        for (mine, says) in &users {
            let case = format!("{method} {target} {name} with {mine:?}");
            let reply = site.ask_with(says, method, target, &[("FileName", name)], b"new");
            if needs.split(' ').all(|verb| mine.contains(&verb)) {
                assert!((200..300).contains(&reply.status), "{case}: {}", reply.status);
                prepare();
                before = state();
            } else {
                assert_eq!(reply.status, 403, "{case}");
                if method != "HEAD" {
                    assert_eq!(reply.json()["error"], "forbidden", "{case}");
                }
                assert_eq!(state(), before, "{case}: nothing of it was done");
            }
        }
        // Elsewhere nobody of them may anything, and nobody without credentials is let in.
        let elsewhere = target.replace("box/", "chest/");
        let name = name.replace(&old, &file_name("chest/old")).replace(&new, &file_name("chest/new"));
        let everything = &users.last().unwrap().1;
        if elsewhere.contains("chest") || !name.is_empty() {
            let reply = site.ask_with(everything, method, &elsewhere, &[("FileName", &name)], b"new");
            assert_eq!(reply.status, 403, "{method} {elsewhere}");
        }
        let reply = site.ask_with(&Says::nothing(), method, target, &[("FileName", &name)], b"new");
        assert_eq!(reply.status, 401, "{method} {target}");
        assert_eq!(state(), before);
        let reply = site.ask_with(&admin, method, target, &[("FileName", &file_name("box/old"))], b"");
        assert!((200..300).contains(&reply.status), "{method} {target}: {}", reply.status);
    }
    for target in ["/healthz", "/readyz"] {
        assert_eq!(site.host.get(target).status, 200, "{target}");
        let reply = site.ask(&Says::password("nobody", "wrong password"), "GET", target, b"");
        assert_eq!(reply.status, 200, "{target}");
    }
    for (method, target, status) in [
        ("OPTIONS", "/files/box/old", 204),
        ("OPTIONS", "/metrics", 204),
        ("OPTIONS", "/upload", 204),
        ("PATCH", "/files/box/old", 405),
        ("GET", "/upload", 405),
        ("GET", "/nothing", 404),
    ] {
        assert_eq!(site.host.ask(method, target, &[], b"").status, status, "{method} {target}");
    }
}

#[test]
fn what_crosses_a_border_needs_rights_on_both_sides() {
    let site = Site::without_users();
    let admin = site.user("admin", &["admin"]);
    let anna = site.user("anna", &["all:/mine/", "read:/theirs/", "all:/note"]);
    site.settle();
    for name in ["mine/a", "mine/f/1", "theirs/b", "theirs/f/1", "minefield/c", "notes", "mine.txt"] {
        site.ask(&admin, "PUT", &format!("/files/{name}"), b"x");
    }
    for (method, target, status) in [
        ("POST", "/files/theirs/b?copy=mine/b", 201),
        ("POST", "/files/theirs/b?move=mine/c", 403),
        ("POST", "/files/mine/a?copy=theirs/a", 403),
        ("POST", "/files/mine/a?move=minefield/a", 403),
        ("POST", "/files/theirs/f/?copy=mine/g/", 200),
        ("POST", "/files/theirs/f/?move=mine/h/", 403),
        ("POST", "/files/mine/f/?copy=theirs/g/", 403),
        ("POST", "/files/theirs/?copy=mine/all/", 200),
        ("POST", "/files/mine/?copy=minefield/x/", 403),
        ("DELETE", "/files/?recursive", 403),
        ("DELETE", "/files/theirs/?recursive", 403),
        ("GET", "/files/minefield/c", 403),
        ("GET", "/files/minefield/", 403),
        ("GET", "/files/mine.txt", 403),
        ("PUT", "/files/mine", 403),
        ("PUT", "/files/notes", 403),
        ("PUT", "/files/note", 201),
        ("GET", "/files/mine%2Fa", 200),
        ("GET", "/files/theirs%2Fb", 200),
        ("GET", "/files/minefield%2Fc", 403),
        ("GET", "/files/mine/../minefield/c", 400),
        ("DELETE", "/files/mine/?recursive", 200),
    ] {
        assert_eq!(site.ask(&anna, method, target, b"").status, status, "{method} {target}");
    }
}

#[test]
fn what_may_not_be_read_is_not_told_to_be_there() {
    let site = Site::without_users();
    let admin = site.user("admin", &["admin"]);
    let anna = site.user("anna", &["all:/mine/"]);
    site.settle();
    for name in ["theirs/there", "theirs/folder/x"] {
        site.ask(&admin, "PUT", &format!("/files/{name}"), b"x");
    }
    for who in [&anna, &Says::nothing()] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            for (there, missing) in [
                ("theirs/there", "theirs/other"),
                ("theirs/folder/", "theirs/nolder/"),
                ("theirs/folder", "theirs/nolder"),
            ] {
                let ask = |name: &str| {
                    let reply = site.ask(who, method, &format!("/files/{name}"), b"");
                    (reply.status, String::from_utf8(reply.body).unwrap().replace(name, "NAME"))
                };
                assert_eq!(ask(there), ask(missing), "{method} {there}");
            }
        }
    }
    // Who may read it is told that it is not there.
    assert_eq!(site.ask(&anna, "GET", "/files/mine/none", b"").status, 404);
    assert_eq!(site.ask(&anna, "GET", "/files/mine/", b"").status, 404);
}

#[test]
fn who_may_only_create_never_replaces_also_in_a_race() {
    let site = Site::with(|options| options.loops = 2);
    let admin = site.user("admin", &["admin"]);
    let (creator, replacer) = (site.user("creator", &["create:/"]), site.user("replacer", &["replace:/"]));
    site.settle();
    let begin = |who: &Says, name: &str| {
        let mut client = site.host.connect();
        let target = format!("/files/{name}");
        client.send("PUT", &target, &[("Authorization", &who.0), ("Content-Length", "100000")], &[b'x'; 10]);
        client
    };
    let finish = |mut client: Client| {
        client.stream.write_all(&[b'x'; 99_990]).unwrap();
        client.read(false).unwrap()
    };
    let uploads = |count: f64| site.host.until(|_| metric(&site, &admin, "cloudstore_uploads") == count);
    // Somebody creates it while it is on its way.
    let client = begin(&creator, "new");
    uploads(1.0);
    assert_eq!(site.ask(&admin, "PUT", "/files/new", b"theirs").status, 201);
    let reply = finish(client);
    assert_eq!((reply.status, reply.json()["error"].as_str()), (403, Some("forbidden")));
    assert_eq!(site.ask(&admin, "GET", "/files/new", b"").text(), "theirs");
    // Somebody removes it while it is on its way.
    let client = begin(&replacer, "new");
    uploads(1.0);
    assert_eq!(site.ask(&admin, "DELETE", "/files/new", b"").status, 204);
    assert_eq!(finish(client).status, 403);
    assert_eq!(site.ask(&admin, "GET", "/files/new", b"").status, 404);
    // Many at once: one of them, by whichever way the store writes.
    for (name, size) in [("small", 10), ("large", 70_000)] {
        let target = format!("/files/{name}");
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = |_| scope.spawn(|| site.ask(&creator, "PUT", &target, &vec![b'y'; size]).status);
            let asked: Vec<_> = (0..12).map(ask).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 11, "{statuses:?}");
    }
}

#[test]
fn conditions_hold_beside_rights() {
    let site = Site::without_users();
    let admin = site.user("admin", &["admin"]);
    let (creator, replacer) = (site.user("creator", &["create:/"]), site.user("replacer", &["replace:/"]));
    site.settle();
    let tag = site.ask(&admin, "PUT", "/files/there", b"x").header("etag").unwrap().to_owned();
    for (who, name, header, status) in [
        (&creator, "a", ("If-None-Match", "*"), 201),
        (&creator, "b", ("If-Match", "*"), 412),
        (&creator, "there", ("If-None-Match", "*"), 412),
        (&creator, "there", ("If-Match", tag.as_str()), 403),
        (&creator, "c", ("If-None-Match", "\"1\""), 201),
        (&replacer, "d", ("If-None-Match", "*"), 403),
        (&replacer, "d", ("If-Match", "*"), 412),
        (&replacer, "there", ("If-None-Match", "*"), 412),
        (&replacer, "there", ("If-Match", "\"1\""), 412),
        (&replacer, "there", ("If-None-Match", tag.as_str()), 412),
        (&replacer, "there", ("If-None-Match", "\"1\""), 200),
    ] {
        let reply = site.ask_with(who, "PUT", &format!("/files/{name}"), &[header], b"y");
        assert_eq!(reply.status, status, "{name} {header:?}");
    }
    assert_eq!(site.ask_with(&replacer, "PUT", "/files/there", &[("If-Match", "*")], b"y").status, 200);
}

#[test]
fn listings_show_what_may_be_read_and_the_way_there() {
    let site = Site::without_users();
    let admin = site.user("admin", &["admin"]);
    let anna =
        site.user("anna", &["read:/a/b/", "read:/team", "all:/top.txt", "create:/drop/", "read:/void/"]);
    site.settle();
    let names = [
        "a/b/1",
        "a/b/c/2",
        "a/secret",
        "a/x/3",
        "drop/4",
        "other/5",
        "team",
        "teamwork/6",
        "top.txt",
        "top.txt2",
        "z",
    ];
    for name in names {
        assert_eq!(site.ask(&admin, "PUT", &format!("/files/{name}"), name.as_bytes()).status, 201, "{name}");
    }
    let list = |target: &str| {
        let reply = site.ask(&anna, "GET", target, b"");
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        let json = reply.json();
        let names = json["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), json["next"].as_str().map(str::to_owned))
    };
    for (target, expected) in [
        ("/files/", &["a/", "team", "top.txt"][..]),
        ("/files/?delimiter=", &["a/b/1", "a/b/c/2", "team", "top.txt"]),
        ("/files/a/", &["a/b/"]),
        ("/files/a/b/", &["a/b/1", "a/b/c/"]),
        ("/files/?prefix=t", &["team", "top.txt"]),
        ("/files/?prefix=o", &[]),
        ("/files/?sort=-size", &["a/", "top.txt", "team"]),
        ("/files/?sort=-name&delimiter=", &["top.txt", "team", "a/b/c/2", "a/b/1"]),
    ] {
        assert_eq!(
            list(target),
            (expected.iter().map(|name| (*name).to_owned()).collect(), None),
            "{target}"
        );
    }
    // Neither pages nor their cursors tell more.
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let (names, next) = list(&format!("/files/?delimiter=&limit=1&after={after}"));
        found.extend(names);
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(found, ["a/b/1", "a/b/c/2", "team", "top.txt"]);
    assert_eq!(list("/files/?after=b&limit=1"), (vec!["team".to_owned()], Some("team".to_owned())));
    for (target, status) in [
        ("/files/other/", 403),
        ("/files/drop/", 403),
        ("/files/a/x/", 403),
        ("/files/void/", 404),
        ("/files/teamwork/", 403),
    ] {
        assert_eq!(site.ask(&anna, "GET", target, b"").status, status, "{target}");
    }
    let files = site.ask(&anna, "GET", "/list", b"").json();
    let names: Vec<&str> =
        files["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a/b/1", "a/b/c/2", "team", "top.txt"]);
}

#[test]
fn passwords_are_utf_8_and_a_wrong_one_is_asked_for_again() {
    let site = Site::without_users();
    let draft = |name: &str, password: &str| Draft {
        password: Some(PasswordHash::new(password).unwrap()),
        rules: vec!["read:/".parse().unwrap()],
        ..Draft::new(name.parse().unwrap())
    };
    let (anna, moxing) = (draft("anna", PASSWORD), draft("模型", "密码：密码密码密码"));
    let tokens_only = Draft { password: None, ..draft("robot", PASSWORD) };
    site.change(|users| users.extend([anna, moxing, tokens_only]));
    site.settle();
    let status = |says: &Says| site.ask(says, "GET", "/files/", b"").status;
    for _ in 0..3 {
        assert_eq!(status(&Says::password("anna", PASSWORD)), 200);
        assert_eq!(status(&Says::password("模型", "密码：密码密码密码")), 200);
    }
    for says in [
        Says::password("anna", "wrong password"),
        Says::password("Anna", PASSWORD),
        Says::password("anna", ""),
        Says::password("anonymous", ""),
        Says::password("robot", PASSWORD),
        Says::password("robot", ""),
        Says::password("", ""),
        Says(format!("Basic {}", STANDARD.encode(b"mod\xe8le:x"))),
        Says("Basic !".to_owned()),
        Says("Digest username=\"anna\"".to_owned()),
        Says::token("cs_"),
        Says::token(PASSWORD),
    ] {
        let reply = site.ask(&says, "GET", "/files/", b"");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (401, Some("unauthorized")), "{}", says.0);
        let asked: Vec<&str> = reply
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(asked, ["Basic realm=\"cloudstore\", charset=\"UTF-8\"", "Bearer realm=\"cloudstore\""]);
    }
    // Two headers are none.
    let (right, other) = (Says::password("anna", PASSWORD), Says::password("模型", "密码：密码密码密码"));
    let reply = site.ask_with(&right, "GET", "/files/", &[("Authorization", &other.0)], b"");
    assert_eq!(reply.status, 401);
    assert_eq!(status(&right), 200);
}

#[test]
fn a_flood_of_wrong_passwords_is_bounded() {
    let site = Site::without_users();
    const REFUSED: &str = "cloudstore_credentials_refused_total";
    let (robot, admin) = (site.user("robot", &["read:/"]), site.user("admin", &["admin"]));
    let anna = Draft {
        password: Some(PasswordHash::new(PASSWORD).unwrap()),
        rules: vec!["read:/".parse().unwrap()],
        ..Draft::new("anna".parse().unwrap())
    };
    site.change(|users| users.push(anna));
    site.settle();
    let right = Says::password("anna", PASSWORD);
    assert_eq!(site.ask(&right, "GET", "/files/", b"").status, 200);
    let before = metric(&site, &admin, REFUSED);
    // Of one name, ten are looked at, and one more in six seconds.
    let (begun, mut looked_at) = (Instant::now(), 0);
    for n in 0..20 {
        let reply = site.ask(&Says::password("anna", &format!("wrong {n}")), "GET", "/files/", b"");
        match reply.status {
            401 => looked_at += 1,
            429 => {
                let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=7).contains(&seconds), "{seconds}");
                assert_eq!(reply.json()["error"], "too_many_attempts");
            }
            status => panic!("{status}"),
        }
    }
    assert!((10..=11 + begun.elapsed().as_secs() / 6).contains(&looked_at), "{looked_at}");
    // Who is known already is not held up, nor are tokens and other names.
    assert_eq!(site.ask(&right, "GET", "/files/", b"").status, 200);
    let mut clients: Vec<Client> = (0..80).map(|_| site.host.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let says = Says::password(&format!("nobody{n}"), "wrong");
        client.send("GET", "/files/", &[("Authorization", &says.0)], b"");
    }
    assert_eq!(site.ask(&robot, "GET", "/files/", b"").status, 200);
    let mut looked_at = 0;
    for mut client in clients {
        let reply = client.read(false).unwrap();
        assert!([401, 503].contains(&reply.status), "{}", reply.status);
        looked_at += usize::from(reply.status == 401);
        assert_eq!(reply.header("retry-after").is_some(), reply.status == 503);
    }
    assert!(looked_at > 0);
    assert_eq!(metric(&site, &admin, REFUSED) - before, 100.0);
}

#[test]
fn requests_with_one_password_wait_for_one_look_at_it() {
    let site = Site::without_users();
    let anna = Draft {
        password: Some(PasswordHash::new(PASSWORD).unwrap()),
        rules: vec!["all:/".parse().unwrap()],
        ..Draft::new("anna".parse().unwrap())
    };
    site.change(|users| users.push(anna));
    site.settle();
    let says = Says::password("anna", PASSWORD);
    let mut clients: Vec<Client> = (0..100).map(|_| site.host.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send("PUT", &format!("/files/{n}"), &[("Authorization", &says.0)], b"hello");
    }
    for mut client in clients {
        assert_eq!(client.read(false).unwrap().status, 201);
    }
}

#[test]
fn nothing_of_a_body_is_read_before_it_is_known_whose_it_is() {
    let site = Site::without_users();
    let anna = Draft {
        password: Some(PasswordHash::new(PASSWORD).unwrap()),
        rules: vec!["create:/mine/".parse().unwrap()],
        ..Draft::new("anna".parse().unwrap())
    };
    site.change(|users| users.push(anna));
    site.settle();
    let right = Says::password("anna", PASSWORD);
    for (says, target, expected) in [
        (&Says::nothing(), "/files/mine/a", "HTTP/1.1 401 "),
        (&Says::password("anna", "wrong password"), "/files/mine/a", "HTTP/1.1 401 "),
        (&right, "/files/theirs", "HTTP/1.1 403 "),
        (&right, "/files/mine/a", "HTTP/1.1 100 "),
    ] {
        let mut client = site.host.connect();
        let headers =
            [("Content-Length", "1000000"), ("Expect", "100-continue"), ("Authorization", says.0.as_str())];
        client.send("PUT", target, if says.0.is_empty() { &headers[..2] } else { &headers }, b"");
        let mut line = String::new();
        client.reader.read_line(&mut line).unwrap();
        assert!(line.starts_with(expected), "{target}: {line}");
    }
    // Without waiting to be asked.
    let mut client = site.host.connect();
    let head = [("Content-Length", "100000000"), ("Authorization", "Bearer wrong")];
    client.send("PUT", "/files/mine/b", &head, &[0; 1000]);
    let reply = client.read(false).unwrap();
    assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
    site.host.until(|host| host.files("stage").is_empty());
}

fn metric(site: &Site, admin: &Says, name: &str) -> f64 {
    let page = site.ask(admin, "GET", "/metrics", b"");
    let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

#[test]
fn tokens_expire_and_are_taken_back() {
    let site = Site::without_users();
    let (lasting, mut expired, mut later) = {
        let token = || Token::new("", None).unwrap();
        (token(), token(), token())
    };
    expired.1.expires = Some(rfc3339(1_000_000_000));
    later.1.expires = Some(rfc3339(32_000_000_000));
    let draft = Draft {
        rules: vec!["read:/".parse().unwrap()],
        tokens: vec![lasting.1.clone(), expired.1, later.1],
        ..Draft::new("anna".parse().unwrap())
    };
    site.change(|users| users.push(draft));
    site.settle();
    let status = |text: &str| site.ask(&Says::token(text), "GET", "/files/", b"").status;
    assert_eq!([&lasting.0, &expired.0, &later.0].map(|text| status(text)), [200, 401, 200]);
    site.change(|users| users[0].tokens.retain(|token| token.id != lasting.1.id));
    site.host.until(|_| status(&lasting.0) == 401);
    assert_eq!(status(&later.0), 200);
}

#[test]
fn the_file_is_followed() {
    let site = Site::without_users();
    let open = || site.host.put("/files/a", b"x").status;
    assert_eq!(open(), 201);
    // The first users close it.
    let anna = site.user("anna", &["all:/"]);
    let as_anna = || site.ask(&anna, "PUT", "/files/a", b"x").status;
    site.host.until(|_| open() == 401);
    assert_eq!(as_anna(), 200);
    let bob = site.user("bob", &["read:/"]);
    site.host.until(|_| site.ask(&bob, "GET", "/files/a", b"").status == 200);
    site.change(|users| users.retain(|user| user.name.as_str() != "anna"));
    site.host.until(|_| as_anna() == 401);
    // No users are not the same as no file.
    site.change(Vec::clear);
    site.host.until(|_| site.ask(&bob, "GET", "/files/a", b"").status == 401);
    assert_eq!(open(), 401);
}

#[test]
fn a_change_holds_for_a_request_a_second_later() {
    let site = Site::without_users();
    let anna = site.user("anna", &["all:/"]);
    site.settle();
    assert_eq!(site.ask(&anna, "GET", "/files/", b"").status, 200);
    let before = Instant::now();
    site.change(|users| users.retain(|user| user.name.as_str() != "anna"));
    // Nothing is asked meanwhile, so that the next request finds it out.
    std::thread::sleep(Duration::from_millis(1100).saturating_sub(before.elapsed()));
    assert_eq!(site.ask(&anna, "GET", "/files/", b"").status, 401);
}

#[test]
fn another_password_ends_the_old_one() {
    let site = Site::without_users();
    let anna = Draft {
        password: Some(PasswordHash::new(PASSWORD).unwrap()),
        rules: vec!["read:/".parse().unwrap()],
        ..Draft::new("anna".parse().unwrap())
    };
    site.change(|users| users.push(anna));
    site.settle();
    let status = |password: &str| site.ask(&Says::password("anna", password), "GET", "/files/", b"").status;
    assert_eq!(status(PASSWORD), 200);
    // Other rules hold at once for who is known already.
    site.change(|users| users[0].rules = vec!["create:/".parse().unwrap()]);
    site.host.until(|_| status(PASSWORD) == 403);
    site.change(|users| users[0].password = Some(PasswordHash::new("another password").unwrap()));
    site.host.until(|_| status(PASSWORD) == 401);
    assert_eq!(status("another password"), 403);
}

#[test]
fn anonymous_is_for_all() {
    let site = Site::without_users();
    site.user("anonymous", &["read:/public/", "create:/drop/"]);
    let anna = site.user("anna", &["all:/public/", "read:/anna/"]);
    site.settle();
    let nobody = Says::nothing();
    for (who, method, target, status) in [
        (&anna, "PUT", "/files/public/a", 201),
        (&nobody, "GET", "/files/public/a", 200),
        (&nobody, "GET", "/files/public/none", 404),
        (&nobody, "GET", "/files/", 200),
        (&nobody, "GET", "/list", 200),
        (&nobody, "PUT", "/files/drop/a", 201),
        // Who could be somebody else is asked.
        (&nobody, "PUT", "/files/drop/a", 403),
        (&nobody, "PUT", "/files/public/a", 401),
        (&nobody, "GET", "/files/anna/a", 401),
        (&nobody, "GET", "/metrics", 401),
        (&anna, "PUT", "/files/drop/b", 201),
        (&anna, "GET", "/metrics", 403),
        (&Says::token("cs_wrong"), "GET", "/files/public/a", 401),
    ] {
        assert_eq!(site.ask(who, method, target, b"x").status, status, "{method} {target}");
    }
    // Who tries what only others may do is asked who he is: so it is offered.
    let text = site.ask_with(&nobody, "GET", "/files/public/", &[HTML], b"").text().to_owned();
    assert!(text.contains("id=\"upload\"") && text.contains("?delete\""), "{text}");
}

#[test]
fn pages_of_granted_origins_ask_first_and_without_credentials() {
    let site = Site::with(|options| options.cors = vec!["https://app".to_owned()]);
    let anna = site.user("anna", &["all:/"]);
    site.settle();
    let asks = [
        ("Origin", "https://app"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let reply = site.host.ask("OPTIONS", "/files/a", &asks, b"");
    assert_eq!((reply.status, reply.header("access-control-allow-headers")), (204, Some("authorization")));
    let reply = site.ask_with(&anna, "PUT", "/files/a", &asks[..1], b"x");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (201, Some("https://app")));
    let reply = site.host.ask("PUT", "/files/a", &asks[..1], b"x");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (401, Some("https://app")));
    // A browser sends what it knows for any page that asks.
    let reply = site.ask_with(&anna, "DELETE", "/files/a", &[("Origin", "https://evil")], b"");
    assert_eq!(reply.status, 403);
    assert_eq!(reply.json()["error"], "foreign_origin");
}

/// `cloudstore user …` with this line on stdin: exit code, stdout, stderr.
fn user(folder: &Path, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["user"].iter().chain(arguments).copied().collect();
    let mut child = cloudstore(folder, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn users_are_made_listed_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = |arguments: &[&str], stdin: &str| {
        let (code, out, errors) = user(folder, arguments, stdin);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        (out, errors)
    };
    let (out, _) = good(&["add", "anna", "--allow", "read:/", "--allow", "all:/team/"], "correct horse\n");
    assert_eq!(out, "anna is added to ./data/users.json\n");
    let (_, errors) = good(&["add", "模型"], "correct horse\r\nmore\n");
    assert!(errors.contains("may do nothing yet"), "{errors}");
    good(&["add", "root", "--admin", "--no-password"], "");
    good(&["add", "anonymous", "--allow", "read:/public/"], "");
    let (token, told) = good(&["token", "add", "anna", "--label", "backup", "--expires", "30"], "");
    assert!(token.starts_with("cs_") && token.len() == 47, "{token:?}");
    let listed: serde_json::Value = serde_json::from_str(&good(&["ls", "--json"], "").0).unwrap();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["anna", "模型", "root", "anonymous"]);
    let id = listed[0]["tokens"][0]["id"].as_str().unwrap();
    assert!(told.contains(id));
    assert_eq!(listed[0]["rules"], serde_json::json!(["read:/", "all:/team/"]));
    assert_eq!((&listed[2]["admin"], &listed[2]["has_password"]), (&true.into(), &false.into()));
    let (list, _) = good(&["ls"], "");
    assert!(
        list.starts_with("anna  read:/ all:/team/\n  token ") && list.contains("root (admin)\n"),
        "{list}"
    );
    assert!(!list.contains(token.trim()) && !list.contains("argon2"));

    good(&["allow", "模型", "read,create:/in/"], "");
    let (out, _) = good(&["allow", "模型", "read:/", "--only"], "");
    assert_eq!(out, "模型 may now do: read:/\n");
    good(&["allow", "root", "--admin", "off"], "");
    good(&["passwd", "anna"], "another password\n");
    good(&["token", "rm", "anna", id], "");
    good(&["rm", "root", "anonymous"], "");
    let file = UsersFile::new(folder.join("data/users.json"));
    let users = file.read().unwrap().unwrap().users;
    assert!(users[0].password.as_ref().unwrap().is_of("another password") && users[0].tokens.is_empty());
    assert!(users[1].password.as_ref().unwrap().is_of("correct horse"));
    assert_eq!(users.len(), 2);

    for (arguments, stdin, code, why) in [
        (&["add", "anna"][..], "correct horse\n", 1, "there is a user anna already"),
        (&["add", "bob"], "short\n", 1, "too short"),
        (&["add", "bob"], "", 1, "too short"),
        (&["add", "a b"], "", 2, "no name for a user"),
        (&["add", "bob", "--allow", "write:/"], "", 2, "no verb"),
        (&["add", "anonymous", "--admin"], "", 1, "cannot be an admin"),
        (&["add", "bob", "secret password"], "", 2, "unexpected argument"),
        (&["passwd", "bob"], "correct horse\n", 1, "there is no user bob"),
        (&["rm", "anna", "bob"], "", 1, "there is no user bob"),
        (&["allow", "anna"], "", 1, "say what anna may do"),
        (&["token", "add", "bob"], "", 1, "there is no user bob"),
        (&["token", "rm", "anna", "abc"], "", 1, "no token abc"),
        (&["ls", "--config", "none.json"], "", 1, "none.json"),
    ] {
        let (found, out, errors) = user(folder, arguments, stdin);
        assert_eq!((found, out.as_str()), (Some(code), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(why), "{arguments:?}: {errors}");
        assert_eq!(file.read().unwrap().unwrap().users, users, "{arguments:?}");
    }
    let (_, errors) = good(&["rm", "anna", "模型"], "");
    assert!(errors.contains("there are no users left"), "{errors}");
    // Elsewhere.
    good(&["add", "bob", "--users", "here.json", "--allow", "all:/"], "correct horse\n");
    good(&["add", "bob", "--data", "srv", "--allow", "all:/"], "correct horse\n");
    assert!(folder.join("here.json").exists() && folder.join("srv/users.json").exists());
}

#[test]
fn commands_at_one_time_do_not_lose_each_other() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let folder = folder.path();
            scope.spawn(move || {
                let name = format!("u{n}");
                assert_eq!(user(folder, &["add", &name, "--no-password"], "").0, Some(0));
                assert_eq!(user(folder, &["token", "add", &name], "").0, Some(0));
            });
        }
    });
    let users = UsersFile::new(folder.path().join("data/users.json")).read().unwrap().unwrap().users;
    assert_eq!((users.len(), users.iter().filter(|user| user.tokens.len() == 1).count()), (8, 8));
}

#[test]
fn a_damaged_file_lets_nothing_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/users.json");
    fs::create_dir(folder.path().join("data")).unwrap();
    for (text, why) in [
        ("{\"version\": 1,\n\"users\": [{\"name\": \"a\",", "line 2"),
        ("", "line 1"),
        ("{\"version\": 9}", "format 9"),
    ] {
        fs::write(&path, text).unwrap();
        let (code, out, errors) = run(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{text}");
        assert!(errors.contains("users file ./data/users.json") && errors.contains(why), "{errors}");
        let (code, _, checked) = run(folder.path(), &["config", "check"]);
        assert!(code == Some(1) && checked.contains(why), "{checked}");
        assert_eq!(user(folder.path(), &["add", "bob", "--no-password"], "").0, Some(1));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn only_users_or_open_let_others_reach_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let check = |more: &[&str]| {
        let arguments = [&["config", "check", "--listen", "0.0.0.0:8081"], more].concat();
        run(folder.path(), &arguments)
    };
    let (code, _, errors) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("cloudstore user add NAME") && errors.contains("./data/users.json"), "{errors}");
    assert_eq!(check(&["--open"]).0, Some(0));
    for is_new in [true, false] {
        let name = if is_new { "anna" } else { "ben" };
        let (code, _, said) = user(folder.path(), &["add", name, "--no-password"], "");
        assert_eq!((code, said.contains("that folder is new")), (Some(0), is_new), "{said}");
    }
    assert_eq!(check(&[]).0, Some(0));
    fs::write(folder.path().join("file"), "").unwrap();
    let (code, _, errors) = check(&["--open", "--data", "file"]);
    assert!(code == Some(1) && errors.contains("data is file, which is no folder"), "{errors}");
    assert_eq!(check(&["--users", "other.json"]).0, Some(1));
    let (code, said, _) = check(&["--open", "--users", "other.json"]);
    assert!(
        code == Some(0) && said.contains("other.json is not there: until it is, everybody may"),
        "{said}"
    );
}

/// A program that serves, with a user whose password is [`PASSWORD`].
fn serve(folder: &Path, arguments: &[&str]) -> Program {
    let added = user(folder, &["add", "anna", "--allow", "all:/anna/"], &format!("{PASSWORD}\n"));
    assert_eq!(added.0, Some(0), "{}", added.2);
    Program::start(folder, &[&["serve", "--listen", "127.0.0.1:0", "--threads", "2"], arguments].concat())
}

#[test]
fn records_name_who_asks_and_leak_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let program = serve(folder.path(), &["--log-level", "trace"]);
    let (_, token, _) = user(folder.path(), &["token", "add", "anna"], "");
    let (token, mut client) = (token.trim(), Client::to(&program.address));
    client.host = "localhost".to_owned();
    let mut ask =
        |says: &Says, target: &str| client.ask("GET", target, &[("Authorization", &says.0)], b"").status;
    let (right, wrong) =
        (Says::password("anna", PASSWORD), Says::password("an\"na\n\u{1b}[31m", "wrong secret"));
    // The token is younger than what the server has looked at.
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(&Says::token(token), "/files/anna/1") != 404 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(ask(&right, "/files/anna/2"), 404);
    assert_eq!(ask(&right, "/files/theirs"), 403);
    assert_eq!(ask(&wrong, "/files/anna/3"), 401);
    assert_eq!(ask(&Says::token("cs_wrong-secret"), "/files/anna/4"), 401);
    let (_, _, said) = program.stop();
    for target in ["/files/anna/1", "/files/anna/2", "/files/theirs"] {
        let is_told =
            |line: &&str| line.contains(&format!("target=\"{target}\"")) && line.contains("[access]");
        let line = said.lines().rfind(is_told).unwrap_or_else(|| panic!("no {target} in {said}"));
        assert!(line.contains(" user=\"anna\" "), "{line}");
    }
    let refused: Vec<&str> = said.lines().filter(|line| line.contains("refused: a wrong")).collect();
    assert!(refused.iter().any(|line| line.contains("WARN") && line.contains("an\\\"na\\n")), "{refused:?}");
    assert!(!said.contains('\u{1b}'));
    for secret in
        [PASSWORD, "wrong secret", "wrong-secret", &token[3..], &right.0[6..], &wrong.0[6..], "argon2"]
    {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[test]
fn a_server_that_is_told_reads_its_users_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = serve(folder.path(), &[]);
    assert_eq!(user(folder.path(), &["add", "bob", "--no-password"], "").0, Some(0));
    program.signal("-HUP");
    program.hears_of("changed users come from ./data/users.json users=2");
    fs::remove_file(folder.path().join("data/users.json")).unwrap();
    program.signal("-HUP");
    let said = program.hears_of("is gone; those that it had last stay");
    assert!(said.contains("ERROR"), "{said}");
    let says = Says::password("anna", PASSWORD);
    let asked = |program: &Program| {
        [&Says::nothing(), &says].map(|says| {
            let mut client = Client::to(&program.address);
            client.host = "localhost".to_owned();
            client.ask("GET", "/files/anna/", &[("Authorization", &says.0)], b"").status
        })
    };
    assert_eq!(asked(&program), [401, 404]);
    fs::write(folder.path().join("data/users.json"), "{").unwrap();
    program.signal("-HUP");
    let said = program.hears_of("the users stay as they are");
    assert!(said.contains("line 1"), "{said}");
    assert_eq!(asked(&program), [401, 404]);
    // One that is there again is followed.
    fs::remove_file(folder.path().join("data/users.json")).unwrap();
    assert_eq!(user(folder.path(), &["add", "bob", "--no-password"], "").0, Some(0));
    program.signal("-HUP");
    program.hears_of("changed users come from ./data/users.json users=1");
    let deadline = Instant::now() + Duration::from_secs(60);
    while asked(&program) != [401, 401] {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_file_that_others_can_read_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(user(folder.path(), &["add", "anna", "--no-password"], "").0, Some(0));
    let path: PathBuf = folder.path().join("data/users.json");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut program = Program::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    let said = program.hears_of("others can read the users file ./data/users.json (mode 644)");
    assert!(said.contains("WARN") && said.contains("chmod 600"), "{said}");
    let mut rest = String::new();
    program.signal("-TERM");
    program.stdout.read_to_string(&mut rest).unwrap();
}

const HTML: (&str, &str) = ("Accept", "text/html,*/*;q=0.8");
const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=xYz");

fn form(files: &[&str]) -> Vec<u8> {
    let part = |name: &&str| {
        format!("--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\nnew\r\n")
    };
    let replace = "--xYz\r\nContent-Disposition: form-data; name=\"replace\"\r\n\r\nyes\r\n";
    format!("{replace}{}--xYz--\r\n", files.iter().map(part).collect::<String>()).into_bytes()
}

#[test]
fn the_page_shows_what_may_be_read_and_does_what_may_be_done() {
    let site = Site::without_users();
    let admin = site.user("admin", &["admin", "all:/"]);
    let anna = site.user("anna", &["read,create,delete:/mine/"]);
    let reader = site.user("reader", &["read:/"]);
    let writer = site.user("writer", &["create,replace:/mine/"]);
    site.settle();
    for name in ["mine/a", "mine/sub/b", "theirs/secret", "top"] {
        assert_eq!(site.ask(&admin, "PUT", &format!("/files/{name}"), b"old").status, 201);
    }
    let page = |who: &Says, target: &str| site.ask_with(who, "GET", target, &[HTML], b"");
    for target in ["/", "/files/mine/", "/files/mine/?find=a", "/files/mine/a?delete", "/files/mine/?delete"]
    {
        let reply = page(&Says::nothing(), target);
        assert_eq!(reply.status, 401, "{target}");
        assert!(reply.header("www-authenticate").is_some() && reply.text().contains("Please sign in"));
    }
    // What the page takes in tells nothing.
    assert_eq!(site.ask(&Says::nothing(), "GET", "/favicon.ico", b"").status, 200);

    let top = page(&anna, "/");
    assert!(top.status == 200 && top.text().contains("Signed in as anna"), "{}", top.text());
    assert!(top.text().contains("href=\"/files/mine/\""), "{}", top.text());
    let all = [top.text(), page(&anna, "/?find=e").text(), page(&anna, "/?sort=-size").text()].concat();
    assert!(!all.contains("theirs") && !all.contains(">top<"), "{all}");
    assert_eq!(page(&anna, "/?find=b").text().matches("data-kind=\"file\"").count(), 1);
    for target in ["/files/theirs/", "/files/theirs/?delete", "/files/theirs/secret?delete", "/files/?delete"]
    {
        assert_eq!(page(&anna, target).status, 403, "{target}");
    }
    assert_eq!(page(&reader, "/files/mine/a?delete").status, 403);
    assert_eq!(page(&reader, "/files/mine/?delete").status, 403);
    // What may not be done is not offered.
    for (who, target, uploads, replaces, deletes) in [
        (&admin, "/", 1, 1, 3),
        (&admin, "/files/mine/", 1, 1, 2),
        (&anna, "/", 1, 0, 1),
        (&anna, "/files/mine/", 1, 0, 2),
        (&reader, "/", 0, 0, 0),
        (&reader, "/files/mine/", 0, 0, 0),
        (&reader, "/?find=e", 0, 0, 0),
    ] {
        let reply = page(who, target);
        let text = reply.text();
        assert_eq!(text.matches("data-replaces=\"yes\"").count(), replaces, "{target}: {text}");
        assert_eq!(text.matches("name=\"replace\"").count(), replaces, "{target}: {text}");
        assert_eq!(text.matches("id=\"upload\"").count(), uploads, "{target}: {text}");
        assert_eq!(text.matches("?delete\"").count(), deletes, "{target}: {text}");
        assert_eq!(text.contains("but not upload"), uploads == 0, "{target}: {text}");
    }
    assert!(page(&anna, "/files/mine/?delete").text().contains("the 2 files in it"));

    // Each file of a form is let in or not by itself.
    let files = form(&["mine/a", "mine/new", "theirs/secret", "theirs/new"]);
    let reply = site.ask_with(&anna, "POST", "/", &[FORM], &files);
    let json = reply.json();
    assert_eq!((reply.status, &json["stored"]), (403, &1.into()), "{json}");
    let failed: Vec<&str> =
        json["failed"].as_array().unwrap().iter().map(|failed| failed["error"].as_str().unwrap()).collect();
    assert_eq!(failed, ["forbidden"; 3]);
    let reply = site.ask_with(&writer, "POST", "/files/mine/", &[FORM], &form(&["a", "c"]));
    assert_eq!((reply.status, &reply.json()["stored"]), (200, &2.into()));
    let reply = site.ask_with(&reader, "POST", "/files/mine/", &[HTML, FORM], &form(&["a"]));
    assert!(reply.status == 403 && reply.text().contains("mine/a"), "{}", reply.text());
    assert_eq!(site.ask_with(&Says::nothing(), "POST", "/", &[FORM], &form(&["a"])).status, 401);
    assert_eq!(site.ask(&reader, "GET", "/files/theirs/secret", b"").text(), "old");

    for (who, target, status) in [
        (&reader, "/files/mine/a?delete", 403),
        (&anna, "/files/theirs/secret?delete", 403),
        (&anna, "/files/theirs/?delete&recursive", 403),
        (&anna, "/files/?delete&recursive", 403),
        (&anna, "/files/mine/a?delete", 303),
        (&anna, "/files/mine/?delete&recursive", 303),
    ] {
        assert_eq!(site.ask_with(who, "POST", target, &[HTML], b"").status, status, "{target}");
    }
    assert_eq!(site.ask(&reader, "GET", "/files/top", b"").text(), "old");
}
