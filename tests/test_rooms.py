"""Which module may import which. Imports inside functions and behind TYPE_CHECKING count too."""

import ast
from functools import cache

import pytest

from tests.worlds.code import all_imports, all_modules, tree

MOST_LINES = 500
LONGEST_CHAIN = 25
# The rooms and top-level modules that each room may import, beside itself and what all may.
EVERYWHERE = {"unmask", "errors", "config", "numerics"}
MAY_IMPORT = {
    "tokenizers": {"checkpoint", "devices", "published"},
    "sampling": set[str](),
    "models": {"checkpoint", "devices", "eight_bits", "published", "sampling", "tokenizers"},
    "families": {
        "box",
        "card",
        "checkpoint",
        "devices",
        "models",
        "published",
        "sampling",
        "tokenizers",
    },
    "scenes": {"checkpoint", "devices", "images", "tokenizers"},
    "clips": {"containers", "images"},
}
TOP = {"commands", "__main__"}  # nothing imports these
BESIDE_SERVER = {"server", "training", "evaluation"}  # these do not import one another


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import one another, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for target in sorted(imports[module]):
            if target not in order:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], order[target])
        if lowest[module] == order[module]:
            start = stack.index(module)
            group, stack[start:] = stack[start:], []
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(imports):
        if module not in order:
            visit(module)
    return found


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert _circles(all_imports()) == []


def test_a_circle_would_be_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}
    assert _circles(imports) == [["b", "c"]]
    assert _circles({**imports, "c": {"d"}}) == []


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_what_is_below_it_alone(room: str) -> None:
    allowed = {room} | EVERYWHERE | MAY_IMPORT[room]
    wrong = [
        f"{module} imports {target}"
        for module, targets in all_imports().items()
        for target in sorted(targets)
        if _room(module) == room and _room(target) not in allowed
    ]
    assert wrong == []


def test_nothing_below_imports_the_server_the_trainers_or_the_evaluation() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in all_imports().items()
        for target in sorted(targets)
        if _room(target) in BESIDE_SERVER | TOP
        and _room(module) != _room(target)
        and _room(module) not in TOP
    ]
    assert wrong == []


def test_no_chain_of_imports_is_long() -> None:
    imports = all_imports()

    @cache
    def chain(module: str) -> tuple[str, ...]:
        longest = max((chain(target) for target in imports[module]), key=len, default=())
        return (module, *longest)

    chains = sorted((chain(module) for module in imports), key=len)
    deep = [modules for modules in chains if len(modules) > LONGEST_CHAIN]
    assert deep == [], " > ".join(chains[-1])


def test_no_file_is_too_long() -> None:
    lengths = {
        name: len(file.read_text(encoding="utf-8").splitlines())
        for name, file in all_modules().items()
    }
    assert {name for name, lines in lengths.items() if lines > MOST_LINES} == set()


def test_no_private_name_is_imported_from_another_module() -> None:
    wrong = [
        f"{name}: {alias.name} of {node.module}"
        for name in all_modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unmask")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert wrong == []
