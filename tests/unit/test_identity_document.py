"""docs/identity.md names every reason why a caller gets no identity, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ca.border import TOLD
from ca.errors import RefusalReason
from k8s.objects.names import AUDIENCE, CLUSTER_TRUST_BUNDLE, SIGNER
from ringfence.attestation import EvidenceFault
from sidecar.settings_sources import SETTINGS

PAGE = (Path(__file__).parents[2] / "docs/identity.md").read_text(encoding="utf-8")


def test_the_page_has_every_reason_once_and_in_order() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE) == [str(reason) for reason in RefusalReason]


@pytest.mark.parametrize("fault", list(EvidenceFault))
def test_each_fault_of_evidence_is_a_reason_that_its_holder_is_told(fault: EvidenceFault) -> None:
    assert RefusalReason(f"evidence_{fault}") in TOLD


def test_only_what_is_said_of_evidence_and_of_its_subject_is_told() -> None:
    silent = {str(reason) for reason in RefusalReason if reason not in TOLD}
    assert not any(reason.startswith("evidence_") for reason in silent)
    assert {"token_spent", "token_unknown", "host_key_unknown", "host_key_revoked"} <= silent


def test_its_examples_use_the_names_of_the_product() -> None:
    documents = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    sidecar, pod = documents
    fields = {setting.field for setting in SETTINGS}
    assert {("evidence", key) for key in sidecar["spec"]["evidence"]} <= fields
    certificate, bundle = pod["volumes"][0]["projected"]["sources"]
    assert certificate["podCertificate"]["signerName"] == SIGNER
    assert bundle["clusterTrustBundle"]["name"] == CLUSTER_TRUST_BUNDLE
    assert f"audience `{AUDIENCE}`" in PAGE
