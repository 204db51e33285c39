//! `cloudstore user`: who may do what on a server.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use cloudstore::config::{Config, ServeArgs};
use cloudstore::users::{Draft, PasswordHash, Rule, Token, UserName, UsersFile, token};
use serde::Serialize;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Of stdin no more is read for a password: more is none.
const LONGEST_LINE: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user. It may do what its rules say; without any, nothing.
    ///
    /// The password is asked for twice, or read from stdin, one line, where that is no terminal.
    Add(AddArgs),
    /// Give a user another password; its tokens stay.
    Passwd(NameArgs),
    /// Remove users, with their tokens.
    Rm(RmArgs),
    /// List the users, their rules and tokens.
    Ls(LsArgs),
    /// Give a user more rules, or other ones.
    Allow(AllowArgs),
    /// Make or remove tokens: what programs send in place of a name and a password.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for a user, and print it: it cannot be shown again.
    Add(TokenAddArgs),
    /// Remove a token.
    Rm(TokenRmArgs),
}

/// Which users.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file of users. Else the setting users, as the server has it.
    #[arg(long, value_name = "FILE")]
    users: Option<String>,
    /// The data folder, in which the file is if no setting says otherwise.
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// The file with the settings of the server [default: as in serve]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    #[arg(value_name = "NAME")]
    name: UserName,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// 1 to 64 bytes of letters, digits, `.`, `_` and `-`; anonymous for requests without credentials.
    #[arg(value_name = "NAME")]
    name: UserName,
    /// What it may do, as in read,create:/team/; may be given several times.
    #[arg(long, value_name = "VERBS:/PATH")]
    allow: Vec<Rule>,
    /// It may do everything, also look after the server: /index, /metrics and /reload.
    #[arg(long)]
    admin: bool,
    /// It has no password, and uses tokens alone.
    #[arg(long)]
    no_password: bool,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[arg(value_name = "NAME", required = true)]
    names: Vec<UserName>,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Print an array in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AllowArgs {
    #[arg(value_name = "NAME")]
    name: UserName,
    /// What it may do besides, as in read,create:/team/
    #[arg(value_name = "VERBS:/PATH")]
    rules: Vec<Rule>,
    /// These rules in place of those that it has; none takes all away.
    #[arg(long)]
    only: bool,
    /// Whether it is an admin, who may do everything.
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    admin: Option<bool>,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenAddArgs {
    #[arg(value_name = "NAME")]
    name: UserName,
    /// What it is for; shown by `user ls`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// It is worth nothing after so many days; without, it lasts until it is removed.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    expires: Option<u32>,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRmArgs {
    #[arg(value_name = "NAME")]
    name: UserName,
    /// As `user ls` shows it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    file: FileArgs,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

impl FileArgs {
    fn open(&self) -> Outcome<UsersFile> {
        let args = ServeArgs {
            config: self.config.clone(),
            users: self.users.clone(),
            data: self.data.clone(),
            ..ServeArgs::default()
        };
        Ok(UsersFile::new(Config::users_file(&args)?))
    }
}

pub(crate) fn run(command: UserCommand) -> Outcome {
    match command {
        UserCommand::Add(args) => add(args),
        UserCommand::Passwd(args) => passwd(&args),
        UserCommand::Rm(args) => remove(&args),
        UserCommand::Ls(args) => list(&args),
        UserCommand::Allow(args) => allow(args),
        UserCommand::Token(TokenCommand::Add(args)) => add_token(&args),
        UserCommand::Token(TokenCommand::Rm(args)) => remove_token(&args),
    }
}

/// A user that there is.
fn find<'a>(users: &'a mut [Draft], name: &UserName) -> Outcome<&'a mut Draft> {
    let found = users.iter_mut().find(|user| user.name == *name);
    found.ok_or_else(|| format!("there is no user {name}: `cloudstore user ls` shows who there is").into())
}

fn refuse_taken(users: &[Draft], name: &UserName) -> Outcome {
    match users.iter().any(|user| user.name == *name) {
        true => Err(format!(
            "there is a user {name} already: `user passwd` changes the password, `user allow` the rules"
        )
        .into()),
        false => Ok(()),
    }
}

fn add(args: AddArgs) -> Outcome {
    let AddArgs { name, allow, admin, no_password, file } = args;
    let file = file.open()?;
    // Before the password is asked for; and again beside others.
    refuse_taken(&file.read()?.map(|contents| contents.users).unwrap_or_default(), &name)?;
    if name.is_anonymous() && admin {
        return Err("anonymous stands for everybody who asks, and cannot be an admin".into());
    }
    let password = match name.is_anonymous() || no_password {
        true => None,
        false => Some(ask_password(&name)?),
    };
    let has_rights = admin || !allow.is_empty();
    let is_new =
        file.path().parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    file.change(|users| {
        refuse_taken(users, &name)?;
        users.push(Draft { password, admin, rules: allow, ..Draft::new(name.clone()) });
        Ok::<_, Box<dyn Error>>(())
    })?;
    print(&format!("{name} is added to {}\n", file.path().display()))?;
    if is_new {
        note(
            "that folder is new: a server that has its data elsewhere knows nothing of it; --data or --config says where",
        );
    }
    if !has_rights {
        note(&format!(
            "{name} may do nothing yet: `cloudstore user allow {name} all:/` would let it do everything"
        ));
    }
    Ok(())
}

fn passwd(args: &NameArgs) -> Outcome {
    let (name, file) = (&args.name, args.file.open()?);
    if name.is_anonymous() {
        return Err("anonymous stands for requests without credentials, and has no password".into());
    }
    find(&mut file.read()?.map(|contents| contents.users).unwrap_or_default(), name)?;
    let password = ask_password(name)?;
    file.change(|users| {
        find(users, name)?.password = Some(password);
        Ok::<_, Box<dyn Error>>(())
    })?;
    print(&format!("{name} has another password\n"))
}

fn remove(args: &RmArgs) -> Outcome {
    let file = args.file.open()?;
    let is_last = file.change(|users| {
        for name in &args.names {
            find(users, name)?;
        }
        users.retain(|user| !args.names.contains(&user.name));
        Ok::<_, Box<dyn Error>>(users.is_empty())
    })?;
    for name in &args.names {
        print(&format!("{name} is removed\n"))?;
    }
    if is_last {
        note(&format!(
            "there are no users left, so nobody may do anything; without {} and after another start, everybody on this \
             machine may do everything",
            file.path().display()
        ));
    }
    Ok(())
}

#[derive(Serialize)]
struct UserShown<'a> {
    name: &'a str,
    admin: bool,
    has_password: bool,
    rules: &'a [Rule],
    tokens: Vec<TokenShown<'a>>,
}

#[derive(Serialize)]
struct TokenShown<'a> {
    id: &'a str,
    label: &'a str,
    created: token::Time,
    expires: Option<token::Time>,
    is_expired: bool,
}

fn list(args: &LsArgs) -> Outcome {
    let file = args.file.open()?;
    let read = file.read()?;
    if let Some(warning) = read.as_ref().and_then(|contents| contents.warning.as_ref()) {
        note(warning);
    }
    let now = token::now();
    let users = read.as_ref().map(|contents| contents.users.as_slice()).unwrap_or_default();
    let shown: Vec<UserShown<'_>> = users.iter().map(|user| show(user, now)).collect();
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    }
    if read.is_none() {
        note(&format!("there are no users: {} is not there", file.path().display()));
    }
    let mut text = String::new();
    for user in &shown {
        let rules: Vec<String> = user.rules.iter().map(Rule::to_string).collect();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{}", user.name, if user.admin { " (admin)" } else { "" });
        let _ = match rules.is_empty() {
            true => writeln!(text),
            false => writeln!(text, "  {}", rules.join(" ")),
        };
        for token in &user.tokens {
            let end = match token.expires {
                Some(at) if token.is_expired => format!(", expired {at}"),
                Some(at) => format!(", expires {at}"),
                None => String::new(),
            };
            let label = if token.label.is_empty() { String::new() } else { format!(" {:?}", token.label) };
            let _ = writeln!(text, "  token {}{label}, made {}{end}", token.id, token.created);
        }
    }
    print(&text)
}

fn show(user: &Draft, now: i64) -> UserShown<'_> {
    UserShown {
        name: user.name.as_str(),
        admin: user.admin,
        has_password: user.password.is_some(),
        rules: &user.rules,
        tokens: user.tokens.iter().map(|token| show_token(token, now)).collect(),
    }
}

fn show_token(token: &Token, now: i64) -> TokenShown<'_> {
    TokenShown {
        id: &token.id,
        label: &token.label,
        created: token.created,
        expires: token.expires,
        is_expired: token.expires_at().is_some_and(|at| at <= now),
    }
}

fn allow(args: AllowArgs) -> Outcome {
    let AllowArgs { name, rules, only, admin, file } = args;
    if rules.is_empty() && !only && admin.is_none() {
        return Err(format!("say what {name} may do, as in `cloudstore user allow {name} read:/`").into());
    }
    if name.is_anonymous() && admin == Some(true) {
        return Err("anonymous stands for everybody who asks, and cannot be an admin".into());
    }
    let file = file.open()?;
    let now = file.change(|users| {
        let user = find(users, &name)?;
        if only {
            user.rules.clear();
        }
        for rule in rules {
            if !user.rules.contains(&rule) {
                user.rules.push(rule);
            }
        }
        user.admin = admin.unwrap_or(user.admin);
        Ok::<_, Box<dyn Error>>(user.clone())
    })?;
    let rules: Vec<String> = now.rules.iter().map(Rule::to_string).collect();
    let may = match (now.admin, rules.is_empty()) {
        (true, _) => "everything, as an admin".to_owned(),
        (false, true) => "nothing".to_owned(),
        (false, false) => rules.join(" "),
    };
    print(&format!("{name} may now do: {may}\n"))
}

fn add_token(args: &TokenAddArgs) -> Outcome {
    let name = &args.name;
    if name.is_anonymous() {
        return Err("anonymous stands for requests without credentials, and has no tokens".into());
    }
    let days = args.expires.map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    let (text, token) = Token::new(&args.label, days)?;
    let id = token.id.clone();
    let file = args.file.open()?;
    file.change(|users| {
        find(users, name)?.tokens.push(token);
        Ok::<_, Box<dyn Error>>(())
    })?;
    print(&format!("{text}\n"))?;
    note(&format!("this is token {id} of {name}: keep it, it cannot be shown again"));
    Ok(())
}

fn remove_token(args: &TokenRmArgs) -> Outcome {
    let (name, id) = (&args.name, &args.id);
    let file = args.file.open()?;
    file.change(|users| {
        let user = find(users, name)?;
        let before = user.tokens.len();
        user.tokens.retain(|token| token.id != *id);
        match user.tokens.len() < before {
            true => Ok(()),
            false => Err(Box::<dyn Error>::from(format!(
                "{name} has no token {id}: `cloudstore user ls` shows them"
            ))),
        }
    })?;
    print(&format!("token {id} of {name} is removed\n"))
}

/// From the terminal, twice and without showing it; else a line from stdin.
fn ask_password(name: &UserName) -> Outcome<PasswordHash> {
    let mut password = String::new();
    if io::stdin().is_terminal() {
        password = rpassword::prompt_password(format!("Password for {name}: "))?;
        if rpassword::prompt_password("The same again: ")? != password {
            return Err("the two passwords differ: nothing is changed".into());
        }
    } else {
        io::stdin().lock().take(LONGEST_LINE).read_line(&mut password)?;
        password.truncate(password.trim_end_matches(['\n', '\r']).len());
    }
    Ok(PasswordHash::new(&password)?)
}

fn print(text: &str) -> Outcome {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
    Ok(())
}

/// For people, beside what a program may read.
fn note(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(io::stderr(), "cloudstore: {text}");
}
