use std::sync::Arc;
use std::time::{Duration, Instant};

use bty::Client;
use proptest::prelude::*;

use super::*;
use crate::context::{Capabilities, Capability};
use crate::convert::{Size, to_json};
use crate::error::Cause;
use crate::terminal::ScriptedTerminal;
use crate::world::{Effect, SimulatedWorld, SystemWorld};

fn run_in(
    context: ScriptContext,
    limits: Limits,
    text: &str,
) -> Result<ScriptOutcome, ScriptError> {
    let engine = Engine::new(context, limits);
    let script = engine.compile("script.rhai", text, &ImportRoot::None)?;
    engine.run(&script, &[], &CancelToken::new())
}

fn compute(limits: Limits, text: &str) -> Result<ScriptOutcome, ScriptError> {
    run_in(ScriptContext::compute_only(), limits, text)
}

/// This machine, with the capabilities to read and to wait, but not to write.
fn this_machine() -> ScriptContext {
    this_machine_with(ScriptedTerminal::default())
}

fn this_machine_with(terminal: ScriptedTerminal) -> ScriptContext {
    let world = SystemWorld::world(Client::default(), Arc::new(terminal), Arc::new(()));
    ScriptContext::new(Capabilities::NONE.with(Capability::Read).with(Capability::Power), world)
}

#[test]
fn variables_functions_depth_and_modules_are_counted() {
    let variables: String = (0..300).map(|i| format!("let v{i} = {i};\n")).collect();
    let error = compute(Limits::server(), &variables).unwrap_err();
    assert_eq!(
        (error.cause, error.message.as_str()),
        (Cause::Limit, "the script has too many variables")
    );
    assert!(error.place.is_some());
    let functions: String = (0..200).map(|i| format!("fn f{i}() {{}}\n")).collect();
    assert_eq!(compute(Limits::server(), &functions).unwrap_err().cause, Cause::Syntax);
    let deep = format!("{}1{}", "(".repeat(100), ")".repeat(100));
    assert_eq!(compute(Limits::server(), &deep).unwrap_err().cause, Cause::Syntax);

    let dir = tempfile::tempdir().unwrap();
    let imports =
        |n: usize| (0..n).map(|i| format!("import \"m{i}\" as m{i};\n")).collect::<String>();
    (0..30)
        .for_each(|i| std::fs::write(dir.path().join(format!("m{i}.rhai")), "fn f() {}").unwrap());
    let engine = Engine::new(ScriptContext::compute_only(), Limits::server());
    let root = ImportRoot::Directory(dir.path().to_owned());
    for (count, is_fine) in [(10, true), (30, false)] {
        let script = engine.compile("script.rhai", &imports(count), &root).unwrap();
        let outcome = engine.run(&script, &[], &CancelToken::new());
        assert_eq!(outcome.is_ok(), is_fine, "{count} imports");
        assert!(outcome.err().is_none_or(|error| error.cause == Cause::Limit));
    }
}

#[test]
fn modules_that_import_each_other_fail_instead_of_hanging() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.rhai"), "import \"b\" as b; fn f() {}").unwrap();
    std::fs::write(dir.path().join("b.rhai"), "import \"a\" as a; fn f() {}").unwrap();
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let script = engine
        .compile("script.rhai", "import \"a\" as a;", &ImportRoot::Directory(dir.path().to_owned()))
        .unwrap();
    let error = engine.run(&script, &[], &CancelToken::new()).unwrap_err();
    assert!(error.message.contains("imports itself"), "{error}");
    assert!(error.place.unwrap().file.ends_with("b.rhai"));
}

#[test]
fn waiting_counts_against_the_time_limit() {
    let begun = Instant::now();
    let limits = Limits::operator().with_time(Some(Duration::from_millis(200)));
    let error = run_in(this_machine(), limits, "sleep(600);").unwrap_err();
    assert_eq!(error.cause, Cause::Limit, "{error}");
    assert!(error.message.contains("longer than 0.2 s"), "{error}");
    // a bound on hanging, not on speed
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn limits_cannot_be_caught() {
    let limits = Limits::operator().with_time(Some(Duration::from_millis(200)));
    let error =
        run_in(this_machine(), limits, "loop { try { sleep(600); } catch {} }").unwrap_err();
    assert_eq!(error.cause, Cause::Limit, "{error}");
}

#[test]
fn cancelling_ends_a_loop_and_a_wait() {
    for text in ["loop {}", "sleep(600);", "loop { try { sleep(600); } catch {} }"] {
        let terminal = ScriptedTerminal::default();
        let engine = Engine::new(this_machine_with(terminal.clone()), Limits::operator());
        let script = engine
            .compile("script.rhai", &format!("print(\"begun\"); {text}"), &ImportRoot::None)
            .unwrap();
        let cancel = CancelToken::new();
        let context = engine.context.clone();
        let canceller = std::thread::spawn(move || {
            let begun = Instant::now();
            while terminal.printed().is_empty() && begun.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(1));
            }
            context.interrupt();
        });
        let error = engine.run(&script, &[], &cancel).unwrap_err();
        canceller.join().unwrap();
        assert_eq!(error.kind(), "cancelled", "{text}: {error}");
    }
}

#[test]
fn eval_and_imports_outside_the_root_are_refused() {
    for (text, why) in [
        ("eval(\"1\")", "eval"),
        ("import \"/etc/passwd\" as p;", "this script may not import anything"),
        ("import \"confirm\" as c;", "this script may not import anything"),
        ("let x = nowhere;", "nowhere"),
        ("timestamp()", "timestamp"),
    ] {
        let error = compute(Limits::operator(), text).unwrap_err();
        assert!(error.message.contains(why), "{text}: {error}");
        assert!(error.place.is_some(), "{text}: {error}");
    }
}

#[test]
fn a_context_without_capabilities_only_computes() {
    for text in [
        "disks()",
        "disks::list()",
        "disks::probe(\"/dev/sda\")",
        "disks::select(\"serial:1\")",
        "disks::by_serial(\"1\")",
        "disks::by_wwn(\"1\")",
        "disks::only(|d| true)",
        "disks::wait(\"serial:1\", 1)",
        "disks::create_file(\"x.img\", 1)",
        "images::open(\"x.img\")",
        "images::open(\"http://host/x.img\")",
        "images::list(\".\")",
        "catalog::load(\"x.toml\")",
        "oci::resolve(\"oras://host/a/b:c\")",
        "flash(\"x.img\", \"/dev/sda\")",
        "flash::plan(\"x.img\", \"/dev/sda\")",
        "verify(\"x.img\", \"/dev/sda\")",
        "http::get(\"http://host\")",
        "http::get_json(\"http://host\")",
        "http::post_json(\"http://host\", 1)",
        "system::hostname()",
        "system::cmdline()",
        "system::dmi()",
        "system::inventory()",
        "system::now()",
        "system::time()",
        "ui::say(\"x\")",
        "ui::panel(\"x\", [])",
        "ui::table([], [])",
        "ui::ask(\"x\")",
        "ui::confirm(\"x\")",
        "ui::columns()",
        "sleep(1)",
        "sleep(0.5)",
        "reboot()",
        "power_off()",
        "log(\"x\")",
    ] {
        let error = compute(Limits::server(), text).expect_err(text);
        assert_eq!(error.kind(), "capability", "{text}: {error}");
    }
}

#[test]
fn local_images_need_no_network_and_others_do() {
    let context = || {
        ScriptContext::new(
            Capabilities::NONE.with(Capability::Read),
            SystemWorld::world(
                Client::default(),
                Arc::new(ScriptedTerminal::default()),
                Arc::new(()),
            ),
        )
    };
    let local =
        run_in(context(), Limits::operator(), "images::open(\"/nowhere.img\")").unwrap_err();
    assert_eq!(local.kind(), "source");
    for text in
        ["images::open(\"http://127.0.0.1:1/x\")", "catalog::load(\"oras://127.0.0.1/a/b:c\")"]
    {
        assert_eq!(
            run_in(context(), Limits::operator(), text).unwrap_err().kind(),
            "capability",
            "{text}"
        );
    }
}

const RACK: &str = r#"
    [[disks]]
    path = "/dev/sda"
    size = 18446744073709551104
    serial = "HUGE"
    [[disks]]
    path = "/dev/sdb"
    size = "8G"
    serial = "SMALL"
    transport = "usb"
    [[images]]
    src = "/images/a.img"
    disk_size = "16G"
"#;

fn simulate(text: &str) -> Result<ScriptOutcome, ScriptError> {
    let (world, ..) = SimulatedWorld::parse(RACK).unwrap();
    run_in(ScriptContext::new(Capabilities::all(), world), Limits::operator(), text)
}

#[test]
fn a_host_error_is_caught_as_error_and_a_throw_as_the_thrown_value() {
    let text = r#"
        let found = [];
        try { disks::by_serial("none") } catch (e) {
            found.push(type_of(e));
            found.push(e.kind);
            found.push(e.hint.contains("HUGE"));
        }
        try { flash("/images/a.img", "serial:SMALL") } catch (e) {
            found.push(e.kind);
            found.push(e.message.contains("16.0 GiB"));
        }
        try { throw "mine" } catch (e) { found.push(type_of(e)); found.push(e); }
        try { throw #{ code: 7 } } catch (e) { found.push(e.code); }
        try { let a = [1]; a[5] } catch (e) { found.push(e.error); }
        found
    "#;
    let found = to_json(&simulate(text).unwrap().value).unwrap();
    let wanted = serde_json::json!([
        "Error",
        "refused",
        true,
        "refused",
        true,
        "string",
        "mine",
        7,
        "ErrorArrayBounds"
    ]);
    assert_eq!(found, wanted);
}

#[test]
fn uncaught_failures_have_their_cause() {
    for (text, cause, kind) in [
        ("disks::by_serial(\"none\")", Cause::Host, "refused"),
        ("throw \"mine\"", Cause::Throw, "throw"),
        ("try { disks::by_serial(\"none\") } catch (e) { throw e; }", Cause::Host, "refused"),
        ("let a = [1]; a[5]", Cause::Script, "script"),
        ("1 + ", Cause::Syntax, "syntax"),
        ("size(-1)", Cause::Host, "usage"),
    ] {
        let error = simulate(text).unwrap_err();
        assert_eq!((error.cause, error.kind()), (cause, kind), "{text}: {error}");
    }
}

#[test]
fn a_failure_in_a_function_shows_its_line_and_the_calls() {
    let error =
        simulate("fn pick(s) {\n    disks::by_serial(s)\n}\n\npick(\"none\");").unwrap_err();
    let shown = error.to_string();
    let wanted = "no disk matches serial:none\n  --> script.rhai:2:12\n   |\n 2 |     \
                  disks::by_serial(s)\n   |            ^\n  called from script.rhai:5:1";
    assert_eq!(shown, wanted);
}

#[test]
fn misspelled_options_are_refused() {
    let error =
        simulate("flash(\"/images/a.img\", \"serial:HUGE\", #{ verfy: false })").unwrap_err();
    assert_eq!(error.message, "unknown option verfy of flash");
    let error = simulate("flash(\"/images/a.img\", \"serial:HUGE\", #{ verify: 1 })").unwrap_err();
    assert_eq!(error.message, "the option verify of flash must be true or false");
}

#[test]
fn reboot_ends_the_script_and_cannot_be_caught() {
    let outcome =
        simulate("try { reboot(); } catch { throw \"caught\" } throw \"went on\"").unwrap();
    assert_eq!(outcome.power, Some(PowerAction::Reboot));
    let outcome = simulate("fn f() { power_off() } f(); throw \"went on\"").unwrap();
    assert_eq!(outcome.power, Some(PowerAction::PowerOff));
    let outcome = simulate("fn f() { exit(3) } f();").unwrap();
    assert!(outcome.by_exit);
    assert_eq!(outcome.value.as_int(), Ok(3));
}

#[test]
fn sizes_keep_all_64_bits() {
    let text = "let d = disks::by_serial(\"HUGE\"); [d.size_bytes == \
                size(\"18446744073709551104\"), d.size_bytes - 1 < d.size_bytes, \
                `${d.size_bytes}`, d.size_bytes / 2 * 2 == d.size_bytes]";
    let found = to_json(&simulate(text).unwrap().value).unwrap();
    assert_eq!(found, serde_json::json!([true, true, "16.0 EiB", true]));
    let error = simulate("disks::by_serial(\"HUGE\").size_bytes.bytes").unwrap_err();
    assert!(error.message.contains("do not fit into an integer"), "{error}");
    for text in [
        "disks::by_serial(\"HUGE\").size_bytes * 2",
        "size(0) - disks::by_serial(\"HUGE\").size_bytes",
        "size(1) / 0",
        "size(5) % size(0)",
        "size(5) / size(0)",
    ] {
        assert!(simulate(text).unwrap_err().message.contains("out of range"), "{text}");
    }
}

#[test]
fn the_progress_function_sees_events_and_cancels_by_throwing() {
    let text = r#"
        let phases = [];
        let keep = |e| if e.event == "phase" { phases.push(e.phase); };
        let report = flash("/images/a.img", "serial:HUGE", #{}, keep);
        [phases, report.is_success]
    "#;
    assert_eq!(
        to_json(&simulate(text).unwrap().value).unwrap(),
        serde_json::json!([["wipe", "write", "verify"], true])
    );
    let error = simulate("flash(\"/images/a.img\", \"serial:HUGE\", #{}, |e| throw \"enough\")")
        .unwrap_err();
    assert_eq!((error.cause, error.message.as_str()), (Cause::Throw, "enough"));
}

/// The value of `text` as JSON, or the message of its failure and the hint.
fn evaluate(text: &str) -> Result<serde_json::Value, String> {
    let shown =
        |error: ScriptError| format!("{}: {}", error.message, error.hint.unwrap_or_default());
    compute(Limits::operator(), text).map(|outcome| to_json(&outcome.value).unwrap()).map_err(shown)
}

#[test]
fn sizes_compare_with_texts_and_numbers_in_every_operator() {
    for (text, wanted) in [
        ("size(\"500GB\") > \"100G\"", true),
        ("size(\"500GB\") >= \"500GB\"", true),
        ("size(\"500GB\") < \"100G\"", false),
        ("\"100G\" < size(\"500GB\")", true),
        ("\"100G\" <= size(\"1G\")", false),
        ("size(\"1G\") == \"1GiB\"", true),
        ("size(\"1G\") != \"1GiB\"", false),
        ("\"1024M\" == size(\"1G\")", true),
        ("size(\"1G\") in [\"1G\", \"2G\"]", true),
        ("[\"1G\", \"2G\"].index_of(size(\"2G\")) == 1", true),
        ("[size(\"1G\")] == [\"1G\"]", true),
        ("size(1000) > 999.5", true),
        ("999.5 < size(1000)", true),
        ("size(\"18446744073709551615\") < 1.9e19", true),
        ("size(\"9007199254740993\") == 9007199254740992.0", false),
        ("size(0) > -0.5", true),
        ("size(5) == 5", true),
        ("5 != size(5)", false),
        ("size(5) == () || () == size(5)", false),
        ("size(5) != ()", true),
        ("max(size(\"1G\"), \"2G\") == \"2G\" && min(3, size(5)) == 3", true),
        ("size(1) - size(3) == -2 && size(1) - size(3) < 0", true),
        ("-size(2) == -2 && 5 - size(7) == -2 && size(2) * -3 == -6", true),
        ("size(10) * 1.5 == 15 && 1.25 * size(10) == 12 && size(10) / 4.0 == 2", true),
        ("size(10) + 2.0 == 12 && 2.0 + size(10) == 12 && size(10) - 2.0 == 8", true),
        ("size(\"1G\") - \"1M\" == \"1023M\" && \"1G\" - size(\"1M\") == \"1023M\"", true),
        ("size(\"1G\") / \"1M\" == 1024 && size(10) % 4 == 2 && size(10) % \"4\" == 2", true),
        ("size(1e9) == 1000000000 && max(size(5), 1e3) == 1000", true),
        ("size(5) in 0..6 && !(size(5) in 0..5) && size(5) in 0..=5", true),
        ("[size(\"2G\"), \"1G\", size(5)].order() == [5, \"1G\", \"2G\"]", true),
        ("let s = [size(2), size(3), size(1)]; s.sort_desc(); s == [3, 2, 1]", true),
        ("[3, 1.5, 2].order() == [1.5, 2, 3] && [\"b\", \"a\"].order() == [\"a\", \"b\"]", true),
        (
            "\"10\" < \"9\" && \"a\" < \"b\" && max(\"a\", \"b\") == \"b\" && \
             min(\"a\", \"b\") == \"a\"",
            true,
        ),
        // comparisons of the language itself are unchanged
        (
            "1 < 2 && 1.5 > 1 && \"a\" < \"b\" && 'a' == \"a\" && true != false && [1] == [1] && \
             #{a: 1} == #{a: 1}",
            true,
        ),
        ("#{} == \"auto\" || 5 == \"all\" || () == 1 || \"\" == ()", false),
        ("let limit = \"1G\"; [size(\"2G\")].all(|s| s > limit)", true),
    ] {
        assert_eq!(evaluate(text), Ok(wanted.into()), "{text}");
    }
}

#[test]
fn comparing_values_of_different_types_fails() {
    for (text, why) in [
        ("size(5) > \"big\"", "\"big\" is not a size"),
        ("size(5) == \"big\"", "\"big\" is not a size"),
        (
            "size(5).bytes > \"100G\"",
            "cannot compare a number and a string with >: use size(\"100G\")",
        ),
        ("\"100G\" == 5", "cannot compare a string and a number with ==: use size(\"100G\")"),
        ("5.5 != \"100G\"", "with !="),
        ("5 in [\"4G\"]", "with =="),
        ("5 < \"x\"", "parse_int() or parse_float()"),
        ("() < 5", "cannot compare () and a number with <: () means that the value is unknown"),
        ("size(5) >= ()", "cannot compare a size and () with >="),
        ("\"x\" > ()", "cannot compare a string and ()"),
        ("() <= ()", "cannot compare"),
        ("size(5) < true", "cannot compare a size and true or false"),
        ("size(5) == [5]", "cannot compare a size and an array with =="),
        ("[1] < 2", "cannot compare an array and a number"),
        ("size(5) + \"1G\"", "cannot add a size and the string \"1G\""),
        ("let s = size(5); s += \"1G\"; s", "cannot add"),
        ("size(5) == 0.0 / 0.0", "cannot compare a size and a number with ==: the number is NaN"),
        ("size(5) + 0.5", "cannot convert 0.5 to a size: it is not a whole number of bytes"),
        ("max(size(5), 1.5)", "it is not a whole number of bytes"),
        ("size(5) - \"big\"", "\"big\" is not a size"),
        ("size(5) - [1]", "cannot convert a value of type"),
        ("size(5) * (0.0 / 0.0)", "the product of sizes is out of range"),
        ("size(5) / 0.0", "the quotient of sizes is out of range"),
        ("size(5) * \"2\"", "there is no function *"),
        ("max(5, \"1G\")", "there is no function max"),
        ("\"20G\" < \"100G\"", "cannot compare the strings \"20G\" and \"100G\" with <: they are"),
        ("max(\"20G\", \"100G\")", "cannot compare the strings"),
        ("[\"20G\", \"100G\"].sort()", "with sort(): they are sizes"),
        ("[1, \"a\"].sort()", "cannot compare a number and a string with sort()"),
        ("[size(1), \"x\"].order()", "\"x\" is not a size"),
        ("[(), 1].order_desc()", "cannot compare () and a number with order_desc()"),
        ("size(5) && true", "expected a value of type bool, found Size"),
        ("[1, 2].filter(|a, b, c| true)", "a closure cannot be called with (i64, i64)"),
    ] {
        let error = evaluate(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    assert_eq!(evaluate("\"free: \" + size(1024) + \" here\""), Ok("free: 1.0 KiB here".into()));
    let error = compute(Limits::operator(), "let a = 1;\nif a > \"100G\" { throw 1 }").unwrap_err();
    assert_eq!(error.place.map(|place| (place.line, place.column)), Some((2, 6)));
}

#[test]
fn an_invalid_comparer_fails_the_script() {
    let sizes = "let s = [size(\"3G\"), size(\"1G\"), size(\"2G\")];";
    let of = |rest: &str| evaluate(&format!("{sizes} {rest} s.map(|x| x / size(\"1G\"))"));
    for (sort, wanted) in [
        ("s.sort(|a, b| a - b);", [1, 2, 3]),
        ("s.sort(|a, b| b - a);", [3, 2, 1]),
        ("s.sort(|a, b| -(a - b));", [3, 2, 1]),
        ("s.sort_by(|a, b| a < b);", [1, 2, 3]),
        ("s.sort(|a, b| a >= b);", [3, 2, 1]),
        ("s = s.order(|a, b| a.bytes - b.bytes);", [1, 2, 3]),
        ("s.sort(|a, b| (a.bytes - b.bytes) / 2.0);", [1, 2, 3]),
    ] {
        assert_eq!(of(sort), Ok(serde_json::json!(wanted)), "{sort}");
    }
    for (sort, why) in [
        ("s.sort(|a, b| a.nothing - b.nothing);", "has no field nothing"),
        ("s.sort(|a, b| throw \"no\");", "no"),
        ("s.sort(|a, b| \"a\");", "the callback of sort() returned a value of type string"),
        ("s.order(|a, b| ());", "the callback of sort() returned"),
        ("s.sort(|a, b| a);", "is inconsistent"),
        ("s.sort(|a| 1);", "a closure cannot be called with (Size, Size)"),
    ] {
        let error = of(sort).expect_err(sort);
        assert!(error.contains(why), "{sort}: {error}");
    }
    assert_eq!(
        evaluate("let s = [3, 1]; try { s.sort(|a, b| throw 1) } catch {} s"),
        Ok(serde_json::json!([3, 1]))
    );
    assert_eq!(
        evaluate("let s = [1, 1, 1]; s.sort(|a, b| a < b); s.sort(|a, b| a <= b); s"),
        Ok(serde_json::json!([1, 1, 1]))
    );
}

#[test]
fn callbacks_must_return_true_or_false() {
    for (text, wanted) in [
        ("[1, 2, 3].filter(|x| x > 1)", serde_json::json!([2, 3])),
        ("[1, 2, 3].filter(|x, i| i > 1)", serde_json::json!([3])),
        ("[1, 2, 3].filter(|| this < 2)", serde_json::json!([1])),
        ("[1, 2, 3].find(|x| x > 1)", serde_json::json!(2)),
        ("[1, 2, 3].find(|x| x > 1, -1)", serde_json::json!(3)),
        ("[1, 2, 3].find(|x| x > 9)", serde_json::json!(null)),
        ("[1, 2, 3].index_of(|x| x > 2)", serde_json::json!(2)),
        ("[1, 2, 3].index_of(2)", serde_json::json!(1)),
        (
            "[[].all(|x| x), [].some(|x| x), [1, 2].all(|x| x > 1), [1, 2].some(|x| x > 1)]",
            serde_json::json!([true, false, false, true]),
        ),
        ("let a = [1, 2, 3]; let b = a.drain(|x| x < 2); [a, b]", serde_json::json!([[2, 3], [1]])),
        (
            "let a = [1, 2, 3]; let b = a.retain(|x| x < 2); [a, b]",
            serde_json::json!([[1], [2, 3]]),
        ),
        ("let a = [1, 1, 2, 1]; a.dedup(); a", serde_json::json!([1, 2, 1])),
        ("let a = [1, 3, 2, 4]; a.dedup(|a, b| a % 2 == b % 2); a", serde_json::json!([1, 2])),
        ("#{ a: 1, b: 2 }.filter(|k, v| v > 1)", serde_json::json!({ "b": 2 })),
        (
            "fn big(x) { x > 1 } [1, 2].filter(\"big\") + [1, 2].filter(big)",
            serde_json::json!([2, 2]),
        ),
    ] {
        assert_eq!(evaluate(text), Ok(wanted), "{text}");
    }
    for call in [
        "filter(|x| 1)",
        "find(|x| \"\")",
        "index_of(|x| ())",
        "some(|x| x)",
        "all(|x| x)",
        "drain(|x| x)",
        "retain(|x| x)",
        "dedup(|a, b| 0)",
    ] {
        let error = evaluate(&format!("let a = [1, 2]; a.{call}")).expect_err(call);
        let name = call.split('(').next().unwrap();
        assert!(
            error.starts_with(&format!("the callback of {name}() returned a value of type")),
            "{call}: {error}"
        );
        let params = if name == "dedup" { "a, b" } else { "a" };
        let fails = format!("let a = [1, 2]; a.{name}(|{params}| nowhere(a))");
        let error = evaluate(&fails).expect_err(call);
        assert!(error.starts_with("there is no function nowhere"), "{call}: {error}");
    }
    let error = evaluate("#{ a: 1 }.filter(|k, v| v)").unwrap_err();
    assert!(error.contains("callback of filter() returned"), "{error}");
}

#[test]
fn shown_text_cannot_control_the_terminal() {
    let (world, _, terminal) = SimulatedWorld::parse("").unwrap();
    let text = "ui::say(\"a\\x1b[2Jb\\x07\"); ui::say(ui::paint(\"bad\", \"red\")); \
                ui::say(ui::clean(\"x\\x1b[31my\")); ui::table([#{ a: \"\\x1b]0;t\\x07\" }]);";
    run_in(ScriptContext::new(Capabilities::all(), world), Limits::operator(), text).unwrap();
    assert!(
        terminal.transcript().iter().all(|line| !line.contains(['\u{1b}', '\u{7}'])),
        "{:?}",
        terminal.transcript()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sizes_calculate_exactly(a in any::<u64>(), b in any::<u64>(), n in any::<i64>()) {
        let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
        let text = "fn sum(a, b) { a + b } fn less(a, n) { a < n } fn times(a, n) { a * n }";
        let script = engine.compile("s", text, &ImportRoot::None).unwrap();
        let call = |name: &str, left: Dynamic, right: Dynamic| {
            engine.call(&script, name, vec![left, right], &CancelToken::new())
        };
        let size = |n: u64| Dynamic::from(Size(n));
        let sum = call("sum", size(a), size(b)).ok().map(|e| e.value.cast::<Size>().0);
        prop_assert_eq!(sum, a.checked_add(b));
        let less = call("less", size(a), n.into()).unwrap().value.as_bool().unwrap();
        prop_assert_eq!(less, i128::from(a) < i128::from(n));
        let times = call("times", size(a), n.into()).ok().map(|e| match e.value.as_int() {
            Ok(below_zero) => i128::from(below_zero),
            Err(_) => i128::from(e.value.cast::<Size>().0),
        });
        let exact = i128::from(a).checked_mul(i128::from(n));
        let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
        prop_assert_eq!(times, exact.filter(|n| range.contains(n)));
    }
}

#[test]
fn an_unknown_value_is_shown_as_such() {
    for (text, wanted) in [
        ("`serial ${()}`", "serial ()"),
        ("\"a\" + () + \"b\"", "a()b"),
        ("() + \"b\"", "()b"),
        ("let s = \"a\"; s += (); s", "a()"),
        ("().to_string()", "()"),
        ("[(), 1].to_string()", "[(), 1]"),
    ] {
        assert_eq!(evaluate(text), Ok(wanted.into()), "{text}");
    }
    let error = evaluate("assert_eq((), 1)").unwrap_err();
    assert!(error.contains("found ()\n  expected 1"), "{error}");
    assert!(evaluate("throw ()").unwrap_err().contains("the script threw ()"));
}

#[test]
fn a_caught_string_has_the_fields_of_an_error() {
    let text = r#"
        let caught = ();
        try { throw "boom" } catch (e) {
            caught = [e.kind, e.message, e.hint, e.path, e.offset, e.report, e.has_written];
        }
        caught
    "#;
    let wanted = serde_json::json!(["throw", "boom", null, null, null, null, false]);
    assert_eq!(evaluate(text), Ok(wanted));
}

#[test]
fn a_caught_error_of_the_language_has_a_kind() {
    for (text, message) in [
        ("let a = [1]; a[5]", "out of bounds"),
        ("no_such_function(1)", "no_such_function"),
        ("disks::no_such_function(1)", "no_such_function"),
        ("1 / 0", "Division by zero"),
        ("9223372036854775807 + 1", "overflow"),
        ("let x = 5; x.no_such_field", "no_such_field"),
        ("let n = 5; if n { }", "bool"),
    ] {
        let text = format!(
            "fn f(error) {{ error.kind }} let caught = ();
             try {{ {text} }} catch (e) {{
                 let g = || e.kind;
                 caught = [e.kind, f(e), g.call(), e.hint, e.has_written, e.message];
             }} caught"
        );
        let mut found = evaluate(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let shown = found.as_array_mut().unwrap().pop().unwrap();
        assert_eq!(found, serde_json::json!(["script", "script", "script", null, false]), "{text}");
        assert!(shown.as_str().unwrap().contains(message), "{text}: {shown}");
    }
}

#[test]
fn a_caught_error_of_the_language_has_a_kind_in_an_imported_script() {
    let dir = tempfile::tempdir().unwrap();
    let text = "fn kind_of_fault() { try { [1][5] } catch (problem) { return problem.kind } }";
    std::fs::write(dir.path().join("lib.rhai"), text).unwrap();
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let root = ImportRoot::Directory(dir.path().to_owned());
    let text = "import \"lib\" as lib; lib::kind_of_fault()";
    let script = engine.compile("s.rhai", text, &root).unwrap();
    let outcome = engine.run(&script, &[], &CancelToken::new()).unwrap();
    assert_eq!(outcome.value.into_string().unwrap(), "script");
}

#[test]
fn a_map_of_the_script_is_no_error_of_the_language() {
    let text = r#"
        let caught = ();
        try { throw #{ error: "E7", message: "mine" } } catch (e) { caught = [e.kind, e.len()]; }
        try { throw #{ error: "ErrorOfMine" } } catch (e) { caught += [e.kind, e.len()]; }
        let e = 5;
        try { throw 1 } catch { caught.push(e) }
        caught
    "#;
    assert_eq!(evaluate(text), Ok(serde_json::json!([null, 2, null, 1, 5])));
}

#[test]
fn functions_see_the_arguments_and_the_facts() {
    let context = ScriptContext::compute_only().with_facts([("mac", "m".into())]);
    let engine = Engine::new(context, Limits::operator());
    let text = "fn f() { ARGS.len().to_string() + ARGS[0] + BTY.mac } fn run() { ARGS.len() } f()";
    let script = engine.compile("s.rhai", text, &ImportRoot::None).unwrap();
    for args in [vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]] {
        let outcome = engine.run(&script, &args, &CancelToken::new()).unwrap();
        let wanted = format!("{}{}m", args.len(), args[0]);
        assert_eq!(outcome.value.into_string(), Ok(wanted));
    }
    let script = engine.compile("s.rhai", "fn run() { ARGS.len() }", &ImportRoot::None).unwrap();
    let outcome = engine.call(&script, "run", Vec::new(), &CancelToken::new()).unwrap();
    assert_eq!(outcome.value.as_int(), Ok(0), "the arguments of an earlier run are gone");
}

#[test]
fn every_value_becomes_json_or_is_refused() {
    for (text, wanted) in [
        ("to_json([1, 2.5, true, 'c', \"x\\n\", ()])", r#"[1,2.5,true,"c","x\n",null]"#),
        ("#{ a: size(\"1K\") }.to_json()", r#"{"a":1024}"#),
        ("to_json(blob(2, 7))", "[7,7]"),
        ("to_json(\"x\")", r#""x""#),
        ("to_json(())", "null"),
        ("to_json(parse_json(\"[18446744073709551615]\"))", "[18446744073709551615]"),
    ] {
        assert_eq!(evaluate(text), Ok(wanted.into()), "{text}");
    }
    for (text, why) in [
        ("to_json(|x| x)", "cannot convert a value of type"),
        ("to_json(#{ a: 0.0 / 0.0 })", "cannot convert NaN to JSON"),
        ("parse_json(\"{\")", "the text is not JSON"),
    ] {
        let error = evaluate(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let text = r#"
        let plan = flash::plan("/images/a.img", "serial:HUGE");
        let shown = [plan, images::open("/images/a.img"), disks()[0], plan.execute()];
        shown.map(|value| parse_json(to_json(value)).is_empty())
    "#;
    let found = to_json(&simulate(text).unwrap().value).unwrap();
    assert_eq!(found, serde_json::json!([false, false, false, false]));
}

#[test]
fn texts_are_written_and_read_below_a_directory() {
    let world = r#"{ "files": { "in.txt": "hello" } }"#;
    let (world, effects, _) = SimulatedWorld::parse(world).unwrap();
    let engine = Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
    let text = r#"
        system::write_text("out.json", to_json(#{ text: system::read_text("in.txt") }));
        system::read_text("out.json")
    "#;
    let script = engine.compile("s.rhai", text, &ImportRoot::None).unwrap();
    let outcome = engine.run(&script, &[], &CancelToken::new()).unwrap();
    assert_eq!(outcome.value.into_string().as_deref(), Ok(r#"{"text":"hello"}"#));
    assert!(matches!(&effects.list()[..], [Effect::Write { .. }]), "{:?}", effects.list());
    let error = evaluate("system::read_text(\"x\")").unwrap_err();
    assert!(error.contains("may not read or write text files"), "{error}");
}
