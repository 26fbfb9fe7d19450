//! The directory of a CA: what is in it, for whom, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use signvote_net::tls::{Connector, Credentials};
use signvote_net::{Error, Name, certs};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let guard = tempfile::tempdir().unwrap();
    let dir = guard.path().join("certs");
    (guard, dir)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The list of what was issued, as columns.
fn issued(dir: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(dir.join("issued.tsv")).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn a_directory_holds_these_files_and_no_others() {
    let (_guard, dir) = directory();
    certs::init(&dir).unwrap();
    let at_first = ["ca.crt", "ca.key", "issued.tsv", "revoked.crl", "server.crt", "server.key"];
    assert_eq!(names(&dir), at_first);
    certs::issue(&dir, &[name("w")]).unwrap();
    certs::revoke(&dir, &name("w")).unwrap();
    let mut all = at_first.map(str::to_owned).to_vec();
    all.extend(["w.crt".to_owned(), "w.key".to_owned()]);
    assert_eq!(names(&dir), all);
}

#[cfg(unix)]
#[test]
fn secrets_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_guard, dir) = directory();
    // A directory that is there, empty and open to all, is closed.
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    certs::init(&dir).unwrap();
    certs::issue(&dir, &[name("w")]).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in names(&dir) {
        let path = dir.join(&file);
        let secret = std::fs::read_to_string(&path).unwrap().contains("PRIVATE KEY");
        assert_eq!(secret, file.ends_with(".key"), "{file}");
        if secret {
            assert_eq!(mode(&path), 0o600, "{file}");
        }
    }
    // Issued again in the place of a file that was opened to all.
    certs::revoke(&dir, &name("w")).unwrap();
    std::fs::set_permissions(dir.join("w.key"), PermissionsExt::from_mode(0o644)).unwrap();
    certs::issue(&dir, &[name("w")]).unwrap();
    assert_eq!(mode(&dir.join("w.key")), 0o600);
}

#[test]
fn nothing_is_made_in_the_place_of_another_authority() {
    let (_guard, dir) = directory();
    certs::init(&dir).unwrap();
    let before = std::fs::read(dir.join("ca.key")).unwrap();
    assert!(matches!(certs::init(&dir), Err(Error::Occupied { .. })));
    assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), before);
    let strange = dir.join("strange");
    std::fs::create_dir(&strange).unwrap();
    std::fs::write(strange.join("file"), "").unwrap();
    assert!(matches!(certs::init(&strange), Err(Error::Occupied { .. })));
    assert_eq!(names(&strange), ["file"]);
    assert!(matches!(certs::init(&dir.join("ca.key")), Err(Error::File { .. })), "a file is no directory");
}

#[test]
fn a_name_has_one_certificate_until_it_is_revoked() {
    let (_guard, dir) = directory();
    certs::init(&dir).unwrap();
    certs::issue(&dir, &[name("a"), name("b")]).unwrap();
    let before = (names(&dir), issued(&dir));
    for (bad, words) in [(["c", "a"], "signvote certs revoke a"), (["c", "c"], "twice")] {
        let error = certs::issue(&dir, &bad.map(name)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!((names(&dir), issued(&dir)), before, "all or none");
    }
    // Though its files have been carried away.
    std::fs::remove_file(dir.join("a.key")).unwrap();
    std::fs::remove_file(dir.join("a.crt")).unwrap();
    assert!(matches!(certs::issue(&dir, &[name("a")]), Err(Error::Issued { .. })));
    assert_eq!(certs::revoke(&dir, &name("a")).unwrap(), 1);
    assert_eq!(certs::revoke(&dir, &name("a")).unwrap(), 0);
    certs::issue(&dir, &[name("a")]).unwrap();
    Connector::new(&Credentials::load(&dir, "a").unwrap()).unwrap();
    let list = issued(&dir);
    let named: Vec<_> = list.iter().map(|line| (line[1].as_str(), line[3].is_empty())).collect();
    assert_eq!(named, [("server", true), ("a", false), ("b", true), ("a", true)]);
    let mut serials: Vec<_> = list.iter().map(|line| &line[0]).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 4, "each has a serial number of its own");
    let error = certs::revoke(&dir, &name("nobody")).unwrap_err();
    assert!(matches!(&error, Error::NotIssued { name, .. } if name == "nobody"), "{error}");
}

#[test]
fn commands_at_the_same_time_lose_nothing() {
    let (_guard, dir) = directory();
    certs::init(&dir).unwrap();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let dir = &dir;
            scope.spawn(move || {
                certs::issue(dir, &[name(&format!("w{i}"))]).unwrap();
                if i % 2 == 0 {
                    certs::revoke(dir, &name(&format!("w{i}"))).unwrap();
                }
            });
        }
    });
    let list = issued(&dir);
    assert_eq!(list.len(), 9);
    assert_eq!(list.iter().filter(|line| !line[3].is_empty()).count(), 4);
    for i in 0..8 {
        let credentials = Credentials::load(&dir, &format!("w{i}")).unwrap();
        assert_eq!(Connector::new(&credentials).is_ok(), i % 2 == 1, "worker {i}");
    }
}

#[test]
fn a_broken_directory_is_named_by_its_file() {
    let (_guard, dir) = directory();
    let missing = certs::issue(&dir, &[name("a")]).unwrap_err().to_string();
    assert!(missing.contains("ca.key") && missing.contains("signvote certs init"), "{missing}");
    certs::init(&dir).unwrap();
    let list = std::fs::read_to_string(dir.join("issued.tsv")).unwrap();
    let line = list.lines().nth(1).unwrap();
    for (i, bad) in [
        String::new(),
        "serial\n".into(),
        format!("{list}half a line"),
        format!("{list}{}", line.replace("server", "../x")),
        list.replace(&line[..4], "+fff"),
        list.replace(line, &format!("{line}99999999999999999")),
        list.replace(line, &format!("{line}\tmore")),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(dir.join("issued.tsv"), bad).unwrap();
        let error = certs::issue(&dir, &[name("a")]).unwrap_err().to_string();
        assert!(error.contains("issued.tsv: line"), "case {i}: {error}");
        assert!(!dir.join("a.key").exists());
    }
    std::fs::write(dir.join("issued.tsv"), &list).unwrap();
    std::fs::write(dir.join("ca.key"), "-----BEGIN NOTHING-----").unwrap();
    let error = certs::issue(&dir, &[name("a")]).unwrap_err().to_string();
    assert!(error.contains("ca.key: expected an Ed25519 key"), "{error}");
}

#[test]
fn openssl_agrees_about_roles_names_and_revocations() {
    let (_guard, dir) = directory();
    let openssl = |words: &str| {
        let output = Command::new("openssl").args(words.split_whitespace()).current_dir(&dir).output();
        output.map(|output| {
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
    };
    certs::init(&dir).unwrap();
    if openssl("version").is_err() {
        return skipped();
    }
    certs::issue(&dir, &[name("a"), name("b")]).unwrap();
    certs::revoke(&dir, &name("b")).unwrap();
    let verify = "verify -x509_strict -CAfile ca.crt -CRLfile revoked.crl -crl_check";
    for (words, succeeds) in [
        ("-purpose sslclient -verify_hostname a a.crt", true),
        ("-purpose sslclient -verify_hostname b a.crt", false),
        ("-purpose sslserver a.crt", false),
        ("-purpose sslclient b.crt", false),
        ("-purpose sslserver -verify_hostname signvote-server server.crt", true),
        ("-purpose sslclient server.crt", false),
    ] {
        let (success, text) = openssl(&format!("{verify} {words}")).unwrap();
        assert_eq!(success, succeeds, "{words}: {text}");
    }
    let (_, public) = openssl("x509 -in a.crt -noout -pubkey").unwrap();
    assert_eq!(openssl("pkey -in a.key -pubout").unwrap(), (true, public), "the key is read, too");
    let (_, text) = openssl("x509 -in ca.crt -noout -text").unwrap();
    for words in ["signvote CA", "CA:TRUE", "Certificate Sign, CRL Sign", "ED25519"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[expect(clippy::print_stdout, reason = "who reads the log of the tests should know what they did not try")]
fn skipped() {
    println!("skipped: there is no openssl");
}
