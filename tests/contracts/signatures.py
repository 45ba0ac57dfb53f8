"""Reads signatures out of Python text, so that a page's examples can be compared with the code they are about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

FILE = re.compile(r"^# ([\w/]+\.py)\b", flags=re.MULTILINE)


def per_file(block: str) -> Iterator[tuple[str, str]]:
    """(file, text) of each stretch that a comment `# path/to/file.py` heads."""
    heads = list(FILE.finditer(block))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        yield head.group(1), block[head.start() : following.start() if following else len(block)]


def names(source: str) -> dict[str, str]:
    """`Class.field` -> "", `Class.method` or `function` -> its argument names and which are keyword-only.

    A property counts as a field; a class without a body of its own is `Class` -> "".
    """
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = arguments(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = ""
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    found[f"{node.name}.{item.target.id}"] = ""
                elif isinstance(item, ast.FunctionDef):
                    decorators = {d.id for d in item.decorator_list if isinstance(d, ast.Name)}
                    found[f"{node.name}.{item.name}"] = "" if "property" in decorators else arguments(item)
    return found


def arguments(node: ast.FunctionDef) -> str:
    """`self, a, b=…, *, c=…` with defaults as they are written."""
    text = ast.unparse(node.args)
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg) and argument.annotation is not None:
            text = text.replace(f"{argument.arg}: {ast.unparse(argument.annotation)}", argument.arg, 1)
    return text.replace(" ", "")
