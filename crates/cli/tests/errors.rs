//! What can be wrong before anything starts: one line that says so, a code, and nothing left behind.

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::{Process, directory, names, run, signvote};

/// The program refuses `line` with `code`, says why in one line with `words`, and leaves the directory as it was.
#[track_caller]
fn refused(here: &Path, line: &str, code: i32, words: &[&str]) {
    let before = names(here);
    run(here, line).failed_at_once(code, words);
    assert_eq!(names(here), before, "{line}");
}

/// As `refused`, for what the parser of the command line finds.
#[track_caller]
fn misspelt(line: &str, words: &[&str]) {
    let (_guard, here) = directory();
    refused(&here, line, 2, words);
}

#[test]
fn a_flag_that_cannot_be_read_is_named() {
    for (flags, words) in [
        ("--nonsense", &["--nonsense"][..]),
        ("--workers 0", &["--workers", "0"]),
        ("--workers many", &["--workers", "many"]),
        ("--batch 0", &["--batch"]),
        ("--epochs 0", &["--epochs"]),
        ("--epochs 18446744073709551615", &["--epochs", "18446744073709551615"]),
        ("--seed=-1", &["--seed", "-1"]),
        ("--tie heads", &["--tie", "heads", "coin", "hold", "positive"]),
        ("--adversaries 1 --attack shout", &["--attack", "shout", "sign-flip", "random-sign", "scaled-flip"]),
        ("--model rnn", &["--model", "rnn", "mlp", "cnn"]),
        ("--data mnist", &["--data", "mnist", "fashion-mnist-10k"]),
        ("--partition odd", &["--partition", "odd"]),
        ("--aggregate median", &["--aggregate", "median"]),
        ("--schedule linear", &["--schedule", "linear"]),
        ("--local 0", &["--local", "0"]),
        ("--local 9999", &["--local", "9999"]),
        ("--cast alone", &["--cast", "alone"]),
    ] {
        misspelt(&format!("train {flags}"), words);
    }
    for (flags, words) in [
        ("--nonsense", &["--nonsense"][..]),
        ("--dim 0", &["--dim", "0"]),
        ("--dim=-1", &["--dim", "-1"]),
        ("--dim 99999999999999999999", &["--dim"]),
        ("--voters 3,0", &["--voters", "0"]),
        ("--voters 70000", &["--voters", "70000"]),
        ("--voters 3,many", &["--voters", "many"]),
        ("--threads 0", &["--threads", "0"]),
        ("--threads 65535", &["--threads", "65535"]),
        ("--seconds soon", &["--seconds", "soon"]),
    ] {
        misspelt(&format!("bench kernels {flags}"), words);
    }
    misspelt("bench everything", &["everything"]);
    misspelt("train --form adam", &["--form", "signum, lion or feedback"]);
    misspelt("worker --slot 0", &["--slot"]);
    misspelt("worker --run 123", &["--run", "123"]);
    misspelt("eval", &["required"]);
    misspelt("dance", &["dance"]);
}

#[test]
fn a_flag_that_no_run_can_have_is_named() {
    let (_guard, here) = directory();
    for (flags, words) in [
        ("--beta 1.5", &["--beta", "1.5"][..]),
        ("--beta 1", &["--beta"]),
        ("--beta=-0.1", &["--beta"]),
        ("--beta nan", &["--beta", "NaN"]),
        ("--beta2 1", &["--beta2"]),
        ("--eta=-1", &["--eta", "-1"]),
        ("--eta -1", &["--eta", "-1"]),
        ("--eta 0", &["--eta"]),
        ("--eta inf", &["--eta", "inf"]),
        ("--weight-decay=-1", &["--weight-decay", "-1"]),
        ("--adversaries 9", &["--adversaries 9", "7 workers"]),
        ("--attack sign-flip", &["--attack", "--adversaries"]),
        ("--adversaries 1 --attack-scale 0", &["--attack-scale"]),
        ("--quorum 9", &["--quorum", "9", "7"]),
        ("--quorum 0", &["--quorum"]),
        ("--deadline 0", &["--deadline", "0"]),
        ("--deadline=-2", &["--deadline", "-2"]),
        ("--deadline nan", &["--deadline"]),
        ("--chunk 100", &["--chunk", "64", "100"]),
        ("--chunk 0", &["--chunk"]),
        ("--schedule step --step-every 0", &["--step-every"]),
        ("--schedule step --step-factor 1.5", &["--step-factor", "1.5"]),
        ("--workers 7 --batch 2000", &["7 workers", "2000", "14000", "10000"]),
        ("--epochs 9223372036854775807", &["--epochs"]),
        ("--epochs 400000000000000000", &["--epochs"]),
        ("--min-voters 8", &["--min-voters", "8", "7"]),
        ("--optimizer adam", &["--optimizer", "--aggregate mean"]),
        ("--aggregate mean --tie hold", &["--tie", "--aggregate vote"]),
        ("--aggregate mean --abstain-on gradient", &["--abstain-on", "--aggregate vote"]),
        ("--vote-momentum 1", &["--vote-momentum", "below 1"]),
        ("--vote-momentum 0.9 --tie hold", &["--tie", "--vote-momentum"]),
        ("--vote-momentum 0.9 --min-voters 2", &["--min-voters", "--vote-momentum"]),
        ("--vote-feedback", &["--vote-feedback", "--vote-momentum"]),
        ("--label-smoothing=-0.1", &["--label-smoothing", "-0.1"]),
        ("--clip-norm inf", &["--clip-norm", "inf"]),
        ("--ema 1", &["--ema", "below 1"]),
        ("--aggregate mean --layerwise", &["--layerwise", "--aggregate vote"]),
        ("--topology sharded --vote-momentum 0.9", &["--vote-momentum", "--topology central"]),
        ("--data-dir here", &["--data-dir", "--data fashion-mnist"]),
        ("--model alexnet", &["image size", "a larger one"]),
        ("--model gpt-small", &["data for this model", "text", "28 × 28"]),
        ("--data shakespeare --context 65536 --model gpt-small --workers 1 --batch 99", &["99", "examples"]),
        ("--engine tch", &["engine", "--features tch"]),
        ("--workers 7 --local 50", &["7 workers", "--local 50", "11200", "10000"]),
        ("--workers 7 --local 2 --cast each", &["--workers 7", "--local 2", "--cast each"]),
        (
            "--workers 4 --adversaries 1 --local 2 --cast each",
            &["--adversaries 1", "--local 2", "--cast each"],
        ),
    ] {
        refused(&here, &format!("train {flags}"), 2, words);
    }
    for flags in ["--optimizer adam --aggregate mean", "--clip-norm 1", "--label-smoothing 0.1"] {
        let flag = flags.split(' ').next().expect("a flag");
        refused(&here, &format!("find-rate {flags}"), 2, &["find-rate", flag]);
    }
    for (flags, words) in [
        ("--quorum 9", &["--quorum", "9"][..]),
        ("--listen nonsense", &["--listen", "nonsense"]),
        ("--listen 127.0.0.1:99999", &["--listen", "127.0.0.1:99999"]),
        ("--listen 0.0.0.0:0", &["0.0.0.0:0", "--insecure"]),
        ("--listen [::]:0", &["[::]:0", "--insecure"]),
    ] {
        refused(&here, &format!("server {flags}"), 2, words);
    }
    for (flags, words) in [
        ("--seconds=-1", &["--seconds", "-1"][..]),
        ("--seconds nan", &["--seconds", "NaN"]),
        ("--seconds inf", &["--seconds", "inf"]),
    ] {
        refused(&here, &format!("bench kernels {flags}"), 2, words);
    }
    if cfg!(target_os = "linux") {
        refused(&here, "bench kernels --dim 1000000000000", 2, &["MiB of memory are needed"]);
    }
    refused(&here, "worker --patience=-1", 2, &["--patience", "-1"]);
    refused(&here, "worker --attack sign-flip --attack-scale=-2", 2, &["--attack-scale", "-2"]);
    let each = "worker --local 2 --cast each";
    refused(
        &here,
        &format!("{each} --tls certs --identity ada"),
        2,
        &["--cast each", "--identity", "together"],
    );
    refused(&here, &format!("{each} --slot 65535"), 2, &["--local 2", "--slot"]);
    refused(
        &here,
        &format!("{each} --checkpoint nowhere/mine"),
        8,
        &["--checkpoint nowhere/mine.1", "no directory"],
    );
}

#[test]
fn a_settings_file_that_cannot_be_used_is_named() {
    let (_guard, here) = directory();
    for (name, text) in [
        ("colour.toml", "colour = \"red\"\n"),
        ("prose.toml", "epochs = 1\nthis is no TOML\n"),
        ("list.toml", "workers = [1, 2]\n"),
        ("insecure.toml", "insecure = false\nlisten = \"0.0.0.0:0\"\n"),
    ] {
        std::fs::write(here.join(name), text).expect("a file");
    }
    refused(&here, "train --config none.toml", 2, &["none.toml"]);
    refused(&here, "train --config .", 2, &["--config"]);
    refused(&here, "train --config colour.toml", 2, &["colour.toml", "\"colour\""]);
    refused(&here, "train --config=prose.toml", 2, &["prose.toml", "line 2"]);
    refused(&here, "train --config list.toml", 2, &["list.toml", "workers", "array"]);
    // A switch that the file turns off is off.
    refused(&here, "server --config insecure.toml", 2, &["--insecure"]);
}

#[test]
fn data_that_is_missing_is_named_and_how_to_get_it_said() {
    let (_guard, here) = directory();
    std::fs::create_dir(here.join("empty")).expect("a directory");
    for line in
        ["train --data fashion-mnist --data-dir empty", "worker --data fashion-mnist --data-dir empty"]
    {
        refused(&here, line, 3, &["train-images-idx3-ubyte", "empty", "dataset-fashion-mnist", "--data-dir"]);
    }
    refused(&here, "train --init none.safetensors", 8, &["none.safetensors"]);
    refused(&here, "train --data fashion-mnist --data-dir none", 3, &["none", "dataset-fashion-mnist"]);
}

#[test]
fn data_that_is_broken_is_named_file_by_file() {
    let (_guard, here) = directory();
    let data = here.join("data");
    std::fs::create_dir(&data).expect("a directory");
    // Twenty images, and as many labels.
    let images = [&[0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 28, 0, 0, 0, 28][..], &[7; 20 * 784]].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 20][..], &[1; 20]].concat();
    let whole = [
        ("train-images-idx3-ubyte", &images),
        ("train-labels-idx1-ubyte", &labels),
        ("t10k-images-idx3-ubyte", &images),
        ("t10k-labels-idx1-ubyte", &labels),
    ];
    let write = |name: &str, bytes: &[u8]| std::fs::write(data.join(name), bytes).expect("a file");
    whole.iter().for_each(|(name, bytes)| write(name, bytes));
    let train = "train --data fashion-mnist --data-dir data --run-dir run";
    refused(&here, train, 2, &["224 examples", "20"]);

    for (name, bytes) in whole {
        write(name, &bytes[..bytes.len() - 1]);
        refused(&here, train, 3, &[name, "expected"]);
        write(name, &bytes[..6]);
        refused(&here, train, 3, &[name, "header"]);
        write(name, &[bytes, &[0][..]].concat());
        refused(&here, train, 3, &[name, "more"]);
        write(name, b"<html>404</html>");
        refused(&here, train, 3, &[name, "magic"]);
        // A gzip stream that breaks off after its header.
        write(name, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b]);
        refused(&here, train, 3, &[name, "gzip"]);
        write(name, bytes);
    }
    let label_of_an_eleventh_class = [&labels[..27], &[10]].concat();
    write("t10k-labels-idx1-ubyte", &label_of_an_eleventh_class);
    refused(&here, train, 3, &["t10k-labels-idx1-ubyte", "label", "10"]);
}

#[test]
fn a_model_that_is_missing_or_torn_is_named() {
    let (_guard, here) = directory();
    common::train(&here, "--quiet --epochs 1 --workers 1 --batch 2000 --run-dir run");
    let path = here.join("run/model.safetensors");
    let whole = std::fs::read(&path).expect("a model");
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("a file");
        refused(&here, "eval run", 3, &["model.safetensors"]);
    }
    std::fs::write(&path, vec![0xff; 1000]).expect("a file");
    refused(&here, "eval run", 3, &["model.safetensors"]);
    std::fs::remove_file(&path).expect("it is there");
    refused(&here, "eval run", 3, &["run", "model.safetensors"]);
    refused(&here, "eval nowhere", 3, &["nowhere", "no such file"]);
}

#[test]
fn a_run_directory_that_cannot_be_used_is_named() {
    let (_guard, here) = directory();
    common::train(&here, "--quiet --epochs 1 --workers 1 --batch 2000 --run-dir taken");
    let model = common::model(&here.join("taken"));
    std::fs::write(here.join("file"), "").expect("a file");
    let mut cases = vec![
        ("taken", &["taken", "already holds a run"][..]),
        ("file", &["file"]),
        ("file/run", &["file/run"]),
    ];
    if cfg!(target_os = "linux") {
        // Nobody may make a directory there, not even root.
        cases.push(("/proc/signvote", &["/proc/signvote"]));
    }
    for (path, words) in cases {
        refused(&here, &format!("train --run-dir {path}"), 8, words);
        refused(&here, &format!("server --listen 127.0.0.1:0 --run-dir {path}"), 8, words);
    }
    assert_eq!(common::model(&here.join("taken")), model, "the old run is untouched");
}

#[test]
fn a_port_in_use_is_named() {
    let (_guard, here) = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    refused(&here, &format!("server --listen {address} --run-dir run"), 4, &[&address]);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let (_guard, here) = directory();
    let free =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    refused(&here, &format!("worker --patience 0.3 --connect {free}"), 4, &[&free, "no server answers"]);
    refused(&here, "worker --patience 0.3 --connect nowhere", 4, &["nowhere"]);
}

#[test]
fn a_server_that_speaks_something_else_is_named() {
    let (_guard, here) = directory();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let worker = Process::start(&here, &format!("worker --quiet --connect {address}"));
    let (mut stream, _) = listener.accept().expect("the worker");
    std::io::Write::write_all(&mut stream, b"HTTP/1.0 400 Bad Request\r\n\r\n").expect("it listens");
    drop(stream);
    worker.ended().failed_at_once(4, &[&address]);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let (_guard, here) = directory();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    for command in ["worker --quiet --connect", "status"] {
        let asks = Process::start(&here, &format!("{command} {address} --patience 0.1"));
        let (silent, _) = listener.accept().expect("somebody who asks");
        asks.ended().failed_at_once(4, &[&address, "said nothing for 1s"]);
        drop(silent);
    }
}

#[test]
fn what_cannot_be_read_is_answered_in_one_line_and_help_is_no_error() {
    let (_guard, here) = directory();
    for (line, words) in [
        (
            "train --wrokers 5",
            "error: unexpected argument '--wrokers' found; a similar argument exists: '--workers'; see --help",
        ),
        ("train --eta x", "error: invalid value 'x' for '--eta <RATE>': invalid float literal; see --help"),
        (
            "train --aggregate x",
            "error: invalid value 'x' for '--aggregate <AGGREGATE>' [possible values: vote, mean]; see --help",
        ),
        ("trian", "error: unrecognized subcommand 'trian'; a similar subcommand exists: 'train'; see --help"),
        (
            "export",
            "error: the following required arguments were not provided: --out <FILE> <RUN_DIR>; see --help",
        ),
    ] {
        let ended = run(&here, line);
        assert_eq!((ended.code, &ended.err[..]), (Some(2), &[words.to_owned()][..]));
    }
    assert!(run(&here, "train --help").succeeded().out.len() > 100);
    assert_eq!(run(&here, "--version").succeeded().out.len(), 1);
    let nothing = run(&here, "");
    assert!(
        nothing.code == Some(2) && nothing.err.iter().any(|line| line.starts_with("Usage:")),
        "{nothing:#?}"
    );
}

#[test]
fn a_variable_that_cannot_be_read_is_refused_like_its_flag() {
    let (_guard, here) = directory();
    let mut command = signvote(&here, "train");
    command.env("SIGNVOTE_WORKERS", "many");
    Process::spawn(command).ended().failed_at_once(2, &["--workers"]);
}
