"""Writes the manifests: ``python -m k8s.manifests.render`` (needs helm); ``--check`` only tells what is stale.

The file carries the digest of all that the chart is made of, so that whoever has no helm can tell, too.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from k8s.objects import names

_K8S: Final = Path(__file__).resolve().parents[1]
CHART: Final = _K8S / "chart"
FILE: Final = _K8S / "manifests" / "ringfence.yaml"
# A helm that was built without a version of Kubernetes would take the cluster for one of years ago.
KUBERNETES: Final = "1.36.0"
_DIGEST: Final = "# chart: sha256:"
_HEAD: Final = "# Written by `make gen` from k8s/chart; do not edit.\n"
_BUILT: Final = Path("~/.cache/ringfence-cluster")
_WAIT_SECONDS: Final = 60


class RenderError(Exception):
    """It cannot be rendered; one line with the mend."""


def helm() -> str:
    """The program: ``$HELM``, that of the path, or the one that was built for the cluster's tests."""
    cache = Path(os.environ.get("RINGFENCE_CLUSTER_CACHE") or _BUILT.expanduser())
    built = sorted(cache.glob("*/bin/helm"), key=lambda path: path.stat().st_mtime, reverse=True)
    for candidate in (os.environ.get("HELM"), shutil.which("helm"), *map(str, built)):
        if candidate and Path(candidate).is_file():
            return candidate
    raise RenderError("no helm here (install helm 3, name one by HELM, or python -m tests.cluster build)")


def digest() -> str:
    """Of the chart's files and of how they are rendered."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        found.update(f"\0{path.relative_to(CHART)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def template(*words: str) -> list[dict[str, Any]]:
    """The objects of the chart with these further words of ``helm template``, in its order."""
    argv = [helm(), "template", "ringfence", str(CHART), f"--namespace={names.SYSTEM_NAMESPACE}"]
    try:
        ran = subprocess.run(
            [*argv, f"--kube-version={KUBERNETES}", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=_WAIT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise RenderError(error.stderr.strip()) from error
    return [found for found in yaml.safe_load_all(ran.stdout) if found]


def plain(found: Any) -> Any:
    """An object without helm's own words, which mean nothing to who applies it."""
    if isinstance(found, dict):
        cleaned = {
            key: plain(value)
            for key, value in found.items()
            if not key.startswith("helm.sh/") and (key, value) != ("app.kubernetes.io/managed-by", "Helm")
        }
        return {key: value for key, value in cleaned.items() if key != "annotations" or value}
    if isinstance(found, list):
        return [plain(item) for item in found]
    return found


def rendered() -> str:
    """The file."""
    objects = [plain(found) for found in template()]
    text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"{_HEAD}{_DIGEST}{digest()}\n---\n{text}"


def is_stale() -> bool:
    """Whether the file was not made of the chart as it is."""
    return not FILE.is_file() or f"{_DIGEST}{digest()}\n" not in FILE.read_text(encoding="utf-8")[:1000]


def main(arguments: list[str] | None = None) -> int:
    """0 when it is written or up to date, 1 when ``--check`` finds a difference, 2 without helm."""
    parser = argparse.ArgumentParser(prog="python -m k8s.manifests.render", description="Render the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is stale")
    options = parser.parse_args(arguments)
    if not is_stale():
        return 0
    if options.check:
        print(f"{FILE.relative_to(_K8S.parent)} is stale: run make gen", file=sys.stderr)
        return 1
    try:
        FILE.write_text(rendered(), encoding="utf-8")
    except RenderError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    sys.exit(main())
