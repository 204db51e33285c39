//! Removing, moving and copying objects and folders, and changing the class of an object.

use std::rc::Rc;

use reactor::http::Request;
use serde::Serialize;

use super::conditions::{Conditions, Current};
use super::grant::Grant;
use super::problem::Problem;
use super::service::Service;
use super::target::{self, Target};
use super::upload;
use super::{json, page};
use crate::storage::{Changed, Class, Folder, Name, Precondition, StoreError};

/// Answers DELETE.
pub(crate) fn delete(service: &Rc<Service>, request: Request, target: Target) {
    match target {
        Target::Object(name) => delete_object(service, request, name),
        Target::Folder(folder) => delete_folder(service, request, folder),
    }
}

/// What the conditions of a request ask of an object that is changed, and must be there for that: a request that would be
/// answered 404 without them is answered so.
fn precondition(service: &Service, conditions: &Conditions, name: &Name) -> Result<Precondition, Problem> {
    if *conditions == Conditions::default() {
        return Ok(Precondition::None);
    }
    let current = Current::of(&service.store().stat(name)?, false);
    conditions.for_write(Some(current)).map_err(|_| upload::conflict(name))
}

/// Whether the disk has room for one more of an object, as it was when it was looked at.
fn check_copy(service: &Service, name: &Name) -> Result<(), Problem> {
    let meta = service.store().stat(name)?;
    // In either class it is hardly larger than its content.
    service.check_room(meta.size).map_err(|problem| problem.about(name.as_str()))
}

fn delete_object(service: &Rc<Service>, request: Request, name: Name) {
    let precondition = match precondition(service, &Conditions::of(request.headers()), &name) {
        Ok(precondition) => precondition,
        Err(problem) => return service.refuse(request, problem),
    };
    let store = service.store().clone();
    let (service, asked) = (Rc::clone(service), name.clone());
    store.delete(&name, precondition, move |result| match result {
        Ok(_) if is_form(&request) => page::removed(request, asked.as_str(), None),
        Ok(_) => request.reply(204).send(),
        Err(error) => service.refuse(request, error.into()),
    });
}

/// Forms know no DELETE: they send POST, and go on to a page.
fn is_form(request: &Request) -> bool {
    request.method() == "POST" && page::is_for(request)
}

#[derive(Serialize)]
struct Count<'a> {
    folder: &'a str,
    /// Objects that were removed, moved or copied.
    objects: u64,
}

fn delete_folder(service: &Rc<Service>, request: Request, folder: Folder) {
    match target::flag(&request, "recursive") {
        Ok(true) => (),
        Ok(false) => {
            let message = "this is a folder: add ?recursive to remove all that is in it";
            return service.refuse(request, Problem::new(409, "is_folder", message).about(folder.prefix()));
        }
        Err(problem) => return service.refuse(request, problem),
    }
    let store = service.store().clone();
    let (service, asked) = (Rc::clone(service), folder.clone());
    store.delete_folder(&folder, move |result| match result {
        Ok(0) => service.refuse(request, Problem::no_such_folder(&asked)),
        Ok(objects) if is_form(&request) => page::removed(request, asked.prefix(), Some(objects)),
        Ok(objects) => json::body(request.reply(200), &Count { folder: asked.prefix(), objects }).send(),
        Err(error) => service.refuse(request, error.into()),
    });
}

/// What a POST asks to be done with what its path names.
pub(crate) enum Wish {
    Move(String),
    Copy(String),
    Class(Class),
    Delete,
}

/// Answers POST with `?move=`, `?copy=`, `?class=` or `?delete`.
pub(crate) fn post(service: &Rc<Service>, request: Request, target: Target, grant: Grant) {
    match wish(&request) {
        Ok(wish) => fulfil(service, request, target, wish, grant),
        Err(problem) => service.refuse(request, problem),
    }
}

/// What of it the parameters say.
pub(crate) fn wish(request: &Request) -> Result<Wish, Problem> {
    let class = target::word(request, "class", upload::CLASSES)?;
    let to = |parameter| target::parameter(request, parameter);
    match (to("move")?, to("copy")?, class, target::flag(request, "delete")?) {
        (Some(to), None, None, false) => Ok(Wish::Move(to)),
        (None, Some(to), None, false) => Ok(Wish::Copy(to)),
        (None, None, Some(class), false) => Ok(Wish::Class(class)),
        (None, None, None, true) => Ok(Wish::Delete),
        _ => {
            let message = "say what is to be done: one of ?move=NAME, ?copy=NAME, ?class=low or deep and ?delete; PUT stores, and a form does for a folder, with a slash behind";
            Err(Problem::new(400, "parameter_invalid", message))
        }
    }
}

fn fulfil(service: &Rc<Service>, request: Request, target: Target, wish: Wish, grant: Grant) {
    let granted = match (target, wish) {
        (target, Wish::Delete) => return delete(service, request, target),
        (Target::Object(from), Wish::Class(class)) => return change_class(service, request, from, class),
        (Target::Object(from), Wish::Move(to)) => move_object(service, request, from, &to, Way::Move, grant),
        (Target::Object(from), Wish::Copy(to)) => move_object(service, request, from, &to, Way::Copy, grant),
        (Target::Folder(from), Wish::Move(to)) => move_folder(service, request, from, &to, Way::Move),
        (Target::Folder(from), Wish::Copy(to)) => move_folder(service, request, from, &to, Way::Copy),
        (Target::Folder(folder), Wish::Class(_)) => {
            let message = "a folder has no class: change that of its objects";
            Err(Box::new((request, Problem::new(400, "is_folder", message).about(folder.prefix()))))
        }
    };
    if let Err(refused) = granted {
        let (request, problem) = *refused;
        service.refuse(request, problem);
    }
}

#[derive(Clone, Copy)]
enum Way {
    Move,
    Copy,
}

/// What is not granted comes back with the reason.
type Granted = Result<(), Box<(Request, Problem)>>;

fn move_object(
    service: &Rc<Service>,
    request: Request,
    from: Name,
    to: &str,
    way: Way,
    grant: Grant,
) -> Granted {
    let to = match target::name(to.as_bytes()) {
        Ok(to) => to,
        Err(problem) => return Err(Box::new((request, problem))),
    };
    // `If-Match` speaks of what is moved, `If-None-Match: *` of the place that it goes to.
    let conditions = Conditions::of(request.headers());
    let (conditions, to_is) = match conditions.is_create_only() {
        true => (conditions.without_none_match(), Precondition::Absent),
        false => (conditions, Precondition::None),
    };
    let from_is = match precondition(service, &conditions, &from) {
        Ok(from_is) => from_is,
        Err(problem) => return Err(Box::new((request, problem))),
    };
    let to_is = match grant.placing(service.store(), &to, to_is) {
        Ok(to_is) => to_is,
        Err(problem) => return Err(Box::new((request, problem))),
    };
    if matches!(way, Way::Copy)
        && let Err(problem) = check_copy(service, &from)
    {
        return Err(Box::new((request, problem)));
    }
    let store = service.store().clone();
    let (service, placed) = (Rc::clone(service), to.clone());
    let done = move |result: Result<Changed, StoreError>| match result {
        Ok(changed) => upload::stored(request, &placed, &changed),
        Err(error) => service.refuse(request, grant.explain(error, &placed)),
    };
    match way {
        Way::Move => store.rename(&from, &to, from_is, to_is, done),
        Way::Copy => store.copy(&from, &to, from_is, to_is, done),
    }
    Ok(())
}

fn move_folder(service: &Rc<Service>, request: Request, from: Folder, to: &str, way: Way) -> Granted {
    let to = match Folder::parse(to) {
        Ok(to) => to,
        Err(error) => return Err(Box::new((request, target::invalid(to, error)))),
    };
    // Two folders become one only for those who say so.
    let to_is = match target::flag(&request, "replace") {
        Ok(true) => Precondition::None,
        Ok(false) => Precondition::Absent,
        Err(problem) => return Err(Box::new((request, problem))),
    };
    // How much it is to be is not known.
    if matches!(way, Way::Copy)
        && let Err(problem) = service.check_room(0)
    {
        return Err(Box::new((request, problem)));
    }
    let store = service.store().clone();
    let (service, asked, placed) = (Rc::clone(service), from.clone(), to.clone());
    let done = move |result: Result<u64, StoreError>| match result {
        Ok(0) => service.refuse(request, Problem::no_such_folder(&asked)),
        Ok(objects) => json::body(request.reply(200), &Count { folder: placed.prefix(), objects }).send(),
        Err(error) => service.refuse(request, error.into()),
    };
    match way {
        Way::Move => store.rename_folder(&from, &to, to_is, done),
        Way::Copy => store.copy_folder(&from, &to, to_is, done),
    }
    Ok(())
}

fn change_class(service: &Rc<Service>, request: Request, name: Name, class: Class) {
    let precondition = match precondition(service, &Conditions::of(request.headers()), &name) {
        Ok(precondition) => precondition,
        Err(problem) => return service.refuse(request, problem),
    };
    if let Err(problem) = check_copy(service, &name) {
        return service.refuse(request, problem);
    }
    let store = service.store().clone();
    let (service, asked) = (Rc::clone(service), name.clone());
    store.change_class(&name, class, precondition, move |result| match result {
        Ok(changed) => upload::stored(request, &asked, &Changed { before: changed.now, ..changed }),
        Err(error) => service.refuse(request, error.into()),
    });
}
