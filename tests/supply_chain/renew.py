"""Asks PyPI, by pip-audit, about all locked packages: `python -m tests.supply_chain.renew`.

What it tells is added to the bundled advisories, and what they say of packages that are no longer
locked is dropped. Needs a network that reaches PyPI's JSON API for single releases.
"""

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.supply_chain import audit

PIP_AUDIT = "pip-audit==2.10.1"


def told(lock: str) -> list[dict[str, Any]]:
    """What pip-audit tells of the packages of a lock, one entry each."""
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "tool", "run", PIP_AUDIT, "--disable-pip", "--require-hashes", "--aliases"]
    command += ["--desc", "--progress-spinner=off", "--format=json", f"--requirement={lock}"]
    # Its status is 1 where it found something.
    done = subprocess.run(command, cwd=audit.ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(f"error: pip-audit failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)["dependencies"]


def entries(package: dict[str, Any]) -> list[dict[str, Any]]:
    """The advisories against the locked version of a package, as they are bundled."""
    return [
        {
            "id": known["id"],
            "aliases": known["aliases"],
            "package": package["name"],
            "affected": [f"=={package['version']}"],
            "summary": (known["description"].splitlines() or [""])[0][:200],
        }
        for known in package["vulns"]
    ]


def main() -> None:
    """Renews the file; the locks are checked against it by the tests."""
    packages = {package["name"]: package for lock in audit.LOCKS for package in told(lock)}.values()
    answered = [package for package in packages if "skip_reason" not in package]
    print(f"PyPI told of {len(answered)} of {len(packages)} packages")
    if len(answered) < len(packages):
        sys.exit("error: the bundle is left as it is: expected an answer for every package")
    bundle = audit.read(audit.ADVISORIES)
    versions = audit.all_locked()
    kept = {known["id"]: known for known in bundle["advisories"] if known["package"] in versions}
    names = {name for known in kept.values() for name in (known["id"], *known["aliases"])}
    for package in answered:
        for entry in entries(package):
            if not names & {entry["id"], *entry["aliases"]}:
                kept[entry["id"]] = entry
    bundle["as_of"] = datetime.date.today().isoformat()
    bundle["advisories"] = sorted(kept.values(), key=lambda known: (known["package"], known["id"]))
    write(bundle)


def write(bundle: dict[str, Any]) -> None:
    """Writes a bundle with one advisory a line."""
    lines = ",\n".join(f"  {json.dumps(known)}" for known in bundle["advisories"])
    head = "".join(
        f" {json.dumps(name)}: {json.dumps(bundle[name])},\n"
        for name in bundle
        if name != "advisories"
    )
    audit.ADVISORIES.write_text(f'{{\n{head} "advisories": [\n{lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
