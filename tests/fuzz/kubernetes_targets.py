"""What a cluster brings: reviews of pods about to be made, and the files that people inject."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from k8s.admission.review import ReviewError, read_review
from k8s.cni.request import CniError, read_call, version_of
from k8s.cni.wanted import wanted
from k8s.inject.documents import inject_document
from k8s.inject.injection import Injected, Refused, inject
from k8s.inject.patching import difference
from k8s.inject.yaml_text import YamlTextError, read, rewritten
from k8s.objects import names
from k8s.objects.fields import as_object
from sidecar.probes.reading import read_probes
from tests.fuzz.target import SEPARATOR, Target, expect
from tests.golden_pods import SETTINGS, SHOP, WORD
from tests.json_patches import patched

_LAWFUL: Final = {
    "--exclude-cidr",
    "--exclude-inbound-port",
    "--exclude-outbound-port",
    "--sidecar-gid",
    "--sidecar-uid",
    "--signals-port",
}
_PROBES: Final = "RINGFENCE_SIDECAR_PROBES"


def admission(data: bytes) -> None:
    """A review: refused by a line, or a pod that comes out with our sidecar first, and comes out the same again."""
    try:
        asked = read_review(data)
    except ReviewError as error:
        expect(str(error).isprintable(), str(error))
        return
    _injected(dict(asked.content))


def _injected(pod: dict[str, Any]) -> None:
    outcome = inject(pod, SHOP, SETTINGS, WORD)
    if isinstance(outcome, Refused):
        expect(outcome.message.isprintable() and len(outcome.message) < 1_000, outcome.message)
    if not isinstance(outcome, Injected):
        return
    expect(patched(pod, difference(pod, outcome.pod)) == outcome.pod, "the patch says something else")
    again = inject(outcome.pod, SHOP, SETTINGS, WORD)
    expect(isinstance(again, Injected) and difference(outcome.pod, again.pod) == [], "a second patch")
    spec = outcome.pod["spec"]
    first, second = spec["initContainers"][:2]
    expect(first["name"] == names.REDIRECT_CONTAINER and second["name"] == names.SIDECAR_CONTAINER, "others first")
    expect(first["image"] == second["image"], second)
    own = [str(second["securityContext"][key]) for key in ("runAsUser", "runAsGroup")]
    expect(first["args"][3:6:2] == own and min(map(int, own)) >= 20_000, (first, own))
    told = [one["value"] for one in second["env"] if one["name"] == _PROBES]
    expect(len(told) == 1 and "$" not in told[0], told)
    if names.STATUS not in pod.get("metadata", {}).get("annotations", {}):
        # Else the answers may be ones that somebody made up, and the sidecar refuses them.
        read_probes(told[0])


def manifests(data: bytes) -> None:
    """A file: refused by its place, or written so that it says what was meant, and the same again."""
    try:
        text = data.decode()
        documents = read(text)
    except (UnicodeDecodeError, YamlTextError) as error:
        expect(isinstance(error, UnicodeDecodeError) or (error.line >= 1 and error.column >= 1), error)
        return
    pairs = [inject_document(one.value, SETTINGS, "shop", lambda: WORD) for one in documents]
    values = [value for value, _ in pairs]
    made, _ = rewritten(text, documents, values)
    if values == [one.value for one in documents]:
        expect(made == text, "nothing was injected, and the text is another")
    # NaN is no equal of itself, and no JSON either.
    expect(_said([one.value for one in read(made)]) == _said(values) or "NaN" in _said(values), made)


def cni(data: bytes) -> None:
    """A configuration, a line with CNI_ARGS, and a pod: an error in the specification's form, or lawful arguments."""
    given, arguments, pod = (*data.split(SEPARATOR), b"", b"")[:3]
    environment = {"CNI_COMMAND": "ADD", "CNI_NETNS": "/a", "CNI_ARGS": arguments.decode("latin-1")}
    try:
        call = read_call(environment, given)
        if call.pod is None:
            return
        expect(re.fullmatch(r"[-a-z0-9.]+", call.pod.namespace + call.pod.name) is not None, call.pod)
        found = wanted(as_object(json.loads(pod), "pod"), call.pod)
    except CniError as error:
        document = error.document(version_of(given))
        expect(document["code"] > 0 and document["msg"].isprintable(), document)
        return
    except (ValueError, RecursionError):
        return
    if found is not None:
        words = dict(zip(found.arguments[2::2], found.arguments[3::2], strict=True))
        expect(found.arguments[:2] == ("redirect", "install"), found)
        expect(words.keys() <= _LAWFUL and all(re.fullmatch(r"[0-9a-f.:/,]+", one) for one in words.values()), words)


def _said(values: list[Any]) -> str:
    return json.dumps(values, sort_keys=True)


TARGETS: Final = (
    Target(name="admission", run=admission),
    Target(name="cni", run=cni),
    Target(name="manifests", run=manifests),
)
