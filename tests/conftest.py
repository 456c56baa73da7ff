"""Names the pytest plugins of this suite."""

pytest_plugins = ["tests.postgres", "tests.control", "tests.processes", "tests.schemas.whole", "tests.docker_engine"]
