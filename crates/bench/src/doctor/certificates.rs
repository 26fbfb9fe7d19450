//! From when until when certificates are good.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use signvote_net::{Error, Name};
use webpki::{EndEntityCert, KeyUsage};

/// No file of certificates is longer.
const LONGEST_BYTES: u64 = 1 << 20;
/// A time that no certificate reaches: they end in the year 9999.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// When the certificates of a file count: all of them, if there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The file's name, without its directory.
    pub file: String,
    /// The first second, since 1970.
    pub from: u64,
    /// The last one.
    pub until: u64,
}

/// Reads the dates of `ca.crt` and of the name's certificate, or of every certificate in the directory. Whether they fit
/// together is not looked at.
///
/// # Errors
/// If a file is missing, or holds something else.
pub fn read(dir: &Path, name: Option<&Name>) -> Result<Vec<Validity>, Error> {
    let mut files = vec!["ca.crt".to_owned()];
    match name {
        Some(name) => files.push(format!("{name}.crt")),
        None => {
            let mut others = names(dir).map_err(|source| file_error(dir, source))?;
            others.retain(|file| file != "ca.crt");
            others.sort();
            files.extend(others);
        }
    }
    files.into_iter().map(|file| validity(dir, file)).collect()
}

fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    entries.filter(|name| name.as_ref().map_or(true, |name| name.ends_with(".crt"))).collect()
}

fn validity(dir: &Path, file: String) -> Result<Validity, Error> {
    let path = dir.join(&file);
    let mut bytes = Vec::new();
    let opened = File::open(&path).and_then(|file| file.take(LONGEST_BYTES).read_to_end(&mut bytes));
    opened.map_err(|source| file_error(&path, source))?;
    let wrong = || Error::Malformed {
        path: path.clone(),
        reason: "expected a certificate in PEM, got something else".into(),
    };
    let mut found: Option<(u64, u64)> = None;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let (from, until) = dates(&certificate.map_err(|_| wrong())?).ok_or_else(wrong)?;
        found = Some(found.map_or((from, until), |(first, last)| (first.max(from), last.min(until))));
    }
    let (from, until) = found.ok_or_else(wrong)?;
    Ok(Validity { file, from, until })
}

fn file_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { doing: "read", path: path.to_owned(), source }
}

/// The dates of one certificate. The library does not give them out, but it looks at them first of all, and says which one is
/// missed: so it is asked about a time before all others, and about one after.
fn dates(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let fault_at = |time: Duration| {
        let time = UnixTime::since_unix_epoch(time);
        certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::client_auth(), None, None).err()
    };
    let from = match fault_at(Duration::ZERO)? {
        webpki::Error::CertNotValidYet { not_before, .. } => not_before.as_secs(),
        // It counts from 1970 on.
        _ => 0,
    };
    match fault_at(NEVER)? {
        webpki::Error::CertExpired { not_after, .. } => Some((from, not_after.as_secs())),
        _ => None,
    }
}
