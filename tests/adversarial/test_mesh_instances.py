"""Services of several instances in the mesh file: what is right, and each wrong neighbour with its place and mend."""

# ruff: noqa: E501 a problem is one line, and is compared as one

from __future__ import annotations

import pytest

from controlplane.mesh.document import read_mesh
from controlplane.mesh.instances import INSTANCE_LIMIT
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import Instance, Run

GOOD = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  services:
    - name: orders
      namespace: shop
      signals: "127.0.0.1:9402"
      ports:
        - {port: 8080, protocol: http}
        - {port: 7000, protocol: tcp, app: 9700}
      upstreams:
        - {service: payments, port: 8080, listen: 9102}
      run: {command: [python3, orders.py], env: {LEVEL: info, PORT: "9002"}, directory: apps}
      instances:
        - name: a
          mesh: 15101
          apps: {8080: 9001}
        - name: b
          address: 127.0.0.2
          mesh: 15102
          signals: "127.0.0.1:9403"
          apps: {8080: "127.0.0.2:9002", 7000: 9701}
          listens: {"payments:8080": 9103}
          run: {env: {PORT: "9003", ZONE: z}}
    - name: payments
      namespace: shop
      mesh: 15009
      ports: [{port: 8080, protocol: http, app: 9008}]
"""


def address(port: int, host: str = "127.0.0.1") -> SocketAddress:
    return SocketAddress(host, port)


def test_an_instance_has_what_it_says_and_what_it_leaves_out_is_as_its_service_has_it() -> None:
    document, problems = read_mesh(GOOD, "mesh.yaml")
    assert document is not None, problems
    orders, payments = document.mesh.services
    assert orders.instances == (
        Instance(
            name="a",
            address="127.0.0.1",
            mesh_port=15101,
            signals=address(9402),
            apps=(address(9001), address(9700)),
            listens=(address(9102),),
            run=Run(
                command=("python3", "orders.py"), environment=(("LEVEL", "info"), ("PORT", "9002")), directory="apps"
            ),
        ),
        Instance(
            name="b",
            address="127.0.0.2",
            mesh_port=15102,
            signals=address(9403),
            apps=(address(9002, "127.0.0.2"), address(9701)),
            listens=(address(9103),),
            run=Run(
                command=("python3", "orders.py"),
                environment=(("LEVEL", "info"), ("PORT", "9003"), ("ZONE", "z")),
                directory="apps",
            ),
        ),
    )
    assert [(instance.name, instance.mesh_port) for instance in payments.instances] == [("", 15009)]


def test_instances_on_machines_of_their_own_need_say_only_their_addresses() -> None:
    text = GOOD[: GOOD.index("      instances:")] + (
        "      mesh: 15008\n"
        "      instances:\n"
        "        - {name: a, address: 10.0.0.1, apps: {8080: 9001}}\n"
        "        - {name: b, address: 10.0.0.2, apps: {8080: 9001}}\n"
    )
    document, problems = read_mesh(text.replace("{service: payments, port: 8080", "{service: orders, port: 8080"), "m")
    assert document is not None, problems
    assert [str(instance.mesh) for instance in document.mesh.services[0].instances] == [
        "10.0.0.1:15008",
        "10.0.0.2:15008",
    ]


# What is broken, the text of GOOD that is replaced, by what, and the problems without the file's name.
CHANGES = [
    (
        "two instances of one name",
        "- name: b",
        "- name: a",
        ["20:17: duplicate instance 'a', first on line 17 (rename one of them)"],
    ),
    (
        "an instance without a name",
        "- name: a\n          mesh: 15101",
        "- mesh: 15101",
        ["17:11: item of instances lacks name (add name)"],
    ),
    (
        "a name that would leave its folder",
        "- name: a",
        '- name: "../a"',
        [
            "17:17: name '../a' is not a valid name (use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last)"
        ],
    ),
    (
        "an instance without a mesh port",
        "          mesh: 15101\n",
        "",
        ["17:11: item of instances lacks mesh (add mesh)"],
    ),
    (
        "a mesh port that another instance has",
        "mesh: 15102",
        "mesh: 15101",
        [],  # on 127.0.0.2 it is another socket
    ),
    (
        "a mesh port that another instance has at the same address",
        "          address: 127.0.0.2\n          mesh: 15102",
        "          mesh: 15101",
        [
            "21:17: the mesh port of shop/orders/b 127.0.0.1:15101 is already the mesh port of shop/orders/a on line 18 (choose another port)",
        ],
    ),
    (
        "signals that another instance has",
        '          signals: "127.0.0.1:9403"\n',
        "",
        [
            "20:11: the signals address of shop/orders/b 127.0.0.1:9402 is already the signals address of shop/orders/a on line 17 (choose another port)"
        ],
    ),
    (
        "a port without an app",
        "apps: {8080: 9001}",
        "apps: {7000: 9001}",
        ['17:11: item of instances lacks the app address of port 8080 (add apps: {8080: "127.0.0.1:9001"})'],
    ),
    (
        "an app of a port that there is not",
        "apps: {8080: 9001}",
        "apps: {8080: 9001, 8081: 9005}",
        ["19:36: the service has no port '8081' (use one of its ports: 8080, 7000)"],
    ),
    (
        "an app address that is none",
        "apps: {8080: 9001}",
        "apps: {8080: orders}",
        ["19:24: 8080 'orders' is not an address (write it as host:port, or the port alone)"],
    ),
    (
        "an app on another machine",
        'apps: {8080: "127.0.0.2:9002", 7000: 9701}',
        'apps: {8080: "10.0.0.9:9002", 7000: 9701}',
        [
            "24:24: app address 10.0.0.9:9002 is not on the workload's machine (use a loopback address or the instance's own)"
        ],
    ),
    (
        "an app that another instance has",
        'apps: {8080: "127.0.0.2:9002", 7000: 9701}',
        'apps: {8080: "127.0.0.2:9002"}',
        [
            "24:17: the app address of shop/orders/b 127.0.0.1:9700 is already the app address of shop/orders/a on line 19 (choose another port)"
        ],
    ),
    (
        "a listener that another instance has",
        '          listens: {"payments:8080": 9103}\n',
        "",
        [
            "20:11: an upstream listener of shop/orders/b 127.0.0.1:9102 is already an upstream listener of shop/orders/a on line 17 (choose another port)"
        ],
    ),
    (
        "a listener for an upstream that there is not",
        '{"payments:8080": 9103}',
        '{"payments:8081": 9103, "payments:8080": 9103}',
        ["25:38: the service has no upstream 'payments:8081' (use one of its upstreams: payments:8080)"],
    ),
    (
        "a listener twice, by its short and its full name",
        '{"payments:8080": 9103}',
        '{"payments:8080": 9103, "shop/payments:8080": 9104}',
        ["25:66: upstream 'payments:8080' is there twice (keep one of them)"],
    ),
    (
        "an upstream without a listener",
        "{service: payments, port: 8080, listen: 9102}",
        "{service: payments, port: 8080}",
        [
            '17:11: item of instances lacks the local address of upstream payments:8080 (add listens: {"payments:8080": "127.0.0.1:9102"}, or intercept: give the service intercept: {})'
        ],
    ),
    (
        "a listener that other machines reach",
        '{"payments:8080": 9103}',
        '{"payments:8080": "10.0.0.2:9103"}',
        [
            "25:38: listen address 10.0.0.2:9103 can be reached from other machines (use a loopback address such as 127.0.0.1)"
        ],
    ),
    (
        "an address of every host",
        "address: 127.0.0.2",
        "address: 0.0.0.0",
        ["21:20: address 0.0.0.0 is not the address of one workload (write the address at which others reach it)"],
    ),
    (
        "an unknown field",
        "apps: {8080: 9001}",
        "app: {8080: 9001}",
        [
            '17:11: item of instances lacks the app address of port 8080 (add apps: {8080: "127.0.0.1:9001"})',
            "19:11: unknown field 'app' in item of instances (did you mean apps?)",
        ],
    ),
    (
        "what belongs to the service",
        "          mesh: 15101\n",
        "          mesh: 15101\n          serviceAccount: other\n",
        [
            "19:11: unknown field 'serviceAccount' in item of instances (use one of name, address, mesh, signals, apps, listens, run)"
        ],
    ),
    (
        "no instances",
        GOOD[GOOD.index("      instances:") : GOOD.index("    - name: payments")],
        "      instances: []\n",
        ["16:18: instances is empty (list at least one, or leave it out)"],
    ),
    (
        "instances that are no list",
        GOOD[GOOD.index("      instances:") : GOOD.index("    - name: payments")],
        "      instances: {a: 1}\n",
        ["16:18: instances must be a list, not a mapping"],
    ),
    (
        "a service port that is the mesh port of an instance",
        "mesh: 15102",
        "mesh: 8080",
        ["11:18: port 8080 is the service's mesh port (number one of them otherwise)"],
    ),
    (
        "a virtual address that is an instance's own",
        "      ports:\n        - {port: 8080, protocol: http}",
        "      virtualAddresses: [127.0.0.2]\n      ports:\n        - {port: 8080, protocol: http}",
        ["10:25: virtual address 127.0.0.2 is the service's own (remove it: its own address is dialled anyway)"],
    ),
    (
        "intercepted instances on one machine",
        "      ports:\n        - {port: 8080, protocol: http}",
        "      intercept: {}\n      ports:\n        - {port: 8080, protocol: http}",
        [
            "22:20: the inbound interception port of shop/orders/b 0.0.0.0:15006 is already the inbound interception port of shop/orders/a on line 18 (give intercepted instances addresses of different machines)",
            "22:20: the outbound interception port of shop/orders/b 0.0.0.0:15001 is already the outbound interception port of shop/orders/a on line 18 (give intercepted instances addresses of different machines)",
        ],
    ),
    (
        "a run without a command anywhere",
        '      run: {command: [python3, orders.py], env: {LEVEL: info, PORT: "9002"}, directory: apps}\n',
        "",
        ["25:16: run lacks command (add command)"],
    ),
    (
        "a variable without a name",
        'env: {PORT: "9003", ZONE: z}',
        'env: {"A=B": "9003"}',
        ["26:22: environment variable 'A=B' has no valid name (use a name without =)"],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), [change[1:] for change in CHANGES], ids=[c[0] for c in CHANGES])
def test_every_problem_has_its_place_and_its_mend(old: str, new: str, expected: list[str]) -> None:
    assert GOOD.count(old) == 1
    document, problems = read_mesh(GOOD.replace(old, new), "mesh.yaml")
    assert [str(problem).removeprefix("mesh.yaml:") for problem in problems] == expected
    assert (document is None) is bool(expected)


def test_more_instances_than_callers_could_be_told_are_refused() -> None:
    listed = "".join(
        f"        - {{name: i{number}, mesh: {20_000 + number}}}\n" for number in range(INSTANCE_LIMIT + 1)
    )
    text = (
        "apiVersion: ringfence.io/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec:\n  trustDomain: shop.example\n"
        f"  services:\n    - name: orders\n      namespace: shop\n      instances:\n{listed}"
    )
    _, problems = read_mesh(text, "mesh.yaml")
    assert [problem.message for problem in problems] == ["1001 instances are more than 1000"]
