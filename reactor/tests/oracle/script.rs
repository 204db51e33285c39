//! Reads scenarios. The language is described in `reactor/oracle/README.md`.

/// One scenario: a name, and lists of operations and settings by key.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pairs: Vec<(String, String)>,
}

impl Scenario {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn num(&self, key: &str, fallback: i64) -> i64 {
        self.get(key).map_or(fallback, num)
    }

    /// What a callback does at its n-th call: `who.what.call` wins over `who.what`; without `what` it is `who.call`
    /// over `who`.
    pub(crate) fn reaction(&self, who: &str, what: Option<&str>, call: u32) -> Option<&str> {
        let key = what.map_or_else(|| who.to_owned(), |what| format!("{who}.{what}"));
        self.get(&format!("{key}.{call}")).or_else(|| self.get(&key))
    }

    /// A key that comes again continues its list of operations.
    fn add(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("not key=value: {word}"));
        match self.pairs.iter_mut().find(|(own, _)| own == key) {
            Some((_, list)) => *list = format!("{list};{value}"),
            None => self.pairs.push((key.to_owned(), value.to_owned())),
        }
    }
}

/// The scenarios of a file, in its order.
pub(crate) fn parse(text: &str) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().peekable();
        if words.peek().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        if !line.starts_with(char::is_whitespace) {
            let name = words.next().unwrap_or_default().to_owned();
            scenarios.push(Scenario { name, pairs: Vec::new() });
        }
        let scenario = scenarios.last_mut().expect("pairs before the first name");
        words.for_each(|word| scenario.add(word));
    }
    scenarios
}

/// The operations of a list, each as its name and its arguments.
pub(crate) fn operations(list: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    list.split(';').filter(|one| !one.is_empty()).map(|one| {
        let mut parts = one.split(':');
        (parts.next().unwrap_or_default(), parts.collect())
    })
}

/// A decimal number; `max` and `all` are -1.
pub(crate) fn num(text: &str) -> i64 {
    match text {
        "max" | "all" => -1,
        _ => text.parse().unwrap_or_else(|_| panic!("not a number: {text}")),
    }
}

/// A number of bytes; `max` and `all` are as many as there can be.
pub(crate) fn size(text: &str) -> usize {
    usize::try_from(num(text)).unwrap_or(usize::MAX)
}

/// The bytes of a text argument, `%XX` replaced.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match rest.strip_prefix('%').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                let (one, left) = rest.split_at(first.len_utf8());
                bytes.extend_from_slice(one.as_bytes());
                rest = left;
            }
        }
    }
    bytes
}

#[test]
fn keys_that_come_again_and_indented_lines_go_on() {
    let scenarios = parse("# comment\n\none do=a:1 x=b\n  do=c;d\ntwo cap=3\n");
    assert_eq!(scenarios.len(), 2);
    assert_eq!(scenarios[0].get("do"), Some("a:1;c;d"));
    assert_eq!(scenarios[1].num("cap", 200), 3);
    assert_eq!(scenarios[1].get("do"), None);
}

#[test]
fn numbered_reactions_win() {
    let scenario = &parse("one x=a x.2=b x.r=c x.r.1=d")[0];
    let found = [
        scenario.reaction("x", None, 1),
        scenario.reaction("x", None, 2),
        scenario.reaction("x", Some("r"), 1),
        scenario.reaction("x", Some("r"), 2),
        scenario.reaction("x", Some("w"), 1),
    ];
    assert_eq!(found, [Some("a"), Some("b"), Some("d"), Some("c"), None]);
}

#[test]
fn arguments_may_be_empty_and_escaped() {
    let all: Vec<_> = operations("find:a::3;;text:b:x%0d%0ay%zz;step").collect();
    assert_eq!(all[0], ("find", vec!["a", "", "3"]));
    assert_eq!(all[2], ("step", vec![]));
    assert_eq!(unescape(all[1].1[1]), b"x\r\ny%zz");
}
