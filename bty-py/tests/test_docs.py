"""Runs the examples in docstrings, and checks that every function has one."""

import doctest
import importlib
import inspect

import pytest

MODULES = ["bty", *(f"bty.{name}" for name in "aio catalog client disks errors events flash images inventory oras script size testing types work".split())]
#: Without an example: they need a server, or are another name of a function that has one.
WITHOUT = {"canonicalise_src", "image_ref_for_src", "load_bytes", "fetch_bytes", "load_source", "default_manifest_path", "stream_src", "fetch_sha256_for_url"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    # the module bty.flash is a function
    things = [module] if inspect.ismodule(module) else [getattr(module, word) for word in module.__all__]
    runner = doctest.DocTestRunner()
    for thing in things:
        for test in doctest.DocTestFinder().find(thing, getattr(thing, "__name__", name)):
            runner.run(test)
    assert runner.failures == 0
    assert runner.tries > 0


@pytest.mark.parametrize("name", MODULES)
def test_every_function_has_one(name):
    module = importlib.import_module(name)
    for word in getattr(module, "__all__", ()):
        thing = getattr(module, word)
        if inspect.isfunction(thing) and thing.__module__ == name and word not in WITHOUT:
            assert ">>>" in (thing.__doc__ or ""), f"{name}.{word}"
