//! Which handler a request goes to.

use std::collections::HashMap;
use std::rc::Rc;

use super::request::Request;
use crate::slot::Slot;

pub(super) type Handler = Slot<dyn FnMut(Request)>;

/// The handlers of one pattern, by method.
#[derive(Default)]
struct Route {
    by_method: Vec<(String, Rc<Handler>)>,
    any: Option<Rc<Handler>>,
}

/// Patterns: whole paths, and beginnings of paths.
#[derive(Default)]
pub(super) struct Routes {
    exact: HashMap<String, Route>,
    /// The longest first.
    prefixes: Vec<(String, Route)>,
    fallback: Option<Rc<Handler>>,
}

/// Where a request goes.
pub(super) enum Found {
    Handler(Rc<Handler>),
    /// The methods that the path has, for `Allow`.
    OtherMethods(String),
    Nothing,
}

impl Routes {
    /// Sets a handler; the one of the same pattern and method gives way.
    pub(super) fn set(
        &mut self,
        method: Option<&str>,
        pattern: &str,
        handler: Rc<Handler>,
    ) -> Option<Rc<Handler>> {
        let route = match pattern.strip_suffix('*') {
            Some(prefix) if pattern != "*" => self.prefix(prefix),
            _ => self.exact.entry(pattern.to_owned()).or_default(),
        };
        match method {
            None => route.any.replace(handler),
            Some(method) => match route.by_method.iter_mut().find(|(have, _)| have == method) {
                Some((_, slot)) => Some(std::mem::replace(slot, handler)),
                None => {
                    route.by_method.push((method.to_owned(), handler));
                    None
                }
            },
        }
    }

    pub(super) fn set_fallback(&mut self, handler: Rc<Handler>) -> Option<Rc<Handler>> {
        self.fallback.replace(handler)
    }

    fn prefix(&mut self, prefix: &str) -> &mut Route {
        let at = match self.prefixes.iter().position(|(have, _)| have == prefix) {
            Some(at) => at,
            None => {
                let at = self.prefixes.partition_point(|(have, _)| have.len() >= prefix.len());
                self.prefixes.insert(at, (prefix.to_owned(), Route::default()));
                at
            }
        };
        &mut self.prefixes[at].1
    }

    pub(super) fn find(&self, method: &str, path: &str) -> Found {
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str()));
        let mut others = None;
        for route in self.exact.get(path).into_iter().chain(prefixes.map(|(_, route)| route)) {
            if let Some(handler) = route.handler(method) {
                return Found::Handler(handler);
            }
            others.get_or_insert(route);
        }
        match (&self.fallback, others) {
            (_, Some(route)) => Found::OtherMethods(route.allow()),
            (Some(handler), None) => Found::Handler(handler.clone()),
            (None, None) => Found::Nothing,
        }
    }
}

impl Route {
    fn handler(&self, method: &str) -> Option<Rc<Handler>> {
        let own =
            |method: &str| self.by_method.iter().find(|(have, _)| have == method).map(|(_, handler)| handler);
        let handler = own(method).or_else(|| if method == "HEAD" { own("GET") } else { None });
        handler.or(self.any.as_ref()).cloned()
    }

    fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.by_method.iter().map(|(method, _)| method.as_str()).collect();
        if methods.contains(&"GET") && !methods.contains(&"HEAD") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        methods.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler() -> Rc<Handler> {
        Rc::new(Slot::new(Box::new(|_: Request| ())))
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let mut routes = Routes::default();
        let all: Vec<_> = (0..6).map(|_| handler()).collect();
        routes.set(None, "/a/*", all[0].clone());
        routes.set(None, "/a/b/*", all[1].clone());
        routes.set(None, "/a/b/c", all[2].clone());
        routes.set(Some("GET"), "/m", all[3].clone());
        routes.set(Some("PUT"), "/m", all[4].clone());
        let which = |routes: &Routes, method: &str, path: &str| match routes.find(method, path) {
            Found::Handler(found) => all.iter().position(|have| Rc::ptr_eq(have, &found)).ok_or("other"),
            Found::OtherMethods(_) => Err("405"),
            Found::Nothing => Err("404"),
        };
        for (method, path, expected) in [
            ("GET", "/a/", Ok(0)),
            ("GET", "/a/x", Ok(0)),
            ("GET", "/a", Err("404")),
            ("GET", "/a/b/x", Ok(1)),
            ("GET", "/a/b/c", Ok(2)),
            ("GET", "/a/b/c/", Ok(1)),
            ("GET", "/m", Ok(3)),
            ("HEAD", "/m", Ok(3)),
            ("PUT", "/m", Ok(4)),
            ("POST", "/m", Err("405")),
            ("get", "/m", Err("405")),
        ] {
            assert_eq!(which(&routes, method, path), expected, "{method} {path}");
        }
        let Found::OtherMethods(allow) = routes.find("POST", "/m") else { panic!("found") };
        assert_eq!(allow, "GET, HEAD, PUT");
        routes.set_fallback(all[5].clone());
        assert_eq!(which(&routes, "GET", "/x"), Ok(5));
        assert_eq!(which(&routes, "POST", "/m"), Err("405"));
        assert!(routes.set(None, "/a/*", all[5].clone()).is_some(), "the old one comes back");
        assert_eq!(which(&routes, "GET", "/a/x"), Ok(5));
    }
}
