"""The modules of the package as text: their files, their trees, and what each imports."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def all_modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, a package by that of its folder."""
    files = sorted((ROOT / "unmask").rglob("*.py"))
    names = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    return {
        ".".join(parts[:-1] if parts[-1] == "__init__" else parts): file
        for parts, file in zip(names, files, strict=True)
    }


@cache
def tree(module: str) -> ast.Module:
    """What Python reads of a module."""
    return ast.parse(all_modules()[module].read_text(encoding="utf-8"))


@cache
def all_imports() -> dict[str, set[str]]:
    """The modules that each module imports, wherever in its file."""
    return {
        name: {found for found in _imported(name, file) if found != name}
        for name, file in all_modules().items()
    }


def _imported(name: str, file: Path) -> Iterator[str]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            base = node.module or ""
            targets = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in all_modules() else base
                for alias in node.names
            ]
        else:
            continue
        for target in targets:
            if target in all_modules():
                yield target
                # Python runs the packages around a module first, unless it stands in them too.
                parents = target.split(".")[:-1]
                for depth in range(2, len(parents) + 1):
                    package = ".".join(parents[:depth])
                    if not name.startswith(f"{package}.") and name != package:
                        yield package
