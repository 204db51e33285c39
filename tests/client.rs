//! `cloudstore put`, `get`, `ls`, `rm`, `mv`, `cp` and `stat`, run as a user runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/host.rs"]
mod host;
#[path = "util/proxy.rs"]
mod proxy;
#[path = "util/signals.rs"]
mod signals;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use host::{Host, sample};
use proxy::{Fate, Proxy, fake, reply};
use serde_json::Value;
use tempfile::TempDir;

/// What is around a user: a folder, and a server.
struct Here {
    folder: TempDir,
    server: String,
}

struct Ended {
    code: i32,
    out: String,
    said: String,
}

impl Here {
    fn with(server: &str) -> Here {
        Here { folder: tempfile::tempdir().unwrap(), server: server.to_owned() }
    }

    /// The same folder, with another way to the server.
    fn through(&mut self, server: &str) -> &Here {
        self.server = server.to_owned();
        self
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudstore"));
        command.args(arguments).env_clear().env("CLOUDSTORE_SERVER", &self.server);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).output().unwrap())
    }

    /// Runs what is to go well, and gives what it prints.
    fn good(&self, arguments: &[&str]) -> String {
        let Ended { code, out, said } = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        assert!(!said.contains("cloudstore:"), "{arguments:?}: {said}");
        out
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Files that are no part of what a test has made: what a get has left.
    fn parts(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".part"));
        names
    }
}

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap());
    Ended { code, out: text(output.stdout), said: text(output.stderr) }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The files below a folder, with their content.
fn tree(top: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                    found.push((name, fs::read(path).unwrap()));
                }
            }
        }
    }
    found.sort();
    found
}

const MIB: usize = 1024 * 1024;

#[test]
fn a_folder_of_a_thousand_files_goes_there_and_back() {
    let host = Host::new();
    let here = Here::with(&host.address);
    for n in 0..997 {
        here.write(&format!("box/{:02}/{n}.bin", n % 30), &sample(n * 37 % 5000));
    }
    for name in ["box/empty", "box/100% 模型 #?.bin", "box/-o/ a.part"] {
        here.write(name, name.as_bytes());
    }
    here.write("box/empty", b"");
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000_000_123_456);
    fs::File::options().append(true).open(here.at("box/empty")).unwrap().set_modified(time).unwrap();
    std::os::unix::fs::symlink("empty", here.at("box/link")).unwrap();

    let Ended { code, out, said } = here.run(&["put", "box", "--to", "kept/box"]);
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    assert!(said.starts_with("cloudstore: box/link is left out: it is a symlink"), "{said}");
    assert!(said.contains("\n1000 files, 2.3 MiB, "), "{said}");
    assert!(!said.contains(['\r', '\u{1b}']), "no bars in a pipe: {said:?}");
    assert_eq!(host.metric("cloudstore_objects"), 1000.0);
    assert_eq!(here.good(&["ls", "kept/box/", "-r"]).lines().count(), 1000);

    here.good(&["get", "kept/box/", "-o", "back", "--jobs", "8"]);
    fs::remove_file(here.at("box/link")).unwrap();
    assert_eq!(tree(&here.at("back")), tree(&here.at("box")));
    let modified = fs::metadata(here.at("back/empty")).unwrap().modified().unwrap();
    assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000));

    // What is there is not fetched again.
    fs::remove_file(here.at("back/empty")).unwrap();
    let Ended { code, said, .. } = here.run(&["get", "kept/box/", "-o", "back"]);
    assert_eq!(code, 0);
    assert!(said.starts_with("1000 files, 0 B, ") && said.ends_with(" 999 were there\n"), "{said}");
}

#[test]
fn a_large_file_goes_there_and_back() {
    let host = Host::new();
    let here = Here::with(&host.address);
    here.write("big", &sample(64 * MIB));
    here.good(&["put", "big"]);
    here.good(&["get", "big", "-o", "back"]);
    assert!(here.read("big") == here.read("back"));
    here.write("deep", &sample(5 * MIB + 7));
    here.good(&["put", "deep", "--deep"]);
    assert!(here.good(&["stat", "deep"]).contains("  class     deep\n"));
    here.good(&["get", "deep", "-o", "to/"]);
    assert!(here.read("deep") == here.read("to/deep"));
    assert_eq!(here.parts(), [""; 0]);
}

#[test]
fn a_get_that_is_cut_goes_on_where_it_was() {
    let host = Host::new();
    let content = sample(MIB);
    assert_eq!(host.put("/files/a", &content).status, 201);
    for at in [0, 1, 100, 300, 1000, 65_536, 500_000, MIB as u64] {
        for target in ["back", "-"] {
            let proxy = Proxy::to(&host.address, vec![Fate::CutDown(at), Fate::CutDown(at)]);
            let here = Here::with(&proxy.address);
            let output = here.command(&["get", "a", "-o", target]).output().unwrap();
            assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
            let back = if target == "-" { output.stdout } else { here.read("back") };
            assert!(back == content, "{at} {target}");
            // Nothing but heads comes twice.
            let down = proxy.down.load(Ordering::SeqCst);
            assert!(down < MIB as u64 + 3 * 1000, "{at}: {down}");
            assert_eq!(here.parts(), [""; 0]);
        }
    }
}

#[test]
fn a_part_of_an_earlier_run_is_gone_on_with() {
    let host = Host::new();
    let content = sample(MIB);
    for name in ["a", &"模".repeat(83)] {
        assert_eq!(host.put(&format!("/files/{name}"), &content).status, 201);
        let mut here = Here::with(&Proxy::to(&host.address, vec![Fate::CutDown(500_000)]).address);
        let Ended { code, said, .. } = here.run(&["get", name, "--retry", "0"]);
        assert_eq!(code, 5, "{said}");
        assert!(said.contains("cannot reach") && said.contains("1 failed"), "{said}");
        assert_eq!(here.parts().len(), 1);
        assert!(!here.at(name).exists());
        let here = here.through(&host.address);
        let line = &lines(&here.good(&["get", name, "--json"]))[0];
        let from = line["resumed_from"].as_u64().unwrap();
        assert!((490_000..500_000).contains(&from), "{line}");
        assert_eq!((line["done"].as_str(), line["verified"].as_bool()), (Some("fetched"), Some(true)));
        assert!(here.read(name) == content);
        assert_eq!(here.parts(), [""; 0]);
    }
}

#[test]
fn a_part_of_another_version_is_not_gone_on_with() {
    let host = Host::new();
    let (old, new) = (sample(MIB), sample(MIB / 2 + 5).into_iter().rev().collect::<Vec<u8>>());
    for target in ["a", "-"] {
        assert!(host.put("/files/a", &old).status < 300);
        let again = host.address.clone();
        let content = new.clone();
        let mut here = Here::with(&Proxy::to(&host.address, vec![Fate::CutDown(500_000)]).address);
        if target == "a" {
            assert_eq!(here.run(&["get", "a", "--retry", "0"]).code, 5);
            assert_eq!(here.parts().len(), 1);
            host.put("/files/a", &new);
            let line = &lines(&here.through(&host.address).good(&["get", "a", "--json"]))[0];
            assert_eq!(line["resumed_from"], 0);
            assert!(here.read("a") == new);
            assert_eq!(here.parts(), [""; 0]);
        }
        // Within one run: changed by the time of the second try.
        host.put("/files/b", &old);
        let change = move || {
            assert_eq!(host::Client::to(&again).ask("PUT", "/files/b", &[], &content).status, 200);
        };
        let fates = vec![Fate::CutDown(500_000), Fate::At(10, Box::new(change))];
        here.through(&Proxy::to(&host.address, fates).address);
        let output =
            here.command(&["get", "b", "-o", if target == "a" { "b" } else { "-" }]).output().unwrap();
        let Ended { code, said, .. } = ended(Output { stdout: Vec::new(), ..output });
        match target {
            "a" => assert!(code == 0 && here.read("b") == new, "{said}"),
            _ => assert!(code == 1 && said.contains("b changed while it was written to stdout"), "{said}"),
        }
    }
}

/// As after a power cut: the part has the length that it should have, and not the content.
#[test]
fn a_part_that_was_damaged_is_fetched_anew() {
    let host = Host::new();
    let content = sample(MIB);
    assert_eq!(host.put("/files/a", &content).status, 201);
    let mut here = Here::with(&Proxy::to(&host.address, vec![Fate::CutDown(500_000)]).address);
    assert_eq!(here.run(&["get", "a", "--retry", "0"]).code, 5);
    let part = here.at(&here.parts()[0]);
    let mut bytes = fs::read(&part).unwrap();
    bytes[1000] ^= 1;
    fs::write(&part, bytes).unwrap();
    let line = &lines(&here.through(&host.address).good(&["get", "a", "--json"]))[0];
    assert_eq!((line["resumed_from"].as_u64(), line["verified"].as_bool()), (Some(0), Some(true)));
    assert!(here.read("a") == content);
    // One that has more than there is.
    host.put("/files/c", &content);
    let mut here = Here::with(&Proxy::to(&host.address, vec![Fate::CutDown(500_000)]).address);
    assert_eq!(here.run(&["get", "c", "--retry", "0"]).code, 5);
    fs::write(here.at(&here.parts()[0]), vec![0; 2 * MIB]).unwrap();
    here.through(&host.address).good(&["get", "c"]);
    assert!(here.read("c") == content);
    assert_eq!(here.parts(), [""; 0]);
}

#[test]
fn a_put_that_is_cut_is_begun_again() {
    let host = Host::new();
    for (size, cuts) in [(MIB * 2, &[0, 50, 1000, 65_536, 1_500_000][..]), (5000, &[0, 50, 1000, 5000])] {
        let content = sample(size);
        for &at in cuts {
            let fates = vec![Fate::CutUp(at), Fate::CutUp(at)];
            let here = Here::with(&Proxy::to(&host.address, fates).address);
            here.write("a", &content);
            let Ended { code, said, .. } = here.run(&["put", "a"]);
            assert_eq!(code, 0, "{at}: {said}");
            assert!(
                said.starts_with("cloudstore: cannot reach http") && said.contains("; trying again\n1 file")
                    || said.starts_with("cloudstore: http") && said.contains(" does not answer as "),
                "{said}"
            );
            assert!(host.get("/files/a").body == content, "{at}");
            // The answer is lost: it was stored, and is nobody else's.
            let here = Here::with(
                &Proxy::to(&host.address, vec![Fate::CutDown(if size > MIB { 30 } else { 0 })]).address,
            );
            here.write("b", &content);
            let Ended { code, said, .. } = here.run(&["put", "b", "--no-replace"]);
            assert_eq!(code, 0, "{at}: {said}");
            assert!(host.get("/files/b").body == content);
            assert_eq!(host.ask("DELETE", "/files/b", &[], b"").status, 204);
        }
    }
    host.until(|host| host.metric("cloudstore_uploads") == 0.0);
}

#[test]
fn a_folder_goes_through_many_cuts() {
    let host = Host::new();
    let cuts = || {
        let at = (0..60).map(|n: u64| n * 7919 % 60_000);
        at.map(|at| if at % 2 == 0 { Fate::CutDown(at) } else { Fate::CutUp(at) }).collect()
    };
    let mut here = Here::with(&Proxy::to(&host.address, cuts()).address);
    for n in 0..1200 {
        here.write(&format!("f/{:02}/{n}", n % 7), &sample(n * 17 % 3000));
    }
    let Ended { code, said, .. } = here.run(&["put", "f", "--quiet"]);
    assert_eq!((code, said.as_str()), (0, ""));
    let Ended { code, said, .. } =
        here.through(&Proxy::to(&host.address, cuts()).address).run(&["get", "f/", "-o", "g", "--quiet"]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(tree(&here.at("f")), tree(&here.at("g")));
}

#[test]
fn what_comes_from_a_pipe_is_sent_once() {
    let host = Host::new();
    let mut here = Here::with(&host.address);
    let content = sample(3 * MIB);
    for name in ["piped", "from file", "empty"] {
        let content = if name == "empty" { &content[..0] } else { &content };
        here.write("source", content);
        let mut command = here.command(&["put", "-", "--to", name]);
        let output = match name {
            "from file" => command.stdin(fs::File::open(here.at("source")).unwrap()).output().unwrap(),
            _ => {
                let mut child = command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut stdin = child.stdin.take().unwrap();
                stdin.write_all(content).unwrap();
                drop(stdin);
                child.wait_with_output().unwrap()
            }
        };
        let Ended { code, said, .. } = ended(output);
        assert_eq!(code, 0, "{said}");
        assert!(host.get(&format!("/files/{}", name.replace(' ', "%20"))).body == content, "{name}");
    }
    // Before the first byte is read it can be tried again, then no more.
    for (at, code) in [(50, 0), (1_000_000, 5)] {
        let proxy = Proxy::to(&host.address, vec![Fate::CutUp(at)]);
        let mut child = here.through(&proxy.address).start(&["put", "-", "--to", "x"]);
        let mut stdin = child.stdin.take().unwrap();
        let content = content.clone();
        let writer = std::thread::spawn(move || {
            // One that has given up reads no further.
            let _ = stdin.write_all(&content);
        });
        let end = ended(child.wait_with_output().unwrap());
        writer.join().unwrap();
        assert_eq!(end.code, code, "{}", end.said);
        if code == 5 {
            assert!(end.said.contains("stdin cannot be read again, and was not stored"), "{}", end.said);
        } else {
            assert_eq!(host.ask("DELETE", "/files/x", &[], b"").status, 204);
        }
    }
    assert_eq!(host.get("/files/x").status, 404);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_not_stored() {
    let host = Host::new();
    for is_longer in [true, false] {
        let mut here = Here::with("");
        here.write("a", &sample(4 * MIB));
        let path = here.at("a");
        let change = move || {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(if is_longer { 5 * MIB as u64 } else { MIB as u64 + 1 }).unwrap();
        };
        let proxy = Proxy::to(&host.address, vec![Fate::At(200_000, Box::new(change))]);
        let Ended { code, said, .. } = here.through(&proxy.address).run(&["put", "a"]);
        assert_eq!(code, 1);
        assert!(said.starts_with("cloudstore: a changed while it was sent, and was not stored"), "{said}");
    }
    assert_eq!(host.get("/files/a").status, 404);
}

#[test]
fn nothing_is_replaced_by_surprise() {
    let host = Host::new();
    let here = Here::with(&host.address);
    here.write("a", b"one");
    here.good(&["put", "a"]);
    here.write("a", b"two");
    let Ended { code, said, .. } = here.run(&["put", "a", "--no-replace"]);
    assert!(
        code == 1 && said.starts_with("cloudstore: there is another object a, and it stays as it is\n"),
        "{said}"
    );
    assert_eq!(host.get("/files/a").text(), "one");
    for size in [3, 100_000, 2 * MIB] {
        here.write("same", &sample(size));
        here.good(&["put", "same"]);
        let Ended { code, said, .. } = here.run(&["put", "same", "-n"]);
        assert!(
            code == 0 && said.starts_with("1 file, 0 B, ") && said.ends_with(", 1 was there\n"),
            "{said}"
        );
        assert_eq!(lines(&here.good(&["put", "same", "-n", "--json"]))[0]["done"], "was there");
        here.write("same", &vec![0; size]);
        assert_eq!(here.run(&["put", "same", "-n"]).code, 1);
    }

    let Ended { code, said, .. } = here.run(&["get", "a"]);
    assert!(code == 1 && said.contains("--force"), "{said}");
    assert_eq!(here.read("a"), b"two");
    here.good(&["get", "a", "--force"]);
    assert_eq!(here.read("a"), b"one");
    let line = &lines(&here.good(&["get", "a", "--json"]))[0];
    assert_eq!(line["done"], "was there");
    fs::create_dir(here.at("folder")).unwrap();
    assert!(here.run(&["get", "a", "-o", "folder", "-f"]).said.contains("is a folder"));

    // What is no file is not replaced by one, and not waited for.
    let _socket = UnixListener::bind(here.at("socket")).unwrap();
    std::os::unix::fs::symlink("socket", here.at("link")).unwrap();
    for arguments in
        [&["get", "a", "-o", "socket", "-f"][..], &["get", "a", "-o", "socket"], &["get", "a", "-fo", "link"]]
    {
        let Ended { code, said, .. } = here.run(arguments);
        assert!(code == 1 && said.contains("write -o - for stdout"), "{said}");
    }
    assert!(fs::symlink_metadata(here.at("socket")).unwrap().file_type().is_socket());
    assert!(fs::symlink_metadata(here.at("link")).unwrap().is_symlink());

    // What `cp` takes for the place is not taken for a source.
    let Ended { code, said, .. } = here.run(&["put", "a", "docs/"]);
    assert!(code == 2 && said.contains("write --to docs/"), "{said}");
    let Ended { code, said, .. } = here.run(&["put", "a", "a", "--to", "x"]);
    assert!(code == 2 && said.contains("write --to x/"), "{said}");

    here.good(&["put", "a", "--to", "b"]);
    for act in ["mv", "cp"] {
        let Ended { code, said, .. } = here.run(&[act, "a", "b"]);
        assert!(code == 1 && said == "cloudstore: b is there: give --force to replace it\n", "{said}");
    }
    here.good(&["mv", "a", "b", "--force"]);
    assert_eq!(host.get("/files/a").status, 404);
}

#[test]
fn two_of_one_name_are_refused_before_one_replaces_the_other() {
    let host = Host::new();
    let here = Here::with(&host.address);
    here.write("x/a", b"first");
    here.write("y/a", b"second");
    let Ended { code, said, .. } = here.run(&["put", "x/a", "y/a", "--to", "both/"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("x/a and y/a would both be both/a"), "{said}");
    assert_eq!(here.run(&["ls", "both/"]).code, 3, "nothing is sent");
    here.good(&["put", "x", "y"]);
    let Ended { code, said, .. } = here.run(&["get", "x/a", "y/a", "-f", "-o", "out/"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("x/a and y/a would both be out/a") && !here.at("out").exists(), "{said}");
}

#[test]
fn a_get_takes_the_place_of_plain_files_alone() {
    let host = Host::new();
    let here = Here::with(&host.address);
    here.write("a", b"content");
    here.good(&["put", "a"]);
    let _socket = std::os::unix::net::UnixListener::bind(here.at("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, here.at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    fs::create_dir(here.at("folder")).unwrap();
    for (link, to) in [("to-pipe", "pipe"), ("to-device", "/dev/null"), ("to-folder", "folder")] {
        std::os::unix::fs::symlink(to, here.at(link)).unwrap();
    }
    for target in ["socket", "pipe", "to-pipe", "to-device", "to-folder"] {
        let before = fs::symlink_metadata(here.at(target)).unwrap().file_type();
        for arguments in [&["get", "a", "-o", target][..], &["get", "a", "-f", "-o", target][..]] {
            let Ended { code, said, .. } = here.run(arguments);
            assert_eq!(code, 1, "{arguments:?}: {said}");
            assert!(said.contains("is a device") || said.contains("is a folder"), "{arguments:?}: {said}");
        }
        assert_eq!(fs::symlink_metadata(here.at(target)).unwrap().file_type(), before, "{target}");
    }
    assert!(here.parts().is_empty());
}

#[test]
fn objects_are_listed_renamed_copied_and_removed() {
    let host = Host::new();
    let here = Here::with(&host.address);
    assert_eq!(here.good(&["ls"]), "");
    for name in ["a b", "f/1", "f/2", "f/g/3"] {
        let name = name.replace(' ', "%20");
        assert_eq!(host.put(&format!("/files/{name}"), b"hello").status, 201);
    }
    assert_eq!(here.good(&["ls"]), "a b\nf/\n");
    assert_eq!(here.good(&["ls", "f/"]), "f/1\nf/2\nf/g/\n");
    assert_eq!(here.good(&["ls", "/f/", "-r"]), here.good(&["ls", "f", "-r"]));
    assert_eq!(here.good(&["ls", "-r"]), "a b\nf/1\nf/2\nf/g/3\n");
    let long = here.good(&["ls", "-l", "f/1"]);
    assert!(long.starts_with("       5 B  20") && long.ends_with("  low   f/1\n"), "{long}");
    let entry = &lines(&here.good(&["ls", "--json", "f/1"]))[0];
    assert_eq!((entry["name"].as_str(), entry["crc32c"].as_str()), (Some("f/1"), Some("9a71bb4c")));
    let stat = &lines(&here.good(&["stat", "--json", "f/1", "f/", "f"]));
    assert_eq!(stat[0], *entry);
    assert_eq!((stat[1]["name"].as_str(), stat[2]["type"].as_str()), (Some("f/"), Some("folder")));
    assert!(here.good(&["stat", "a b"]).starts_with("a b\n  type      file\n  size      5 (5 B)\n"));
    assert_eq!(host.get("/metrics").status, 200);

    here.good(&["mv", "a b", "f/"]);
    here.good(&["cp", "f/", "k/"]);
    here.good(&["mv", "f/", "moved"]);
    assert_eq!(
        here.good(&["ls", "-r"]),
        "k/f/1\nk/f/2\nk/f/a b\nk/f/g/3\nmoved/1\nmoved/2\nmoved/a b\nmoved/g/3\n"
    );
    assert!(here.run(&["cp", "moved/", "k/f"]).said.contains("--force"));
    here.good(&["cp", "moved/", "k/f", "--force"]);
    for act in ["mv", "cp"] {
        assert_eq!(here.run(&[act, "moved", "x"]).said.matches("write moved/").count(), 1);
        let Ended { code, said, .. } = here.run(&[act, "moved/1", "k"]);
        assert!(
            code == 1 && said.ends_with("k is a folder: to put it into the folder, write k/\n"),
            "{said}"
        );
    }
    fs::create_dir(here.at("moved")).unwrap();
    let Ended { code, said, .. } = here.run(&["get", "moved"]);
    assert!(code == 3 && said.contains("write moved/ for the folder"), "{said}");
    let said = here.run(&["get", "moved/1", "out.txt"]).said;
    assert!(said.contains("if it is where moved/1 is to go, write -o out.txt\n"), "{said}");
    let said = here.run(&["put", "-r", "moved"]).said;
    assert!(said.starts_with("cloudstore: moved: nothing to send\n"), "{said}");
    let said = here.run(&["upload", "1", "docs"]).said;
    assert!(!said.contains("unrecognized"), "{said}");
    let Ended { code, said, .. } = here.run(&["rm", "k/", "moved/1"]);
    assert!(code == 2 && said.contains("give -r"), "{said}");
    here.good(&["rm", "-rf", "k", "moved/"]);
    assert_eq!(here.good(&["ls"]), "");
}

#[test]
fn long_listings_come_page_by_page() {
    let host = Host::new();
    let here = Here::with(&host.address);
    let mut client = host.connect();
    for n in 0..2500 {
        assert_eq!(client.ask("PUT", &format!("/files/f/{n:04}"), &[], b"x").status, 201);
    }
    let listed = here.good(&["ls", "f/"]);
    let expected: String = (0..2500).map(|n| format!("f/{n:04}\n")).collect();
    assert_eq!(listed, expected);
    let got = here.run(&["get", "f/", "/", "-o", "to/"]);
    assert!(got.said.starts_with("5000 files, 2.4 KiB, ") && got.said.contains("2500 were"), "{}", got.said);
    assert_eq!(tree(&here.at("to")).len(), 2500, "the same, once as f/ and once as a part of all");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut here = Here::with(&format!("127.0.0.1:{port}"));
    here.write("a", b"x");
    here.write("b", b"x");
    for arguments in [
        &["put", "a", "b"][..],
        &["get", "a", "f/"],
        &["ls"],
        &["rm", "a", "b"],
        &["mv", "a", "b"],
        &["stat", "a"],
    ] {
        let Ended { code, said, .. } = here.run(arguments);
        assert_eq!(code, 5, "{arguments:?}: {said}");
        assert!(
            said.contains(&format!("cannot reach http://127.0.0.1:{port} (from CLOUDSTORE_SERVER): ")),
            "{said}"
        );
    }
    assert!(here.run(&["put", "a", "b", "--jobs", "1"]).said.contains(", 1 failed, 1 not done"));

    let host = Host::new();
    let here = here.through(&host.address);
    let Ended { code, said, .. } = here.run(&["get", "none", "nothing/", "a", "-o", "to/"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("cloudstore: there is no object none\n"), "{said}");
    assert!(
        said.contains("cloudstore: there is no folder nothing/\n") && said.contains(", 3 failed"),
        "{said}"
    );
    // The first failure decides, and the others are done.
    let Ended { code, out, .. } = here.run(&["put", "a", "b", "--to", "x/", "--json"]);
    assert_eq!((code, lines(&out).len()), (0, 2));
    let Ended { code, out, .. } = here.run(&["get", "none", "x/b", "-o", "to/", "--json", "-j1"]);
    assert_eq!(code, 3);
    let told = lines(&out);
    assert_eq!((told[0]["done"].as_str(), told[0]["code"].as_u64()), (Some("failed"), Some(3)));
    assert_eq!((told[1]["name"].as_str(), told[1]["path"].as_str()), (Some("x/b"), Some("to/b")));
    for (arguments, code) in [
        (&["rm", "none"][..], 3),
        (&["stat", "none"], 3),
        (&["ls", "none"], 3),
        (&["ls", "none/"], 3),
        (&["mv", "none", "x"], 3),
        (&["get"], 2),
        (&["get", "../a"], 2),
        (&["get", "x/", "-o", "-"], 2),
        (&["get", "x/b", "-o", "-", "--json"], 2),
        (&["get", "x/a", "x/b", "-o", "to"], 2),
        (&["put"], 2),
        (&["put", "-"], 2),
        (&["put", "a", "--to", "../x"], 2),
        (&["put", "a", "--jobs", "0"], 2),
        (&["put", "none"], 1),
        (&["mv", "/", "x"], 2),
        (&["rm", "-r", "/"], 2),
        (&["rm", "-r", "x/a", "//"], 2),
        (&["rm", "-r", ""], 2),
        (&["rm", ""], 2),
        (&["get", ""], 2),
        (&["ls", ""], 2),
        (&["stat", ""], 2),
        (&["cp", "x/a", ""], 2),
        (&["put", "a", "--to", ""], 2),
        (&["ls", "--token", "a b"], 2),
        (&["ls", "--token", "a", "--user", "b"], 2),
    ] {
        let ended = here.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.said);
    }
    assert!(here.run(&["rm", "-r", "/"]).said.contains("not all there is"));
    assert_eq!(here.good(&["ls", "/", "-r"]), "x/a\nx/b\n");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    let server = fake(move |head, _| {
        seen.lock().unwrap().push(head.to_owned());
        let problem = br#"{"error":"unauthorized","message":"this needs a user"}"#;
        let status = if head.contains("Authorization: ") { "403 Forbidden" } else { "401 Unauthorized" };
        reply(status, &[("Content-Type", "application/json")], problem)
    });
    let here = Here::with(&server);
    here.write("a", &sample(2 * MIB));
    for arguments in [
        &["put", "a"][..],
        &["get", "b"],
        &["get", "b/"],
        &["ls"],
        &["rm", "a"],
        &["cp", "a", "b"],
        &["stat", "a"],
        &["index", "export"],
    ] {
        let Ended { code, said, .. } = here.run(arguments);
        assert_eq!(code, 4, "{arguments:?} {said}");
        assert!(said.contains("wants to know who asks: say who you are by --user NAME"), "{said}");
        for (more, variables, expected) in [
            (&["--user", "anna"][..], &[("CLOUDSTORE_PASSWORD", "geheim")][..], "Basic YW5uYTpnZWhlaW0="),
            (
                &[],
                &[("CLOUDSTORE_USER", "anna"), ("CLOUDSTORE_PASSWORD", "geheim")],
                "Basic YW5uYTpnZWhlaW0=",
            ),
            (&["--token", "abc"], &[("CLOUDSTORE_TOKEN", "other")], "Bearer abc"),
            (&[], &[("CLOUDSTORE_TOKEN", "geheim")], "Bearer geheim"),
        ] {
            heads.lock().unwrap().clear();
            let output =
                here.command(&[arguments, more].concat()).envs(variables.iter().copied()).output().unwrap();
            let Ended { code, said, out } = ended(output);
            assert_eq!(code, 4, "{arguments:?} {said}");
            assert!(!said.contains("geheim") && !out.contains("geheim") && !said.contains("YW5u"), "{said}");
            let heads = heads.lock().unwrap();
            let expected = format!("\r\nAuthorization: {expected}\r\n");
            assert!(!heads.is_empty() && heads.iter().all(|head| head.contains(&expected)), "{heads:?}");
        }
    }
    // No terminal to ask on.
    let Ended { code, said, .. } = here.run(&["ls", "--user", "anna"]);
    assert!(code == 2 && said.contains("set CLOUDSTORE_PASSWORD"), "{said}");
}

#[test]
fn names_of_a_hostile_server_stay_in_their_folder() {
    let names = [
        "f/ok",
        "f/../evil",
        "f//tmp/evil",
        "/etc/evil",
        "../evil",
        "f/..",
        "g/other",
        "f/a\\u0000b",
        "f/\\u001b[2Jx",
    ];
    let entries: Vec<String> =
        names.iter().map(|name| format!(r#"{{"name":"{name}","type":"file","size":2}}"#)).collect();
    let page = format!(r#"{{"folder":"f/","entries":[{}],"next":null}}"#, entries.join(","));
    let server = fake(move |head, _| match head.starts_with("GET /files/f/?") {
        true => reply("200 OK", &[], page.as_bytes()),
        false => reply("200 OK", &[("ETag", "\"../../x\"")], b"hi"),
    });
    let here = Here::with(&server);
    let Ended { code, said, .. } = here.run(&["get", "f/", "-o", "in/f"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("1 file, 2 B") && said.contains(", 8 failed"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    assert_eq!(tree(here.folder.path()), [("in/f/ok".to_owned(), b"hi".to_vec())]);
    // A listing that never ends.
    let server = fake(|_, _| reply("200 OK", &[], br#"{"folder":"","entries":[],"next":"a"}"#));
    let here = Here::with(&server);
    for arguments in [&["ls"][..], &["get", "/"]] {
        assert!(here.run(arguments).said.contains("its listing has no end"));
    }
    let listed = fake(|_, _| {
        reply(
            "200 OK",
            &[],
            b"{\"entries\":[{\"name\":\"a\\u001b[31m\\u202eb\\n\",\"type\":\"file\"}],\"next\":null}",
        )
    });
    assert_eq!(Here::with(&listed).good(&["ls"]), "a\\u{1b}[31m\\u{202e}b\\n\n");
}

#[test]
fn what_arrives_wrong_is_thrown_away() {
    // That of `hello`.
    let digest = "crc32c=:mnG7TA==:";
    let server = fake(move |head, body| match head.starts_with("GET") {
        true => {
            let content = if head.contains("/good") { "hello" } else { "hellO" };
            let headers = [("ETag", "\"1\""), ("Repr-Digest", digest)];
            reply("200 OK", &headers[..if head.contains("/silent") { 1 } else { 2 }], content.as_bytes())
        }
        false => {
            let entry = format!(r#"{{"size":{},"crc32c":"00000000","etag":"\"1\""}}"#, body.len());
            reply("201 Created", &[], entry.as_bytes())
        }
    });
    let here = Here::with(&server);
    here.good(&["get", "good"]);
    let Ended { code, said, .. } = here.run(&["get", "bad"]);
    assert_eq!(code, 1);
    assert!(
        said.starts_with("cloudstore: bad did not arrive as it was sent: its CRC-32C is ")
            && said.contains("not 9a71bb4c"),
        "{said}"
    );
    assert!(here.run(&["get", "bad", "-o", "-"]).code == 1);
    assert_eq!(tree(here.folder.path()), [("good".to_owned(), b"hello".to_vec())]);
    let Ended { code, said, .. } = here.run(&["get", "silent"]);
    assert!(code == 0 && said.contains("silent: the server says no digest"), "{said}");

    for size in [5, 100_000, 2 * MIB] {
        here.write("up", &sample(size));
        let Ended { code, said, .. } = here.run(&["put", "up"]);
        assert!(code == 1 && said.contains("up did not arrive as it was sent"), "{said}");
    }
    // A part that nobody asked for would come for ever.
    let server = fake(|_, _| {
        let headers = [("ETag", "\"1\""), ("Content-Range", "bytes 0-4/5")];
        reply("206 Partial Content", &headers, b"hello")
    });
    let Ended { code, said, .. } = Here::with(&server).run(&["get", "part"]);
    assert!(code == 1 && said.contains("was asked for all"), "{said}");
    // What has answered is something else.
    let server = fake(|_, _| reply("200 OK", &[], b"<html>"));
    let Ended { code, said, .. } = Here { folder: here.folder, server }.run(&["put", "up"]);
    assert!(code == 1 && said.contains("is no cloudstore server"), "{said}");
}

#[test]
fn a_server_that_is_overloaded_is_asked_again() {
    let count = Arc::new(Mutex::new(0));
    let server = fake(move |head, _| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count < 4 {
            return reply(
                "503 Service Unavailable",
                &[],
                br#"{"error":"too_many_files","message":"too many"}"#,
            );
        }
        assert!(head.starts_with("PUT /files/up "), "{head}");
        reply("200 OK", &[], br#"{"size":5,"crc32c":"9a71bb4c","etag":"\"1\""}"#)
    });
    let here = Here::with(&server);
    here.write("up", b"hello");
    let Ended { code, said, .. } = here.run(&["put", "up"]);
    assert_eq!(code, 0, "{said}");
    let server = fake(|_, _| reply("503 Service Unavailable", &[], b""));
    let Ended { code, said, .. } = Here { folder: here.folder, server }.run(&["put", "up", "--retry", "1"]);
    assert!(code == 1 && said.contains("answers 503"), "{said}");
}

#[test]
fn a_get_that_is_stopped_keeps_what_came() {
    let host = Host::new();
    let content = sample(MIB);
    assert_eq!(host.put("/files/a", &content).status, 201);
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut here = Here::with(&Proxy::to(&host.address, vec![Fate::StallDown(500_000)]).address);
        let child = here.start(&["get", "a"]);
        let has_come = |here: &Here| {
            here.parts().iter().any(|part| fs::metadata(here.at(part)).is_ok_and(|meta| meta.len() > 490_000))
        };
        while !has_come(&here) {}
        // Two at a time would spoil it for each other.
        let other = here.run(&["get", "a"]);
        assert!(other.code == 1 && other.said.contains("another cloudstore get"), "{}", other.said);
        signals::send(signal, child.id());
        let end = ended(child.wait_with_output().unwrap());
        assert_eq!(end.code, code);
        assert!(end.said.contains("1 not done, stopped; the same command goes on"), "{}", end.said);
        let line = &lines(&here.through(&host.address).good(&["get", "a", "--json"]))[0];
        assert!(line["resumed_from"].as_u64().unwrap() > 490_000);
        assert!(here.read("a") == content);
    }
}

#[test]
fn helps_have_examples() {
    let here = Here::with("");
    for (command, example) in [
        ("put", "cloudstore put photos --to 2026"),
        ("get", "cloudstore get photos/ -o 2026"),
        ("ls", "cloudstore ls photos/"),
        ("rm", "cloudstore rm -r photos/"),
        ("mv", "cloudstore mv a.txt docs/"),
        ("cp", "to old/photos/"),
        ("stat", "Objects, or folders"),
    ] {
        let help = here.good(&[command, "--help"]);
        for text in [example, "CLOUDSTORE_SERVER", "CLOUDSTORE_PASSWORD", "--token"] {
            assert!(help.contains(text), "{command}: {text}: {help}");
        }
    }
}

#[test]
fn what_is_refused_for_too_many_connections_is_done_by_those_that_are_through() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = host::options(folder.path());
    options.limits.max_connections_per_address = 2;
    let host = Host::with(options);
    let here = Here::with(&host.address);
    let names: Vec<String> = (0..40).map(|n| format!("f/{n}")).collect();
    for name in &names {
        here.write(name, name.as_bytes());
    }
    let mut arguments = vec!["put", "--to", "f/", "--jobs", "8", "--json"];
    arguments.extend(names.iter().map(String::as_str));
    let started = Instant::now();
    let Ended { code, out, said } = here.run(&arguments);
    assert_eq!((code, lines(&out).len()), (0, 40), "{said}");
    assert!(said.contains("answers 503 Service Unavailable; take fewer --jobs; trying again\n"), "{said}");
    here.good(&["get", "f/", "-o", "back", "--jobs", "8", "--quiet"]);
    assert_eq!(tree(&here.at("back")).len(), 40);
    // Those that are refused wait for up to five seconds each time.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
