"""The contents of the deployment files, for the tests that check them."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "serving" / "deploy"
CONFIG = DEPLOY / "config"
BASE = DEPLOY / "kubernetes" / "base"
PINNED = re.compile(r"^[a-z]+/[a-z]+:\d+\.\d+\.\d+(-gpu)?(@sha256:[0-9a-f]{64})?$")


def load(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def compose(*overrides: str) -> dict[str, Any]:
    """The service with override files, as docker-compose merges it; lists replace lists."""

    def merged(old: Any, new: Any) -> Any:
        if isinstance(old, dict) and isinstance(new, dict):
            return old | {key: merged(old.get(key, value), value) for key, value in new.items()}
        return new

    service: dict[str, Any] = {}
    for name in ("docker-compose.yaml", *(f"docker-compose.{name}.yaml" for name in overrides)):
        (document,) = load(DEPLOY / name)
        service = merged(service, document["services"]["serving"])
    return service


def manifests() -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(BASE.glob("*.yaml")):
        for document in load(path):
            if document["kind"] != "Kustomization":
                found[f"{document['kind']}/{document['metadata']['name']}"] = document
    return found


MANIFESTS = manifests()
POD = MANIFESTS["Deployment/keras-ae-serving"]["spec"]["template"]["spec"]
CONTAINERS = {c["name"]: c for c in POD["initContainers"] + POD["containers"]}
(KSERVE,) = load(DEPLOY / "kserve.yaml")


def flags(arguments: list[str]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
