"""Pods of every odd kind that a cluster may bring, with what an injector must make of each.

``tests/unit`` holds what comes out to its invariants, and a few to the last byte; ``tests/cluster`` asks a real API
server whether it would take them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.inject.settings import InjectSettings
from k8s.objects import names
from k8s.objects.namespaces import Namespace

WORD: Final = "word-of-the-hooks-of-one-pod"
SETTINGS: Final = InjectSettings(trust_domain="shop.example", image="localhost/ringfence:test", version="1.2.3")
FIXED: Final = InjectSettings(
    trust_domain="shop.example", image="localhost/ringfence:test", version="1.2.3", sidecar_uid=15100
)
CNI: Final = InjectSettings(trust_domain="shop.example", image="localhost/ringfence:test", version="1.2.3", cni=True)
SHOP: Final = Namespace(name="shop", labels={names.INJECT: names.ENABLED})


@dataclass(frozen=True, kw_only=True)
class Golden:
    """``pod`` comes out injected; ``warned``: part of a warning, if there is to be one."""

    pod: dict[str, Any]
    namespace: Namespace = SHOP
    warned: str = ""


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """``pod`` is refused, by a line with each of ``told``."""

    pod: dict[str, Any]
    told: tuple[str, ...] = field(default=())
    namespace: Namespace = SHOP


def container(name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "localhost/app:1", **more}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod named ``app`` in the namespace ``shop``."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "namespace": "shop"},
        "spec": {"containers": list(containers or (container(),)), **spec},
    }


def labelled(made: dict[str, Any], **labels: str) -> dict[str, Any]:
    """Labels by their names below the group."""
    changed = copy.deepcopy(made)
    changed["metadata"].setdefault("labels", {}).update(
        {f"{names.GROUP}/{key.replace('_', '-')}": value for key, value in labels.items()}
    )
    return changed


def annotated(made: dict[str, Any], **annotations: str) -> dict[str, Any]:
    """Annotations by their names below the group."""
    changed = copy.deepcopy(made)
    changed["metadata"].setdefault("annotations", {}).update(
        {f"{names.GROUP}/{key.replace('_', '-')}": value for key, value in annotations.items()}
    )
    return changed


def _http(port: int | str = 8080, path: str = "/ok", **more: Any) -> dict[str, Any]:
    return {"httpGet": {"port": port, "path": path, **more}}


_PORTS: Final = [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9000}]
_RESTRICTED: Final = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

GOLDEN: Final[dict[str, Golden]] = {
    "plain": Golden(pod=pod()),
    "every-probe": Golden(
        pod=pod(
            container(
                ports=_PORTS,
                startupProbe={**_http("http", "/start"), "failureThreshold": 30, "periodSeconds": 2},
                livenessProbe={"tcpSocket": {"port": 8080}, "timeoutSeconds": 4},
                readinessProbe={"grpc": {"port": 9000, "service": "orders"}, "initialDelaySeconds": 3},
            )
        )
    ),
    "probe-https-by-name": Golden(
        pod=pod(container(ports=_PORTS, readinessProbe=_http("http", "/ok?deep=1", scheme="HTTPS")))
    ),
    "probe-headers": Golden(
        pod=pod(
            container(
                livenessProbe=_http(
                    httpHeaders=[{"name": "Host", "value": "orders.example"}, {"name": "X-A", "value": "$(HOME)"}]
                )
            )
        )
    ),
    "probe-without-path": Golden(pod=pod(container(livenessProbe={"httpGet": {"port": 8080}}))),
    "probe-grpc-default-service": Golden(pod=pod(container(livenessProbe={"grpc": {"port": 9000}}))),
    "probe-at-the-limits": Golden(
        pod=pod(
            container(
                livenessProbe={
                    **_http(
                        path="/" + "\u00e9" * 682,
                        httpHeaders=[{"name": f"A{n}", "value": "b" * 200} for n in range(32)],
                    ),
                    "timeoutSeconds": 600,
                }
            )
        )
    ),
    "probe-exec": Golden(pod=pod(container(livenessProbe={"exec": {"command": ["true"]}}))),
    "probe-other-host": Golden(
        pod=pod(container(livenessProbe=_http(host="10.0.0.9"))), warned="asks '10.0.0.9' and not the pod"
    ),
    "hooks": Golden(
        pod=pod(
            container(
                lifecycle={"postStart": _http(8080, "/born"), "preStop": _http(8080, "/stop")},
            )
        )
    ),
    "hook-exec": Golden(pod=pod(container(lifecycle={"preStop": {"exec": {"command": ["sleep", "1"]}}}))),
    "hook-sleep": Golden(pod=pod(container(lifecycle={"preStop": {"sleep": {"seconds": 2}}}))),
    "termination-grace-of-a-probe": Golden(
        pod=pod(container(livenessProbe={**_http(), "terminationGracePeriodSeconds": 5}))
    ),
    "thirty-containers": Golden(
        pod=pod(*(container(f"c{number}", livenessProbe=_http(8000 + number)) for number in range(30)))
    ),
    "own-init-containers": Golden(pod=pod(initContainers=[container("first"), container("second")])),
    "own-native-sidecar": Golden(
        pod=pod(
            initContainers=[
                container("migrate"),
                container("helper", restartPolicy="Always", startupProbe=_http(7000), readinessProbe=_http(7000)),
            ]
        )
    ),
    "own-volumes": Golden(
        pod=pod(
            container(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
            volumes=[{"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {"medium": "Memory"}}],
        )
    ),
    "fs-group": Golden(pod=pod(securityContext={"fsGroup": 2000, "supplementalGroups": [3000]})),
    "run-as-non-root": Golden(pod=pod(securityContext={"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000})),
    "runs-as-root": Golden(pod=pod(securityContext={"runAsUser": 0})),
    "user-next-to-the-sidecars": Golden(pod=pod(securityContext={"runAsUser": 15101, "runAsGroup": 15099})),
    "restricted": Golden(pod=pod(container(securityContext=_RESTRICTED))),
    "seccomp-and-sysctls": Golden(
        pod=pod(
            securityContext={
                "seccompProfile": {"type": "RuntimeDefault"},
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
            }
        )
    ),
    "app-armor": Golden(pod=pod(container(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}))),
    "se-linux": Golden(pod=pod(securityContext={"seLinuxOptions": {"level": "s0:c123,c456"}})),
    "privileged-app": Golden(
        pod=pod(container(securityContext={"privileged": True})), warned="privileged: 'app' can leave the mesh"
    ),
    "net-admin-app": Golden(
        pod=pod(container(securityContext={"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}})),
        warned="by NET_ADMIN 'app' can leave the mesh",
    ),
    "shared-processes-without-root": Golden(
        pod=pod(
            container(securityContext={"allowPrivilegeEscalation": False}),
            container("other", securityContext={"runAsUser": 1001, "capabilities": {"drop": ["CAP_SETUID"]}}),
            container("third", securityContext={"capabilities": {"drop": ["all"], "add": ["CHOWN"]}}),
            shareProcessNamespace=True,
            securityContext={"runAsNonRoot": True, "runAsUser": 1000},
        )
    ),
    "job": Golden(pod=pod(restartPolicy="Never", activeDeadlineSeconds=600)),
    "host-port": Golden(pod=pod(container(ports=[{"containerPort": 80, "hostPort": 15001}]))),
    "udp-port": Golden(pod=pod(container(ports=[{"containerPort": 53, "protocol": "UDP"}]))),
    "service-account": Golden(pod=pod(serviceAccountName="default", automountServiceAccountToken=False)),
    "pull-secret": Golden(pod=pod(imagePullSecrets=[{"name": "registry"}])),
    "dns-of-its-own": Golden(
        pod=pod(dnsPolicy="None", dnsConfig={"nameservers": ["10.96.0.10"]}), warned="dnsPolicy: by None"
    ),
    "host-aliases": Golden(pod=pod(hostAliases=[{"ip": "10.0.0.7", "hostnames": ["db"]}])),
    "linux": Golden(pod=pod(os={"name": "linux"}, nodeSelector={"kubernetes.io/os": "linux"})),
    "spread-and-tolerations": Golden(
        pod=pod(
            tolerations=[{"operator": "Exists"}],
            topologySpreadConstraints=[
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app": "a"}},
                }
            ],
        )
    ),
    "guaranteed": Golden(
        pod=annotated(
            pod(container(resources={"limits": {"cpu": "1", "memory": "64Mi"}})),
            cpu_request="500m",
            cpu_limit="0.5",
            memory_request="128Mi",
            memory_limit="128Mi",
        )
    ),
    "resources-of-the-pod": Golden(
        pod=pod(resources={"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}})
    ),
    "resources-of-the-pod-and-wishes": Golden(
        pod=annotated(pod(resources={"limits": {"memory": "256Mi"}}), memory_limit="96Mi", cpu_request="10m")
    ),
    "low-memory-limit": Golden(pod=annotated(pod(), memory_limit="48Mi", cpu_request="1000m")),
    "high-memory-request": Golden(pod=annotated(pod(), memory_request="2048Mi")),
    "excluded-ports": Golden(
        pod=annotated(
            pod(),
            exclude_inbound_ports="9100, 9200-9203,15020",
            exclude_outbound_ports="25",
            exclude_outbound_cidrs="10.0.0.0/8, fd00::/8",
        )
    ),
    "every-wish": Golden(
        pod=annotated(
            pod(),
            image="registry.example:5000/mesh/ringfence:1.2@sha256:" + "0f" * 32,
            log_level="debug",
            access_log="all",
            drain="20s",
            mode="permissive",
        )
    ),
    "wishes-of-the-namespace": Golden(
        pod=annotated(pod(), log_level="warning"),
        namespace=Namespace(
            name="shop",
            labels={names.INJECT: names.ENABLED},
            annotations={names.LOG_LEVEL: "debug", names.DRAIN: "1s", "team.example/owner": "a\nb"},
        ),
    ),
    "opted-in": Golden(pod=labelled(pod(), inject="enabled"), namespace=Namespace(name="shop")),
    "default-service-account-and-no-name": Golden(
        pod={"metadata": {"generateName": "app-"}, "spec": {"containers": [container()]}}
    ),
    "strange-annotations": Golden(
        pod={
            **pod(),
            "metadata": {
                "name": "app",
                "annotations": {"example.com/yaml": "a: &x [1]\nb: *x\n", "example.com/big": "x" * 100_000},
            },
        }
    ),
    "ephemeral-containers": Golden(
        pod=pod(ephemeralContainers=[{"name": "debug", "image": "localhost/app:1", "targetContainerName": "app"}])
    ),
    "tty-and-devices": Golden(
        pod=pod(
            container(
                stdin=True,
                tty=True,
                volumeDevices=[{"name": "disk", "devicePath": "/dev/xvda"}],
            ),
            volumes=[{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}],
        )
    ),
}
SERVED_OTHERWISE: Final = frozenset({"ephemeral-containers", "default-service-account-and-no-name"})
"""Those that the API server does not take as they are written here, with a sidecar or without."""

_BIG: Final = "x" * 262_144
WRONG: Final[dict[str, Wrong]] = {
    "host-network": Wrong(pod=pod(hostNetwork=True), told=("spec.hostNetwork", "ringfence.io/inject: disabled")),
    "windows": Wrong(pod=pod(os={"name": "windows"}), told=("spec.os.name", "Windows")),
    "windows-node": Wrong(pod=pod(nodeSelector={"kubernetes.io/os": "windows"}), told=("Windows",)),
    "no-containers": Wrong(pod={**pod(), "spec": {"containers": []}}, told=("without containers",)),
    "no-spec": Wrong(pod={"metadata": {"name": "a"}}, told=("without containers",)),
    **{
        f"mounts-{volume}": Wrong(
            pod=pod(container(volumeMounts=[{"name": volume, "mountPath": "/stolen"}])),
            told=(f"spec.containers[0].volumeMounts[0].name: {volume}", "its token or its keys"),
        )
        for volume in ("ringfence-state", "ringfence-token", "ringfence-trust")
    },
    "init-container-mounts-the-state": Wrong(
        pod=pod(
            initContainers=[
                container("first", volumeMounts=[{"name": "ringfence-state", "mountPath": "/a", "readOnly": True}])
            ]
        ),
        told=("spec.initContainers[0].volumeMounts[0].name",),
    ),
    "shared-processes-with-root": Wrong(pod=pod(shareProcessNamespace=True), told=("shareProcessNamespace", "'app'")),
    "shared-processes-root-in-one": Wrong(
        pod=pod(
            container(securityContext={"runAsUser": 0}),
            shareProcessNamespace=True,
            securityContext={"runAsUser": 1000},
        ),
        told=("could read the sidecar's memory",),
    ),
    **{
        f"shared-processes-{name}": Wrong(
            pod=pod(
                container("calm", securityContext={"allowPrivilegeEscalation": False}),
                container(securityContext=security),
                shareProcessNamespace=True,
                securityContext={"runAsNonRoot": True, "runAsUser": 1000},
            ),
            told=("as root, 'app' could read the sidecar's memory", "allowPrivilegeEscalation: false"),
        )
        for name, security in (
            ("with-setuid-programs", {}),
            ("with-leave-to-gain", {"allowPrivilegeEscalation": True, "capabilities": {"drop": ["ALL"]}}),
            ("with-setuid-left", {"capabilities": {"drop": ["NET_RAW"]}}),
            ("with-setuid-back", {"capabilities": {"drop": ["ALL"], "add": ["SETUID"]}}),
            ("with-tracing", {"capabilities": {"drop": ["ALL"], "add": ["CAP_SYS_PTRACE"]}}),
            ("privileged", {"privileged": True, "capabilities": {"drop": ["ALL"]}}),
        )
    },
    "host-processes": Wrong(pod=pod(hostPID=True), told=("spec.hostPID",)),
    "port-15001": Wrong(
        pod=pod(container(ports=[{"containerPort": 15001}])), told=("containers[0].ports[0].containerPort: 15001",)
    ),
    "port-15020": Wrong(pod=pod(container(ports=[{"containerPort": 15020}])), told=("15020",)),
    "name-of-the-sidecar": Wrong(pod=pod(container(names.SIDECAR_CONTAINER)), told=("rename it",)),
    "name-of-the-redirect": Wrong(
        pod=pod(initContainers=[container(names.REDIRECT_CONTAINER)]), told=("rename it", "initContainers[0].name")
    ),
    "volume-of-the-sidecar": Wrong(
        pod=pod(volumes=[{"name": names.TOKEN_VOLUME, "emptyDir": {}}]), told=("spec.volumes[0].name", "rename it")
    ),
    "probe-of-an-unknown-port": Wrong(
        pod=pod(container(livenessProbe=_http("web"))), told=("livenessProbe.httpGet.port", "'web'")
    ),
    "probe-of-port-zero": Wrong(pod=pod(container(livenessProbe=_http(0))), told=("no port",)),
    "probe-of-true": Wrong(pod=pod(container(livenessProbe=_http(True))), told=("no port",)),
    "probe-of-the-sidecar": Wrong(
        pod=pod(container(livenessProbe=_http(15020, "/app-health/app/liveness"))), told=("the sidecar's own port",)
    ),
    "probe-of-the-mesh-port": Wrong(pod=pod(container(livenessProbe={"tcpSocket": {"port": 15008}})), told=("15008",)),
    "probe-with-a-header-of-two-lines": Wrong(
        pod=pod(container(livenessProbe=_http(httpHeaders=[{"name": "A", "value": "b\r\nc: d"}]))),
        told=("httpHeaders[0]", "no field of HTTP"),
    ),
    "probe-with-many-headers": Wrong(
        pod=pod(container(livenessProbe=_http(httpHeaders=[{"name": "A", "value": "b"}] * 33))), told=("too many",)
    ),
    "probe-of-a-long-path": Wrong(pod=pod(container(livenessProbe=_http(path="/" * 1_366))), told=(".path",)),
    "probe-of-no-text": Wrong(pod=pod(container(livenessProbe=_http(path="/\ud800"))), told=(".path: no text",)),
    "probe-of-a-container-without-a-name": Wrong(
        pod=pod({"image": "a", "livenessProbe": _http()}), told=("spec.containers[0].name",)
    ),
    "probe-for-hours": Wrong(
        pod=pod(container(livenessProbe={**_http(), "timeoutSeconds": 601})), told=("timeoutSeconds: 601",)
    ),
    "grpc-service-of-other-letters": Wrong(
        pod=pod(container(livenessProbe={"grpc": {"port": 9000, "service": "\u00e9"}})), told=("grpc.service",)
    ),
    "more-probes-than-a-sidecar-answers": Wrong(
        pod=pod(*(container(f"c{number}", livenessProbe=_http()) for number in range(129))), told=("129 probes",)
    ),
    "probe-by-ftp": Wrong(pod=pod(container(livenessProbe=_http(scheme="FTP"))), told=("scheme", "'FTP'")),
    "label-yes": Wrong(pod=labelled(pod(), inject="yes"), told=("label ringfence.io/inject: 'yes'", "enabled")),
    "label-of-the-namespace": Wrong(
        pod=pod(),
        namespace=Namespace(name="shop", labels={names.INJECT: "true"}),
        told=("label of the namespace ringfence.io/inject: 'true'",),
    ),
    "unknown-annotation": Wrong(pod=annotated(pod(), loglevel="debug"), told=("nobody reads it", "log-level")),
    "unknown-annotation-of-the-namespace": Wrong(
        pod=pod(),
        namespace=Namespace(name="shop", labels=SHOP.labels, annotations={"ringfence.io/mod": "permissive"}),
        told=("annotation 'ringfence.io/mod' of the namespace: nobody reads it", "ringfence.io/mode"),
    ),
    "newline-in-a-port": Wrong(
        pod=annotated(pod(), exclude_inbound_ports="80\n90"), told=("annotation ringfence.io/exclude-inbound-ports",)
    ),
    "yaml-in-a-level": Wrong(
        pod=annotated(pod(), log_level="info\n  securityContext: {privileged: true}"), told=("log-level", "unknown")
    ),
    "huge-annotation": Wrong(pod=annotated(pod(), exclude_outbound_cidrs=_BIG), told=("exclude-outbound-cidrs",)),
    "huge-image": Wrong(pod=annotated(pod(), image=_BIG), told=("ringfence.io/image", "is no image")),
    "image-with-a-flag": Wrong(pod=annotated(pod(), image="--privileged"), told=("is no image",)),
    "image-with-space": Wrong(pod=annotated(pod(), image="a b"), told=("is no image",)),
    "every-address": Wrong(pod=annotated(pod(), exclude_outbound_cidrs="0.0.0.0/0"), told=("every address",)),
    "every-address-in-halves": Wrong(
        pod=annotated(pod(), exclude_outbound_cidrs="0.0.0.0/1,128.0.0.0/1"), told=("every address",)
    ),
    "host-bits": Wrong(pod=annotated(pod(), exclude_outbound_cidrs="10.0.0.1/8"), told=("is no network",)),
    "mapped-network": Wrong(pod=annotated(pod(), exclude_outbound_cidrs="::ffff:10.0.0.0/104"), told=("IPv4",)),
    "many-ports": Wrong(pod=annotated(pod(), exclude_outbound_ports="1-60000"), told=("more than 256",)),
    "port-of-the-listener": Wrong(
        pod=annotated(pod(), exclude_inbound_ports="15006"), told=("exclude-inbound-ports", "leave it out")
    ),
    "port-backwards": Wrong(pod=annotated(pod(), exclude_outbound_ports="90-80"), told=("is no port",)),
    "port-with-zeros": Wrong(pod=annotated(pod(), exclude_outbound_ports="080"), told=("is no port",)),
    "port-of-other-digits": Wrong(pod=annotated(pod(), exclude_outbound_ports="\u0668\u0660"), told=("is no port",)),
    "cpu-of-nothing": Wrong(pod=annotated(pod(), cpu_request="0"), told=("cpu-request", "no amount of CPU")),
    "cpu-empty": Wrong(pod=annotated(pod(), cpu_limit=""), told=("cpu-limit", "empty")),
    "memory-of-a-byte": Wrong(pod=annotated(pod(), memory_limit="1"), told=("memory-limit", "at least 32Mi")),
    "memory-exponent": Wrong(pod=annotated(pod(), memory_limit="1e9"), told=("no amount of memory",)),
    "limit-below-request": Wrong(
        pod=annotated(pod(), memory_limit="64Mi", memory_request="65Mi"), told=("memory-limit", "raise it")
    ),
    "drain-for-days": Wrong(pod=annotated(pod(), drain="48h"), told=("drain", "1h")),
    "mode-off": Wrong(pod=annotated(pod(), mode="off"), told=("mode", "strict, permissive")),
    "access-log-maybe": Wrong(pod=annotated(pod(), access_log="maybe"), told=("access-log", "denied, all")),
    "wrong-wish-of-the-namespace": Wrong(
        pod=pod(),
        namespace=Namespace(name="shop", labels=SHOP.labels, annotations={names.DRAIN: "soon"}),
        told=("annotation ringfence.io/drain of the namespace",),
    ),
    "containers-no-list": Wrong(pod={**pod(), "spec": {"containers": {"a": 1}}}, told=("spec.containers: not a list",)),
    "spec-no-object": Wrong(pod={**pod(), "spec": 7}, told=("spec: not an object",)),
    "labels-no-texts": Wrong(pod={**pod(), "metadata": {"labels": {"a": 1}}}, told=("metadata.labels.a",)),
    "port-no-number": Wrong(pod=pod(container(ports=[{"containerPort": "80"}])), told=("containerPort: not a whole",)),
}

RUNS_AS_FIXED: Final[dict[str, Wrong]] = {
    "pod-user": Wrong(
        pod=pod(securityContext={"runAsUser": 15100}), told=("spec.securityContext.runAsUser: 15100", "run as another")
    ),
    "pod-group": Wrong(pod=pod(securityContext={"runAsGroup": 15100}), told=("spec.securityContext.runAsGroup",)),
    "container-user": Wrong(
        pod=pod(container(), container("b", securityContext={"runAsUser": 15100})),
        told=("spec.containers[1].securityContext.runAsUser",),
    ),
    "init-container-group": Wrong(
        pod=pod(initContainers=[container("first", securityContext={"runAsGroup": 15100})]),
        told=("spec.initContainers[0].securityContext.runAsGroup",),
    ),
}
"""Refused where the account of every sidecar is the same, as in ``FIXED``."""
