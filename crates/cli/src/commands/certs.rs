//! `signvote certs`: who may take part in a run.

use std::path::Path;

use signvote_net::{Name, certs};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::CertsCommand;

pub(crate) fn run(command: &CertsCommand) -> Result<Exit, Failure> {
    match command {
        CertsCommand::Init(flags) => init(&flags.certs.dir),
        CertsCommand::Issue(flags) => issue(&flags.certs.dir, &flags.names),
        CertsCommand::Revoke(flags) => revoke(&flags.certs.dir, &flags.name),
    }
}

fn init(dir: &Path) -> Result<Exit, Failure> {
    certs::init(dir)?;
    let shown = dir.display();
    print(&format!(
        "a CA and the server's certificate are in {shown}\n\
         the server's machine gets {shown}/ca.crt, server.crt, server.key and revoked.crl\n\
         {shown}/ca.key stays here: who has it can make any identity\n\
         next: signvote certs issue NAME… for the workers"
    ));
    Ok(Exit::Success)
}

fn issue(dir: &Path, names: &[Name]) -> Result<Exit, Failure> {
    certs::issue(dir, names)?;
    let shown = dir.display();
    for name in names {
        print(&format!("the machine of {name} gets {shown}/ca.crt, {name}.crt and {name}.key"));
    }
    Ok(Exit::Success)
}

fn revoke(dir: &Path, name: &Name) -> Result<Exit, Failure> {
    let revoked = match certs::revoke(dir, name)? {
        0 => format!("{name} was revoked before"),
        1 => format!("{name} is revoked"),
        count => format!("{name} is revoked, with {count} certificates"),
    };
    print(&format!(
        "{revoked}\n\
         it counts once the server has the list: copy {}/revoked.crl to the server's machine",
        dir.display()
    ));
    Ok(Exit::Success)
}
