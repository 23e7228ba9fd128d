"""A whole mesh with SVIDs of ten seconds: traffic runs through renewal after renewal and notices none of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.data_path import HttpClient, echo_app, free_port, http_app
from tests.processes import Marked, ringfence

RENEWALS = 5

MESH = """
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {{name: brief}}
spec:
  trustDomain: brief.example
  controlPlane: {{join: "127.0.0.1:{join}", listen: "127.0.0.1:{listen}", signals: "127.0.0.1:{signals}"}}
  identities: {{lifetime: 10s, floor: 10s}}
  services:
    - name: web
      namespace: brief
      mesh: {web_mesh}
      signals: "127.0.0.1:{web}"
      ports: []
      upstreams:
        - {{service: api, port: 8080, listen: "127.0.0.1:{http_listen}"}}
        - {{service: api, port: 9000, listen: "127.0.0.1:{tcp_listen}"}}
    - name: api
      namespace: brief
      mesh: {api_mesh}
      signals: "127.0.0.1:{api}"
      ports:
        - {{port: 8080, protocol: http, app: {http_app}}}
        - {{port: 9000, protocol: tcp, app: {tcp_app}}}
"""

POLICY = """
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: api-callers, namespace: brief}
spec:
  service: api
  rules:
    - name: web
      from: [{spiffeId: "spiffe://brief.example/ns/brief/sa/web"}]
"""


async def metrics(port: int) -> dict[str, float]:
    """The sidecar's samples without labels, and the others under name and first label's value."""
    client = await HttpClient.to(port)
    reply = await client.ask("GET", "/metrics")
    client.close()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            key = f"{sample.name} {next(iter(sample.labels.values()))}" if sample.labels else sample.name
            found[key] = found.get(key, 0.0) + sample.value
    return found


async def test_traffic_runs_through_five_renewals_at_both_ends_without_one_failure(tmp_path: Path) -> None:
    names = ("join", "listen", "signals", "web_mesh", "web", "http_listen", "tcp_listen", "api_mesh", "api")
    ports = {name: free_port() for name in names}
    async with http_app() as http, echo_app() as tcp:
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "api.yaml").write_text(POLICY)
        (tmp_path / "mesh.yaml").write_text(MESH.format(http_app=http, tcp_app=tcp, **ports))
        marked = Marked(XDG_CONFIG_HOME=str(tmp_path / "config"))
        with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=tmp_path) as command:
            await asyncio.to_thread(command.wait_for_stdout, "\n")
            clients = [await HttpClient.to(ports["http_listen"]) for _ in range(4)]
            reader, writer = await asyncio.open_connection("127.0.0.1", ports["tcp_listen"])
            sent = 0
            answers: dict[int, int] = {}

            async def through() -> bool:
                """Whether both ends have renewed often enough, each proof taken by the other."""
                both = [await metrics(ports[name]) for name in ("web", "api")]
                return all(
                    one["ringfence_svid_renewals_total"] > RENEWALS
                    and one.get("ringfence_reproofs_total accepted", 0) >= RENEWALS
                    for one in both
                )

            async with asyncio.timeout(100):
                while not await through():
                    for client in clients:
                        reply = await client.ask("GET", f"/orders/{sent}")
                        answers[reply.status] = answers.get(reply.status, 0) + 1
                    writer.write(b"%08d" % sent)
                    assert await asyncio.wait_for(reader.readexactly(8), 10) == b"%08d" % sent
                    sent += 1
                    await asyncio.sleep(0.02)
            web, api = await metrics(ports["web"]), await metrics(ports["api"])
            for client in clients:
                client.close()
            writer.close()
    assert answers.keys() == {200}
    assert sent > RENEWALS
    # One link carried it all: it was never replaced.
    assert web["ringfence_tunnels_total outbound"] == 1
    assert api["ringfence_tunnels_total inbound"] == 1
    assert "ringfence_reproofs_total refused" not in web | api
    assert "ringfence_reproofs_total missing" not in web | api
