//! Refusals and failures, as clients are told them.

use reactor::http::{BodyError, Reply, Request};
use serde::Serialize;

use super::{json, page};
use crate::storage::{Folder, Name, NameError, StoreError};

/// Why a request is not done. It is sent as JSON, `{"error":"name_invalid","message":"…","name":"…"}`, or to a person as a
/// page.
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    /// What a program tells cases apart by.
    code: &'static str,
    message: String,
    /// The object or folder that it is about.
    name: Option<String>,
    headers: Vec<(&'static str, String)>,
    /// The object that is not there, if it is that.
    missing: Option<Name>,
}

#[derive(Serialize)]
struct Shown<'a> {
    error: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl Problem {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), name: None, headers: Vec::new(), missing: None }
    }

    pub(crate) fn no_such_folder(folder: &Folder) -> Problem {
        let message = format!("there is no folder {}", folder.prefix());
        Problem::new(404, "not_found", message).about(folder.prefix())
    }

    /// What the rules do not let somebody do. Whether it is there is not told.
    pub(crate) fn forbidden(verb: &str, path: &str) -> Problem {
        let message =
            format!("you may not {verb} /{path}: ask who looks after the server for a rule that lets you");
        Problem::new(403, "forbidden", message).about(path)
    }

    /// What only admins may do.
    pub(crate) fn admins_only() -> Problem {
        Problem::new(403, "forbidden", "only an admin may do this: ask who looks after the server")
    }

    /// The name of an object is taken for that of a folder.
    pub(crate) fn is_folder(status: u16, name: &Name) -> Problem {
        let message = format!("{name} is a folder, and no object: write {name}/ for the folder");
        Problem::new(status, "is_folder", message).about(name.as_str())
    }

    /// The same in other words.
    pub(crate) fn saying(mut self, message: impl Into<String>) -> Problem {
        self.message = message.into();
        self
    }

    pub(crate) fn about(mut self, name: impl Into<String>) -> Problem {
        self.name = Some(name.into());
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Problem {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The object that was asked for and is not there, if that is the problem.
    pub(crate) fn missing(&self) -> Option<&Name> {
        self.missing.as_ref()
    }

    pub(crate) fn method_not_allowed(method: &str, allowed: &str) -> Problem {
        let message = format!("{} is not possible here: use {allowed}", method.escape_debug());
        Problem::new(405, "method_not_allowed", message).header("Allow", allowed)
    }

    pub(crate) fn send(self, request: Request) {
        self.reply(request).send();
    }

    fn reply(self, request: Request) -> Reply {
        let shown = Shown { error: self.code, message: &self.message, name: self.name.as_deref() };
        let is_for_people = page::is_for(&request);
        let mut reply = request.reply(self.status).header("Cache-Control", "no-store");
        for (name, value) in &self.headers {
            reply = reply.header(name, value);
        }
        match is_for_people {
            true => page::problem(reply, self.status, self.code, &self.message, self.name.as_deref()),
            false => json::body(reply, &shown),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let (status, code) = match &error {
            StoreError::NotFound { .. } => (404, "not_found"),
            StoreError::Precondition { .. } => (412, "precondition_failed"),
            StoreError::IsFolder { .. } => (409, "is_folder"),
            StoreError::BelowObject { .. } => (409, "below_object"),
            StoreError::Occupied { .. } => (409, "occupied"),
            StoreError::PackedClash { .. } => (409, "packed_clash"),
            StoreError::IntoItself { .. } => (409, "into_itself"),
            StoreError::Busy => (409, "index_busy"),
            StoreError::NameInvalid { .. } => (400, "name_invalid"),
            StoreError::Manifest { .. } => (400, "list_invalid"),
            StoreError::Mismatch { .. } => (400, "digest_mismatch"),
            StoreError::Range { .. } => (416, "range_not_satisfiable"),
            StoreError::Damaged { .. } | StoreError::Packed { .. } => (500, "damaged"),
            error if error.is_disk_full() => (507, "disk_full"),
            // Others will give some back.
            error if error.lacks_descriptors() => (503, "too_many_files"),
            _ => (500, "storage_failed"),
        };
        let name = match &error {
            StoreError::NotFound { name }
            | StoreError::Precondition { name, .. }
            | StoreError::IsFolder { name }
            | StoreError::BelowObject { name, .. }
            | StoreError::Occupied { name }
            | StoreError::Mismatch { name, .. }
            | StoreError::Range { name, .. }
            | StoreError::Damaged { name, .. }
            | StoreError::Packed { name, .. } => Some(name.as_str().to_owned()),
            StoreError::IntoItself { from, .. } => Some(from.prefix().to_owned()),
            StoreError::NameInvalid { name, .. } => Some(name.clone()),
            _ => None,
        };
        let message = error.to_string();
        let missing = match error {
            StoreError::NotFound { name } => Some(name),
            _ => None,
        };
        Problem { status, code, message, name, headers: Vec::new(), missing }
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Problem {
        Problem::new(400, "name_invalid", error.to_string())
    }
}

/// How the end of an upload that was not whole is called in the log.
pub(crate) fn upload_ended(error: BodyError) -> String {
    format!("an upload ended before it was whole, and nothing of it was kept: {error}")
}
