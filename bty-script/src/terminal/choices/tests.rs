use std::ops::ControlFlow;

use bty::CancelToken;
use proptest::prelude::*;

use super::picker::Picker;
use super::{Choice, ChoiceList, ChoiceRow};
use crate::terminal::keys::Key;
use crate::terminal::{ScriptedTerminal, Style, Terminal, TerminalSize};

fn list(names: &[&str]) -> ChoiceList {
    let row = |name: &&str| ChoiceRow { cells: vec![(*name).to_owned()], ..ChoiceRow::default() };
    let key = |key: &str, label: &str| (key.to_owned(), label.to_owned());
    ChoiceList {
        title: "Pick an image".into(),
        headers: vec!["Name".into()],
        rows: names.iter().map(row).collect(),
        keys: vec![key("r", "rescan"), key("b", "back"), key("q", "quit")],
        ..ChoiceList::default()
    }
}

/// The list of the tests: a row that can be picked, one that cannot, and ten more.
fn systems() -> ChoiceList {
    let mut list = list(&[
        "debian-12",
        "debian-13",
        "fedora-42",
        "ubuntu-24",
        "alpine",
        "arch",
        "rocky",
        "suse",
        "nixos",
        "void",
        "gentoo",
        "freebsd",
    ]);
    list.rows[1].refusal = Some("it is in use".into());
    list
}

/// What the keys choose; `None` while the list is open.
fn press(list: &ChoiceList, keys: &[Key]) -> Option<Option<Choice>> {
    let mut picker = Picker::new(list, TerminalSize::default());
    keys.iter().find_map(|key| match picker.press(*key) {
        ControlFlow::Break(choice) => Some(choice),
        ControlFlow::Continue(()) => None,
    })
}

fn typed(text: &str) -> Vec<Key> {
    text.chars().map(|c| if c == '\r' { Key::Enter } else { Key::Char(c) }).collect()
}

fn shown(list: &ChoiceList, keys: &[Key]) -> Vec<String> {
    let mut picker = Picker::new(list, TerminalSize::default());
    keys.iter().for_each(|key| assert!(picker.press(*key).is_continue()));
    picker.lines(&|_, text| text.to_owned())
}

#[test]
fn what_is_typed_filters_and_enter_picks_the_first_row_that_can_be_picked() {
    let list = systems();
    assert_eq!(press(&list, &typed("fed\r")), Some(Some(Choice::Row(2))));
    assert_eq!(press(&list, &typed("42 FED\r")), Some(Some(Choice::Row(2))));
    // 13 is no row number here, but a part of a name; its row is refused
    assert_eq!(press(&list, &typed("13\r")), None);
    let lines = shown(&list, &typed("13\r"));
    assert!(lines.iter().any(|line| line == "2 cannot be picked: it is in use"), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("debian")).count(), 1, "{lines:#?}");
    assert_eq!(press(&list, &typed("zzz\r")), None);
    assert!(shown(&list, &typed("zzz\r")).iter().any(|line| line.contains("matches no row")));
}

#[test]
fn numbers_and_keys_mean_the_same_as_in_the_list_by_numbers() {
    let list = systems();
    for (answer, choice) in [
        ("3", Choice::Row(2)),
        ("12", Choice::Row(11)),
        ("r", Choice::Key("r".into())),
        ("Q", Choice::Key("q".into())),
        ("", Choice::Key(String::new())),
    ] {
        assert_eq!(press(&list, &typed(&format!("{answer}\r"))), Some(Some(choice.clone())));
        let terminal = ScriptedTerminal::new([answer.to_owned()]);
        assert_eq!(terminal.choose(&list, &CancelToken::new()).unwrap(), Some(choice));
    }
}

#[test]
fn the_cursor_moves_by_rows_and_pages_and_stays_in_the_list() {
    use Key::{Down, End, Enter, Home, PageDown, PageUp, Up};
    let list = ChoiceList { height: Some(5), ..systems() };
    for (keys, row) in [
        (&[Down, Enter][..], 0),
        (&[Up, Enter], 11),
        (&[Down, Up, Up, Enter], 0),
        (&[End, Down, Enter], 11),
        (&[Down, PageDown, Enter], 5),
        (&[End, PageUp, Enter], 6),
        (&[End, Home, Enter], 0),
        // with the cursor on a row, the typed text is a filter and no key
        (&[Key::Char('r'), Down, Enter], 2),
    ] {
        assert_eq!(press(&list, keys), Some(Some(Choice::Row(row))), "{keys:?}");
    }
    let lines = shown(&list, &[End]);
    assert!(lines.iter().any(|line| line == "8..12 of 12"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("> 12 ")), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "> Pick an image: ");
}

#[test]
fn escape_clears_what_was_typed_and_then_goes_back() {
    let list = systems();
    assert_eq!(press(&list, &[Key::Char('x'), Key::Escape]), None);
    let keys = [Key::Char('x'), Key::Escape, Key::Escape];
    assert_eq!(press(&list, &keys), Some(Some(Choice::Key("b".into()))));
    assert_eq!(press(&list, &[Key::EndOfInput]), Some(None));
}

#[test]
fn a_list_by_numbers_has_pages_and_filters_too() {
    let mut list = systems();
    list.height = Some(5);
    let choose = |answers: &[&str]| {
        let terminal = ScriptedTerminal::new(answers.iter().map(|&answer| answer.to_owned()));
        (terminal.choose(&list, &CancelToken::new()).unwrap(), terminal.transcript())
    };
    let (choice, said) = choose(&["n", "deb", "", "2", "", "77", "", "12"]);
    assert_eq!(choice, Some(Choice::Row(11)));
    for text in [
        "1..5 of 12",
        "6..10 of 12",
        "1..2 of 2 with \"deb\"; Enter shows all",
        "2 cannot be picked: it is in use",
        "there is no number 77: pick 1 to 12",
        "[n] next page   [p] previous page   [1..] pick   [r] rescan   [b] back   [q] quit",
    ] {
        assert!(said.iter().any(|line| line == text), "{text}: {said:#?}");
    }
    assert_eq!(choose(&[]).0, None, "the end of the input");
}

proptest! {
    #[test]
    fn any_keys_keep_the_screen_within_its_size(
        keys in prop::collection::vec(any_key(), 0..60),
        columns in 40..200_usize,
        rows in 10..60_usize,
    ) {
        let list = systems();
        let size = TerminalSize { columns, rows };
        let mut picker = Picker::new(&list, size);
        picker.resize(size);
        for key in keys {
            if let ControlFlow::Break(choice) = picker.press(key) {
                if let Some(Choice::Row(row)) = choice {
                    prop_assert!(list.rows[row].refusal.is_none());
                }
                break;
            }
            let lines = picker.lines(&|_: Style, text| text.to_owned());
            prop_assert!(lines.len() < rows.max(11), "{lines:#?}");
            let (_, above) = lines.split_last().unwrap();
            prop_assert!(above.iter().all(|line| line.chars().count() < columns), "{lines:#?}");
        }
    }
}

fn any_key() -> impl Strategy<Value = Key> {
    use Key::{Backspace, Clear, Down, End, EndOfInput, Enter, Escape, Home, PageDown, PageUp, Up};
    let keys = [Enter, Backspace, Clear, Escape, EndOfInput, Up, Down, PageUp, PageDown, Home, End];
    prop_oneof![
        prop::sample::select(keys.to_vec()),
        prop::char::range('0', 'z').prop_map(Key::Char),
    ]
}
