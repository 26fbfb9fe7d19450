//! Whole reports, as files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};
use signvote_report::{
    Axis, Cell, Check, Error, Kind, Plot, Point, Reference, Report, Section, Series, Table,
};

const NASTY: &str = "<script>alert('1')</script> & \"q\" | *b* _i_ `c` [l](m) ]]> \u{1}";

fn plot(id: &str, kind: Kind) -> Plot {
    let points = |shift: f64| (1..=6).map(move |x| (f64::from(x), f64::from(x) + shift));
    Plot::new(id, format!("{kind:?}"), kind, Axis::linear("across"), Axis::linear("up"))
        .with(Series::new("one", points(0.0)))
        .with(Series::new("two", points(1.0).map(|(x, y)| Point { x, y, spread: Some((y - 0.5, y + 0.5)) })))
        .with(Series::law("law", points(2.0)))
        .marked(Reference::horizontal(2.5, "across it"))
        .marked(Reference::vertical(3.5, "up it"))
}

fn example() -> Report {
    let check = |name: &str, passed| Check {
        name: name.into(),
        law: "a ≤ b".into(),
        expected: "≤ 1".into(),
        measured: "0.5".into(),
        passed,
    };
    let section = Section {
        id: "fig1".into(),
        title: "Figure 1".into(),
        says: "See https://example.org/a and nothing else.".into(),
        paper: Some("theirs".into()),
        ours: "ours".into(),
        scaled: "smaller".into(),
        settings: vec![("η".into(), "1e-3".into())],
        command: "signvote reproduce fig1".into(),
        plots: [Kind::Lines, Kind::Points, Kind::Bars, Kind::Histogram]
            .map(|kind| plot(&format!("{kind:?}").to_lowercase(), kind))
            .into(),
        tables: vec![
            Table::new("shades", ["name", "value"]).row([Cell::from("a"), Cell::shaded("1.5", 0.9)]),
        ],
        checks: vec![check("first", true), check("second", false)],
    };
    let other = Section {
        id: "fig2".into(),
        title: "Figure 2".into(),
        checks: vec![check("third", true)],
        ..Section::default()
    };
    Report {
        title: "Report".into(),
        about: "One.\n\nTwo.".into(),
        command: "signvote reproduce".into(),
        machine: "two cores".into(),
        seconds: 75.0,
        sections: vec![section, other],
    }
}

/// All that a report writes, by name.
fn written(report: &Report) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    report.write(directory.path()).unwrap();
    read(directory.path())
}

fn read(directory: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    });
    files.collect()
}

fn parse(text: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).unwrap_or_else(|error| panic!("{error}"))
}

fn texts(document: &Document<'_>) -> String {
    document.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

#[test]
fn a_report_is_a_page_its_twin_its_plots_and_its_checks() {
    let files = written(&example());
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = [
        "checks.json",
        "fig1-bars.svg",
        "fig1-histogram.svg",
        "fig1-lines.svg",
        "fig1-points.svg",
        "report.html",
        "report.md",
    ];
    assert_eq!(names, expected);
    for name in names.iter().filter(|name| name.ends_with(".svg")) {
        assert!(files["report.md"].contains(&format!("]({name})")), "{name}");
    }
}

#[test]
fn equal_reports_are_equal_files() {
    assert_eq!(written(&example()), written(&example()));
}

#[test]
fn checks_read_back_from_json() {
    let checks: serde_json::Value = serde_json::from_str(&written(&example())["checks.json"]).unwrap();
    let expected = |section: &str, name: &str, passed: bool| {
        serde_json::json!({
            "section": section, "name": name, "law": "a ≤ b", "expected": "≤ 1", "measured": "0.5", "passed": passed
        })
    };
    let all =
        [expected("fig1", "first", true), expected("fig1", "second", false), expected("fig2", "third", true)];
    assert_eq!(checks, serde_json::Value::from(all.to_vec()));
    assert_eq!(example().failed().map(|(_, check)| check.name.as_str()).collect::<Vec<_>>(), ["second"]);
}

#[test]
fn what_failed_is_named_at_the_top_with_a_link_to_it() {
    let files = written(&example());
    let page = parse(&files["report.html"]);
    let summary = page.descendants().find(|node| node.attribute("id") == Some("checks")).unwrap();
    let words: String = summary.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect();
    assert!(words.contains("2 of 3 checks hold"), "{words}");
    let link = summary.descendants().find(|node| node.has_tag_name("a")).unwrap();
    assert_eq!((link.text(), link.attribute("href")), (Some("second"), Some("#fig1.check2")));
    assert!(
        files["report.md"].contains("2 of 3 checks hold") && files["report.md"].contains("[second](#fig1)")
    );
}

#[test]
fn every_link_within_the_page_leads_somewhere_and_no_name_is_given_twice() {
    let files = written(&example());
    let page = parse(&files["report.html"]);
    let mut ids = HashSet::new();
    for id in page.descendants().filter_map(|node| node.attribute("id")) {
        assert!(ids.insert(id), "{id}");
    }
    for attribute in page.descendants().flat_map(|node| node.attributes()) {
        let value = attribute.value();
        let targets: Vec<_> = match attribute.name() {
            "href" => value.strip_prefix('#').into_iter().collect(),
            "aria-labelledby" => value.split(' ').collect(),
            _ => value.strip_prefix("url(#").and_then(|rest| rest.split(')').next()).into_iter().collect(),
        };
        assert!(targets.iter().all(|target| ids.contains(target)), "{value}");
    }
}

#[test]
fn a_page_runs_no_script_and_asks_nobody_for_anything() {
    let files = written(&example());
    let page = parse(&files["report.html"]);
    for node in page.descendants().filter(Node::is_element) {
        assert!(!["script", "link", "img", "iframe", "image", "use"].contains(&node.tag_name().name()));
        assert!(
            node.attributes()
                .all(|attribute| !attribute.name().starts_with("on") && attribute.name() != "src")
        );
    }
    let style = page.descendants().find(|node| node.has_tag_name("style")).unwrap().text().unwrap();
    assert!(!style.contains("url(") && !style.contains("@import"));
}

#[test]
fn text_of_the_callers_stays_text_everywhere() {
    let mut report = example();
    let nasty = || NASTY.to_owned();
    (report.title, report.about, report.command, report.machine) = (nasty(), nasty(), nasty(), nasty());
    let section = &mut report.sections[0];
    (section.title, section.says, section.paper, section.ours) = (nasty(), nasty(), Some(nasty()), nasty());
    (section.scaled, section.command, section.settings) = (nasty(), nasty(), vec![(nasty(), nasty())]);
    section.tables = vec![Table::new(NASTY, [NASTY, NASTY]).row([NASTY, NASTY])];
    section.checks =
        vec![Check { name: nasty(), law: nasty(), expected: nasty(), measured: nasty(), passed: false }];
    for plot in &mut section.plots {
        (plot.title, plot.x.label, plot.y.label) = (nasty(), nasty(), nasty());
        plot.x.categories = vec![nasty(); 7];
        plot.series.iter_mut().for_each(|series| series.name = nasty());
        plot.references.iter_mut().for_each(|reference| reference.label = nasty());
    }
    let files = written(&report);
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".svg") || name.ends_with(".html")) {
        let document = parse(text);
        assert!(
            document.descendants().all(|node| !node.has_tag_name("script") && !node.has_tag_name("b")),
            "{name}"
        );
        assert!(texts(&document).contains("<script>"), "{name}");
    }
    let markdown = &files["report.md"];
    let outside_of_code = markdown.split("```").step_by(2).collect::<String>();
    assert!(!outside_of_code.replace("\\<", "").contains("<script"));
    let checks: serde_json::Value = serde_json::from_str(&files["checks.json"]).unwrap();
    assert_eq!(checks[0]["law"], NASTY);
}

#[test]
fn plots_are_well_formed_and_told_in_words() {
    for (name, text) in written(&example()).iter().filter(|(name, _)| name.ends_with(".svg")) {
        let document = parse(text);
        let root = document.root_element();
        assert_eq!((root.tag_name().name(), root.attribute("role")), ("svg", Some("img")), "{name}");
        assert_eq!(root.attribute("viewBox").map(|view| view.starts_with("0 0 400 ")), Some(true));
        let of = |tag: &str| {
            root.children().find(|node| node.tag_name().name() == tag).and_then(|node| node.text())
        };
        assert!(of("title").is_some_and(|title| name.contains(&title.to_lowercase())), "{name}");
        let described = of("desc").unwrap();
        for part in
            ["across", "up", "one: 1 at", "two: 2 at", "law, a formula", "Horizontal line at 2.5: across it."]
        {
            assert!(described.contains(part), "{part}: {described}");
        }
    }
}

#[test]
fn all_text_of_a_plot_is_within_it() {
    for (name, text) in written(&example()).iter().filter(|(name, _)| name.ends_with(".svg")) {
        let document = parse(text);
        let view: Vec<f64> = document
            .root_element()
            .attribute("viewBox")
            .unwrap()
            .split(' ')
            .map(|side| side.parse().unwrap())
            .collect();
        for node in document.descendants().filter(|node| node.tag_name().name() == "text") {
            let at = |name| node.attribute(name).unwrap().parse::<f64>().unwrap();
            assert!(
                (0.0..=view[2]).contains(&at("x")) && (8.0..=view[3] - 3.0).contains(&at("y")),
                "{name}: {node:?}"
            );
        }
    }
}

#[test]
fn each_series_has_dashes_and_markers_of_its_own() {
    let mut plot = Plot::new("p", "p", Kind::Lines, Axis::linear("x"), Axis::linear("y"));
    for index in 0..8 {
        plot =
            plot.with(Series::new(format!("s{index}"), [(0.0, f64::from(index)), (1.0, f64::from(index))]));
    }
    let files = written(&Report {
        sections: vec![Section { id: "s".into(), plots: vec![plot], ..Section::default() }],
        ..Report::default()
    });
    let document = parse(&files["s-p.svg"]);
    let groups = || document.descendants().filter(|node| node.tag_name().name() == "g");
    let lines = groups().filter(|group| {
        group.attribute("stroke-linejoin") == Some("round") && group.attribute("fill") == Some("none")
    });
    let dashes: HashSet<_> = lines.map(|group| group.attribute("stroke-dasharray")).collect();
    assert_eq!(dashes.len(), 8);
    // The shape, wherever it stands: circles by their name, polygons by what is between their corners.
    let shape = |node: Node<'_, '_>| {
        let corners: Vec<_> = node
            .attribute("points")
            .unwrap_or_default()
            .split([' ', ','])
            .filter_map(|number| number.parse::<f64>().ok())
            .collect();
        let steps = corners.windows(3).step_by(2).map(|three| ((three[2] - three[0]) * 10.0).round() as i32);
        (node.tag_name().name().to_owned(), corners.len(), steps.take(1).collect::<Vec<_>>())
    };
    let marks =
        groups().filter(|group| group.attribute("class").is_some_and(|class| class.starts_with("edge")));
    let shapes: HashSet<_> = marks
        .flat_map(|group| group.children().filter(Node::is_element).map(shape).collect::<Vec<_>>())
        .collect();
    assert!(shapes.len() >= 8, "{shapes:?}");
}

#[test]
fn a_plot_says_how_many_values_it_could_not_draw() {
    let points =
        [(1.0, 1.0), (2.0, f64::NAN), (3.0, f64::NEG_INFINITY), (4.0, 0.0), (5.0, 10.0), (6.0, 1000.0)];
    let draw = |y: Axis| {
        let plot = Plot::new("p", "p", Kind::Lines, Axis::linear("x"), y).with(Series::new("s", points));
        let section = Section { id: "s".into(), plots: vec![plot], ..Section::default() };
        written(&Report { sections: vec![section], ..Report::default() }).remove("s-p.svg").unwrap()
    };
    let linear = draw(Axis::linear("y"));
    assert!(linear.contains("Not drawn: 2 values") && !linear.contains("NaN") && !linear.contains("inf"));
    let log = draw(Axis::log("y"));
    assert!(log.contains("Not drawn: 3 values"));
    let cut = draw(Axis::log("y").between(0.5, 100.0));
    assert!(cut.contains("Outside of the axes: 1 point."));
}

#[test]
fn plots_of_nothing_and_of_extremes_are_drawn_all_the_same() {
    let extremes =
        [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 1e99, -1e99, 5e-324, 0.0, -0.0, f64::NAN, f64::INFINITY];
    let mut plots = Vec::new();
    for kind in [Kind::Lines, Kind::Points, Kind::Bars, Kind::Histogram] {
        for (index, axis) in [Axis::linear("a"), Axis::log("a")].into_iter().enumerate() {
            let points =
                extremes.iter().flat_map(|x| extremes.map(|y| Point { x: *x, y, spread: Some((y, *x)) }));
            let plot = |id: &str, series| {
                Plot::new(
                    format!("{id}{index}{kind:?}").to_lowercase(),
                    "p",
                    kind,
                    axis.clone(),
                    axis.clone(),
                )
                .with(series)
            };
            plots.push(plot("full", Series::new("s", points)));
            plots.push(plot("none", Series::new("", [(0.0, 0.0); 0])));
            plots.push(
                plot("one", Series::new("s", [(3.0, 3.0)]))
                    .marked(Reference::horizontal(f64::NAN, "nowhere")),
            );
        }
    }
    let section = Section { id: "s".into(), plots, ..Section::default() };
    for (name, text) in written(&Report { sections: vec![section], ..Report::default() }) {
        if name.ends_with(".svg") {
            parse(&text);
            assert!(!text.contains("=\"NaN") && !text.contains("=\"inf"), "{name}");
        }
    }
}

#[test]
fn ids_that_are_no_file_names_or_not_their_own_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let section = |id: &str, plots: &[&str]| Section {
        id: id.into(),
        plots: plots.iter().map(|id| plot(id, Kind::Lines)).collect(),
        ..Section::default()
    };
    for sections in [
        vec![section("../up", &[])],
        vec![section("", &[])],
        vec![section("A", &[])],
        vec![section("checks", &[])],
        vec![section("a", &[]), section("a", &[])],
        vec![section("a", &["p", "p"])],
        vec![section("a", &["b-c"]), section("a-b", &["c"])],
        vec![section("a", &["p/q"])],
    ] {
        let refused = Report { sections, ..Report::default() }.write(directory.path());
        assert!(matches!(refused, Err(Error::Misuse { .. })), "{refused:?}");
    }
    for axis in [
        Axis::linear("").between(2.0, 1.0),
        Axis::linear("").between(0.0, f64::NAN),
        Axis::log("").between(0.0, 1.0),
    ] {
        let mut section = section("a", &["p"]);
        section.plots[0].y = axis;
        let refused = Report { sections: vec![section], ..Report::default() }.write(directory.path());
        assert!(matches!(refused, Err(Error::Misuse { .. })), "{refused:?}");
    }
    let mut section = section("a", &[]);
    section.tables = vec![Table::new("t", ["one", "two"]).row(["1"])];
    let refused = Report { sections: vec![section], ..Report::default() }.write(directory.path());
    assert!(matches!(refused, Err(Error::Misuse { .. })), "{refused:?}");
    assert!(read(directory.path()).is_empty());
}

#[test]
fn a_report_that_cannot_be_written_leaves_the_old_one_and_no_parts() {
    let directory = tempfile::tempdir().unwrap();
    example().write(directory.path()).unwrap();
    let old = read(directory.path());
    let mut next = example();
    next.title = "Next".into();
    next.sections[0].plots.push(plot("more", Kind::Lines));
    // A directory where a file has to go is in the way of its part.
    let obstacle = directory.path().join(format!("fig1-more.svg.partial-{}", std::process::id()));
    std::fs::create_dir(&obstacle).unwrap();
    let refused = next.write(directory.path());
    assert!(
        matches!(&refused, Err(Error::Io { path, .. }) if path.ends_with("fig1-more.svg")),
        "{refused:?}"
    );
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(read(directory.path()), old);
    next.write(directory.path()).unwrap();
    assert!(read(directory.path())["report.html"].contains("<h1>Next</h1>"));
}
