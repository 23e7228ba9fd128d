"""What runs, for people and for programs, once all of it is ready. Pure but for reading process ids."""

from __future__ import annotations

from typing import Any

from controlplane.up.children import CONTROL_PLANE, app_name, sidecar_name
from controlplane.up.running import RunningMesh
from ringfence.mesh import workload_name


def facts(running: RunningMesh, seconds: float) -> dict[str, Any]:
    """All of it as plain values; ``seconds``: how long it took to be ready."""
    launch, children = running.launch, running.supervisor.children
    mesh, addresses = launch.mesh, launch.mesh.control_plane

    def pid(name: str) -> int | None:
        return children[name].pid if name in children else None

    return {
        "ready": not running.waiting_apps,
        "mesh": mesh.name,
        "trust_domain": mesh.trust_domain.name,
        "root_fingerprint": running.root_fingerprint,
        "state": str(launch.places.state),
        "admin_socket": str(launch.places.admin_socket),
        "seconds": round(seconds, 3),
        "control_plane": {
            "pid": pid(CONTROL_PLANE),
            "join": str(addresses.join),
            "listen": str(addresses.listen),
            "signals": str(addresses.signals),
        },
        "services": [
            {
                "service": service.full_name,
                "instance": instance.name or None,
                "spiffe_id": str(service.spiffe_id),
                "mesh": str(instance.mesh),
                "signals": str(running.signals[service.name_of(instance)]),
                "sidecar_pid": pid(sidecar_name(service, instance)),
                "app_pid": pid(app_name(service, instance)),
                "app_listens": app_name(service, instance) not in running.waiting_apps
                if instance.run is not None
                else None,
                "ports": [
                    {"port": port.port, "protocol": str(port.protocol), "app": str(app)}
                    for port, app in zip(service.ports, instance.apps, strict=True)
                ],
                "upstreams": [
                    {
                        "service": one.service,
                        "port": one.port,
                        "protocol": str(one.protocol),
                        "listen": str(listen) if listen is not None else None,
                    }
                    for one, listen in zip(service.upstreams, instance.listens, strict=True)
                ],
            }
            for service, instance in mesh.workloads
        ],
    }


def summary(told: dict[str, Any]) -> str:
    """``facts`` as lines for a terminal."""
    lines = [
        f"mesh {told['mesh']} of trust domain {told['trust_domain']} is up, after {told['seconds']:.1f} s",
        f"  control plane   join {told['control_plane']['join']}, control {told['control_plane']['listen']}, "
        f"metrics http://{told['control_plane']['signals']}/metrics",
        f"  root            sha256:{told['root_fingerprint']}",
        f"  state           {told['state']}",
        f"  look at it      ringfence status --admin-socket {told['admin_socket']}",
    ]
    for service in told["services"]:
        lines.append(f"  {workload_name(service['service'], service['instance'] or '')}")
        lines.append(
            f"    {service['spiffe_id']}, mesh port {service['mesh']}, metrics http://{service['signals']}/metrics"
        )
        for port in service["ports"]:
            lines.append(f"    serves {port['port']} ({port['protocol']}) by its app on {port['app']}")
        for one in service["upstreams"]:
            way = one["listen"] or "interception"
            lines.append(f"    calls {one['service']}:{one['port']} ({one['protocol']}) by {way}")
        if service["app_listens"] is False:
            lines.append("    its app was started, and does not listen yet")
    lines.append("Ctrl-C stops it")
    return "\n".join(lines)
