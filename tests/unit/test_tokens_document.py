"""The documents in ``docs/tokens.md`` are what the readers take."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import trustme

from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import Sources
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from tests.mesh_files import mesh_text

PAGE = Path(__file__).parents[2] / "docs" / "tokens.md"
HEAD = "apiVersion: ringfence.io/v1alpha1\nkind: TokenIssuer\nmetadata: {name: opaque, namespace: shop}\n"


def test_the_documents_of_the_page_can_be_put_in_force(tmp_path: Path) -> None:
    documents, rules, opaque = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "tokens.yaml").write_text(documents)
    secret = tmp_path / "secrets" / "orders"
    secret.parent.mkdir()
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    (tmp_path / "policies" / "opaque.yaml").write_text(
        HEAD + opaque.replace("/run/secrets/issuers", str(secret.parent))
    )
    extra = textwrap.indent(textwrap.dedent(rules), "  ").strip().replace("/run/secrets/issuers", "secrets")
    trustme.CA().cert_pem.write_to_path(tmp_path / "login-ca.pem")
    (tmp_path / "mesh.yaml").write_text(mesh_text(extra=extra))
    reader = ContentReader(clock=SystemClock(), limit_bytes=1 << 20)
    files = Sources(tmp_path / "mesh.yaml", reader, policy_folder_named).read()
    configuration, problems = Judge().judge(files)
    assert [str(problem) for problem in problems] == []
    assert configuration is not None
    assert set(configuration.issuer_needs.urls) == {"shop/login"}
    assert set(configuration.issuer_needs.secrets) == {"shop/opaque"}
