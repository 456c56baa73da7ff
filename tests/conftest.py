"""Names the pytest plugins of this suite."""

import gc

import pytest

pytest_plugins = ["tests.postgres", "tests.control", "tests.processes", "tests.schemas.whole", "tests.docker_engine"]


@pytest.fixture
def anyio_backend() -> str:
    """What the server runs on; trio, where somebody has it, is none of ours."""
    return "asyncio"


def pytest_collection_finish() -> None:
    """What was imported and collected lives as long as the run: it is not looked through for garbage again and again."""
    gc.collect()
    gc.freeze()
