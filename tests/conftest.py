"""Names the pytest plugins of this suite."""

import pytest

pytest_plugins = ["tests.postgres", "tests.control", "tests.processes", "tests.schemas.whole", "tests.docker_engine"]


@pytest.fixture
def anyio_backend() -> str:
    """What the server runs on; trio, where somebody has it, is none of ours."""
    return "asyncio"
