"""What to measure, as the user names it: a search space, a timm model, an ONNX or TFLite file, or a bundle folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from hwbench.errors import ConfigError
from hwbench.workload import Bundle, Exporter

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`space:digits`, `timm:mobilenetv3_small_100`, or the path of a file or bundle folder.

    name: how tables and run folders call it.
    """

    text: str
    name: str

    @classmethod
    def of(cls, *, space: str | None, model: str | None) -> Source:
        """From the command line's `--space` and `--model`; ConfigError when both or a path that does not exist."""
        if space is not None and model is not None:
            raise ConfigError("--space and --model name two sources; give one")
        if model is None:
            name = space or "digits"
            return cls(text=f"space:{name}", name=_space_name(name))
        if model.startswith("timm:"):
            return cls(text=model, name=model.replace(":", "-"))
        path = Path(model)
        if not path.exists():
            raise ConfigError(f"{model}: no such file; a model is timm:NAME, FILE.onnx, FILE.tflite or a bundle folder")
        return cls(text=model, name=path.stem)

    @property
    def needs_export(self) -> bool:
        """Whether an exporter must build the networks, or the user brought them as files."""
        return self.text.startswith(("space:", "timm:"))

    def bundle(self, *, formats: Sequence[str], out: Path, networks: int = 0, seed: int = 0) -> Bundle:
        """Export, cut or read the source into a bundle; formats () = describe only.

        networks: how many random whole networks of a space go with the blocks.
        """
        if self.needs_export:
            return exporter()(self.text, formats=formats, out=out, networks=networks, seed=seed)
        path = Path(self.text)
        if path.is_dir():
            return Bundle.read(path)
        from hwbench.wrap import wrap  # onnx takes 0.3 s to import; only a user's own file needs it

        return wrap(path, out)


def _space_name(space: str) -> str:
    """What a space calls itself, as a search asks for its table: `ofa_mbv3` of `ofa-mbv3`, the name in a file.

    The file's stem where it holds none: what is wrong with it the exporter says.
    """
    path = Path(space)
    if path.suffix not in (".toml", ".json"):
        return space.replace("-", "_")
    try:
        text = path.read_text(encoding="utf-8")
        name = tomllib.loads(text)["space"]["name"] if path.suffix == ".toml" else json.loads(text)["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    return name if isinstance(name, str) and name else path.stem


def exporter() -> Exporter:
    """The installed exporter; ConfigError where none is, since measuring alone installs without torch."""
    for entry in entry_points(group="hwbench.exporters"):
        try:
            return cast(Exporter, entry.load())
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"exporting networks needs the Python package {error.name!r}: pip install 'hwbench-nas[search]'; "
                "or measure a file of your own with --model FILE.onnx"
            ) from error
    raise ConfigError("no exporter is installed (entry points hwbench.exporters); reinstall hwbench-nas[search]")
