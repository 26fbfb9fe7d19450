//! Makes and revokes identities: a private CA in a directory.
//!
//! ```text
//! DIR/ca.key        secret: who has it can make any identity
//! DIR/ca.crt        everyone's
//! DIR/server.key    secret, the server's
//! DIR/server.crt
//! DIR/NAME.key      secret, the worker's
//! DIR/NAME.crt
//! DIR/revoked.crl   the server's: certificates that no longer count
//! DIR/issued.tsv    the CA's own list: serial, name, time of issue and of revocation
//! ```
//! Secret files have mode 0600 from the moment they exist, the directory 0700. Files are replaced whole. Whoever
//! changes a directory holds a lock on `ca.key`, so that two commands at once do not lose a revocation.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    PublicKeyData, RevocationReason, RevokedCertParams, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use signvote_election::hexadecimal;
use time::OffsetDateTime;

use crate::files::{self, Readers};
use crate::identity::{Name, SERVER, SigningKey};
use crate::{Error, tls};

/// Serial numbers are random, so that a directory that was lost and made again repeats none.
const SERIAL_BYTES: usize = 16;

const DAY: u64 = 24 * 60 * 60;

/// The CA's and the server's certificates outlive any run.
const AUTHORITY_DAYS: u64 = 3652;

/// A worker's certificate ends by itself some day; until then there is revocation.
const WORKER_DAYS: u64 = 730;

/// Certificates count from a day before they were made: clocks differ.
const SKEW_DAYS: u64 = 1;

/// Seconds since 1970 that a date of ours can have; it is in the year 5138.
const LATEST: u64 = 100_000_000_000;

/// Makes a CA and a server's certificate in a directory that does not exist yet, or is empty.
///
/// # Errors
/// If there is anything in the directory, or files cannot be written; what was written is taken away again.
pub fn init(dir: &Path) -> Result<(), Error> {
    make_private(dir)?;
    let made = fill(dir);
    if made.is_err() {
        for name in [tls::CA_FILE, tls::REVOKED_FILE, "ca.key", "server.crt", "server.key", ISSUED_FILE] {
            let _ = fs::remove_file(dir.join(name));
        }
    }
    made
}

fn fill(dir: &Path) -> Result<(), Error> {
    let now = now();
    let key = new_key()?;
    let params = authority(&key);
    let mut own = params.clone();
    (own.not_before, own.not_after) = (date(now - SKEW_DAYS * DAY), date(now + AUTHORITY_DAYS * DAY));
    let certificate = own.self_signed(&key).map_err(certificate_error)?;
    write_key(&dir.join("ca.key"), &key)?;
    files::write(&dir.join(tls::CA_FILE), Readers::Everyone, certificate.pem().as_bytes())?;
    let mut authority =
        Authority { dir: dir.to_owned(), issuer: Issuer::new(params, key), issued: Vec::new(), _lock: None };
    authority.write_revoked(now)?;
    authority.certify("server", SERVER, Role::Server, now)
}

/// Makes a key and a certificate for each name, once.
///
/// # Errors
/// Before anything is made, if a name is there twice or has a certificate that is not revoked; if the CA's files
/// cannot be read; if files cannot be written.
pub fn issue(dir: &Path, names: &[Name]) -> Result<(), Error> {
    let mut authority = Authority::open(dir)?;
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(Error::Name { name: name.to_string(), rule: "is there twice" });
        }
        if authority.issued.iter().any(|entry| entry.name == name.as_str() && entry.revoked.is_none()) {
            return Err(Error::Issued { name: name.to_string() });
        }
    }
    names.iter().try_for_each(|name| authority.certify(name.as_str(), name.as_str(), Role::Worker, now()))
}

/// Revokes every certificate that was ever issued for the name, and says how many of them still counted.
///
/// The new `revoked.crl` has to reach the server to be of effect there. To revoke again is no error, and writes the
/// file again.
///
/// # Errors
/// If nothing was ever issued for the name, the CA's files cannot be read, or files cannot be written.
pub fn revoke(dir: &Path, name: &Name) -> Result<usize, Error> {
    let mut authority = Authority::open(dir)?;
    let now = now();
    let (mut known, mut revoked) = (false, 0);
    for entry in authority.issued.iter_mut().filter(|entry| entry.name == name.as_str()) {
        known = true;
        if entry.revoked.is_none() {
            entry.revoked = Some(now);
            revoked += 1;
        }
    }
    if !known {
        return Err(Error::NotIssued { name: name.to_string(), path: dir.join(ISSUED_FILE) });
    }
    // The list first: what it says goes into every later file, whatever becomes of this one.
    authority.write_issued()?;
    authority.write_revoked(now)?;
    Ok(revoked)
}

const ISSUED_FILE: &str = "issued.tsv";

/// The first line of the list.
const ISSUED_HEADER: &str = "serial\tname\tissued\trevoked";

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Issued {
    serial: [u8; SERIAL_BYTES],
    name: String,
    /// Seconds since 1970.
    issued: u64,
    /// Seconds since 1970.
    revoked: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Server,
    Worker,
}

/// A directory that is being changed.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    issued: Vec<Issued>,
    /// `ca.key`, locked.
    _lock: Option<File>,
}

impl Authority {
    fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("ca.key");
        let mut file = File::open(&path).map_err(Error::file("read", &path))?;
        files::check_secret(&file, &path)?;
        file.lock().map_err(Error::file("lock", &path))?;
        let text = String::from_utf8(files::read_open(&mut file, &path)?)
            .map_err(|_| Error::malformed(&path, "expected a key in PEM, got something else"))?;
        let key = KeyPair::from_pem(&text).ok().filter(|key| key.algorithm() == &PKCS_ED25519);
        let key =
            key.ok_or_else(|| Error::malformed(&path, "expected an Ed25519 key in PEM, got something else"))?;
        let path = dir.join(ISSUED_FILE);
        let issued = parse_issued(&path, &files::read(&path)?)?;
        let issuer = Issuer::new(authority(&key), key);
        Ok(Self { dir: dir.to_owned(), issuer, issued, _lock: Some(file) })
    }

    /// Makes `file.key` and `file.crt` for `name`.
    fn certify(&mut self, file: &str, name: &str, role: Role, now: u64) -> Result<(), Error> {
        let serial = new_serial()?;
        let key = new_key()?;
        let mut params = CertificateParams::new([name.to_owned()]).map_err(certificate_error)?;
        let (usage, days) = match role {
            Role::Server => (ExtendedKeyUsagePurpose::ServerAuth, AUTHORITY_DAYS),
            Role::Worker => (ExtendedKeyUsagePurpose::ClientAuth, WORKER_DAYS),
        };
        params.distinguished_name = common_name(name);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date(now - SKEW_DAYS * DAY), date(now + days * DAY));
        let certificate = params.signed_by(&key, &self.issuer).map_err(certificate_error)?;
        // A certificate that is not on the list could never be revoked: the list comes first.
        self.issued.push(Issued { serial, name: file.to_owned(), issued: now, revoked: None });
        self.write_issued()?;
        write_key(&self.dir.join(format!("{file}.key")), &key)?;
        let path = self.dir.join(format!("{file}.crt"));
        files::write(&path, Readers::Everyone, certificate.pem().as_bytes())
    }

    fn write_issued(&self) -> Result<(), Error> {
        let mut text = format!("{ISSUED_HEADER}\n");
        for Issued { serial, name, issued, revoked } in &self.issued {
            let serial = hexadecimal(serial);
            let revoked = revoked.map_or_else(String::new, |time| time.to_string());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{serial}\t{name}\t{issued}\t{revoked}");
        }
        files::write(&self.dir.join(ISSUED_FILE), Readers::Everyone, text.as_bytes())
    }

    fn write_revoked(&self, now: u64) -> Result<(), Error> {
        let revoked: Vec<_> = self
            .issued
            .iter()
            .filter_map(|entry| {
                Some(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&entry.serial),
                    revocation_time: date(entry.revoked?),
                    reason_code: Some(RevocationReason::Unspecified),
                    invalidity_date: None,
                })
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: date(now),
            // Nobody has to make a list while there is nothing new to say.
            next_update: date(now + AUTHORITY_DAYS * DAY),
            // It only grows: nothing is ever taken off the list.
            crl_number: SerialNumber::from(1 + revoked.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(certificate_error)?;
        files::write(&self.dir.join(tls::REVOKED_FILE), Readers::Everyone, list.as_bytes())
    }
}

/// What the CA's own certificate says, and what others say about their issuer.
///
/// The organisational unit is the beginning of the CA's key, so that certificates of another CA are told from
/// forgeries in the name of this one.
fn authority(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("signvote CA");
    let beginning = key.der_bytes().get(..8).unwrap_or_default();
    params.distinguished_name.push(DnType::OrganizationalUnitName, hexadecimal(beginning));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(certificate_error)
}

/// A positive integer whose DER form has exactly these bytes.
fn new_serial() -> Result<[u8; SERIAL_BYTES], Error> {
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| Error::Certificate("the system gives no random numbers".into()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// Writes a key as PKCS #8, version 1: OpenSSL 3.0 does not read version 2, which ring makes.
fn write_key(path: &Path, key: &KeyPair) -> Result<(), Error> {
    let wrong = || Error::Certificate("the key that was made is no Ed25519 key".into());
    let key = SigningKey::from_pkcs8(key.serialized_der()).ok_or_else(wrong)?;
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", key.to_pkcs8()));
    files::write(path, Readers::Owner, pem.as_bytes())
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn certificate_error(error: rcgen::Error) -> Error {
    Error::Certificate(error.to_string())
}

/// Seconds since 1970, within what a certificate can say.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().clamp(SKEW_DAYS * DAY, LATEST)
}

/// The date so many seconds after 1970: at most [`LATEST`] and the life of a CA, so that this cannot overflow.
fn date(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Makes a directory for its owner alone, or takes one that is empty.
fn make_private(dir: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(Error::file("make", dir))?;
    if fs::read_dir(dir).map_err(Error::file("read", dir))?.next().is_some() {
        return Err(Error::Occupied { path: dir.to_owned() });
    }
    // It may have been there before.
    #[cfg(unix)]
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(Error::file("change the mode of", dir))?;
    Ok(())
}

fn parse_issued(path: &Path, bytes: &[u8]) -> Result<Vec<Issued>, Error> {
    let wrong = |line: usize| {
        Error::malformed(path, format!("line {line}: expected {}", ISSUED_HEADER.replace('\t', ", ")))
    };
    let text = str::from_utf8(bytes).map_err(|_| wrong(1))?;
    let mut lines = text.lines();
    if lines.next() != Some(ISSUED_HEADER) {
        return Err(wrong(1));
    }
    lines.enumerate().map(|(i, line)| parse_line(line).ok_or_else(|| wrong(i + 2))).collect()
}

fn parse_line(line: &str) -> Option<Issued> {
    let mut columns = line.split('\t');
    let [serial, name, issued, revoked] =
        [columns.next()?, columns.next()?, columns.next()?, columns.next()?];
    let time = |text: &str| text.parse().ok().filter(|&time: &u64| time <= LATEST);
    let revoked = if revoked.is_empty() { None } else { Some(time(revoked)?) };
    let digits = serial.len() == 2 * SERIAL_BYTES && serial.bytes().all(|byte| byte.is_ascii_hexdigit());
    let serial = u128::from_str_radix(serial, 16).ok().filter(|_| digits)?.to_be_bytes();
    let known = name == "server" || name.parse::<Name>().is_ok();
    (known && columns.next().is_none()).then_some(Issued {
        serial,
        name: name.to_owned(),
        issued: time(issued)?,
        revoked,
    })
}
