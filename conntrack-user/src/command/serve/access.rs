//! Files and folders of the settings that the serving half's user cannot use, and what helps.

use std::io;

use anyhow::{Error, Result, anyhow, ensure};
use conntrack_user::{
    daemon::log::{Level, Logger},
    http::Web,
    privilege::{
        Account, account,
        sandbox::{self, Entered},
    },
    source::Unavailable,
};
use serde_json::json;

use crate::cli::Serve;

/// The web configuration, which a user other than root reads as that user.
///
/// # Errors
/// Errors of [`Web::load`], with the command that lets the user read a file.
pub(super) fn web(serve: &Serve) -> Result<Web> {
    let Some(file) = &serve.web_config else { return Ok(Web::none()) };
    Web::load(file).map_err(explain)
}

/// The error, with what to do where a file may not be read. The cause is in its text alone.
fn explain(error: Error) -> Error {
    let text = format!("{error:#}");
    if !text.contains(&io::Error::from_raw_os_error(libc::EACCES).to_string()) {
        return error;
    }
    let Account { user, group } = Account::own();
    anyhow!("{text}\nuser {user} has to read it: chown root:{group} FILE && chmod 0640 FILE")
}

/// Logs who the serving half is now and what holds it, and each file and folder that it cannot use. It serves all the same:
/// files were read before, and the next file of the flight recorder tries anew.
///
/// # Errors
/// Settings that make no sense.
pub(super) fn log(serve: &Serve, web: &Web, entered: &Entered, logger: &Logger) -> Result<()> {
    for warning in entered.warnings() {
        logger.log(Level::Warning, &warning, &[]);
    }
    let who = ("user", json!(Account::own().to_string()));
    logger.log(Level::Notice, "sandbox", &[who, ("landlock_abi", json!(entered.landlock_abi))]);
    if let Some(advice) = account::unreadable(&serve.reread(web)?) {
        let text = format!("SIGHUP cannot read all files again: {advice}");
        logger.log(Level::Error, &text, &[]);
    }
    if let Some(advice) = account::unwritable(&serve.written()) {
        logger.log(Level::Error, &format!("files cannot be written: {advice}"), &[]);
    }
    Ok(())
}

/// Answers that the status has for a serving half that is still root.
pub(super) fn unavailable(entered: &Entered) -> Vec<Unavailable> {
    let of = |why: &String| Unavailable {
        what: "a user other than root for the half that serves".to_owned(),
        reason: why.clone(),
    };
    entered.stays_root.iter().map(of).collect()
}

/// Becomes the serving half's user, where this process can, and checks that it can use all files and folders.
///
/// # Errors
/// Names each one that it cannot, with the command that helps.
pub(super) fn check(serve: &Serve, web: &Web) -> Result<()> {
    let account = serve.account()?;
    if Account::own().user != 0 || sandbox::become_user(account).is_err() {
        return Ok(());
    }
    let unreadable = account::unreadable(&serve.reread(web)?);
    let advice: Vec<_> =
        unreadable.into_iter().chain(account::unwritable(&serve.written())).collect();
    ensure!(advice.is_empty(), "{}", advice.join("; "));
    Ok(())
}
