use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::keys::Action;
use super::model::{Command, Model, NodeSort, View};

fn status() -> Value {
    json!({
        "now": "2026-01-01T00:01:00Z",
        "clusters": [{ "name": "ccfs", "nodes": [
            { "address": "a:1", "state": "up", "in_flight": 1, "failures": 0, "p99_ms": 5.0 },
            { "address": "b:1", "state": "down", "in_flight": 0, "failures": 9, "p99_ms": null },
            { "address": "c:1", "state": "drained", "in_flight": 7, "failures": 3, "p99_ms": 9.0 },
        ]}],
        "history": { "newest": 2, "points": [{ "requests": 1.5 }, { "requests": 2.0 }] },
    })
}

fn model() -> Model {
    let mut model = Model::new("127.0.0.1:9901".to_owned());
    model.on_status(Ok(status()));
    model
}

fn press(model: &mut Model, code: KeyCode) -> Action {
    model.on_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn order(model: &Model) -> Vec<&str> {
    model.nodes.iter().map(|node| &*node.address).collect()
}

#[test]
fn nodes_are_sorted_and_the_selected_one_stays() {
    let mut model = model();
    assert_eq!(order(&model), ["a:1", "b:1", "c:1"]);
    press(&mut model, KeyCode::Down);
    assert_eq!(model.selected_index(), Some(1));
    for (sort, expected) in [
        (NodeSort::State, ["b:1", "c:1", "a:1"]),
        (NodeSort::InFlight, ["c:1", "a:1", "b:1"]),
        (NodeSort::Rate, ["a:1", "b:1", "c:1"]),
        (NodeSort::Failures, ["b:1", "c:1", "a:1"]),
        (NodeSort::Latency, ["c:1", "a:1", "b:1"]),
        (NodeSort::Name, ["a:1", "b:1", "c:1"]),
    ] {
        press(&mut model, KeyCode::Char('s'));
        assert_eq!((model.node_sort, order(&model)), (sort, expected.to_vec()));
        let selected = model.selected_index().unwrap();
        assert_eq!(model.nodes[selected].address, "b:1", "{sort:?}");
    }
    press(&mut model, KeyCode::End);
    assert_eq!(model.selected_index(), Some(2));
    press(&mut model, KeyCode::PageUp);
    assert_eq!(model.selected_index(), Some(0));
    let mut gone = status();
    gone["clusters"][0]["nodes"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    model.on_status(Ok(gone));
    assert_eq!(model.selected_index(), Some(0), "another one is selected");
}

#[test]
fn only_a_yes_sends_an_order() {
    let mut model = model();
    for no in ['n', 'q', 'd'] {
        assert_eq!(press(&mut model, KeyCode::Char('d')), Action::None);
        assert!(
            model
                .question
                .as_ref()
                .is_some_and(|order| model.is_last_usable(order))
        );
        assert_eq!(press(&mut model, KeyCode::Char(no)), Action::None);
        assert!(model.question.is_none());
    }
    press(&mut model, KeyCode::Char('u'));
    let Action::Send(sent) = press(&mut model, KeyCode::Char('y')) else {
        panic!("no order");
    };
    assert_eq!(
        (sent.command, &*sent.cluster, &*sent.address),
        (Command::Undrain, "ccfs", "a:1")
    );
    press(&mut model, KeyCode::Char('2'));
    press(&mut model, KeyCode::Char('d'));
    assert!(model.question.is_none(), "no node is in sight");
}

#[test]
fn keys_choose_the_view_and_end_the_command() {
    let mut model = model();
    for (key, view) in [
        (KeyCode::Char('3'), View::Nodes),
        (KeyCode::Tab, View::AccessKeys),
        (KeyCode::Tab, View::Events),
        (KeyCode::Tab, View::Overview),
        (KeyCode::Char('2'), View::Findings),
        (KeyCode::Esc, View::Overview),
    ] {
        assert_eq!(press(&mut model, key), Action::None);
        assert_eq!(model.view, view);
    }
    press(&mut model, KeyCode::Char('?'));
    assert!(model.shows_help);
    assert_eq!(press(&mut model, KeyCode::Char('q')), Action::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.on_key(control_c), Action::Quit);
    let control_d = KeyEvent::new(KeyCode::Char('d'), KeyModifiers::CONTROL);
    assert_eq!(model.on_key(control_d), Action::None);
    assert!(model.question.is_none());
}

#[test]
fn the_chart_takes_each_point_once_and_begins_anew_with_another_process() {
    let mut model = model();
    assert_eq!(model.history, [15, 20]);
    assert!(model.path().contains("after=2"), "{}", model.path());
    let mut next = status();
    next["history"] = json!({ "newest": 3, "points": [{ "requests": 3.0 }] });
    model.on_status(Ok(next.clone()));
    assert_eq!(model.history, [15, 20, 30]);
    next["history"] = json!({ "newest": 1, "points": [{ "requests": 4.0 }] });
    model.on_status(Ok(next));
    assert_eq!(model.history, [40]);
    model.on_status(Err("cannot reach it".to_owned()));
    let since = model.problem.as_ref().unwrap().1;
    model.on_status(Err("cannot reach it".to_owned()));
    assert_eq!(model.problem.as_ref().unwrap().1, since);
    assert!(!model.nodes.is_empty(), "what was last known stays");
}
