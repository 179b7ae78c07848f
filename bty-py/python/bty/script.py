"""Scripts: checked, run, and tried on machines that are only described; with Python functions that they may call.

>>> import bty
>>> bty.script.run(text="fn main() { 1 + lab::two() } main()", functions={"lab::two": lambda: 2}).value
3
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Callable, Optional, Union

from . import _bty
from ._bty import CancelToken, Client, Event
from .errors import ScriptError

__all__ = ["Decision", "Finding", "Outcome", "ScriptError", "check", "decide", "run", "simulate"]


def _nothing() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True)
class Outcome:
    """How a script ended, when it did not fail."""

    #: Of the last expression, or of the function called; of ``exit`` its code.
    value: Any = None
    #: True when it ended by ``exit``.
    by_exit: bool = False
    #: ``reboot``, ``kexec`` or ``power_off``: what it wants to become of the machine. Nothing is done about it here.
    power: Optional[str] = None
    #: What it would have done, or did to a described machine; each has an ``effect``: ``flash``, ``create``, ``post``, ``sleep``, ``log``.
    effects: list[dict[str, Any]] = field(default_factory=_nothing)
    #: What it printed.
    printed: list[str] = field(default_factory=list[str])
    #: All that was on the screen: results, texts, questions and answers.
    shown: list[str] = field(default_factory=list[str])

    @property
    def flashed(self) -> list[dict[str, Any]]:
        """The flashes among the effects: ``image``, ``sha256``, ``targets``, ``options``."""
        return [effect for effect in self.effects if effect["effect"] == "flash"]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a script."""

    #: One sentence without a full stop.
    message: str
    #: What was meant, perhaps.
    hint: Optional[str] = None
    #: ``file``, ``line``, ``column`` and the text of the line.
    place: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class Decision:
    """What a plan answered."""

    #: Its value; ``None`` when the plan does not define the function.
    value: Any
    #: What the plan remembers now.
    state: Any
    #: True when the plan defines the function.
    is_defined: bool


def _source(path: Union[str, PathLike[str], None], text: Optional[str]) -> tuple[str, str, Optional[Path]]:
    """Name, text, and where imports are looked up."""
    if (path is None) == (text is None):
        raise TypeError("give either the path of a script, or its text")
    if path is None:
        if not isinstance(text, str):
            raise TypeError("the text of a script is a str")
        return "script.rhai", text, None
    return str(Path(path)), Path(path).read_text(encoding="utf-8"), Path(path).parent


def _arities(function: Callable[..., Any]) -> list[int]:
    """With how many arguments a function may be called."""
    import inspect

    most, least = 0, 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return list(range(least, 17))
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            least += parameter.default is parameter.empty
    return list(range(least, most + 1))


def run(
    path: Union[str, PathLike[str], None] = None,
    *args: str,
    text: Optional[str] = None,
    functions: Optional[dict[str, Callable[..., Any]]] = None,
    dry_run: bool = False,
    world: Union[str, dict[str, Any], None] = None,
    call: Optional[str] = None,
    values: Union[list[Any], tuple[Any, ...]] = (),
    capabilities: Union[str, list[str]] = "all",
    timeout: Optional[float] = None,
    print: Optional[Callable[[str], object]] = print,
    progress: Optional[Callable[[Event], object]] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
    client: Optional[Client] = None,
) -> Outcome:
    """Runs a script on this machine: a file, or its ``text``. ``args`` are its ``ARGS``.

    ``functions`` are called by the script as ``name()`` or ``module::name()``, with plain data, in the thread that called ``run``. What they raise can be
    caught in the script as an error of kind ``python``; else it comes out of ``run`` as it is. With ``dry_run`` nothing is written; with ``world``, a
    description of a machine as TOML, JSON or a dictionary, the script acts on that machine. ``call`` calls one function with ``values``, instead of running the
    file. ``capabilities`` are some of ``read``, ``network``, ``flash``, ``dialogs``, ``power``, or ``all``. ``timeout`` is in seconds.

    Raises :class:`bty.ScriptError`, whose text shows the place.

    >>> import bty
    >>> bty.script.run(text="print(`${ARGS.len()} disks`); ARGS.len()", dry_run=True, print=None).value
    0
    >>> try:
    ...     bty.script.run(text="let a = 1;\\na.nothing()")
    ... except bty.ScriptError as error:
    ...     print(error.kind, error.place["line"])
    script 2
    """
    name, source, root = _source(path, text)
    if isinstance(world, dict):
        import json

        world = json.dumps(world)
    found = _bty.script_run(
        name,
        source,
        root,
        list(args),
        world,
        dry_run,
        call,
        list(values),
        {name: (_arities(function), function) for name, function in (functions or {}).items()},
        [capabilities] if isinstance(capabilities, str) else list(capabilities),
        timeout,
        print,
        progress,
        cancel,
        client,
    )
    return Outcome(**found)


def simulate(
    path: Union[str, PathLike[str], None] = None,
    *args: str,
    world: Union[str, dict[str, Any]],
    text: Optional[str] = None,
    functions: Optional[dict[str, Callable[..., Any]]] = None,
    call: Optional[str] = None,
    values: Union[list[Any], tuple[Any, ...]] = (),
    timeout: Optional[float] = 60.0,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
) -> Outcome:
    """Runs a script on a machine that is only described; see ``docs/reference/scripts.md`` for how.

    >>> import bty
    >>> world = {"disks": [{"path": "/dev/sda", "size": "8G", "serial": "A"}], "images": [{"src": "a.img", "disk_size": "2G"}]}
    >>> outcome = bty.script.simulate(text='flash("a.img", disks::by_serial("A")); reboot();', world=world)
    >>> outcome.flashed[0]["targets"][0]["path"], outcome.power
    ('/dev/sda', 'reboot')
    """
    return run(
        path,
        *args,
        text=text,
        functions=functions,
        world=world,
        call=call,
        values=values,
        timeout=timeout,
        print=None,
        cancel=cancel,
    )


def check(
    path: Union[str, PathLike[str], None] = None,
    *,
    text: Optional[str] = None,
    functions: Optional[dict[str, Callable[..., Any]]] = None,
) -> list[Finding]:
    """What is wrong with a script, found without running it; ``functions`` as of :func:`run`.

    >>> import bty
    >>> [finding.hint for finding in bty.script.check(text="disks::lst()")]
    ['did you mean list?']
    """
    name, source, root = _source(path, text)
    known = {name: _arities(function) for name, function in (functions or {}).items()}
    return [Finding(**finding) for finding in _bty.script_check(name, source, root, known)]


def decide(
    path: Union[str, PathLike[str], None] = None,
    function: str = "boot",
    machine: Optional[dict[str, Any]] = None,
    *args: Any,
    text: Optional[str] = None,
    catalog: str = "",
) -> Decision:
    """Asks a plan as a server does: ``boot(m)``, ``plan(m)``, ``on(m, event)`` or ``declare()``. ``machine`` has the fields that plans see: ``mac``, ``labels``,
    ``params``, ``state``, ``target_serial`` … Nothing is changed: what the plan remembers is in the answer.

    Raises :class:`bty.ScriptError`.

    >>> import bty
    >>> plan = "fn boot(m) { if m.state.flashed == true { boot_disk() } else { boot_live() } }"
    >>> bty.script.decide(text=plan, machine={"mac": "52:54:00:12:34:56"}).value["boot"]
    'live'
    >>> bty.script.decide(text=plan, machine={"mac": "52:54:00:12:34:56", "state": {"flashed": True}}).value["boot"]
    'disk'
    """
    name, source, _ = _source(path, text)
    return Decision(**_bty.script_decide(name, source, function, machine, list(args), catalog))
