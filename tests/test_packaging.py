"""What surrounds the code keeps its promises: wheel, requirements, Makefile, containers."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())

PINNED_IMAGE = re.compile(r"^[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z-]+)?$")
PIN = re.compile(r"^([a-zA-Z0-9._-]+)(?:\[.*\])?==(\S+)", re.MULTILINE)

# In parts, so that this file does not name them itself.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "yarnpkg" + ".com")
MACHINE_PATH = re.compile("/(?:root|home|work|Users|opt/[a-z]+)" + r"/\w")


def test_the_wheel_holds_the_library_only(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*build, "--directory", str(tmp_path)], cwd=CHECKOUT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    folders = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"tracker"}


@pytest.mark.parametrize("name", ["run", "dev", "image", "uv"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = _requirements(name)
    entries = re.split(r"\n(?=[a-zA-Z0-9])", text.partition("\n#    make requirements\n")[2])
    assert entries
    for entry in entries:
        assert PIN.match(entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    ("name", "extras", "groups"),
    [
        ("run", ["worker", "server", "embedded"], ["run"]),
        ("image", ["worker", "server"], ["run"]),
        ("dev", ["worker", "server", "embedded"], ["run", "dev"]),
    ],
)
def test_requirements_satisfy_the_project(name: str, extras: list[str], groups: list[str]) -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"]]
    wanted += [line for extra in extras for line in project["optional-dependencies"][extra]]
    wanted += [
        line
        for group in groups
        for line in PROJECT["dependency-groups"][group]
        if isinstance(line, str)
    ]
    pins = _pins(name)
    for requirement in map(Requirement, wanted):
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("name", ["run", "image"])
def test_versions_are_those_that_are_tested(name: str) -> None:
    assert _pins(name).items() <= _pins("dev").items()


def test_make_help_lists_every_target() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
    listing = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert set(re.findall(r"^ +make ([a-z-]+) +\S", listing, re.MULTILINE)) == targets


def test_images_are_pinned() -> None:
    images = {service["image"] for service in SERVICES.values()}
    images |= set(re.findall(r"^FROM (\S+)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE))
    assert [image for image in images if not PINNED_IMAGE.match(image)] == []


def test_services_that_stay_are_health_checked_and_the_others_end() -> None:
    for name, service in SERVICES.items():
        stays = service["restart"] != "no"
        assert ("healthcheck" in service) == stays, name


def test_services_wait_for_what_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, wait in service.get("depends_on", {}).items():
            ends = SERVICES[other]["restart"] == "no"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert wait["condition"] == expected, f"{name} on {other}"


def test_containers_are_reached_from_the_host_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_the_containers_mount_and_run_is_there() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (CHECKOUT / source).is_dir()
        words = [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]
        scripts = (word.removeprefix("--file=") for word in words)
        for script in (word for word in scripts if word.endswith((".sh", ".py", ".sql"))):
            [mounted] = [m for m in service.get("volumes", []) if ":/deploy" in m] or ["./deploy:"]
            path = script.replace("/deploy/", f"{mounted.split(':')[0]}/")
            assert (CHECKOUT / path).is_file(), script


def test_the_image_gets_what_it_copies() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (CHECKOUT / "Dockerfile").read_text(), re.M)
    allowed = {
        line[1:]
        for line in (CHECKOUT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    sources = {source for copy in copies for source in copy.split()} - {"."}
    assert sources <= allowed
    assert [path for path in allowed if not (CHECKOUT / path).exists()] == []


def test_no_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    found = [
        f"{path}: {line}"
        for path in _files_of_the_project()
        for line in (CHECKOUT / path).read_text(errors="ignore").splitlines()
        if any(host in line for host in REGISTRIES) or MACHINE_PATH.search(line)
    ]
    assert found == []


def _files_of_the_project() -> list[str]:
    """What is in version control, or would be with the next commit."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for path in listing.splitlines() if (CHECKOUT / path).is_file()]


def _requirements(name: str) -> str:
    return (CHECKOUT / "requirements" / f"{name}.txt").read_text()


def _pins(name: str) -> dict[str, str]:
    return {canonicalize_name(pin): version for pin, version in PIN.findall(_requirements(name))}
