//! Header fields of requests, one by one.

use reactor::http::Headers;

use super::problem::Problem;

/// The value of a field that may stand there once.
pub(crate) fn single<'a>(headers: &'a Headers, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.all(name);
    let Some(value) = values.next() else { return Ok(None) };
    let refused = |what: &str| Err(Problem::new(400, "header_invalid", format!("{name} {what}")));
    if values.next().is_some() {
        return refused("stands there twice: send it once");
    }
    match std::str::from_utf8(value) {
        Ok(text) => Ok(Some(text)),
        Err(_) => refused("is not UTF-8: encode it so"),
    }
}
