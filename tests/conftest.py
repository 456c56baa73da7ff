"""Names the pytest plugins of this suite, and opens its temporary folders to the user that runs Postgres."""

import gc
import os
import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["tests.postgres", "tests.control", "tests.processes", "tests.schemas.whole", "tests.docker_engine"]


@pytest.fixture(scope="session")
def tmp_path_factory(tmp_path_factory: pytest.TempPathFactory) -> pytest.TempPathFactory:
    """Folders that root's servers may pass through: otherwise their data would lie elsewhere, and nobody removes it."""
    if os.geteuid() != 0:
        return tmp_path_factory
    make, outermost = tmp_path_factory.mktemp, Path(tempfile.gettempdir())
    folder = tmp_path_factory.getbasetemp()
    while folder != outermost and outermost in folder.parents:
        folder.chmod(0o711)
        folder = folder.parent

    def mktemp(basename: str, numbered: bool = True) -> Path:
        made = make(basename, numbered)
        made.chmod(0o711)
        return made

    tmp_path_factory.mktemp = mktemp  # type: ignore[method-assign]
    return tmp_path_factory


@pytest.fixture
def anyio_backend() -> str:
    """What the server runs on; trio, where somebody has it, is none of ours."""
    return "asyncio"


def pytest_collection_finish() -> None:
    """What was imported and collected lives as long as the run: it is not looked through for garbage again and again."""
    gc.collect()
    gc.freeze()
