"""What the docker sandbox does without an engine: finds the newest server in an image, reads what was remembered."""

import json
import subprocess
from pathlib import Path

import pytest

from shadow.sandbox_docker import _FIND
from shadow.sandbox_docker_place import Kept, Place


def test_the_newest_server_of_an_image_is_found_by_number(tmp_path: Path) -> None:
    for version in ("9.6.24", "10.23", "16.4", "8.4.22"):
        folder = tmp_path / version.rsplit(".", 1)[0] / "bin"
        folder.mkdir(parents=True)
        for program in ("postgres", "initdb"):
            (folder / program).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Debian)'\n")
            (folder / program).chmod(0o755)
    (tmp_path / "17" / "bin").mkdir(parents=True)  # a client's folder holds no server
    find = _FIND.replace("/usr/lib/postgresql/*/bin", f"{tmp_path}/*/bin")
    done = subprocess.run(
        ["/bin/sh", "-euc", f"{find} echo $bin"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "16" / "bin")


@pytest.mark.parametrize(
    ("more", "without", "known"),
    [
        ({}, (), True),
        ({"network": "none"}, (), True),
        ({}, ("port",), True),
        ({}, ("run",), False),
        ({"port": "5"}, (), False),
    ],
)
def test_what_another_version_remembered_is_read_as_far_as_it_goes(
    tmp_path: Path, more: dict[str, str], without: tuple[str, ...], known: bool
) -> None:
    place = Place(tmp_path)
    place.keep(Kept(container="c", run="/nowhere", password="p"))
    text = json.loads(place._file.read_text())
    place._file.write_text(json.dumps({k: v for k, v in {**text, **more}.items() if k not in without}))
    assert (place.kept() == Kept(container="c", run="/nowhere", password="p")) is known
    place.forget()
    assert place.kept() is None
    place._file.write_text("{")
    assert place.kept() is None
    place.leave()
