"""All targets by name, and the inputs that are kept for each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fuzz import (
    attest_targets,
    flow_targets,
    hosting_targets,
    http1_targets,
    http2_targets,
    kubernetes_targets,
    mesh_targets,
    pod_targets,
    proxy_targets,
    split_targets,
    text_targets,
    token_targets,
    tool_targets,
)
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for module in (
        attest_targets,
        flow_targets,
        http1_targets,
        http2_targets,
        split_targets,
        kubernetes_targets,
        mesh_targets,
        pod_targets,
        proxy_targets,
        hosting_targets,
        text_targets,
        token_targets,
        tool_targets,
    )
    for target in module.TARGETS
}
CORPUS: Final = Path(__file__).parent / "corpus"


def kept(name: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
