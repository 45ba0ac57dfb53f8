"""Says what a Python 3.6 would not run: newer syntax, and newer names of the standard library and numpy 1.19.

Not a type checker: it looks at names, so it may miss a method called on an object whose type it cannot see.
Source: "New in version" notes of the Python library reference (3.7 to 3.12) and numpy's release notes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

NEW_MODULES = {
    "contextvars", "dataclasses", "graphlib", "importlib.metadata", "importlib.resources",
    "multiprocessing.shared_memory", "numpy.typing", "tomllib", "zoneinfo",
}  # fmt: skip
NEW_NAMES = {
    "asyncio": {"create_task", "get_running_loop", "run", "to_thread"},
    "datetime": {"UTC"},
    "functools": {"cache", "cached_property", "singledispatchmethod"},
    "hashlib": {"file_digest"},
    "http.server": {"ThreadingHTTPServer"},
    "itertools": {"batched", "pairwise"},
    "math": {"cbrt", "comb", "dist", "isqrt", "lcm", "nextafter", "perm", "prod", "sumprod", "ulp"},
    "numpy": {"broadcast_shapes", "concat", "permute_dims", "trapezoid", "vecdot"},
    "os": {"memfd_create", "pidfd_open", "posix_spawn", "posix_spawnp", "register_at_fork", "waitstatus_to_exitcode"},
    "queue": {"SimpleQueue"},
    "random": {"binomialvariate", "randbytes"},
    "re": {"Match", "NOFLAG", "Pattern"},
    "shlex": {"join"},
    "signal": {"pidfd_send_signal", "raise_signal", "strsignal", "valid_signals"},
    "socket": {"create_server", "has_dualstack_ipv6"},
    "statistics": {"NormalDist", "correlation", "fmean", "geometric_mean", "multimode", "quantiles"},
    "sys": {"addaudithook", "orig_argv", "stdlib_module_names", "unraisablehook"},
    "threading": {"excepthook", "get_native_id"},
    "time": {
        "clock_gettime_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "pthread_getcpuclockid",
        "thread_time", "thread_time_ns", "time_ns",
    },
    "typing": {"Annotated", "Final", "Literal", "ParamSpec", "Protocol", "Self", "TypedDict", "final"},
}  # fmt: skip
# Methods and keywords that no older class of the standard library has under the same name.
NEW_METHODS = {
    "bit_count", "fromisocalendar", "fromisoformat", "hardlink_to", "is_relative_to", "readlink", "reconfigure",
    "removeprefix", "removesuffix", "with_stem",
}  # fmt: skip
NEW_KEYWORDS = {"capture_output", "dirs_exist_ok", "missing_ok", "root_dir"}
GENERIC_ONLY_SINCE_39 = {"dict", "frozenset", "list", "set", "tuple", "type"}


def problems(source: str, name: str = "<agent>") -> list[str]:
    """`name:line: what` for everything in the source that Python 3.6 lacks; empty when it would run there."""
    try:
        tree = ast.parse(source, filename=name, feature_version=(3, 6))
    except SyntaxError as error:
        return [f"{name}:{error.lineno}: syntax newer than 3.6 ({error.msg})"]
    _drop_guarded_imports(tree)
    imported = dict(_imports(tree))
    return [f"{name}:{line}: {what}" for line, what in sorted(set(_walk(tree, imported)))]


def _drop_guarded_imports(tree: ast.Module) -> None:
    """`try: import x … except ImportError:` says itself what to do without."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            isinstance(h.type, ast.Name) and h.type.id in ("ImportError", "ModuleNotFoundError") for h in node.handlers
        ):
            node.body = [n for n in node.body if not isinstance(n, (ast.Import, ast.ImportFrom))] or [ast.Pass()]


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Local name -> module it stands for, from plain imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or alias.name.partition(".")[0],
                    alias.name if alias.asname else alias.name.partition(".")[0],
                )


def _walk(tree: ast.Module, imported: dict[str, str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, f"module {a.name}") for a in node.names if a.name in NEW_MODULES)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                if module == "__future__" and alias.name == "annotations":
                    yield node.lineno, "from __future__ import annotations"
                if module in NEW_MODULES or f"{module}.{alias.name}" in NEW_MODULES:
                    yield node.lineno, f"module {module}"
                if alias.name in NEW_NAMES.get(module, ()):
                    yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Attribute):
            module = imported.get(node.value.id, "") if isinstance(node.value, ast.Name) else ""
            if node.attr in NEW_NAMES.get(module, ()):
                yield node.lineno, f"{module}.{node.attr}"
            if node.attr in NEW_METHODS:
                yield node.lineno, f"method {node.attr}"
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, f"keyword {k.arg}=") for k in node.keywords if k.arg in NEW_KEYWORDS)
            if isinstance(node.func, ast.Name) and node.func.id in ("aiter", "anext", "breakpoint"):
                yield node.lineno, f"builtin {node.func.id}"
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.AnnAssign)):
            yield from _annotations(node)


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign) -> Iterator[tuple[int, str]]:
    """Annotations run at definition time in 3.6, so `list[int]` and `int | None` raise TypeError there."""
    if isinstance(node, ast.AnnAssign):
        roots = [node.annotation]
    else:
        arguments = [*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        roots = [a.annotation for a in arguments if a is not None and a.annotation is not None]
        roots += [node.returns] if node.returns is not None else []
    for root in roots:
        for part in ast.walk(root):
            if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr):
                yield part.lineno, "X | Y as a type"
            if (
                isinstance(part, ast.Subscript)
                and isinstance(part.value, ast.Name)
                and part.value.id in GENERIC_ONLY_SINCE_39
            ):
                yield part.lineno, f"{part.value.id}[...] as a type"
