//! Which rights a call needs: said for each route, before its handler is reached.

use reactor::http::Request;

use super::change::{self, Wish};
use super::grant::Grant;
use super::original;
use super::page;
use super::problem::Problem;
use super::service::Service;
use super::target::{self, Target};
use crate::storage::{Folder, Name};
use crate::users::Verb;

/// Says what a request needs. What it cannot understand is refused, so the handler is not reached.
pub(crate) type NeedsOf = fn(&Service, &Request) -> Result<Needs, Problem>;

/// All that a request needs; nothing by default.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    list: [Option<Need>; 4],
}

#[derive(Clone, Debug)]
pub(crate) enum Need {
    /// To be somebody with rights, whichever: the handler asks its grant for more.
    Someone,
    /// To look after the server.
    Admin,
    Object(Verb, Name),
    /// To create or to replace; which of them shows when it happens, and the grant sees to it.
    Write(Name),
    /// All of a folder.
    Below(Verb, Folder),
    /// To read something in a folder, or below it.
    Enter(Folder),
}

impl Needs {
    fn of<const N: usize>(needs: [Need; N]) -> Needs {
        const { assert!(N <= 4) };
        let mut all = Needs::default();
        all.list.iter_mut().zip(needs).for_each(|(place, need)| *place = Some(need));
        all
    }

    /// Whether everybody may, without saying who they are.
    pub(crate) fn is_nothing(&self) -> bool {
        self.list.iter().all(Option::is_none)
    }

    /// What of it is not granted, as the client is told.
    pub(crate) fn check(&self, grant: &Grant) -> Result<(), Problem> {
        self.list.iter().flatten().try_for_each(|need| need.check(grant))
    }
}

impl Need {
    fn check(&self, grant: &Grant) -> Result<(), Problem> {
        let demand = |is_granted, verb: Verb, path: &str| {
            if is_granted { Ok(()) } else { Err(Problem::forbidden(verb.as_str(), path)) }
        };
        match self {
            Need::Someone if grant.user().is_some() => Ok(()),
            Need::Admin if grant.is_admin() => Ok(()),
            Need::Someone | Need::Admin => Err(Problem::admins_only()),
            Need::Object(verb, name) => demand(grant.may(*verb, name), *verb, name.as_str()),
            Need::Write(name) => {
                let may = grant.may(Verb::Create, name) || grant.may(Verb::Replace, name);
                demand(may, Verb::Create, name.as_str())
            }
            Need::Below(verb, folder) => demand(grant.may_below(*verb, folder), *verb, folder.prefix()),
            Need::Enter(folder) => {
                demand(grant.may_somewhere(Verb::Read, folder), Verb::Read, folder.prefix())
            }
        }
    }
}

/// Of a call that everybody may make.
pub(crate) fn nothing(_: &Service, _: &Request) -> Result<Needs, Problem> {
    Ok(Needs::default())
}

/// Of the top folder as a page, and of forms for it.
pub(crate) fn of_top(_: &Service, request: &Request) -> Result<Needs, Problem> {
    Ok(match request.method() {
        "GET" | "HEAD" => Needs::of([Need::Enter(Folder::root())]),
        // Its handler learns from the body what is to be stored where.
        "POST" => Needs::of([Need::Someone]),
        _ => Needs::default(),
    })
}

/// Of what looks after the server.
pub(crate) fn admin(_: &Service, request: &Request) -> Result<Needs, Problem> {
    Ok(if request.method() == "OPTIONS" { Needs::default() } else { Needs::of([Need::Admin]) })
}

/// Of `/files/`.
pub(crate) fn of_files(_: &Service, request: &Request) -> Result<Needs, Problem> {
    let target = Target::parse(request.path().strip_prefix("/files/").unwrap_or_default())?;
    Ok(match (request.method(), target) {
        ("GET" | "HEAD", Target::Object(name)) => Needs::of([Need::Object(Verb::Read, name)]),
        ("GET" | "HEAD", Target::Folder(folder)) => Needs::of([Need::Enter(folder)]),
        ("PUT", Target::Object(name)) => Needs::of([Need::Write(name)]),
        ("DELETE", Target::Object(name)) => Needs::of([Need::Object(Verb::Delete, name)]),
        ("DELETE", Target::Folder(folder)) => Needs::of([Need::Below(Verb::Delete, folder)]),
        // As of the top folder.
        ("POST", Target::Folder(_)) if page::takes_form(request) => Needs::of([Need::Someone]),
        ("POST", target) => return of_change(request, target),
        // Which methods there are is no secret.
        _ => Needs::default(),
    })
}

fn of_change(request: &Request, target: Target) -> Result<Needs, Problem> {
    let wish = change::wish(request)?;
    Ok(match target {
        Target::Object(from) => match wish {
            Wish::Move(to) => Needs::of([
                Need::Object(Verb::Read, from.clone()),
                Need::Object(Verb::Delete, from),
                Need::Write(target::name(to.as_bytes())?),
            ]),
            Wish::Copy(to) => {
                Needs::of([Need::Object(Verb::Read, from), Need::Write(target::name(to.as_bytes())?)])
            }
            // The answer tells what was read.
            Wish::Class(_) => {
                Needs::of([Need::Object(Verb::Read, from.clone()), Need::Object(Verb::Replace, from)])
            }
            Wish::Delete => Needs::of([Need::Object(Verb::Delete, from)]),
        },
        Target::Folder(from) => {
            let (to, is_move) = match wish {
                Wish::Move(to) => (to, true),
                Wish::Copy(to) => (to, false),
                // Refused for everybody.
                Wish::Class(_) => return Ok(Needs::default()),
                Wish::Delete => return Ok(Needs::of([Need::Below(Verb::Delete, from)])),
            };
            let to = Folder::parse(&to).map_err(|error| target::invalid(&to, error))?;
            let mut needs =
                Needs::of([Need::Below(Verb::Read, from.clone()), Need::Below(Verb::Create, to.clone())]);
            if target::flag(request, "replace")? {
                needs.list[2] = Some(Need::Below(Verb::Replace, to));
            }
            if is_move {
                needs.list[3] = Some(Need::Below(Verb::Delete, from));
            }
            needs
        }
    })
}

/// Of the path below which the original's clients find objects.
pub(crate) fn of_download(service: &Service, request: &Request) -> Result<Needs, Problem> {
    if !matches!(request.method(), "GET" | "HEAD") {
        return Ok(Needs::default());
    }
    let prefix = service.site().download_prefix().len();
    let name = Target::parse(request.path().get(prefix..).unwrap_or_default())?.object()?;
    Ok(Needs::of([Need::Object(Verb::Read, name)]))
}

/// Of the original's uploads.
pub(crate) fn of_upload(_: &Service, request: &Request) -> Result<Needs, Problem> {
    match request.method() {
        "POST" | "PUT" => Ok(Needs::of([Need::Write(original::file_name(request)?)])),
        _ => Ok(Needs::default()),
    }
}

/// Of the original's removals.
pub(crate) fn of_remove(_: &Service, request: &Request) -> Result<Needs, Problem> {
    match request.method() {
        "POST" | "DELETE" | "GET" => {
            Ok(Needs::of([Need::Object(Verb::Delete, original::file_name(request)?)]))
        }
        _ => Ok(Needs::default()),
    }
}

/// Of the original's list, which shows what may be read.
pub(crate) fn of_list(_: &Service, request: &Request) -> Result<Needs, Problem> {
    match request.method() {
        "GET" | "HEAD" => Ok(Needs::of([Need::Enter(Folder::root())])),
        _ => Ok(Needs::default()),
    }
}
