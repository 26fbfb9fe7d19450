//! Every recipe in `recipes/`, started for some rounds on tiny data in the form that it asks for; and what becomes of its model.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Process, cifar, directory, number, pixel, run, signvote};
use serde_json::Value;
use signvote_observe::load_model;

/// A file of the repository.
fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes").join(name)
}

/// Trains by a recipe, with these flags beside it, and returns the result.
fn cook(here: &Path, name: &str, flags: &str) -> Value {
    let line = format!(
        "train --json --quiet --config {} --workers 2 --run-dir {name} {flags}",
        recipe(name).display()
    );
    let result = run(here, &line).succeeded().json();
    assert_eq!(result["replicas_identical"], true, "{name}: {result}");
    assert!(number(&result["rounds"]) >= 2.0, "{name}: {result}");
    assert!(number(&result["test_loss"]).is_finite(), "{name}: {result}");
    result
}

fn fashion(here: &Path) {
    let idx = |sizes: &[u32], body: Vec<u8>| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(body);
        bytes
    };
    let directory = here.join("fashion");
    fs::create_dir(&directory).expect("a directory");
    for (part, count) in [("train", 16_u32), ("t10k", 4)] {
        let images = (0..count as usize * 784).map(|at| pixel(at / 784 % 10, at % 784)).collect();
        let labels = (0..count).map(|at| (at % 10) as u8).collect();
        let write =
            |name: &str, bytes| fs::write(directory.join(format!("{part}-{name}")), bytes).expect("a file");
        write("images-idx3-ubyte", idx(&[count, 28, 28], images));
        write("labels-idx1-ubyte", idx(&[count], labels));
    }
}

fn imagenet(here: &Path) {
    for (part, count) in [("train", 2), ("val", 1)] {
        for class in 0..2 {
            let directory = here.join(format!("imagenet/{part}/n0000{class}"));
            fs::create_dir_all(&directory).expect("a directory");
            for number in 0..count {
                let image = image::RgbImage::from_fn(120, 90, |x, y| {
                    image::Rgb([0, 1, 2].map(|channel| pixel(class + number, (x + y) as usize + channel)))
                });
                image.save(directory.join(format!("{number}.JPEG.jpg"))).expect("an image");
            }
        }
    }
}

fn wikitext(here: &Path) {
    let directory = here.join("wikitext");
    fs::create_dir(&directory).expect("a directory");
    let text = " = A title = \n the cat sat on the mat . \n the dog sat on the cat . \n".repeat(4);
    fs::write(directory.join("wiki.train.tokens"), &text).expect("a file");
    fs::write(directory.join("wiki.valid.tokens"), &text[..text.len() / 4]).expect("a file");
}

#[test]
fn the_cnn_on_fashion_mnist() {
    let (_guard, here) = directory();
    fashion(&here);
    let result = cook(&here, "fashion-cnn.toml", "--data-dir fashion --batch 4 --epochs 1");
    assert_eq!((&result["model"], &result["dimension"]), (&"cnn".into(), &421_642.into()));
}

#[test]
fn resnet18_on_cifar_and_its_model_elsewhere() {
    let (_guard, here) = directory();
    cifar(&here);
    let result = cook(&here, "cifar10-resnet18.toml", "--data-dir cifar --batch 4 --epochs 1");
    assert_eq!((&result["model"], &result["dimension"]), (&"resnet18-32".into(), &11_173_962.into()));
    // The run's model, and the same as a file with its running statistics, are as good.
    let of_run = run(&here, "eval --json cifar10-resnet18.toml").succeeded().json();
    assert_eq!(of_run["test_loss"], result["test_loss"]);
    let export = "export cifar10-resnet18.toml --out out.safetensors";
    let said = run(&here, export).succeeded().out.join("\n");
    assert!(said.ends_with(", running statistics of 2 workers"), "{said}");
    let flags = "--model resnet18-32 --data cifar-10 --data-dir cifar";
    let of_file = run(&here, &format!("eval --json out.safetensors {flags}")).succeeded().json();
    assert_eq!((&of_file["test_loss"], &of_file["samples"]), (&of_run["test_loss"], &12.into()));
    assert!(of_file.get("rounds").is_none(), "{of_file}");
    // It is what another run may start from: with a learning rate of next to nothing it stays what it is.
    let line = "train --json --quiet --workers 2 --epochs 1 --batch 4 --eta 1e-30 --init out.safetensors --run-dir again";
    let again = run(&here, &format!("{line} {flags}")).succeeded().json();
    let (before, after) = (number(&of_run["test_loss"]), number(&again["test_loss"]));
    assert!((before - after).abs() < 1e-5 * before, "{before} {after}");

    let failed = run(&here, "eval out.safetensors");
    failed.failed(2, &["pass --model and --data"]);
    let failed = run(&here, "train --quiet --run-dir other --model cnn --init out.safetensors");
    failed.failed(3, &["out.safetensors does not hold this model", "conv1.weight"]);
}

#[test]
fn resnet50_on_imagenet_with_seven_and_with_fifteen_workers() {
    let (_guard, here) = directory();
    imagenet(&here);
    let result = cook(&here, "imagenet-resnet50.toml", "--data-dir imagenet --batch 1 --epochs 1");
    // Two classes instead of a thousand.
    assert_eq!(result["dimension"], 25_557_032 - 998 * 2049);
    let config = |name: &str| {
        let line = format!("train --print-config --config {}", recipe(name).display());
        run(&here, &line).succeeded().out.join("\n").parse::<toml::Table>().expect("TOML")
    };
    let (seven, fifteen) = (config("imagenet-resnet50.toml"), config("imagenet-resnet50-15.toml"));
    for (key, value) in &fifteen {
        // An epoch has other rounds.
        let differs = ["workers", "warmup", "step-every"].contains(&key.as_str());
        assert_eq!(differs, seven[key] != *value, "{key}");
    }
    assert_eq!(fifteen["workers"], 15.into());
}

#[test]
fn the_qrnn_on_wikitext() {
    let (_guard, here) = directory();
    wikitext(&here);
    let flags = "--data-dir wikitext --batch 1 --local 1 --context 8 --epochs 1";
    let result = cook(&here, "wikitext103-qrnn.toml", flags);
    // Twelve words instead of 267,735.
    assert_eq!(result["dimension"], 150_885_435 - 401 * (267_735 - 12));
    let (loss, perplexity) = (number(&result["test_loss"]), number(&result["perplexity"]));
    assert!((loss.exp() / perplexity - 1.0).abs() < 1e-4, "{result}");
}

fn text(here: &Path) {
    fs::create_dir(here.join("text")).expect("a directory");
    for (name, lines) in [("train.txt", 40), ("valid.txt", 4)] {
        let text = "Now is the winter of our discontent made glorious summer\n".repeat(lines);
        fs::write(here.join("text").join(name), text).expect("a file");
    }
}

#[test]
fn a_gpt_on_shakespeare() {
    let (_guard, here) = directory();
    text(&here);
    let flags = "--data text --data-dir text --context 16 --batch 4 --epochs 2";
    let result = cook(&here, "shakespeare-gpt.toml", flags);
    assert!(number(&result["perplexity"]) < 100.0, "{result}");
    let sample = result["sample"].as_str().expect("text");
    assert!(sample.starts_with("…Now is the winte|") && sample.len() > 160, "{sample}");
    let table = run(&here, "eval shakespeare-gpt.toml").succeeded().out.join("\n");
    assert!(table.contains("tokens of text") && table.contains("perplexity"), "{table}");
}

#[test]
fn a_model_has_the_steps_that_suit_it_where_no_others_are_told() {
    let (_guard, here) = directory();
    text(&here);
    fs::write(here.join("file.toml"), "schedule = \"step\"").expect("a file");
    let settings = |flags: &str, variables: &[(&str, &str)]| {
        let mut command = signvote(&here, &format!("train --model gpt-small --print-config {flags}"));
        command.envs(variables.iter().copied());
        let ended = Process::spawn(command).ended().succeeded();
        let settings: toml::Table = ended.out.join("\n").parse().expect("TOML");
        assert_eq!(settings.contains_key("eta"), flags.contains("--eta"), "{flags}");
        (
            settings["layerwise"].as_bool().expect("a boolean"),
            settings["schedule"].as_str().map(str::to_owned),
        )
    };
    for (flags, layerwise, schedule) in [
        ("", true, "one-cycle"),
        ("--schedule cosine", true, "cosine"),
        ("--config file.toml", true, "step"),
        ("--eta 0.01", true, "one-cycle"),
        ("--aggregate mean", false, "cosine"),
    ] {
        assert_eq!(settings(flags, &[]), (layerwise, Some(schedule.into())), "{flags}");
    }
    let variables = [("SIGNVOTE_LAYERWISE", "no"), ("SIGNVOTE_SCHEDULE", "constant")];
    assert_eq!(settings("", &variables), (false, Some("constant".into())));

    // Rates that are looked for are of the same kind: a sweep by tensor begins at 1e-4.
    let of_text = "--model gpt-small --data text --data-dir text --context 16 --batch 4 --workers 2";
    let found = run(&here, &format!("find-rate {of_text} --rounds 20 --json")).succeeded().json();
    assert!((0.9e-4..2e-4).contains(&number(&found["rows"][0]["eta"])), "{}", found["rows"][0]);

    // The server of the run has heard of it, and the model file keeps it.
    let line = format!("train --quiet {of_text} --epochs 1 --seed 9223372036854775807 --run-dir run");
    run(&here, &line).succeeded();
    let saved = load_model(&here.join("run/model.safetensors")).expect("a model");
    let kept = ["seed", "eta", "layerwise", "schedule"].map(|key| saved.config[key].as_str());
    assert_eq!(kept, ["9223372036854775807", "0.03", "true", "one-cycle"]);
    assert_eq!(saved.config["rounds"], saved.round.to_string());
}

#[test]
fn models_are_listed_with_what_suits_them() {
    let (_guard, here) = directory();
    let models = run(&here, "models --json").succeeded().out.join("\n");
    let models: Vec<Value> = serde_json::from_str(&models).expect("a list");
    let table = run(&here, "models").succeeded().out.join("\n");
    for (name, parameters, rate) in [
        ("mlp", 203_530, "1e-3·√(440/K)"),
        ("resnet50", 25_557_032, "4.2e-4·(440/K)^0.25"),
        ("gpt-small", 834_304, "3e-2 by tensor, one-cycle"),
    ] {
        let model = models.iter().find(|model| model["name"] == name).expect(name);
        assert_eq!((&model["parameters"], &model["rate"]), (&parameters.into(), &rate.into()));
        assert!(table.lines().any(|line| line.starts_with(name) && line.contains(rate)), "{table}");
    }
}

#[test]
fn no_recipe_is_without_a_test() {
    let tested = [
        "cifar10-resnet18.toml",
        "fashion-cnn.toml",
        "imagenet-resnet50-15.toml",
        "imagenet-resnet50.toml",
        "shakespeare-gpt.toml",
        "wikitext103-qrnn.toml",
    ];
    let names =
        fs::read_dir(recipe("")).expect("the recipes").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, tested);
}
