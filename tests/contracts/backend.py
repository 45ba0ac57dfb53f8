"""What every backend must do; a backend's test class inherits this and gives the fixtures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwbench.backend import Backend
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.setting import Setting
from hwbench.workload import Bundle, artifact_of


class BackendContract:
    """A runtime's host half.

    bundle: holds workload `first` in every format of the backend.  settings: one for each precision.
    """

    @pytest.fixture
    def link(self) -> Link:
        """A way to a board that has the runtime."""
        raise pytest.UsageError("a backend's test class gives the fixture `link`")

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test."""
        raise pytest.UsageError("a backend's test class gives the fixture `backend`")

    @pytest.fixture
    def bundle(self) -> Bundle:
        """Workloads to prepare."""
        raise pytest.UsageError("a backend's test class gives the fixture `bundle`")

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """One for each precision."""
        raise pytest.UsageError("a backend's test class gives the fixture `settings`")

    def test_an_unknown_precision_is_refused_with_the_known_ones(
        self, backend: Backend, settings: list[Setting]
    ) -> None:
        """Before anything is sent."""
        with pytest.raises(ConfigError, match=f"fp33.*{settings[0].precision}"):
            backend.formats("fp33")

    def test_each_precision_is_prepared_and_loaded(
        self, backend: Backend, link: Link, bundle: Bundle, settings: list[Setting]
    ) -> None:
        """The file that the board loads is the one that the bundle names."""
        workload = bundle.workload("first")
        for setting in settings:
            prepared = backend.prepare(link, bundle, workload, setting)
            assert backend.formats(setting.precision)[0] == prepared.format
            assert (setting, "first") == (prepared.setting, prepared.block_key)
            with backend.session(link, setting) as session:
                assert session.load(prepared).outputs

    def test_a_workload_without_the_format_is_a_config_error(
        self, backend: Backend, link: Link, bundle: Bundle, settings: list[Setting]
    ) -> None:
        """It names the workload, what there is, and the two ways out."""
        bare = replace(bundle.workload("first"), artifacts={})
        with pytest.raises(ConfigError, match=r"first.*use a backend.*export the network"):
            backend.prepare(link, bundle, bare, settings[0])

    def test_a_broken_file_is_permanent_and_named(
        self, backend: Backend, link: Link, bundle: Bundle, settings: list[Setting]
    ) -> None:
        """Workload and file in one line; the session survives it."""
        for setting in settings:
            format = backend.formats(setting.precision)[0]
            file: Path = bundle.root / f"broken.{format}"
            file.write_bytes(bundle.path(bundle.workload("first"), format).read_bytes()[:200])
            broken = replace(
                bundle.workload("first"), block_key="broken", artifacts={format: artifact_of(bundle.root, file)}
            )
            with backend.session(link, setting) as session:
                with pytest.raises(PermanentDeviceError, match=rf"broken.*broken\.{format}") as caught:
                    session.load(backend.prepare(link, bundle, broken, setting))
                assert "\n" not in str(caught.value)
                assert session.load(backend.prepare(link, bundle, bundle.workload("first"), setting)).outputs

    def test_a_unit_it_does_not_drive_is_refused(
        self, backend: Backend, link: Link, bundle: Bundle, settings: list[Setting]
    ) -> None:
        """As a user's error, with what to do."""
        with pytest.raises(ConfigError, match="nowhere"):
            backend.prepare(link, bundle, bundle.workload("first"), replace(settings[0], unit="nowhere"))

    def test_workloads_prepared_together_keep_their_order_and_load_into_one_session(
        self, backend: Backend, link: Link, bundle: Bundle, settings: list[Setting]
    ) -> None:
        """A plan's workloads; whoever compiles them may do so in one go."""
        workloads = [bundle.workload("first"), *(w for w in bundle.workloads if w.block_key != "first")]
        for setting in settings:
            prepared = backend.prepare_together(link, bundle, workloads, setting)
            assert [w.block_key for w in workloads] == [p.block_key for p in prepared]
            with backend.session(link, setting) as session:
                assert all(session.load(each).outputs for each in prepared)
