"""Scripts that call Python functions."""

import pytest

import bty

WORLD = {
    "disks": [{"path": "/dev/sda", "size": "8G", "serial": "A"}, {"path": "/dev/sdb", "size": "8G", "serial": "B", "fails": "broken"}],
    "images": [{"src": "a.img", "disk_size": "2G"}],
}


def test_functions_of_python():
    seen = []

    def note(*values):
        seen.append(values)
        return {"count": len(values), "nested": [1, None, True, "x", 1.5]}

    text = 'let a = lab::note(1, "two", #{ three: [3] }); a.nested.len() + a.count + plus(1)'
    outcome = bty.script.run(text=text, functions={"lab::note": note, "plus": lambda a, b=1: a + b})
    assert seen == [(1, "two", {"three": [3]})]
    assert outcome.value == 5 + 3 + 2


def test_what_functions_raise():
    class Mine(Exception):
        pass

    def fail():
        raise Mine("no power")

    with pytest.raises(Mine, match="no power"):
        bty.script.run(text="fail()", functions={"fail": fail})
    caught = bty.script.run(text='let said = (); try { fail() } catch (e) { said = e.kind + ": " + e.message; } said', functions={"fail": fail})
    assert caught.value == "python: no power"

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bty.script.run(text="try { stop() } catch { 1 }", functions={"stop": interrupt})


def test_names_that_are_taken():
    with pytest.raises(bty.ScriptError, match="module of bty"):
        bty.script.run(text="1", functions={"disks::list": lambda: 1})
    with pytest.raises(bty.ScriptError, match="not a valid function name"):
        bty.script.run(text="1", functions={"a b": lambda: 1})


def test_described_machines():
    outcome = bty.script.simulate(text='flash("a.img", disks::by_serial("A")); print("done"); sleep(3); reboot()', world=WORLD)
    assert outcome.flashed[0]["image"] == "a.img" and outcome.power == "reboot" and outcome.printed == ["done"]
    assert [effect["effect"] for effect in outcome.effects] == ["flash", "sleep"]
    with pytest.raises(bty.ScriptError) as raised:
        bty.script.simulate(text='flash("a.img", disks::by_serial("B"))', world=WORLD)
    assert raised.value.kind == "target" and raised.value.place["line"] == 1
    with pytest.raises(bty.ScriptError, match="unknown field"):
        bty.script.simulate(text="1", world={"diskz": []})


def test_really(image, disk, tmp_path):
    script = tmp_path / "flash.rhai"
    script.write_text("import \"lib\" as lib;\nlib::write(ARGS[0], ARGS[1])")
    (tmp_path / "lib.rhai").write_text("fn write(image, disk) { flash(image, disk).disk_bytes }")
    events = []
    outcome = bty.script.run(script, str(image), str(disk.path), progress=events.append)
    assert outcome.value == image.stat().st_size and events
    assert bty.verify(image, disk).is_equal


def test_dry_run_and_capabilities(image, disk):
    before = disk.path.read_bytes()
    text = f'flash("{image}", "{disk.path}"); 1'
    assert bty.script.run(text=text, dry_run=True).flashed
    with pytest.raises(bty.ScriptError) as raised:
        bty.script.run(text=text, capabilities=["read"])
    assert raised.value.kind == "capability"
    assert disk.path.read_bytes() == before
    with pytest.raises(ValueError, match="capability"):
        bty.script.run(text=text, capabilities="write")


def test_limits_and_cancelling():
    with pytest.raises(bty.ScriptError) as raised:
        bty.script.run(text="loop { }", timeout=0.2)
    assert raised.value.kind == "limit"
    calls = []
    with pytest.raises(bty.ScriptError) as raised:
        bty.script.run(text="loop { }", cancel=lambda: calls.append(1) or len(calls) > 3)
    assert raised.value.kind == "cancelled"


def test_printing_and_calling():
    lines = []
    outcome = bty.script.run(text='fn add(a, b) { print("adding"); a + b }', call="add", values=[1, 2], print=lines.append)
    assert (outcome.value, lines, outcome.printed) == (3, ["adding"], ["adding"])

    def failing(_line):
        raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        bty.script.run(text='print("a"); sleep(60)', print=failing)


def test_check():
    findings = bty.script.check(text="lab::note(1);\nlab::nothing()", functions={"lab::note": lambda a: a})
    assert [(finding.message, finding.place["line"]) for finding in findings] == [("there is no function lab::nothing", 2)]
    assert bty.script.check(text="let = 1")[0].place["line"] == 1
    with pytest.raises(TypeError):
        bty.script.check()


def test_decide():
    plan = 'fn boot(m) { boot_disk(m.labels[0]) }\nfn on(m, event) { m.state.seen = event.kind; }'
    machine = {"mac": "52:54:00:12:34:56", "labels": ["rack"]}
    assert bty.script.decide(text=plan, machine=machine).value["reason"] == "rack"
    decision = bty.script.decide(None, "on", machine, {"kind": "machine.flashed"}, text=plan)
    assert decision.state == {"seen": "machine.flashed"}
    assert not bty.script.decide(text=plan, function="plan", machine=machine).is_defined
    with pytest.raises(ValueError):
        bty.script.decide(text=plan, machine={"mca": "x"})
