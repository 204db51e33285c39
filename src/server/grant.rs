//! What who asks may do.

use std::sync::Arc;

use super::problem::Problem;
use super::upload;
use crate::storage::{Folder, Name, Precondition, Scope, Store, StoreError};
use crate::users::{User, Verb};

/// The rights behind a request. Every handler is given one; those of calls that need none are given an empty one.
#[derive(Clone, Debug)]
pub(crate) struct Grant(Who);

#[derive(Clone, Debug)]
enum Who {
    /// There are no users: everybody may do everything.
    Everybody,
    Nobody,
    User(Arc<User>),
}

impl Grant {
    pub(crate) fn everybody() -> Grant {
        Grant(Who::Everybody)
    }

    pub(crate) fn nobody() -> Grant {
        Grant(Who::Nobody)
    }

    pub(crate) fn of(user: &Arc<User>) -> Grant {
        Grant(Who::User(Arc::clone(user)))
    }

    /// The user's name; `anonymous` for one without credentials, None where there are no users.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.0 {
            Who::User(user) => Some(user.name()),
            Who::Everybody | Who::Nobody => None,
        }
    }

    pub(crate) fn is_admin(&self) -> bool {
        match &self.0 {
            Who::Everybody => true,
            Who::Nobody => false,
            Who::User(user) => user.rights().is_admin(),
        }
    }

    /// Whether this may be done to the object of this name.
    pub(crate) fn may(&self, verb: Verb, name: &Name) -> bool {
        match &self.0 {
            Who::Everybody => true,
            Who::Nobody => false,
            Who::User(user) => user.rights().may(verb, name.as_str()),
        }
    }

    /// Whether this may be done to all that is in a folder, or could be.
    pub(crate) fn may_below(&self, verb: Verb, folder: &Folder) -> bool {
        match &self.0 {
            Who::Everybody => true,
            Who::Nobody => false,
            Who::User(user) => user.rights().may_below(verb, folder),
        }
    }

    /// Whether this may be done to something in a folder, or below it.
    pub(crate) fn may_somewhere(&self, verb: Verb, folder: &Folder) -> bool {
        match &self.0 {
            Who::Everybody => true,
            Who::Nobody => false,
            Who::User(user) => user.rights().may_somewhere(verb, folder),
        }
    }

    /// What listings show: it goes into their options.
    pub(crate) fn scope(&self) -> Scope {
        match &self.0 {
            Who::Everybody => Scope::all(),
            Who::Nobody => Scope::new([]),
            Who::User(user) => user.rights().scope().clone(),
        }
    }

    /// Refuses what may not be done: for a handler that learns only later what it is to do.
    pub(crate) fn demand(&self, verb: Verb, name: &Name) -> Result<(), Problem> {
        if self.may(verb, name) { Ok(()) } else { Err(Problem::forbidden(verb.as_str(), name.as_str())) }
    }

    /// What must be true of a name for a write there, given what the request asks: who may only create never replaces, and
    /// the other way round, also if somebody else is faster.
    pub(crate) fn placing(
        &self,
        store: &Store,
        name: &Name,
        asked: Precondition,
    ) -> Result<Precondition, Problem> {
        let (creates, replaces) = (self.may(Verb::Create, name), self.may(Verb::Replace, name));
        if creates && replaces {
            return Ok(asked);
        }
        if !creates && !replaces {
            return Err(Problem::forbidden("create", name.as_str()));
        }
        let version = match store.stat(name) {
            Ok(meta) => Some(meta.version),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if !asked.holds(version) {
            return Err(upload::conflict(name));
        }
        match (creates, version) {
            (true, None) => Ok(Precondition::Absent),
            (true, Some(_)) => Err(Problem::forbidden(Verb::Replace.as_str(), name.as_str())),
            (false, None) => Err(Problem::forbidden(Verb::Create.as_str(), name.as_str())),
            (false, Some(version)) => Ok(match asked {
                Precondition::None | Precondition::Present => Precondition::Present,
                Precondition::OneOf(versions) => Precondition::OneOf(versions),
                // It says what is not to be there; this is there.
                Precondition::Absent | Precondition::NoneOf(_) => Precondition::OneOf(vec![version]),
            }),
        }
    }

    /// Tells a failed write: if it failed since somebody was faster, and what is left to do is not allowed, it says so.
    pub(crate) fn explain(&self, error: StoreError, name: &Name) -> Problem {
        if let StoreError::Precondition { name: at, found } = &error
            && at == name
        {
            let verb = if found.is_some() { Verb::Replace } else { Verb::Create };
            if !self.may(verb, name) {
                return Problem::forbidden(verb.as_str(), name.as_str());
            }
        }
        error.into()
    }
}
