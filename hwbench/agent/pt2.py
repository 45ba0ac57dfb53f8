"""Reads what `torch.export.save` wrote: raw weights and a list of operators, as data.

`torch.export.load` would do, but it unpickles, parses expressions and compiles source that stand in the file. Here
nothing is: weights are bytes with a shape, and each step of the graph is the name of an operator with numbers and the
names of tensors. What needs more (symbols, subgraphs, custom objects) is refused.
"""

import json
import re
import zipfile
from typing import IO, Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import numpy as np

from hwbench.agent.protocol import AgentError

# Major version of the schema that torch 2.6 to 2.13 write.
SCHEMA_MAJOR = 8
_MAX_BYTES = 8 << 30
_OPERATOR = re.compile(r"torch\.ops\.aten\.([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z_][A-Za-z0-9_]*)")
# The one operator of aten that opens files.
_FORBIDDEN = ("from_file",)
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
}
_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string", "as_int_lists")


class Name(str):
    """An argument that is a tensor, by its name."""


class Kind(NamedTuple):
    """An argument that is one of torch's own constants.

    what: `dtype` (value is numpy's name), `memory_format`, `layout` (values of the schema), `device` (value is None:
    the caller says where it runs).
    """

    what: str
    value: Union[str, int, None]


class Step(NamedTuple):
    """One operator: `torch.ops.aten.<name>.<overload>`; outputs are names, `spread` where it returns several."""

    name: str
    overload: str
    positional: Tuple[Any, ...]
    keyword: Dict[str, Any]
    outputs: Tuple[str, ...]
    spread: bool


class Value(NamedTuple):
    """A tensor of the graph: name, numpy's dtype name, shape."""

    name: str
    dtype: str
    shape: Tuple[int, ...]


class Program(NamedTuple):
    """A graph as data; weights by the name under which steps ask for them."""

    weights: Dict[str, np.ndarray]
    inputs: Tuple[Value, ...]
    outputs: Tuple[Value, ...]
    steps: Tuple[Step, ...]


def read(file: Union[str, IO[bytes]]) -> Program:
    """Read an archive; AgentError when it is damaged or holds what is not plain data."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _program(archive)
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, ValueError, AttributeError, EOFError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise AgentError(
            "runtime", "not an exported torch program ({}: {})".format(type(error).__name__, told)
        ) from error


def _program(archive: zipfile.ZipFile) -> Program:
    names = archive.namelist()
    models = [name for name in names if re.search(r"/models/[^/]+\.json$", name)]
    if len(models) != 1:
        raise ValueError("{} graphs in the archive, not one".format(len(models)))
    if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
        raise ValueError("it unpacks to more than 8 GiB")
    root, _, model = models[0].partition("/models/")
    said = json.loads(archive.read(models[0]).decode("utf-8"))
    major = said["schema_version"]["major"]
    if major != SCHEMA_MAJOR:
        raise ValueError("schema {}, this agent reads {}; export it with another torch".format(major, SCHEMA_MAJOR))
    graph, signature = said["graph_module"]["graph"], said["graph_module"]["signature"]
    for kind in ("sym_int_values", "sym_bool_values", "sym_float_values", "custom_obj_values"):
        if graph.get(kind):
            raise ValueError("its shapes or objects are open ({}); export it with fixed shapes".format(kind))
    stored = {
        kind: _payloads(archive, "{}/data/{}/".format(root, kind), model[: -len(".json")] + "_" + kind)
        for kind in ("weights", "constants")
    }
    weights: Dict[str, np.ndarray] = {}
    inputs: List[Value] = []
    for spec in signature["input_specs"]:
        ((kind, told),) = spec.items()
        if kind == "user_input":
            inputs.append(_value(graph, told["arg"]["as_tensor"]["name"]))
            continue
        field, where = {
            "parameter": ("parameter_name", "weights"),
            "buffer": ("buffer_name", "weights"),
            "tensor_constant": ("tensor_constant_name", "constants"),
        }[kind]
        # A buffer that is not kept with the weights travels as a constant.
        place = where if told[field] in stored[where] else "constants"
        weights[str(told["arg"]["name"])] = stored[place][told[field]]
    outputs = []
    for spec in signature["output_specs"]:
        ((kind, told),) = spec.items()
        if kind != "user_output":
            raise ValueError("it changes its own state ({})".format(kind))
        outputs.append(_value(graph, told["arg"]["as_tensor"]["name"]))
    if not inputs or not outputs:
        raise ValueError("it has no input or no output")
    return Program(weights, tuple(inputs), tuple(outputs), tuple(_step(node) for node in graph["nodes"]))


def _payloads(archive: zipfile.ZipFile, folder: str, name: str) -> Dict[str, np.ndarray]:
    config = json.loads(archive.read("{}{}_config.json".format(folder, name)).decode("utf-8"))["config"]
    return {key: _payload(archive, folder, key, entry) for key, entry in config.items()}


def _payload(archive: zipfile.ZipFile, folder: str, key: str, entry: Mapping[str, Any]) -> np.ndarray:
    meta = entry["tensor_meta"]
    if entry["use_pickle"] or meta is None:
        raise ValueError("{} is pickled, which is never read".format(key))
    kind = np.dtype(_dtype(meta["dtype"]))
    flat = np.frombuffer(archive.read(folder + entry["path_name"]), dtype=kind)
    shape = tuple(_whole(n) for n in meta["sizes"])
    strides = tuple(_whole(n) for n in meta["strides"])
    offset = _whole(meta["storage_offset"])
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if 0 in shape:
        return np.zeros(shape, dtype=kind)
    if len(shape) != len(strides) or min((offset,) + shape + strides) < 0 or last >= flat.size:
        raise ValueError("{} reaches beyond its {} numbers".format(key, flat.size))
    view = np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * kind.itemsize for s in strides], writeable=False)
    return np.array(view)


def _value(graph: Mapping[str, Any], name: str) -> Value:
    meta = graph["tensor_values"][name]
    return Value(name, _dtype(meta["dtype"]), tuple(_whole(n) for n in meta["sizes"]))


def _step(node: Mapping[str, Any]) -> Step:
    found = _OPERATOR.fullmatch(node["target"])
    if found is None or found.group(1) in _FORBIDDEN:
        raise ValueError("{!r} is no operator that is run here".format(node["target"]))
    positional: List[Any] = []
    keyword: Dict[str, Any] = {}
    for told in node["inputs"]:
        if told.get("kind") == 2:
            keyword[str(told["name"])] = _argument(told["arg"])
        else:
            positional.append(_argument(told["arg"]))
    outputs, spread = _outputs(node["outputs"])
    return Step(found.group(1), found.group(2), tuple(positional), keyword, outputs, spread)


def _outputs(told: Sequence[Mapping[str, Any]]) -> Tuple[Tuple[str, ...], bool]:
    if len(told) == 1 and "as_tensors" in told[0]:
        return tuple(str(t["name"]) for t in told[0]["as_tensors"]), True
    # A result that nobody asks for has no name.
    return tuple("" if "as_none" in t else str(t["as_tensor"]["name"]) for t in told), len(told) > 1


def _argument(told: Mapping[str, Any]) -> Any:
    ((kind, value),) = told.items()
    if kind in _PLAIN:
        return value
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Name(value["name"])
    if kind == "as_tensors":
        return [Name(t["name"]) for t in value]
    if kind == "as_optional_tensor":
        return _argument(value)
    if kind == "as_optional_tensors":
        return [_argument(t) for t in value]
    if kind == "as_scalar_type":
        return Kind("dtype", _dtype(value))
    if kind in ("as_memory_format", "as_layout"):
        return Kind(kind[3:], int(value))
    if kind == "as_device":
        return Kind("device", None)
    raise ValueError("an argument of kind {!r} is not read here".format(kind))


def _dtype(number: int) -> str:
    if number not in _DTYPES:
        raise ValueError("numbers of torch's type {} are not read here".format(number))
    return _DTYPES[number]


def _whole(told: Mapping[str, Any]) -> int:
    if not isinstance(told, Mapping) or not isinstance(told.get("as_int"), int):
        raise ValueError("{!r} is no fixed size; export it with fixed shapes".format(told))
    return int(told["as_int"])
