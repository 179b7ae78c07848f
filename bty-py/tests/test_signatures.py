"""Signatures and docstrings, as ``help()`` and editors show them. stubtest compares the stubs with
the module; what it cannot see is here.
"""

import ast
import importlib
import inspect
import pydoc
import sys
from pathlib import Path

import pytest
from test_docs import MODULES

import bty


def public():
    modules = [importlib.import_module(name) for name in MODULES]
    for module in [*modules, bty._bty]:
        for name in getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                yield f"{module.__name__}.{name}", thing


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*one, id=one[0]) for one in public()])
def test_every_function_and_class_has_a_signature(name, thing):
    # an opened image comes from bty.images.open(); Python 3.9 does not know the signatures of
    # native classes
    is_native_class = inspect.isclass(thing) and thing in vars(bty._bty).values()
    if thing is not bty.Image and (sys.version_info >= (3, 10) or not is_native_class):
        inspect.signature(thing)
    assert inspect.getdoc(thing), name
    for member, function in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and inspect.isroutine(function):
            inspect.signature(getattr(thing, member))
            assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_help_begins_with_the_function():
    lines = pydoc.plain(pydoc.render_doc(bty.flash)).splitlines()
    # Python 3.13 writes a long signature on several lines
    text = "".join("".join(lines[2:]).split())
    assert text.startswith("flash(image:'ImageLike',disk:'Disks',*,sha256:")
    assert "    Writes an image to one or more disks, and proves it by reading them back. Blocks the calling" in lines


def test_flash_is_a_function_and_a_module():
    import bty.flash
    from bty.flash import make_plan

    assert bty.flash is importlib.import_module("bty.flash") and inspect.isfunction(bty.flash)
    assert make_plan is bty.flash.make_plan and bty.flash.flash is bty.flash


def test_replacing_a_name_of_the_module_replaces_what_it_calls(monkeypatch):
    target = bty.flash.TargetInfo(Path("/x"), True, True, 1, [])
    monkeypatch.setattr("bty.flash.probe_target", lambda path: target)
    image = bty.flash.ImageInfo(Path("a.img"), None, 1, 1)
    with pytest.raises(bty.FlashError, match="cannot flash image of format None"):
        bty.flash.execute_plan(bty.flash.make_plan(image, target))


def test_stub_of_flash_is_like_the_module():
    tree = ast.parse(Path(bty.__file__).with_name("_flash.pyi").read_text())
    (stub,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    classes = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    functions = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    functions["flash"] = functions.pop("__call__")
    assert classes | set(functions) == set(bty.flash.__all__)
    for name, function in functions.items():
        described = ast.arguments(**{**vars(function.args), "args": function.args.args[1:]})
        for argument in [*described.args, *described.kwonlyargs]:
            argument.annotation = None
        found = inspect.signature(getattr(bty.flash, name))
        found = found.replace(
            parameters=[one.replace(annotation=one.empty) for one in found.parameters.values()],
            return_annotation=found.empty,
        )
        assert f"({ast.unparse(described)})".replace("=", " = ") == str(found).replace("=", " = "), name
