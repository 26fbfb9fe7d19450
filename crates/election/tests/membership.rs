//! Who is let in, who is not, and in which words.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use harness::by_hand::{self, Hello, kind};
use harness::{Life, Setup, Sim, config, greeting, layout, milliseconds, parameters, random_source};
use signvote_election::{
    Error, Event, Greeting, Layout, PeerId, RunId, Server, Settings, Step, TensorSpec, Voter, wire,
};

const DIMENSION: usize = 200;

/// A run of 3 places in which one worker has joined and brought the model.
fn with_a_model() -> Sim {
    let mut sim = empty();
    sim.join(Some(1));
    sim.settle();
    assert_eq!(sim.server.present(), 1);
    sim
}

fn empty() -> Sim {
    Sim::new(Setup::new(config(3, 4), DIMENSION, random_source(DIMENSION, 11)))
}

/// Greets, and gives back the words of the refusal.
fn refused(sim: &mut Sim, hello: &Hello<'_>) -> String {
    let peer = sim.raw();
    sim.say(peer, &hello.frame());
    sim.refusal(peer)
}

fn hello(slot: u16) -> Vec<u8> {
    Hello { slot, ..Hello::of(&layout(DIMENSION)) }.frame()
}

fn kinds(sim: &mut Sim, peer: PeerId) -> Vec<u8> {
    sim.heard(peer).iter().map(|frame| by_hand::kind_of(frame)).collect()
}

/// Brings a model when asked.
fn offer(sim: &mut Sim, peer: PeerId, layout: &Layout, x: &[f32]) {
    sim.say(peer, &by_hand::init(layout, &[("model", "cnn")]));
    for (chunk, x) in x.chunks(64).enumerate() {
        sim.say(peer, &by_hand::values(chunk as u32, x));
    }
    sim.say(peer, &by_hand::ready(by_hand::digest(x)));
}

#[test]
fn another_model_is_refused_with_both_dimensions_named() {
    let mut sim = empty();
    sim.join_as(
        Greeting {
            settings: {
                let mut settings = Settings::default();
                settings.insert("model", "mlp").unwrap();
                settings
            },
            ..greeting(DIMENSION, None)
        },
        parameters(DIMENSION, 1),
    );
    sim.settle();
    let reason = refused(&mut sim, &Hello::of(&layout(777)));
    assert_eq!(reason, "this run trains mlp with 200 coordinates, the worker has another model, with 777");
    // The same dimension under other names is another model, too.
    let other = Layout::new(vec![TensorSpec { name: "other".into(), shape: vec![DIMENSION] }]).unwrap();
    assert!(refused(&mut sim, &Hello::of(&other)).contains("another model"));
    let index = sim.join_as(greeting(777, None), parameters(777, 1));
    sim.settle();
    let Life::Failed(Error::Refused { reason, .. }) = &sim.workers[index].life else {
        panic!("it was let in")
    };
    assert!(reason.contains("200") && reason.contains("777"));
    let told = sim.events.iter().filter(|event| matches!(event, Event::Refused { .. }));
    assert_eq!(told.count(), 3);
}

#[test]
fn another_run_is_refused() {
    let mut sim = with_a_model();
    let reason = refused(&mut sim, &Hello { run: [0xab; 16], ..Hello::of(&layout(DIMENSION)) });
    assert!(reason.contains(&RunId([0xab; 16]).to_string()), "{reason}");
    assert!(reason.contains(&RunId(*b"a run of a test.").to_string()), "{reason}");
    let index = sim.join_as(
        Greeting { run: Some(RunId(*b"a run of a test.")), ..greeting(DIMENSION, None) },
        parameters(DIMENSION, 7),
    );
    sim.settle();
    assert!(sim.workers[index].is_alive());
}

#[test]
fn another_major_version_is_refused_in_words() {
    let mut sim = with_a_model();
    let other = Hello { version: (5, 7), ..Hello::of(&layout(DIMENSION)) };
    let expected = "incompatible protocol version: expected 4.x, got 5.7";
    assert_eq!(refused(&mut sim, &other), expected);
    // What follows the version in another major version is anybody's guess.
    for rest in [&b""[..], b"x", &[0xff; 300]] {
        let peer = sim.raw();
        let version = [5_u16.to_le_bytes(), 7_u16.to_le_bytes()].concat();
        sim.say(peer, &by_hand::frame(kind::HELLO, &[b"signvote", &version, rest]));
        assert_eq!(sim.refusal(peer), expected);
        let mut voter = Voter::new(greeting(DIMENSION, None));
        let error = voter.handle(&by_hand::frame(kind::WELCOME, &[&version, rest])).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    // Another minor version is not.
    let peer = sim.raw();
    sim.say(peer, &Hello { version: (4, 9), ..Hello::of(&layout(DIMENSION)) }.frame());
    assert!(sim.is_open(peer));
    assert_eq!(kinds(&mut sim, peer), [kind::WELCOME]);
}

#[test]
fn what_does_not_speak_the_protocol_is_told_so() {
    let mut sim = with_a_model();
    let peer = sim.raw();
    sim.say(peer, &by_hand::frame(kind::HELLO, &[b"HTTP/1.1 200 OK, and more of the like"]));
    let reason = sim.refusal(peer);
    assert!(reason.contains("signvote protocol") && reason.contains("HTTP/1.1"), "{reason}");
}

#[test]
fn a_place_that_is_taken_missing_or_full_is_refused() {
    let mut sim = with_a_model();
    let wanting = |slot| Hello { slot, ..Hello::of(&layout(DIMENSION)) };
    assert_eq!(refused(&mut sim, &wanting(1)), "place 1 is taken by a connected worker");
    assert_eq!(refused(&mut sim, &wanting(4)), "there is no place 4: this run has places 1 to 3");
    assert_eq!(refused(&mut sim, &wanting(u16::MAX)), "there is no place 65535: this run has places 1 to 3");
    sim.join(Some(3));
    sim.join(None);
    sim.run_until(Sim::started);
    assert_eq!(refused(&mut sim, &wanting(0)), "all 3 places are taken by connected workers");
    let places: Vec<_> = sim.workers.iter().map(|worker| worker.voter.place().unwrap().number()).collect();
    assert_eq!(places, [1, 3, 2]);
    // A place is free again when its worker is gone.
    sim.run_to_round(1);
    sim.crash(1);
    sim.run_until(|sim| sim.server.present() == 2);
    sim.join(None);
    sim.run();
    sim.assert_identical_replicas(3);
}

#[test]
fn a_place_is_taken_from_the_greeting_on() {
    let mut sim = with_a_model();
    let peer = sim.raw();
    sim.say(peer, &hello(2));
    assert_eq!(
        refused(&mut sim, &Hello { slot: 2, ..Hello::of(&layout(DIMENSION)) }),
        "place 2 is taken by a connected worker"
    );
}

#[test]
fn who_does_not_say_who_it_is_is_put_out() {
    let mut sim = with_a_model();
    let peer = sim.raw();
    let until = sim.now + milliseconds(5_000);
    assert_eq!(sim.server.next_timeout(), Some(until));
    sim.advance(until - milliseconds(1));
    assert!(sim.is_open(peer));
    sim.advance(until);
    assert_eq!(sim.refusal(peer), "it did not say within 5s who it is");
    assert_eq!(sim.server.next_timeout(), None);
}

#[test]
fn a_stranger_may_send_little_and_a_member_a_whole_chunk() {
    let mut sim = empty();
    let (first, second) = (sim.raw(), sim.raw());
    let of = |sim: &Sim, peer| sim.server.max_frame_bytes(peer);
    assert_eq!(of(&sim, first), wire::MAX_HELLO_BYTES);
    sim.say(first, &hello(0));
    sim.say(second, &hello(0));
    assert_eq!(of(&sim, first), wire::MAX_FRAME_BYTES);
    assert_eq!(of(&sim, second), wire::MAX_HELLO_BYTES, "it waits, and has nothing to say");
    assert_eq!(of(&sim, PeerId(99)), wire::MAX_HELLO_BYTES);
}

#[test]
fn if_who_brings_the_model_dies_the_next_one_is_asked() {
    let mut sim = empty();
    let peers: Vec<_> = (0..3).map(|_| sim.raw()).collect();
    peers.iter().for_each(|&peer| sim.say(peer, &hello(0)));
    assert_eq!(kinds(&mut sim, peers[0]), [kind::WELCOME]);
    for waits in [peers[1], peers[2]] {
        assert_eq!(sim.heard(waits), [by_hand::text(kind::WAIT, "another worker is bringing the model")]);
    }
    // It dies with half of the parameters sent.
    let (layout, x) = (layout(DIMENSION), parameters(DIMENSION, 3));
    sim.say(peers[0], &by_hand::init(&layout, &[]));
    sim.say(peers[0], &by_hand::values(0, &x[..64]));
    sim.say(peers[0], &by_hand::text(kind::BYE, "no more battery"));
    assert!(!sim.is_open(peers[0]));
    let frames = sim.heard(peers[1]);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][19], 0, "it is asked to offer");
    assert!(kinds(&mut sim, peers[2]).is_empty());
    offer(&mut sim, peers[1], &layout, &x);
    assert_eq!(sim.x(), x);
    assert_eq!(sim.server.model().unwrap().2.value("model"), Some("cnn"));
    let frames = sim.heard(peers[2]);
    assert_eq!((frames.len(), frames[0][19]), (1, 1), "the third one is to compare");
}

#[test]
fn who_has_a_place_but_does_not_come_on_is_put_out_and_the_next_one_is_asked() {
    let mut sim = empty();
    let (first, second) = (sim.raw(), sim.raw());
    sim.say(first, &hello(0));
    sim.say(second, &hello(0));
    let (layout, x) = (layout(DIMENSION), parameters(DIMENSION, 3));
    let limit = milliseconds(60_000);
    // A piece now and then is progress; silence is not.
    sim.advance(sim.now + limit / 2);
    sim.say(first, &by_hand::init(&layout, &[]));
    sim.say(first, &by_hand::values(0, &x[..64]));
    sim.advance(sim.now + limit * 3 / 4);
    assert!(sim.is_open(first));
    sim.advance(sim.now + limit);
    assert!(!sim.is_open(first));
    assert!(sim.is_open(second), "who waits for another's model is not at fault");
    let frames = sim.heard(second);
    assert_eq!(
        (by_hand::kind_of(&frames[0]), frames[1][19]),
        (kind::WAIT, 0),
        "it waits, then is asked to offer"
    );
    offer(&mut sim, second, &layout, &x);
    assert_eq!(sim.x(), x);
    assert_eq!(sim.heard(second), [by_hand::text(kind::WAIT, "1 of 3 workers are there")]);
}

#[test]
fn workers_that_wait_with_another_model_are_refused_when_it_is_known() {
    let mut sim = empty();
    let (first, second) = (sim.raw(), sim.raw());
    sim.say(first, &hello(0));
    sim.say(second, &Hello::of(&layout(333)).frame());
    offer(&mut sim, first, &layout(DIMENSION), &parameters(DIMENSION, 1));
    let reason = sim.refusal(second);
    assert_eq!(reason, "this run trains cnn with 200 coordinates, the worker has another model, with 333");
}

#[test]
fn an_offer_that_is_not_sound_is_refused() {
    let (layout, x) = (layout(DIMENSION), parameters(DIMENSION, 1));
    let offering = || {
        let mut sim = empty();
        let peer = sim.raw();
        sim.say(peer, &hello(0));
        sim.heard(peer);
        (sim, peer)
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut sim, peer) = offering();
        let mut x = x.clone();
        x[60] = value;
        offer(&mut sim, peer, &layout, &x);
        assert_eq!(
            sim.refusal(peer),
            format!("incompatible parameters: expected finite numbers, got {value} in fc.weight")
        );
        assert!(sim.server.model().is_none());
    }
    let ready = by_hand::ready(by_hand::digest(&x));
    let init = by_hand::init(&layout, &[]);
    let other_layout = by_hand::init(&harness::layout(DIMENSION + 1), &[]);
    let (first, second) = (by_hand::values(0, &x[..64]), by_hand::values(1, &x[64..128]));
    let short = by_hand::ready(by_hand::digest(&x[..128]));
    let too_long = by_hand::values(0, &x[..65]);
    let past = by_hand::values(u32::MAX, &x[..64]);
    let cases: [(&[&Vec<u8>], &str); 9] = [
        (&[&ready], "bring a model when asked"),
        (&[&first], "bring parameters only when asked"),
        (&[&other_layout], "bring the model that was announced"),
        (&[&init, &init], "bring a model only when asked"),
        (&[&init, &second], "bring parameters in order"),
        (&[&init, &first, &first], "bring parameters in order"),
        (&[&init, &past], "bring parameters in order"),
        (&[&init, &first, &second, &ready], "bring the parameters of the digest"),
        (&[&init, &too_long], "malformed floats: expected 256 bytes, got 260"),
    ];
    for (frames, rule) in cases {
        let (mut sim, peer) = offering();
        frames.iter().for_each(|frame| sim.say(peer, frame));
        let reason = sim.refusal(peer);
        assert!(reason.contains(rule), "{reason:?} does not name {rule:?}");
        assert!(sim.server.model().is_none());
    }
    let (mut sim, peer) = offering();
    [&init, &first, &second, &short].iter().for_each(|frame| sim.say(peer, frame));
    assert_eq!(sim.refusal(peer), "incompatible parameters: expected 200, got 128");
}

#[test]
fn a_model_over_the_limit_is_refused() {
    let mut config = config(2, 1);
    config.max_dimension = 100;
    let mut sim = Sim::new(Setup::new(config.clone(), DIMENSION, random_source(DIMENSION, 1)));
    let limit = "a model here has 1 to 100 coordinates, the worker's has 101";
    assert_eq!(refused(&mut sim, &Hello::of(&layout(101))), limit);
    let none = Hello { dimension: 0, ..Hello::of(&layout(5)) };
    assert!(refused(&mut sim, &none).contains("has 0"));
    let huge = Hello { dimension: u64::MAX, ..Hello::of(&layout(5)) };
    assert!(refused(&mut sim, &huge).contains("1 to 100"));
    let peer = sim.raw();
    sim.say(peer, &Hello::of(&layout(100)).frame());
    assert!(sim.is_open(peer));
    // Its layout has as many coordinates as it announced, and not more.
    sim.say(peer, &by_hand::init(&layout(101), &[]));
    assert!(sim.refusal(peer).contains("bring the model that was announced"));
    config.initial = Some((layout(101), parameters(101, 1), Settings::default()));
    let error = Server::new(config).unwrap_err();
    assert_eq!(error.to_string(), "incompatible model: expected at most 100 coordinates, got 101");
}

#[test]
fn nobody_joins_a_run_that_is_over() {
    let mut sim = with_a_model();
    sim.stop("enough");
    assert_eq!(refused(&mut sim, &Hello::of(&layout(DIMENSION))), "the run is over: enough");
    sim.run();
    sim.assert_identical_replicas(1);
}

#[test]
fn who_is_not_ready_when_the_run_ends_is_told() {
    let mut sim = with_a_model();
    let (mute, comparing) = (sim.raw(), sim.raw());
    sim.say(comparing, &hello(0));
    sim.stop("enough");
    assert_eq!(sim.refusal(mute), "the run is over: enough");
    assert_eq!(sim.refusal(comparing), "the run is over: enough");
}

#[test]
fn a_farewell_is_told_and_ends_the_connection() {
    let mut sim = with_a_model();
    let peer = sim.raw();
    sim.say(peer, &hello(2));
    sim.say(peer, &by_hand::ready([0; 32]));
    sim.say(peer, &by_hand::text(kind::BYE, "lunch"));
    assert!(!sim.is_open(peer));
    let Some(Event::Left { slot, reason, .. }) = sim.events.last() else { panic!("not told") };
    assert_eq!((slot.number(), reason.as_str()), (2, "lunch"));
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let wrong: [fn(&mut signvote_election::Config); 9] = [
        |config| config.terms.workers = 0,
        |config| config.quorum = 0,
        |config| config.quorum = 4,
        |config| config.terms.batch = 0,
        |config| config.terms.beta = 1.0,
        |config| config.terms.beta = f32::NAN,
        |config| config.weight_decay = -0.1,
        |config| config.weight_decay = f32::INFINITY,
        |config| config.terms.chunk_coordinates = 100,
    ];
    for wrong in wrong {
        let mut config = config(3, 4);
        wrong(&mut config);
        assert!(matches!(Server::new(config), Err(Error::Misuse(_))));
    }
}

#[test]
fn a_worker_is_told_when_it_breaks_the_contract() {
    let misuse = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Misuse(_))), "{result:?}");
    let mut sim = empty();
    let mut voter = Voter::new(greeting(DIMENSION, None));
    misuse(voter.provide(parameters(DIMENSION, 1)));
    misuse(voter.report(1.0, 1, 1, 0));
    assert!(voter.submit_signs(0, &[0; 4], &[0; 4]).is_err());
    assert!(voter.submit_gradient(0, &[0.0; DIMENSION]).is_err());
    let peer = sim.raw();
    let mut speak = |voter: &mut Voter| {
        while let Some(frame) = voter.poll_transmit() {
            sim.say(peer, &frame);
        }
        sim.heard(peer).iter().for_each(|frame| voter.handle(frame).unwrap());
        std::iter::from_fn(|| voter.poll_step()).collect::<Vec<_>>()
    };
    assert_eq!(speak(&mut voter), [Step::Welcomed]);
    misuse(voter.provide(parameters(DIMENSION - 1, 1)));
    voter.provide(parameters(DIMENSION, 1)).unwrap();
    misuse(voter.provide(parameters(DIMENSION, 1)));
    misuse(voter.submit_signs(0, &[0; 4], &[0; 4]));
    assert!(speak(&mut voter).is_empty());
    for _ in 0..2 {
        sim.join(None);
    }
    sim.run_until(Sim::started);
    sim.heard(peer).iter().for_each(|frame| voter.handle(frame).unwrap());
    assert!(matches!(voter.poll_step(), Some(Step::Open { .. })));
    misuse(voter.submit_gradient(0, &[0.0; DIMENSION]));
    misuse(voter.submit_signs(0, &[0; 4], &[0; 3]));
    misuse(voter.submit_signs(0, &[0; 5], &[0; 5]));
    misuse(voter.submit_signs(4, &[0; 1], &[0; 1]));
    misuse(voter.submit_signs(400, &[0; 1], &[0; 1]));
    voter.submit_signs(3, &[0; 1], &[0; 1]).unwrap();
    misuse(voter.submit_signs(3, &[0; 1], &[0; 1]));
    voter.report(1.0, 1, 1, 0).unwrap();
    misuse(voter.report(1.0, 1, 1, 0));
}
