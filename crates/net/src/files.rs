//! The files of identities: read with a bound, written whole, and secret from their first byte where they are secret.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use crate::Error;

/// No file of ours is longer, the list of a hundred thousand revocations included.
const LONGEST_BYTES: u64 = 16 << 20;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Owner,
    Everyone,
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(Error::file("read", path))?;
    read_open(&mut file, path)
}

/// Reads a secret key. A file that others can read is no secret, and is refused as ssh does it.
pub(crate) fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(Error::file("read", path))?;
    check_secret(&file, path)?;
    read_open(&mut file, path)
}

/// Refuses an open file that anyone but its owner may read.
pub(crate) fn check_secret(file: &File, path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(Error::file("read", path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
    Ok(())
}

pub(crate) fn read_open(file: &mut File, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(LONGEST_BYTES + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if bytes.len() as u64 > LONGEST_BYTES {
        return Err(Error::malformed(path, format!("expected at most {LONGEST_BYTES} bytes, got more")));
    }
    Ok(bytes)
}

/// Writes a file whole or not at all, in the place of what had the name. It is on disk when this returns.
pub(crate) fn write(path: &Path, readers: Readers, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_added_extension(format!("partial-{}", std::process::id()));
    // One that a killed process of the same number left behind. What is created anew has our mode.
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(match readers {
            Readers::Owner => 0o600,
            Readers::Everyone => 0o644,
        });
    }
    #[cfg(not(unix))]
    let _ = readers;
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).and_then(|()| sync_parent(path)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::file("write", path)(error)
    })
}

/// Makes the new name in the directory as durable as the file: a revocation must not come undone.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        #[cfg(unix)]
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        #[cfg(unix)]
        Some(_) => File::open(".")?.sync_all(),
        _ => Ok(()),
    }
}
