//! The server that a command asks, and who asks it.

use std::env;
use std::error::Error;
use std::io;

use cloudstore::client::{Client, ClientError, Credentials, ServerUrl};
use cloudstore::config::{Config, ServeArgs};

use crate::args::ServerArgs;

/// A connection for one question after the other.
pub(crate) fn client(args: &ServerArgs) -> Result<Client, Box<dyn Error>> {
    Ok(Client::new(server(args)?, credentials(args)?)?)
}

/// The server that is named, else the one that would be started here.
pub(crate) fn server(args: &ServerArgs) -> Result<ServerUrl, Box<dyn Error>> {
    if let Some(server) = &args.server {
        return Ok(server.clone());
    }
    if args.config.is_none()
        && let Some(text) = variable("CLOUDSTORE_SERVER")?
    {
        let server = text.parse::<ServerUrl>().map_err(ClientError::from)?;
        return Ok(server.said_by("CLOUDSTORE_SERVER"));
    }
    let config = Config::load(&ServeArgs { config: args.config.clone(), ..ServeArgs::default() })?;
    let server = ServerUrl::of_listener(&config.listen).ok_or_else(|| -> Box<dyn Error> {
        let listen = &config.listen;
        format!("the settings have the server listen on {listen}, which says no port: give --server URL")
            .into()
    })?;
    Ok(match config.file() {
        Some(file) => server.said_by(format!("the settings with {}", file.display())),
        None => server,
    })
}

/// Who asks, if anybody says so. What is said on the command line wins over the environment.
pub(crate) fn credentials(args: &ServerArgs) -> Result<Option<Credentials>, Box<dyn Error>> {
    let (token, user) = match (&args.token, &args.user) {
        (None, None) => (variable("CLOUDSTORE_TOKEN")?, variable("CLOUDSTORE_USER")?),
        given => (given.0.clone(), given.1.clone()),
    };
    let credentials = match (token, user) {
        (Some(token), _) => Credentials::bearer(&token),
        (None, Some(user)) => Credentials::basic(&user, &password(&user)?),
        (None, None) => return Ok(None),
    };
    Ok(Some(credentials.map_err(|error| ClientError::Usage(error.to_string()))?))
}

fn password(user: &str) -> Result<String, ClientError> {
    // An empty one is a password, too.
    if let Some(password) = env::var_os("CLOUDSTORE_PASSWORD") {
        return password
            .into_string()
            .map_err(|_| ClientError::Usage("CLOUDSTORE_PASSWORD is not UTF-8".to_owned()));
    }
    rpassword::prompt_password(format!("Password of {user}: ")).map_err(|error: io::Error| {
        ClientError::Usage(format!("cannot ask for the password of {user}: {error}; set CLOUDSTORE_PASSWORD"))
    })
}

/// A variable that is there and not empty.
fn variable(name: &str) -> Result<Option<String>, ClientError> {
    match env::var_os(name).filter(|text| !text.is_empty()).map(|text| text.into_string()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(ClientError::Usage(format!("{name} is not UTF-8"))),
    }
}
