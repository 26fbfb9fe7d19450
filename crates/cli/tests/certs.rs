//! `signvote certs`: identities are made, replaced and revoked, and every refusal is one line that says what to do.

mod common;

use common::{Process, directory, names, run, signvote};

#[test]
fn identities_are_made_and_it_is_said_where_they_go() {
    let (_guard, here) = directory();
    let init = run(&here, "certs init").succeeded();
    assert!(init.err.is_empty() && init.out.len() <= 4, "{init:#?}");
    let text = init.out.join("\n");
    for file in ["certs/ca.crt", "server.crt", "server.key", "revoked.crl", "certs/ca.key stays here"] {
        assert!(text.contains(file), "{file:?} is not in {text:?}");
    }
    let issue = run(&here, "certs issue gpu-1 gpu-2").succeeded();
    assert!(issue.err.is_empty() && issue.out.len() == 2, "{issue:#?}");
    for (line, name) in issue.out.iter().zip(["gpu-1", "gpu-2"]) {
        assert!(line.contains(&format!("{name}.key")) && line.contains("certs/ca.crt"), "{line}");
    }
    let revoke = run(&here, "certs revoke gpu-1").succeeded();
    assert!(
        revoke.out[0] == "gpu-1 is revoked" && revoke.out[1].contains("certs/revoked.crl"),
        "{revoke:#?}"
    );
    let again = run(&here, "certs revoke gpu-1").succeeded();
    assert_eq!(again.out[0], "gpu-1 was revoked before");
    run(&here, "certs issue gpu-1").succeeded();
    for text in [text, issue.out.join("\n"), revoke.out.join("\n")] {
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn keys_are_secret_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    let (_guard, here) = directory();
    let program = env!("CARGO_BIN_EXE_signvote");
    let lines = format!("umask 000; '{program}' certs init && '{program}' certs issue w");
    let output =
        std::process::Command::new("sh").arg("-c").arg(lines).current_dir(&here).output().expect("a shell");
    assert!(output.status.success(), "{output:?}");
    let mode = |path: &str| std::fs::metadata(here.join(path)).expect(path).permissions().mode() & 0o777;
    assert_eq!(mode("certs"), 0o700);
    for key in ["certs/ca.key", "certs/server.key", "certs/w.key"] {
        assert_eq!(mode(key), 0o600, "{key}");
    }
    assert_eq!(mode("certs/ca.crt"), 0o644);
}

#[test]
fn refusals_change_nothing() {
    let (_guard, here) = directory();
    run(&here, "certs issue w").failed_at_once(8, &["certs/ca.key", "signvote certs init"]);
    assert!(names(&here).is_empty());
    run(&here, "certs init").succeeded();
    run(&here, "certs issue w").succeeded();
    let before = names(&here.join("certs"));
    for (line, code, words) in [
        ("certs init", 8, &["certs", "not empty"][..]),
        ("certs issue v w", 2, &["w has a certificate", "signvote certs revoke w"]),
        ("certs issue v v", 2, &["v", "twice"]),
        ("certs revoke nobody", 2, &["nobody", "certs/issued.tsv"]),
    ] {
        run(&here, line).failed_at_once(code, words);
        assert_eq!(names(&here.join("certs")), before, "{line}");
    }
    for name in ["", "A", "a.b", "../a", "a/b", "server", "signvote-server", "ca", "revoked", "issued", "é"]
    {
        let mut command = signvote(&here, "certs issue");
        command.arg(name);
        let ended = Process::spawn(command).ended();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.err[0].starts_with("error: ") && ended.err[0].contains(name), "{ended:#?}");
        assert_eq!(names(&here.join("certs")), before, "{name:?}");
    }
    for line in ["certs", "certs issue", "certs revoke", "certs revoke w v", "certs init w"] {
        assert_eq!(run(&here, line).code, Some(2), "{line}");
    }
}

#[test]
fn the_directory_comes_from_flag_variable_or_file() {
    let (_guard, here) = directory();
    run(&here, "certs init --dir by/flag").succeeded();
    let mut command = signvote(&here, "certs init");
    command.env("SIGNVOTE_DIR", "by-variable");
    let ended = Process::spawn(command).ended().succeeded();
    assert!(ended.out[0].contains("by-variable"), "{ended:#?}");
    std::fs::write(here.join("settings.toml"), "dir = \"by-file\"\n").expect("a file");
    run(&here, "certs init --config settings.toml").succeeded();
    run(&here, "certs issue w --config settings.toml").succeeded();
    assert!(here.join("by-file/w.key").exists());
    assert_eq!(names(&here), ["by", "by-file", "by-variable", "settings.toml"]);
}

#[cfg(unix)]
#[test]
fn an_open_key_of_the_authority_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let (_guard, here) = directory();
    run(&here, "certs init").succeeded();
    let key = here.join("certs/ca.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("our file");
    run(&here, "certs issue w").failed_at_once(8, &["certs/ca.key", "644", "chmod 600"]);
}
