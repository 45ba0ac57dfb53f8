"""Exporting spaces: what is in the bundle, that it computes what torch does, that bytes repeat."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from platformdirs import user_cache_path

from hwbench.errors import ConfigError
from hwbench.onnx_graph import runtime_session
from hwbench.workload import Bundle, Workload
from models.block import Block
from models.export import exporter
from models.export.spaces import runnables, sampled
from models.space import Space, load_space
from models.stages import Exits, Stage, StageSpace, Stem, Tail
from models.supernet import build


@pytest.fixture(scope="module")
def space() -> Space:
    """Two stages on 1×8×8 images, small enough to export all of it in each test."""
    stages = (
        Stage(widths=(4, 8), depths=(1, 2), kernels=(3,), expands=(1, 2), squeeze=True),
        Stage(widths=(8,), depths=(1, 2), kernels=(3,), expands=(2,), stride=2),
    )
    stem = Stem(widths=(4,))
    return StageSpace(
        name="tiny",
        classes=3,
        channels=1,
        resolutions=(8,),
        stem=stem,
        stages=stages,
        tail=Tail(),
        exits=Exits(width=4, first=1),
    ).space()


@pytest.fixture
def source(space: Space, tmp_path: Path) -> str:
    """The tiny space as a user's file."""
    space.write(tmp_path / "tiny.json")
    return f"space:{tmp_path / 'tiny.json'}"


def by_kind(bundle: Bundle, kind: str) -> list[Workload]:
    """The workloads of one kind."""
    return [w for w in bundle.workloads if w.kind == kind]


def test_a_bundle_holds_every_block_and_the_networks_asked_for(source: str, space: Space, tmp_path: Path) -> None:
    """Blocks, heads included; as many networks as asked, both ends of the space among them; segments with heads."""
    bundle = exporter(source, formats=("onnx",), out=tmp_path / "bundle", networks=4)
    assert Bundle.read(tmp_path / "bundle") == bundle
    assert bundle.space == "tiny"
    assert {w.block_key for w in bundle.blocks} == {b.key for b in space.blocks}
    networks = by_kind(bundle, "network")
    assert len(networks) == 4
    ends = {f"network-{space.subnet(g)}".replace(":", "-") for g in (space.smallest(), space.largest())}
    assert ends <= {w.block_key for w in networks}
    assert by_kind(bundle, "segment")


def test_parts_name_blocks_of_the_bundle_and_add_up(source: str, tmp_path: Path) -> None:
    """A composition can be fitted: every part has a workload, MACs and parameters are the sums of the parts'."""
    bundle = exporter(source, formats=(), out=tmp_path / "bundle", networks=6)
    for workload in by_kind(bundle, "network") + by_kind(bundle, "segment"):
        parts = [(bundle.workload(key), n) for key, n in workload.parts]
        assert workload.macs == sum(part.macs * n for part, n in parts)
        assert workload.params == sum((part.params or 0) * n for part, n in parts)


def test_segments_of_one_network_chain(source: str, tmp_path: Path) -> None:
    """Each segment gives features, logits, score; the first takes the image, the next takes features of that shape."""
    segments = by_kind(exporter(source, formats=(), out=tmp_path / "b", networks=1), "segment")
    assert [t.name for t in segments[0].outputs] == ["features", "logits", "score"]
    assert segments[0].inputs[0].shape == (1, 1, 8, 8)
    for before, after in itertools.pairwise(segments):
        assert before.outputs[0].shape == after.inputs[0].shape
    assert any(key.startswith("head") for key, _ in segments[0].parts)
    assert any(key.startswith("tail") for key, _ in segments[-1].parts)


def test_described_parameters_and_shapes_are_those_of_the_modules(space: Space) -> None:
    """What a bundle says without files is what torch counts, for blocks, networks and segments."""
    for runnable in runnables(space, networks=6, seed=3):
        with torch.no_grad():
            y = runnable.module(torch.zeros(1, *runnable.in_shape))
        shapes = [tuple(t.shape) for t in (y if isinstance(y, tuple) else (y,))]
        assert shapes == [shape for _, shape in runnable.outputs], runnable.key
        assert runnable.params == sum(p.numel() for p in runnable.module.parameters()), runnable.key


@pytest.mark.parametrize("name", ["digits", "sdu", "attentivenas"])
def test_described_parameters_of_real_spaces_are_those_of_the_modules(name: str, rng: np.random.Generator) -> None:
    """A sample of each space's blocks."""
    space = load_space(name)
    for i in rng.choice(len(space.blocks), 12, replace=False):
        block: Block = space.blocks[i]
        assert block.params == sum(p.numel() for p in build(space, block).parameters()), block.key


def test_exported_files_compute_what_torch_does(source: str, space: Space, tmp_path: Path) -> None:
    """Every block on its own input, within 1e-4."""
    bundle = exporter(source, formats=("onnx",), out=tmp_path / "bundle")
    for block in space.blocks:
        x = torch.randn(1, *block.in_shape)
        workload = bundle.workload(block.key)
        session = runtime_session(onnx.load(bundle.path(workload, "onnx")))
        (found,) = session.run([workload.outputs[0].name], {workload.inputs[0].name: x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, build(space, block)(x).numpy(), rtol=1e-4, atol=1e-5)


def test_described_work_is_that_of_the_exported_graph(source: str, tmp_path: Path) -> None:
    """MACs counted by hand equal those counted in the ONNX file."""
    from hwbench.wrap import wrap

    bundle = exporter(source, formats=("onnx",), out=tmp_path / "bundle", networks=2)
    for i, workload in enumerate(bundle.workloads):
        counted = wrap(bundle.path(workload, "onnx"), tmp_path / f"again{i}").workloads[-1]
        assert (counted.macs, workload.block_key) == (workload.macs, workload.block_key)


def test_exporting_twice_gives_the_same_bytes(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the cache: the second export has an empty one."""
    first = exporter(source, formats=("onnx",), out=tmp_path / "a", networks=3, seed=5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert first.workloads == exporter(source, formats=("onnx",), out=tmp_path / "b", networks=3, seed=5).workloads


def test_a_second_export_comes_from_the_cache(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is traced again."""
    first = exporter(source, formats=("onnx",), out=tmp_path / "a")

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(torch.onnx, "export", fail)
    assert first.workloads == exporter(source, formats=("onnx",), out=tmp_path / "b").workloads


def test_a_cache_that_cannot_be_written_is_no_error(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is taken by a file."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert exporter(source, formats=("onnx",), out=tmp_path / "a").blocks
    assert user_cache_path("hwbench") == tmp_path / "file" / "hwbench"


def test_another_seed_draws_other_networks(space: Space) -> None:
    """The same seed draws the same; no network comes twice; a tiny space gives what it has."""
    draws = [sampled(space, 6, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert len(np.unique(draws[0], axis=0)) == 6
    assert len(sampled(space, 10_000, np.random.default_rng(0))) == space.size()


def test_unknown_sources_and_formats_are_refused(tmp_path: Path) -> None:
    """Each message names what is wrong and what is near."""
    with pytest.raises(ConfigError, match="digits"):
        exporter("space:digit", formats=(), out=tmp_path)
    with pytest.raises(ConfigError, match="space:NAME or timm:NAME"):
        exporter("digits", formats=(), out=tmp_path)
    with pytest.raises(ConfigError, match="onnx"):
        exporter("space:digits", formats=("onn",), out=tmp_path)
    with pytest.raises(ConfigError, match="networks"):
        exporter("space:digits", formats=(), out=tmp_path, networks=-1)
