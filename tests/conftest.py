"""Names the pytest plugins of this suite."""

pytest_plugins = ["tests.postgres", "tests.processes", "tests.docker_engine"]
