"""What holds for all of the package's code, whatever it does."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import pytest

from tests.worlds.code import all_imports, all_modules, tree

EXPORTING = ("unmask", "unmask.clips", "unmask.commands", "unmask.editing", "unmask.pipeline")
PROGRAM = "unmask.__main__"  # it runs when it is imported, and nothing imports it
STEPS = "unmask.server.state.migrations.versions"  # Alembic reads what is in there
MOST_PARAMETERS = 8
# Keyword by keyword, for what they take is a request, a run, or what an engine has of its own.
MORE_PARAMETERS = {
    "unmask.commands.clips.interpolate",
    "unmask.commands.draw.inpaint",
    "unmask.commands.draw.outpaint",
    "unmask.commands.draw.restyle",
    "unmask.commands.draw.revise",
    "unmask.commands.models.train",
    "unmask.commands.serve.serve",
    "unmask.evaluation.drawing.draw_prompts",
    "unmask.pipeline.model.Pipeline.generate",
    "unmask.pipeline.model.Pipeline.request",
    "unmask.pipeline.request.RequestCheck.make",
    "unmask.server.engine.worker.Worker.__init__",
    "unmask.server.jobs.runner.Runner.__init__",
    "unmask.training.run.train",
}
LONGEST_FUNCTION = 100

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _loaded() -> list[ModuleType]:
    return [importlib.import_module(name) for name in all_modules() if name != PROGRAM]


def _functions(within: ast.AST, name: str) -> Iterator[tuple[str, Function]]:
    """Every function of a module or class by its dotted name, those within others too."""
    for node in ast.iter_child_nodes(within):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{name}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield inner, node
            yield from _functions(node, inner)
        else:
            yield from _functions(node, name)


@cache
def _all_functions() -> list[tuple[str, Function]]:
    return [found for name in all_modules() for found in _functions(tree(name), name)]


def _public_classes() -> list[type]:
    return [
        value
        for module in _loaded()
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


def _documented_by(owner: type, name: str) -> bool:
    """Whether a class, a base, or a protocol that it fulfils says what a method does."""
    return any(
        inspect.getdoc(vars(base).get(name)) for base in (*owner.__mro__, *_fulfilled(owner))
    )


def _fulfilled(owner: type) -> list[type]:
    """The protocols all of whose methods a class has; attributes may come with its instances."""
    protocols = [kind for kind in _public_classes() if getattr(kind, "_is_protocol", False)]
    called = {
        kind: {name for name in _methods(kind) if inspect.isroutine(vars(kind)[name])}
        for kind in protocols
    }
    return [kind for kind, names in called.items() if names and names <= set(dir(owner))]


def _methods(owner: type) -> set[str]:
    """The public methods and properties that stand in the body of a class."""
    fields = vars(owner).get("__annotations__", {})
    return {
        name
        for name, value in vars(owner).items()
        if name[0] != "_" and name not in fields and (inspect.isroutine(value) or _computes(value))
    }


def _computes(value: object) -> bool:
    return hasattr(type(value), "__get__") and not inspect.isclass(value)


@pytest.mark.parametrize("name", EXPORTING)
def test_a_package_that_others_build_on_says_what_it_exports(name: str) -> None:
    assert importlib.import_module(name).__all__


def test_every_name_that_is_exported_exists() -> None:
    missing = [
        f"{module.__name__}.{name}"
        for module in _loaded()
        for name in getattr(module, "__all__", ())
        if not hasattr(module, name)
    ]
    assert missing == []


def test_every_module_says_what_it_is_for() -> None:
    assert [module.__name__ for module in _loaded() if not module.__doc__] == []


def test_every_public_function_says_what_comes_back() -> None:
    silent = [
        f"{module.__name__}.{name}"
        for module in _loaded()
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
        if not value.__doc__
    ]
    assert silent == []


def test_every_public_class_says_what_it_is() -> None:
    # A dataclass without a docstring gets its signature as one.
    silent = [
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in _public_classes()
        if not kind.__doc__ or kind.__doc__.startswith(f"{kind.__name__}(")
    ]
    assert silent == []


def test_every_public_method_is_documented_where_it_is_first_declared() -> None:
    """``forward`` is torch's, and told by the class that it is in."""
    silent = [
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for kind in _public_classes()
        for name in sorted(_methods(kind) - {"forward"})
        if not _documented_by(kind, name)
    ]
    assert silent == []


def test_no_function_takes_many_parameters() -> None:
    def count(function: Function) -> int:
        given = function.args
        names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        return len([name for name in names if name not in ("self", "cls")])

    many = {name for name, function in _all_functions() if count(function) > MOST_PARAMETERS}
    assert many == MORE_PARAMETERS


def test_no_function_is_long() -> None:
    def lines(function: Function) -> int:
        return (function.end_lineno or 0) - function.lineno + 1

    long = {name for name, function in _all_functions() if lines(function) >= LONGEST_FUNCTION}
    assert long == set()


def test_every_module_is_imported_by_another() -> None:
    used = {target for targets in all_imports().values() for target in targets}
    # The packages around a module are imported with it.
    used |= {name[:at] for name in used for at in range(len(name)) if name[at] == "."}
    unused = {name for name in set(all_modules()) - used if not name.startswith(STEPS)}
    assert unused == {PROGRAM}
