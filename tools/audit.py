"""Asks whether a version in `requirements.lock` is known to be vulnerable: `python tools/audit.py [LOCK]`.

In: the lock. Out: a verdict on the last line, through PyPA's pip-audit and a public service. Exit code 1 if one is
known to be vulnerable (or if the audit itself is broken), 0 if none is.

Where no service answers, as on a machine without a network, that is a notice and not a
failure; but it says NOT AUDITED, and never that nothing was found.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
SERVICES = ("pypi", "osv")
ACCEPTED: dict[str, str] = {}  # ids of vulnerabilities that do not concern storycell, and why
_PIN = re.compile(r"^([\w.-]+)==([^\s;\\+]+)", re.MULTILINE)  # what follows a + names a build, which no service knows
_NO_ANSWER = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Max retries", "ServiceError", "HTTPError")


def pins(lock: str) -> list[str]:
    """The pinned packages of a lock, as `name==version`."""
    found = [f"{name}=={version}" for name, version in _PIN.findall(lock)]
    if not found:
        sys.exit("the lock pins nothing: is it requirements.lock?")
    return found


def asked(packages: list[str], service: str, more: list[str]) -> list[dict[str, Any]]:
    """What a service says of each package; an empty list if it does not answer. Any other failure ends the program."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(packages))
        file.flush()
        flags = ["--disable-pip", "--no-deps", "--progress-spinner=off", "--format=json", "--vulnerability-service"]
        words = [sys.executable, "-m", "pip_audit", *flags, service, "--requirement", file.name, *more]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if any(sign in done.stderr for sign in _NO_ANSWER):
            return []
        sys.exit(f"pip-audit failed:\n{done.stderr[-2000:]}")
    return [about for about in dependencies if "vulns" in about]  # the others are not known there


def audited(packages: list[str], services: list[str], more: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """The first service that knows the packages, and what it says; `""` if none answers. One package is asked first."""
    for service in services:
        if asked(packages[:1], service, more):
            return service, asked(packages, service, more)
    return "", []


def main() -> int:
    """Audit, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lock", nargs="?", type=Path, default=LOCK)
    parser.add_argument("--service", action="append", choices=SERVICES, help="ask this one (default: both in turn)")
    parser.add_argument("--osv-url", help="another server that speaks OSV's protocol")
    arguments = parser.parse_args()
    packages = pins(arguments.lock.read_text(encoding="utf-8"))
    more = ["--osv-url", arguments.osv_url] if arguments.osv_url else []
    service, answers = audited(packages, arguments.service or list(SERVICES), more)
    if not answers:
        print(
            f"NOT AUDITED: no service that knows vulnerabilities answers here (no network?), {len(packages)} packages"
        )
        return 0
    found = [(about, vuln) for about in answers for vuln in about["vulns"] if vuln["id"] not in ACCEPTED]
    for about, vuln in found:
        fixed = f", fixed in {', '.join(vuln['fix_versions'])}" if vuln["fix_versions"] else ""
        print(f"{about['name']} {about['version']}: {vuln['id']}{fixed}")
    known = {about["name"] for about in answers}
    unknown = [package for package in packages if package.partition("==")[0] not in known]
    if unknown:
        print(f"NOT AUDITED, unknown to {service}: {' '.join(unknown)}")
    print(f"{len(answers)} of {len(packages)} packages audited by {service}: {len(found)} known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
