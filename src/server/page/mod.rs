//! The page: what people see of the store in a browser.
//!
//! It is written by the server and works as it is, by links and forms; a script adds what they lack. Programs get JSON from
//! the same paths.
//!
//! | Room | What |
//! |---|---|
//! | `html`, `words` | the page as text, in English and Chinese; pure |
//! | `page.css`, `page.js`, `page.svg`, `assets` | what browsers take in with it |
//! | `receive` | a form with files, into the store |

pub(crate) mod assets;
mod html;
mod receive;
mod words;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::http::{Reply, Request, query_pairs};
use serde::Serialize;

use super::accept::{self, Language};
use super::form;
use super::grant::Grant;
use super::json;
use super::listing::{self, Sort};
use super::problem::Problem;
use super::service::Service;
use super::target::{self, Target};
use crate::storage::{Entry, Folder, ListOptions, Name, Page, StoreError};
use crate::users::{ANONYMOUS, Verb};
use html::{Doomed, Failed, Flash, MOST_SORTED, View};
use receive::Outcome;

/// What a browser may do with a page of ours: take in what is ours, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Entries of one page, if there are more.
const PAGE: usize = 1000;
/// Rows that are written at a time.
const BATCH: usize = 100;
/// Names that one search looks at, and those that it finds.
const MOST_SEARCHED: usize = 200_000;
const MOST_FOUND: usize = 500;
/// Objects that are counted before a folder is removed.
const MOST_COUNTED: u64 = 20_000;

/// Whether a person is to be answered.
pub(crate) fn is_for(request: &Request) -> bool {
    accept::prefers_html(request.headers())
}

/// The language that was chosen, else the one that the browser likes best.
fn language(request: &Request) -> Language {
    let chosen = request.headers().all("cookie").find_map(|line| {
        let mut pairs = line.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        pairs.find_map(|pair| match pair {
            b"lang=en" => Some(Language::En),
            b"lang=zh" => Some(Language::Zh),
            _ => None,
        })
    });
    chosen.unwrap_or_else(|| accept::language(request.headers()))
}

/// The headers of every page.
fn describe(reply: Reply) -> Reply {
    reply
        .header("Content-Type", "text/html; charset=utf-8")
        .header("Content-Security-Policy", POLICY)
        .header("X-Content-Type-Options", "nosniff")
        // Without one, forms would not say where they come from.
        .header("Referrer-Policy", "same-origin")
}

/// The headers of a page that shows what is there now.
fn describe_current(reply: Reply) -> Reply {
    describe(reply).header("Cache-Control", "no-cache").header("Vary", "Accept, Accept-Language, Cookie")
}

/// Gives the answer to a problem a body for people.
pub(crate) fn problem(reply: Reply, status: u16, code: &str, message: &str, name: Option<&str>) -> Reply {
    let text = html::problem(language(reply.request()), status, code, message, name);
    describe(reply).body(text)
}

/// The query without some of its parameters, as it came.
fn query_without(request: &Request, names: &[&str]) -> String {
    let mut out = String::new();
    for pair in request.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        if !names.contains(&pair.split('=').next().unwrap_or_default()) {
            out.push(if out.is_empty() { '?' } else { '&' });
            out.push_str(pair);
        }
    }
    out
}

/// This page in the other language.
fn other(request: &Request) -> String {
    let query = query_without(request, &["lang", "done", "n"]);
    let lang = if language(request) == Language::En { "zh" } else { "en" };
    format!("{}{query}{}lang={lang}", request.path(), if query.is_empty() { '?' } else { '&' })
}

/// Keeps the language that a request chooses, and has it asked for again without; gives back what chooses none.
fn choose_language(request: Request) -> Option<Request> {
    let chosen = query_pairs(request.query().unwrap_or_default()).find(|(name, _)| *name == "lang");
    let lang = match chosen.map(|(_, lang)| lang) {
        Some("en") => "en",
        Some("zh") => "zh",
        _ => return Some(request),
    };
    let location = format!("{}{}", request.path(), query_without(&request, &["lang"]));
    let cookie = format!("lang={lang}; Path=/; Max-Age=31536000; SameSite=Strict; HttpOnly");
    request
        .reply(303)
        .header("Location", location)
        .header("Set-Cookie", cookie)
        .header("Cache-Control", "no-store")
        .send();
    None
}

/// Shows a folder, or what a search finds below it.
pub(crate) fn folder(service: &Rc<Service>, request: Request, folder: Folder, grant: &Grant) {
    let Some(request) = choose_language(request) else { return };
    match begin(service, &request, folder, grant) {
        Ok(view) if view.find.is_some() => search(service, request, view),
        Ok(view) => list(service, request, view),
        Err(problem) => service.refuse(request, problem),
    }
}

fn begin(service: &Service, request: &Request, folder: Folder, grant: &Grant) -> Result<View, Problem> {
    let sort = target::word(request, "sort", &listing::SORTS)?.unwrap_or(Sort::Name);
    let after = target::parameter(request, "after")?;
    let find = target::parameter(request, "find")?.map(|text| text.trim().to_owned());
    let done = target::parameter(request, "done")?.unwrap_or_default();
    let n = target::parameter(request, "n")?.unwrap_or_default();
    let user = grant.user().filter(|user| *user != ANONYMOUS).map(str::to_owned);
    // Who has not signed in is asked to when he tries what is not for everybody.
    let offer = if user.is_some() { grant.clone() } else { Grant::everybody() };
    Ok(View {
        language: language(request),
        folder,
        entries: Vec::new(),
        is_continued: after.is_some(),
        next: after,
        sort,
        is_too_long_to_sort: false,
        find: find.filter(|text| !text.is_empty()),
        is_cut: false,
        flash: Flash::of(&done, &n),
        free: service
            .store()
            .space()
            .ok()
            .map(|space| space.free.saturating_sub(service.site().min_free_disk())),
        other: other(request),
        user,
        scope: grant.scope(),
        offer,
    })
}

fn list(service: &Rc<Service>, request: Request, mut view: View) {
    let after = view.next.take();
    if after.is_some() {
        // Behind a name there is the order of names alone.
        view.sort = Sort::Name;
    }
    let limit = if view.sort == Sort::Name { PAGE } else { MOST_SORTED };
    let options = ListOptions { after, limit, scope: view.scope.clone(), ..ListOptions::default() };
    let folder = view.folder.clone();
    let me = Rc::clone(service);
    service.store().list(&folder, options, move |result| match result {
        Ok(page) => {
            // A folder is there as long as something is in it; who has just emptied it is told so.
            let is_gone = page.entries.is_empty() && !view.is_continued && view.flash.is_none();
            if is_gone && !view.folder.prefix().is_empty() {
                return me.refuse(request, Problem::no_such_folder(&view.folder));
            }
            arrange(&mut view, page);
            send(request, view);
        }
        Err(error) => me.refuse(request, error.into()),
    });
}

/// Puts a page in the order that was asked for, as far as there is one.
fn arrange(view: &mut View, page: Page) {
    let Page { mut entries, next } = page;
    match view.sort {
        Sort::By(key, order) if next.is_none() => listing::sort(&mut entries, key, order),
        Sort::By(..) => {
            view.is_too_long_to_sort = true;
            view.sort = Sort::Name;
        }
        Sort::Name if next.is_none() && !view.is_continued => {
            entries.sort_by_key(|entry| matches!(entry, Entry::Object { .. }));
        }
        Sort::Name => (),
    }
    view.entries = entries;
    view.next = next;
}

/// Writes a view as its client takes it.
fn send(request: Request, view: View) {
    let is_head = request.method() == "HEAD";
    let stream = describe_current(request.reply(200)).stream();
    if is_head {
        return stream.finish();
    }
    if stream.write(&view.head()).is_err() {
        return;
    }
    let at = Cell::new(0);
    stream.on_drained(move |stream| {
        let from = at.get();
        at.set(from + BATCH);
        // A client that has left is noticed by the stream's end.
        if from < view.entries.len() {
            let _ = stream.write(&view.rows(from, BATCH));
        } else {
            let _ = stream.write(&view.tail());
            stream.finish();
        }
    });
}

/// A search that goes on page by page.
struct Search {
    service: Rc<Service>,
    /// In lower case.
    text: String,
    looked_at: Cell<usize>,
    state: RefCell<Option<(Request, View)>>,
}

fn search(service: &Rc<Service>, request: Request, view: View) {
    let text = view.find.as_deref().unwrap_or_default().to_lowercase();
    let search = Search {
        service: Rc::clone(service),
        text,
        looked_at: Cell::new(0),
        state: RefCell::new(Some((request, View { next: None, is_continued: false, ..view }))),
    };
    Rc::new(search).go_on(None);
}

impl Search {
    fn go_on(self: Rc<Search>, after: Option<String>) {
        let (folder, scope) = match &*self.state.borrow() {
            // Nobody waits for the rest.
            Some((request, _)) if !request.is_connected() => return,
            Some((_, view)) => (view.folder.clone(), view.scope.clone()),
            None => return,
        };
        let options = ListOptions { after, limit: PAGE, is_deep: true, scope, ..ListOptions::default() };
        let store = self.service.store().clone();
        store.list(&folder, options, move |result| self.look(result));
    }

    fn look(self: Rc<Search>, result: Result<Page, StoreError>) {
        let Some((request, mut view)) = self.state.take() else { return };
        let page = match result {
            Ok(page) => page,
            Err(error) => return self.service.refuse(request, error.into()),
        };
        self.looked_at.set(self.looked_at.get() + page.entries.len());
        let top = view.folder.prefix().len();
        for entry in page.entries {
            let Entry::Object { name, .. } = &entry else { continue };
            let is_found =
                name.as_str().get(top..).is_some_and(|rest| rest.to_lowercase().contains(&self.text));
            if is_found && view.entries.len() == MOST_FOUND {
                view.is_cut = true;
                return send(request, view);
            }
            if is_found {
                view.entries.push(entry);
            }
        }
        match page.next {
            Some(_) if self.looked_at.get() >= MOST_SEARCHED => {
                view.is_cut = true;
                send(request, view);
            }
            Some(next) => {
                self.state.replace(Some((request, view)));
                self.go_on(Some(next));
            }
            None => send(request, view),
        }
    }
}

/// Asks whether something is to be removed, whoever may do that.
pub(crate) fn confirm(service: &Rc<Service>, request: Request, target: Target, grant: &Grant) {
    let Some(request) = choose_language(request) else { return };
    let granted = match &target {
        Target::Object(name) => grant.demand(Verb::Delete, name),
        Target::Folder(folder) if grant.may_below(Verb::Delete, folder) => Ok(()),
        Target::Folder(folder) => Err(Problem::forbidden(Verb::Delete.as_str(), folder.prefix())),
    };
    if let Err(problem) = granted {
        return service.refuse(request, problem);
    }
    match target {
        Target::Object(name) => confirm_object(service, request, &name),
        Target::Folder(folder) => count(Rc::clone(service), request, folder, None, (0, 0)),
    }
}

fn confirm_object(service: &Rc<Service>, request: Request, name: &Name) {
    match service.store().stat(name) {
        Ok(meta) => send_question(request, &Doomed::Object(name, &meta)),
        Err(error) => service.refuse(request, error.into()),
    }
}

fn send_question(request: Request, doomed: &Doomed<'_>) {
    let text = html::confirm(language(&request), &other(&request), doomed);
    describe_current(request.reply(200)).body(text).send();
}

/// Counts what is in a folder, page by page, as far as is worth the wait.
fn count(service: Rc<Service>, request: Request, folder: Folder, after: Option<String>, sum: (u64, u64)) {
    let options = ListOptions { after, limit: PAGE, is_deep: true, ..ListOptions::default() };
    let (store, asked) = (service.store().clone(), folder.clone());
    store.list(&asked, options, move |result| {
        let page = match result {
            Ok(page) => page,
            Err(error) => return service.refuse(request, error.into()),
        };
        let (mut objects, mut bytes) = sum;
        for entry in &page.entries {
            if let Entry::Object { meta, .. } = entry {
                objects += 1;
                bytes = bytes.saturating_add(meta.size);
            }
        }
        match page.next {
            Some(next) if objects < MOST_COUNTED && request.is_connected() => {
                count(service, request, folder, Some(next), (objects, bytes));
            }
            next if objects > 0 => {
                let is_more = next.is_some();
                send_question(request, &Doomed::Folder { folder: &folder, objects, bytes, is_more });
            }
            _ => service.refuse(request, Problem::no_such_folder(&folder)),
        }
    });
}

/// Sends a browser back to the folder that something was in, where it is told what was done.
pub(crate) fn removed(request: Request, name: &str, objects: Option<u64>) {
    let flash = objects.map_or(Flash::Removed, Flash::RemovedFolder);
    back(request, &html::parent(name), flash);
}

fn back(request: Request, path: &str, flash: Flash) {
    let location = format!("{path}{}", flash.query());
    request.reply(303).header("Location", location).header("Cache-Control", "no-store").send();
}

/// Whether a POST to a folder is a form with files, and nothing else is asked for.
pub(crate) fn takes_form(request: &Request) -> bool {
    request.query().is_none() && request.header("content-type").is_some_and(form::is_form)
}

/// Takes a form with files into a folder.
pub(crate) fn upload(service: &Rc<Service>, request: Request, folder: Folder, grant: Grant) {
    receive::receive(service, request, folder, grant, answer);
}

#[derive(Serialize)]
struct FormShown<'a> {
    folder: &'a str,
    /// How many files were stored.
    stored: u64,
    failed: Vec<FailedShown<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_failed: u64,
}

#[derive(Serialize)]
struct FailedShown<'a> {
    error: &'a str,
    message: &'a str,
    name: &'a str,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn answer(service: &Rc<Service>, request: Request, outcome: Outcome) {
    let Outcome { folder, stored, failed, more_failed } = outcome;
    failed.iter().for_each(|(_, problem)| service.note(&request, problem));
    // That of the first: if all is well there is none.
    let status = failed.first().map(|(_, problem)| problem.status());
    if !is_for(&request) {
        let failed = failed.iter().map(|(name, problem)| FailedShown {
            error: problem.code(),
            message: problem.message(),
            name,
        });
        let shown = FormShown { folder: folder.prefix(), stored, failed: failed.collect(), more_failed };
        return json::body(request.reply(status.unwrap_or(200)), &shown).send();
    }
    let Some(status) = status else {
        let flash = if stored == 0 { Flash::Nothing } else { Flash::Stored(stored) };
        return back(request, &html::folder_path(&folder), flash);
    };
    let shown = failed.iter().map(|(name, problem)| Failed {
        name,
        code: problem.code(),
        message: problem.message(),
    });
    let text = html::partly(language(&request), &folder, stored, shown, more_failed);
    describe(request.reply(status)).header("Cache-Control", "no-store").body(text).send();
}
