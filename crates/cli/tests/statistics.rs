//! Running statistics of batch normalisation: the workers', by a step of the protocol, and those of the training data.

mod common;

use std::fs;

use common::{cifar, directory, number, run};

#[test]
fn medians_of_the_workers_survive_a_liar_and_need_no_data() {
    let (_guard, here) = directory();
    cifar(&here);
    let train = |name: &str, flags: &str| {
        let line = format!(
            "train --json --quiet --model resnet18-32 --data cifar-10 --data-dir cifar --workers 3 --batch 2 \
             --epochs 1 --eta 1e-9 --run-dir {name} {flags}"
        );
        number(&run(&here, &line).succeeded().json()["test_loss"])
    };
    let honest = train("honest", "");
    // At this rate nothing is learnt: what differs are the statistics, of which the liar has sent the negative.
    let lied = train("lied", "--adversaries 1 --attack sign-flip");
    assert!((honest - lied).abs() < 0.2 * honest, "{honest} {lied}");

    // Workers of different data have no statistics of all of it.
    train("skewed", "--partition by-label");
    assert!(
        !here.join("skewed/statistics.safetensors").exists()
            && here.join("lied/statistics.safetensors").exists()
    );

    fs::rename(here.join("cifar"), here.join("elsewhere")).expect("moved");
    let said = run(&here, "export lied --out lied.safetensors").succeeded().out.join("\n");
    assert!(said.ends_with(", running statistics of 3 workers"), "{said}");
    // Without theirs the training data is needed.
    fs::remove_file(here.join("lied/statistics.safetensors")).expect("removed");
    run(&here, "export lied --out other.safetensors").failed(3, &["cifar"]);
    let line = "export lied --out other.safetensors --data-dir elsewhere";
    let said = run(&here, line).succeeded().out.join("\n");
    assert!(said.ends_with(", running statistics of training data"), "{said}");
    // Both are statistics of the same model.
    let loss = |file: &str| {
        let line = format!("eval --json {file} --model resnet18-32 --data cifar-10 --data-dir elsewhere");
        number(&run(&here, &line).succeeded().json()["test_loss"])
    };
    let (workers, data) = (loss("lied.safetensors"), loss("other.safetensors"));
    assert_eq!(workers, lied);
    assert!(workers != data && (workers - data).abs() < 0.2 * data, "{workers} {data}");
    // A file of another model, or a torn one, is not passed over in silence.
    fs::write(here.join("lied/statistics.safetensors"), "x").expect("written");
    run(&here, "export lied --out other.safetensors").failed(3, &["statistics.safetensors"]);
}
