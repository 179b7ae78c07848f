"""Scripts: check them, and run them on this machine or on simulated ones. Scripts may call Python
functions.

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
from ._bty import CancelToken, Client
from .events import Event
from .errors import ScriptError

__all__ = ["Decision", "Finding", "Outcome", "ScriptError", "check", "decide", "run", "simulate"]


def _empty() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True)
class Outcome:
    """The result of a script that did not fail."""

    #: Value of the last expression or of the called function; after ``exit``, the exit code.
    value: Any = None
    #: True if the script ended by ``exit``.
    by_exit: bool = False
    #: ``reboot``, ``kexec`` or ``power_off`` if the script requested that. It is not carried out.
    power: Optional[str] = None
    #: Effects of a dry run or on a simulated machine. Each has a key ``effect``: ``flash``,
    #: ``create``, ``post``, ``sleep``, ``log``.
    effects: list[dict[str, Any]] = field(default_factory=_empty)
    #: What the script printed, piece by piece.
    printed: list[str] = field(default_factory=list[str])
    #: Everything that was on the terminal: printed text, results, questions and answers.
    shown: list[str] = field(default_factory=list[str])

    @property
    def flashed(self) -> list[dict[str, Any]]:
        """The flashes among ``effects``, with ``image``, ``sha256``, ``targets`` and
        ``options``."""
        return [effect for effect in self.effects if effect["effect"] == "flash"]


@dataclass(frozen=True)
class Finding:
    """A problem in a script."""

    #: What is wrong.
    message: str
    #: What was probably meant.
    hint: Optional[str] = None
    #: Location: ``file``, ``line``, ``column``, and the text of the line.
    place: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class Decision:
    """The result of :func:`decide`."""

    #: Value of the function; ``None`` if the plan does not define it.
    value: Any
    #: State of the plan after the call, which a server would store.
    state: Any
    #: True if the plan defines the function.
    is_defined: bool


def _source(path: Union[str, PathLike[str], None], text: Optional[str]) -> tuple[str, str, Optional[Path]]:
    """Returns name, text, and the directory for imports."""
    if (path is None) == (text is None):
        raise TypeError("expected either the path of a script or its text")
    if path is None:
        if not isinstance(text, str):
            raise TypeError("the text of a script must be a str")
        return "script.rhai", text, None
    return str(Path(path)), Path(path).read_text(encoding="utf-8"), Path(path).parent


def _arities(function: Callable[..., Any]) -> list[int]:
    """Returns the numbers of positional arguments with which a function may be called."""
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
    """Runs a script on this machine: the file at ``path``, or ``text``. ``args`` become ``ARGS``.

    The script can call ``functions`` as ``name()`` or ``module::name()``, with plain data; they run
    in the calling thread. The script can catch their exceptions as errors of kind ``python``;
    otherwise ``run`` raises them unchanged.

    ``dry_run`` records effects and writes nothing. ``world`` describes a simulated machine, as
    TOML, JSON or a dictionary, on which the script acts instead. ``call`` names a function to call
    with ``values`` instead of running the script. ``capabilities`` are ``all``, or some of
    ``read``, ``network``, ``flash``, ``dialogs``, ``power``. ``timeout`` is in seconds. ``print``
    is called with each printed text, ``progress`` with each :class:`bty.Event`; ``cancel`` is as of
    :func:`bty.flash`.

    Raises :class:`bty.ScriptError`, whose text contains the source line.

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
    """Runs a script on a simulated machine, whose description is in ``docs/reference/scripts.md``.
    The arguments are those of :func:`run`.

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
    """Returns problems of a script without running it. ``functions`` is that of :func:`run`.

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
    """Calls a function of a plan like a server: ``boot(m)``, ``plan(m)``, ``on(m, event)`` or
    ``declare()``.

    ``machine`` has the fields that plans see: ``mac``, ``labels``, ``params``, ``state``,
    ``target_serial`` … ``args`` are further arguments of the function. Nothing is stored: the new
    state of the plan is in the result.

    Raises :class:`bty.ScriptError` if the plan does not compile, fails, or takes too long.

    >>> import bty
    >>> plan = "fn boot(m) { if m.state.flashed == true { boot_disk() } else { boot_live() } }"
    >>> bty.script.decide(text=plan, machine={"mac": "52:54:00:12:34:56"}).value["boot"]
    'live'
    >>> bty.script.decide(text=plan, machine={"mac": "52:54:00:12:34:56", "state": {"flashed": True}}).value["boot"]
    'disk'
    """
    name, source, _ = _source(path, text)
    return Decision(**_bty.script_decide(name, source, function, machine, list(args), catalog))
