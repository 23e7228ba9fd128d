"""The ConfigMap with the shop's apps; ``python -m tests.shop_manifests`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SHOP: Final = Path(__file__).parents[1] / "examples" / "shop"
FILE: Final = SHOP / "kubernetes" / "apps.yaml"
_HEAD: Final = """\
# The apps of examples/shop/apps. Written by `python -m tests.shop_manifests`; do not edit.
apiVersion: v1
kind: ConfigMap
metadata: {name: apps, namespace: shop}
data:
"""


def document() -> str:
    """The whole file."""
    parts = [_HEAD]
    for path in sorted((SHOP / "apps").glob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        parts.append(f"  {path.name}: |\n" + "".join(f"    {line}\n" if line else "\n" for line in lines))
    return "".join(parts)


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
