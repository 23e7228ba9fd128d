"""Broken mesh files: each with every problem that it must draw, at its exact line and column, with the mend."""

# ruff: noqa: E501 a problem is one line, and is compared as one

from __future__ import annotations

import pytest

from controlplane.mesh.document import read_mesh

GOOD = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  policies: policies
  controlPlane: {join: "127.0.0.1:7401", listen: "127.0.0.1:7402", signals: "127.0.0.1:7400"}
  identities: {lifetime: 1h, floor: 5m, ceiling: 24h}
  services:
    - name: orders
      namespace: shop
      serviceAccount: orders
      address: 127.0.0.1
      mesh: 15008
      signals: "127.0.0.1:9402"
      accessLog: denied
      ports:
        - {port: 8080, protocol: http, app: "127.0.0.1:9002"}
      upstreams:
        - {service: payments, port: 8080, listen: "127.0.0.1:9102"}
      run: {command: ["python3", "orders.py"], env: {PORT: "9002"}, directory: apps}
    - name: payments
      namespace: shop
      mesh: 15009
      ports:
        - {port: 8080, protocol: http, app: 9003}
        - {port: 7000, protocol: tcp, app: 9004}
"""

# What is broken, the text of GOOD that is replaced, by what, and the problems without the file's name.
CHANGES = [
    (
        "unknown field of the spec",
        "  policies: policies",
        "  polices: policies",
        [
            "6:3: unknown field 'polices' in spec (did you mean policies?)",
        ],
    ),
    (
        "unknown field of a service",
        "      accessLog: denied",
        "      acessLog: denied",
        [
            "16:7: unknown field 'acessLog' in item of services (did you mean accessLog?)",
        ],
    ),
    (
        "a label that is none",
        "      accessLog: denied",
        '      labels: {data: pii, "da ta": pii, tier: "-"}',
        [
            "16:36: label name 'da ta' is not valid (use ASCII letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends; a DNS name and '/' may stand before)",
            "16:47: value '-' of label tier is not valid (use ASCII letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends)",
        ],
    ),
    (
        "no labels at all",
        "      accessLog: denied",
        "      labels: {}",
        ["16:15: labels is empty (remove it, or add a label)"],
    ),
    (
        "a root namespace that is no name",
        "  policies: policies",
        "  rootNamespace: Root",
        [
            "6:18: rootNamespace 'Root' is not a valid name (use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last)",
        ],
    ),
    (
        "unknown field of a port",
        "protocol: http, app: 9003",
        "protocol: http, aap: 9003",
        [
            "26:11: item of ports lacks app (add app)",
            "26:40: unknown field 'aap' in item of ports (did you mean app?)",
        ],
    ),
    (
        "unknown field at the top",
        "kind: Mesh",
        "kind: Mesh\nkinds: Mesh",
        [
            "3:1: unknown field 'kinds' in document (did you mean kind?)",
        ],
    ),
    (
        "another kind",
        "kind: Mesh",
        "kind: Allowlist",
        [
            "2:7: kind 'Allowlist' is not known (use one of Mesh)",
        ],
    ),
    (
        "another version",
        "ringfence.io/v1alpha1",
        "ringfence.io/v1",
        [
            "1:13: apiVersion 'ringfence.io/v1' is not known (did you mean ringfence.io/v1alpha1?)",
        ],
    ),
    (
        "no name",
        "metadata: {name: shop}",
        "metadata: {}",
        [
            "3:11: metadata lacks name (add name)",
        ],
    ),
    (
        "a name in capitals",
        "metadata: {name: shop}",
        "metadata: {name: Shop}",
        [
            "3:18: name 'Shop' is not a valid name (use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last)",
        ],
    ),
    (
        "no trust domain",
        "  trustDomain: shop.example\n",
        "",
        [
            "5:3: spec lacks trustDomain (add trustDomain)",
        ],
    ),
    (
        "a trust domain with a path",
        "trustDomain: shop.example",
        "trustDomain: spiffe://shop.example/ns",
        [
            "5:16: trustDomain 'spiffe://shop.example/ns' is not valid: trust domain 'shop.example/ns' has a character outside a-z, 0-9, '.', '-', '_' (write it like shop.example)",
        ],
    ),
    (
        "a trust domain with a space",
        "trustDomain: shop.example",
        "trustDomain: shop example",
        [
            "5:16: trustDomain 'shop example' is not valid: trust domain 'shop example' has a character outside a-z, 0-9, '.', '-', '_' (write it like shop.example)",
        ],
    ),
    (
        "a trust domain with a Cyrillic letter",
        "trustDomain: shop.example",
        "trustDomain: sh\u043ep.example",
        [
            "5:16: trustDomain 'sh\\u043ep.example' is not valid: trust domain 'sh\\u043ep.example' has a character outside a-z, 0-9, '.', '-', '_' (write it like shop.example)",
        ],
    ),
    (
        "a number for a trust domain",
        "trustDomain: shop.example",
        "trustDomain: 7",
        [
            "5:16: trustDomain '7' is not valid: must be text, not 7 (write it like shop.example)",
        ],
    ),
    (
        "a list for the spec",
        "spec:\n",
        "spec: [1]\nother:\n",
        [
            "4:7: spec must be a mapping, not a list",
            "5:1: unknown field 'other' in document (use one of apiVersion, kind, metadata, spec)",
        ],
    ),
    (
        "an upstream service that is not there",
        "service: payments,",
        "service: payment,",
        [
            "20:21: unknown service 'shop/payment' (did you mean payments?)",
        ],
    ),
    (
        "an upstream service of another namespace",
        "service: payments,",
        "service: bank/payments,",
        [
            "20:21: unknown service 'bank/payments' (did you mean payments?)",
        ],
    ),
    (
        "an upstream service quite unknown",
        "service: payments,",
        "service: zzz,",
        [
            "20:21: unknown service 'shop/zzz' (add the service, or remove the upstream)",
        ],
    ),
    (
        "an upstream port that is not there",
        "service: payments, port: 8080",
        "service: payments, port: 8081",
        [
            "20:37: service shop/payments has no port 8081 (use one of its ports: 7000, 8080)",
        ],
    ),
    (
        "an upstream port out of range",
        "service: payments, port: 8080",
        "service: payments, port: 65536",
        [
            "20:37: port 65536 is out of range (from 1 to 65535)",
        ],
    ),
    (
        "a port of zero",
        "port: 7000",
        "port: 0",
        [
            "27:18: port 0 is out of range (from 1 to 65535)",
        ],
    ),
    (
        "a port in quotes",
        "port: 7000",
        'port: "7000"',
        [
            "27:18: port must be a whole number, not text (remove the quotes)",
        ],
    ),
    (
        "a port in octal",
        "port: 7000",
        "port: 07000",
        [
            "27:18: port must be a whole number, not '07000' (write a decimal number from 1 to 65535)",
        ],
    ),
    (
        "a port with a fraction",
        "port: 7000",
        "port: 7000.5",
        [
            "27:18: port must be a whole number, not '7000.5' (write a decimal number from 1 to 65535)",
        ],
    ),
    (
        "an unknown protocol",
        "protocol: tcp",
        "protocol: udp",
        [
            "27:34: protocol 'udp' is not known (use one of http, http2, grpc, tcp, auto)",
        ],
    ),
    (
        "an empty protocol",
        "protocol: tcp, ",
        "protocol: , ",
        [
            "27:34: protocol '' is not known (use one of http, http2, grpc, tcp, auto)",
        ],
    ),
    (
        "an app port out of range",
        "app: 9004",
        "app: 99999",
        [
            "27:44: app 99999 is out of range (from 1 to 65535)",
        ],
    ),
    (
        "an app on another machine",
        "app: 9004",
        'app: "10.0.0.9:9004"',
        [
            "27:44: app address 10.0.0.9:9004 is not on the workload's machine (use a loopback address or the service's own)",
        ],
    ),
    (
        "an app by name",
        "app: 9004",
        'app: "localhost:9004"',
        [
            "27:44: app 'localhost' is not an IP address (write one such as 127.0.0.1)",
        ],
    ),
    (
        "an app without a port",
        '"127.0.0.1:9002"',
        '"127.0.0.1"',
        [
            "18:45: app '127.0.0.1' is not an address (write it as host:port, or the port alone)",
        ],
    ),
    (
        "a port twice",
        "port: 7000",
        "port: 8080",
        [
            "27:18: duplicate port 8080, first on line 26 (keep one of them)",
        ],
    ),
    (
        "a service port that is the mesh port",
        "port: 7000",
        "port: 15009",
        [
            "27:18: port 15009 is the service's mesh port (number one of them otherwise)",
        ],
    ),
    (
        "a service name twice",
        "- name: payments",
        "- name: orders",
        [
            "20:21: unknown service 'shop/payments' (add the service, or remove the upstream)",
            "22:13: duplicate service 'shop/orders', first on line 10 (rename one of them)",
        ],
    ),
    (
        "an identity twice",
        "    - name: payments\n",
        "    - name: payments\n      serviceAccount: orders\n",
        [
            "23:23: identity spiffe://shop.example/ns/shop/sa/orders is already that of shop/orders (give each service a serviceAccount of its own)",
        ],
    ),
    (
        "the reserved namespace",
        "    - name: payments\n      namespace: shop",
        "    - name: payments\n      namespace: ringfence-system",
        [
            "20:21: unknown service 'shop/payments' (add the service, or remove the upstream)",
            "23:18: namespace ringfence-system is reserved for the mesh itself (choose another namespace)",
        ],
    ),
    (
        "a service name with a slash",
        "- name: payments",
        "- name: pay/ments",
        [
            "20:21: unknown service 'shop/payments' (add the service, or remove the upstream)",
            "22:13: name 'pay/ments' is not a valid name (use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last)",
        ],
    ),
    (
        "a service account with an escape",
        "serviceAccount: orders",
        'serviceAccount: "or%64ers"',
        [
            "12:23: serviceAccount 'or%64ers' is not a valid name (use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last)",
        ],
    ),
    (
        "a namespace of dots",
        "    - name: payments\n      namespace: shop",
        '    - name: payments\n      namespace: ".."',
        [
            "20:21: unknown service 'shop/payments' (add the service, or remove the upstream)",
            "23:18: namespace '..' is not a valid name (use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last)",
        ],
    ),
    (
        "an address by name",
        "address: 127.0.0.1",
        "address: orders.local",
        [
            "13:16: address 'orders.local' is not an IP address (write one such as 127.0.0.1)",
        ],
    ),
    (
        "an address of every machine",
        "address: 127.0.0.1",
        "address: 0.0.0.0",
        [
            "13:16: address 0.0.0.0 is not the address of one workload (write the address at which others reach it)",
        ],
    ),
    (
        "an address in octal",
        "address: 127.0.0.1",
        "address: 127.0.0.01",
        [
            "13:16: address '127.0.0.01' is not an IP address (write one such as 127.0.0.1)",
        ],
    ),
    (
        "a mesh port twice",
        "mesh: 15009",
        "mesh: 15008",
        [
            "24:13: the mesh port of shop/payments 127.0.0.1:15008 is already the mesh port of shop/orders on line 14 (choose another port)",
        ],
    ),
    (
        "a mesh port that is the control plane's",
        "mesh: 15009",
        "mesh: 7402",
        [
            "24:13: the mesh port of shop/payments 127.0.0.1:7402 is already controlPlane.listen on line 7 (choose another port)",
        ],
    ),
    (
        "a mesh port missing",
        "      mesh: 15009\n",
        "",
        [
            "22:7: item of services lacks mesh (add mesh)",
        ],
    ),
    (
        "a listen address twice",
        'listen: "127.0.0.1:9102"}\n',
        'listen: "127.0.0.1:9102"}\n        - {service: payments, port: 7000, listen: "127.0.0.1:9102"}\n',
        [
            "21:51: an upstream listener of shop/orders 127.0.0.1:9102 is already an upstream listener of shop/orders on line 20 (choose another port)",
        ],
    ),
    (
        "a listen address that is the app's",
        'listen: "127.0.0.1:9102"',
        'listen: "127.0.0.1:9002"',
        [
            "20:51: an upstream listener of shop/orders 127.0.0.1:9002 is already the app address of shop/orders on line 18 (choose another port)",
        ],
    ),
    (
        "a listen address that is another's app",
        'listen: "127.0.0.1:9102"',
        'listen: "127.0.0.1:9003"',
        [
            "26:45: the app address of shop/payments 127.0.0.1:9003 is already an upstream listener of shop/orders on line 20 (choose another port)",
        ],
    ),
    (
        "a listen address open to others",
        'listen: "127.0.0.1:9102"',
        'listen: "0.0.0.0:9102"',
        [
            "20:51: listen address 0.0.0.0:9102 can be reached from other machines (use a loopback address such as 127.0.0.1)",
        ],
    ),
    (
        "a listen address in ambiguous IPv6",
        'listen: "127.0.0.1:9102"',
        'listen: "::1:9102"',
        [
            "20:51: listen '::1:9102' is not an address (write it as host:port, or the port alone)",
        ],
    ),
    (
        "signals where the mesh port is",
        'signals: "127.0.0.1:9402"',
        'signals: "127.0.0.1:15009"',
        [
            "24:13: the mesh port of shop/payments 127.0.0.1:15009 is already the signals address of shop/orders on line 15 (choose another port)",
        ],
    ),
    (
        "signals of everybody on a taken port",
        'signals: "127.0.0.1:9402"',
        'signals: "0.0.0.0:9102"',
        [
            "20:51: an upstream listener of shop/orders 127.0.0.1:9102 is already the signals address of shop/orders on line 15 (choose another port)",
        ],
    ),
    (
        "control plane addresses that collide",
        'listen: "127.0.0.1:7402"',
        'listen: "127.0.0.1:7401"',
        [
            "7:50: controlPlane.listen 127.0.0.1:7401 is already controlPlane.join (choose another port)",
        ],
    ),
    (
        "an unknown access log",
        "accessLog: denied",
        "accessLog: some",
        [
            "16:18: mode 'some' is not known (use one of denied, all)",
        ],
    ),
    (
        "a sample of an access log that is none",
        "accessLog: denied",
        "accessLog: {mode: all, sample: 10%}",
        [
            "16:38: sample '10%' is no share of all (write a number from 0 to 1, such as 0.1)",
        ],
    ),
    (
        "a sample above all",
        "accessLog: denied",
        "accessLog: {mode: all, sample: 1.5}",
        [
            "16:38: sample '1.5' is no share of all (write a number from 0 to 1, such as 0.1)",
        ],
    ),
    (
        "a sample of requests that are not logged",
        "accessLog: denied",
        "accessLog: {sample: 0.5}",
        [
            "16:27: sample of requests that are not logged (add mode: all, or remove it)",
        ],
    ),
    (
        "tracing without an endpoint, and with a share that is none",
        "  services:",
        "  tracing: {sample: 2, header: x}\n  services:",
        [
            "9:12: tracing lacks endpoint (add endpoint)",
            "9:21: sample '2' is no share of all (write a number from 0 to 1, such as 0.1)",
            "9:24: unknown field 'header' in tracing (did you mean headersFile?)",
        ],
    ),
    (
        "an endpoint of spans that is no URL",
        "  services:",
        '  tracing: {endpoint: "127.0.0.1:4318"}\n  services:',
        [
            "9:23: endpoint is not the URL of a collector: '127.0.0.1:4318' (write it like http://127.0.0.1:4318/v1/traces, "
            "or https://collector.example/v1/traces)",
        ],
    ),
    (
        "an endpoint of spans that others on the way could read",
        "  services:",
        '  tracing: {endpoint: "http://collector.example/v1/traces"}\n  services:',
        [
            "9:23: endpoint is plain http to another machine: 'http://collector.example/v1/traces' (use https, or a "
            "collector on loopback)",
        ],
    ),
    (
        "an access log with a field too many",
        "accessLog: denied",
        "accessLog: {mode: all, sampel: 0.5}",
        [
            "16:30: unknown field 'sampel' in accessLog (did you mean sample?)",
        ],
    ),
    (
        "no workers",
        "accessLog: denied",
        "accessLog: denied\n      workers: 0",
        ["17:16: workers 0 is out of range (from 1 to 64)"],
    ),
    (
        "an empty command",
        '["python3", "orders.py"]',
        "[]",
        [
            '21:22: command is empty (write the program and its arguments, such as ["python", "app.py"])',
        ],
    ),
    (
        "a command as text",
        '["python3", "orders.py"]',
        "python3 orders.py",
        [
            "21:22: command must be a list, not a value",
        ],
    ),
    (
        "a number in the environment",
        '{PORT: "9002"}',
        "{PORT: 9002}",
        [
            "21:60: PORT must be text, not 9002 (put it in quotes)",
        ],
    ),
    (
        "a directory as a list",
        "directory: apps",
        "directory: [apps]",
        [
            "21:80: directory must be text, not a list",
        ],
    ),
    (
        "a lifetime without a unit",
        "lifetime: 1h",
        "lifetime: 3600",
        [
            "8:26: lifetime '3600' is not a duration (write it like 500ms, 10s, 5m or 1h30m)",
        ],
    ),
    (
        "a lifetime above the ceiling",
        "lifetime: 1h",
        "lifetime: 25h",
        [
            "8:26: lifetime of 90000s is not between the floor of 300s and the ceiling of 86400s (change one of them)",
        ],
    ),
    (
        "a lifetime below the floor",
        "lifetime: 1h",
        "lifetime: 10s",
        [
            "8:26: lifetime of 10s is not between the floor of 300s and the ceiling of 86400s (change one of them)",
        ],
    ),
    (
        "a floor above the ceiling",
        "floor: 5m",
        "floor: 25h",
        [
            "8:37: floor of 90000s is above the ceiling of 86400s (lower the floor or raise the ceiling)",
        ],
    ),
    (
        "a lifetime of half a second",
        "lifetime: 1h, floor: 5m",
        "lifetime: 500ms, floor: 500ms",
        [
            "8:26: lifetime of 0.5s is no whole number of seconds (leave out the milliseconds)",
            "8:40: floor of 0.5s is no whole number of seconds (leave out the milliseconds)",
        ],
    ),
    (
        "a lifetime with milliseconds",
        "lifetime: 1h",
        "lifetime: 1h500ms",
        [
            "8:26: lifetime of 3600.5s is no whole number of seconds (leave out the milliseconds)",
        ],
    ),
    (
        "a tab for indentation",
        "      mesh: 15009",
        "\tmesh: 15009",
        [
            "24:1: tab in the indentation (indent with spaces)",
        ],
    ),
    (
        "a duplicate key",
        "      mesh: 15009",
        "      mesh: 15009\n      mesh: 15010",
        [
            "25:7: duplicate key 'mesh' (first given on line 24: keep one)",
        ],
    ),
    (
        "an alias",
        "  policies: policies",
        "  policies: &p policies\n  more: *p",
        [
            "6:13: anchor or alias 'p' (aliases are not supported: write the value out)",
            "7:3: unknown field 'more' in spec (use one of trustDomain, policies, controlPlane, identities, rootNamespace, tracing, tokenIssuers, services, directServices)",
            "7:9: anchor or alias 'p' (aliases are not supported: write the value out)",
        ],
    ),
    (
        "a tag",
        "  policies: policies",
        "  policies: !!python/object/apply:os.system [id]",
        [
            "6:13: policies must be text, not a list",
            "6:13: tag 'tag:yaml.org,2002:python/object/apply:os.system' (tags are not supported: remove it)",
        ],
    ),
    (
        "no closing bracket",
        "metadata: {name: shop}",
        "metadata: {name: shop",
        [
            "4:5: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        ],
    ),
    (
        "a control character",
        "name: payments",
        "name: pay\x07ments",
        [
            "22:16: control character '\\x07' (remove it)",
        ],
    ),
    (
        "an unknown mode",
        "protocol: tcp,",
        "protocol: tcp, mode: lax,",
        [
            "27:45: mode 'lax' is not known (use one of strict, permissive)",
        ],
    ),
    (
        "an unknown PROXY protocol",
        "protocol: tcp,",
        "protocol: tcp, proxyProtocol: v1,",
        [
            "27:54: proxyProtocol 'v1' is not known (use one of v2)",
        ],
    ),
    (
        "a boolean for the PROXY protocol",
        "protocol: tcp,",
        "protocol: tcp, proxyProtocol: true,",
        [
            "27:54: proxyProtocol 'true' is not known (use one of v2)",
        ],
    ),
    (
        "the PROXY protocol on an HTTP port",
        "protocol: tcp,",
        "protocol: grpc, proxyProtocol: v2,",
        [
            "27:55: proxyProtocol on a port of protocol grpc (remove it, only tcp ports have it: HTTP tells its caller in a header)",
        ],
    ),
    (
        "the PROXY protocol on a port whose protocol is found out",
        "protocol: tcp,",
        "proxyProtocol: v2,",
        [
            "27:39: proxyProtocol on a port whose protocol is found out (declare protocol: tcp, which alone has it: an app must know whether the header comes)",
        ],
    ),
    (
        "no listener and no interception",
        ', listen: "127.0.0.1:9102"',
        "",
        [
            '20:11: item of upstreams lacks listen (add an address such as "127.0.0.1:9102", or intercept the app\'s calls: give the service intercept: {})',
        ],
    ),
    (
        "interception by a boolean",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: true\n",
        [
            "17:18: intercept must be a mapping, not a value",
        ],
    ),
    (
        "interception by nothing",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept:\n",
        [
            "17:17: intercept must be a mapping, not nothing",
        ],
    ),
    (
        "an unknown field of interception",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: {in: 15006}\n",
        [
            "17:19: unknown field 'in' in intercept (use one of inbound, outbound)",
        ],
    ),
    (
        "an interception port of zero",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: {outbound: 0}\n",
        [
            "17:29: outbound 0 is out of range (from 1 to 65535)",
        ],
    ),
    (
        "one port for both ways of interception",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: {inbound: 15001}\n",
        [
            "17:18: the outbound interception port of shop/orders 0.0.0.0:15001 is already the inbound interception port of shop/orders (choose another port)",
        ],
    ),
    (
        "an interception port that is the mesh port",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: {inbound: 15008}\n",
        [
            "17:28: the inbound interception port of shop/orders 0.0.0.0:15008 is already the mesh port of shop/orders on line 14 (choose another port)",
        ],
    ),
    (
        "an interception port that is the listener of an upstream",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: {outbound: 9102}\n",
        [
            "21:51: an upstream listener of shop/orders 127.0.0.1:9102 is already the outbound interception port of shop/orders on line 17 (choose another port)",
        ],
    ),
    (
        "an interception port that is a port of the service",
        "      accessLog: denied\n",
        "      accessLog: denied\n      intercept: {inbound: 8080}\n",
        [
            "19:18: port 8080 is an interception port of the service (number one of them otherwise)",
        ],
    ),
    (
        "virtual addresses of nobody",
        "      accessLog: denied\n",
        "      accessLog: denied\n      virtualAddresses: []\n",
        [
            "17:25: virtualAddresses is empty (remove it, or write an address)",
        ],
    ),
    (
        "one virtual address without a list",
        "      accessLog: denied\n",
        "      accessLog: denied\n      virtualAddresses: 10.0.0.7\n",
        [
            "17:25: virtualAddresses must be a list, not a value",
        ],
    ),
    (
        "virtual addresses that are none",
        "      accessLog: denied\n",
        "      accessLog: denied\n      virtualAddresses: [db.local, 7, 10.0.0.07]\n",
        [
            "17:26: item of virtualAddresses 'db.local' is not an IP address (write one such as 127.0.0.1)",
            "17:36: item of virtualAddresses must be text, not 7 (put it in quotes)",
            "17:39: item of virtualAddresses '10.0.0.07' is not an IP address (write one such as 127.0.0.1)",
        ],
    ),
    (
        "a virtual address twice",
        "      accessLog: denied\n",
        '      accessLog: denied\n      virtualAddresses: ["2001:db8::7", "2001:DB8:0::7"]\n',
        [
            "17:41: item of virtualAddresses is there twice (first on line 17: remove one)",
        ],
    ),
    (
        "virtual addresses of no one service",
        "      accessLog: denied\n",
        "      accessLog: denied\n      virtualAddresses: [0.0.0.0, 224.0.0.1]\n",
        [
            "17:25: virtual address 0.0.0.0 is not the address of one service (write an address that callers dial)",
            "17:25: virtual address 224.0.0.1 is not the address of one service (write an address that callers dial)",
        ],
    ),
    (
        "a virtual address that is the service's own",
        "      accessLog: denied\n",
        "      accessLog: denied\n      virtualAddresses: [127.0.0.1]\n",
        [
            "17:25: virtual address 127.0.0.1 is the service's own (remove it: its own address is dialled anyway)",
        ],
    ),
    (
        "egress without a list",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: {name: a, hosts: [a.example]}\n",
        [
            "17:15: egress must be a list, not a mapping",
        ],
    ),
    (
        "egress to no destination",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: [{name: a, ports: [443]}]\n",
        [
            "17:16: egress rule names no destination (add hosts or cidrs)",
        ],
    ),
    (
        "egress without a name",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: [{hosts: [a.example]}]\n",
        [
            "17:16: item of egress lacks name (add name)",
        ],
    ),
    (
        "egress rules of one name",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: [{name: a, hosts: [a.example]}, {name: a, cidrs: [10.0.0.0/8]}]\n",
        [
            "17:54: duplicate egress rule 'a', first on line 17 (rename one of them)",
        ],
    ),
    (
        "egress with an unknown field",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: [{name: a, hosts: [a.example], port: 443}]\n",
        [
            "17:46: unknown field 'port' in item of egress (did you mean ports?)",
        ],
    ),
    (
        "egress with empty lists",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: [{name: a, hosts: [], cidrs: [], ports: []}]\n",
        [
            "17:33: hosts is empty (remove it, or name a host)",
            "17:44: cidrs is empty (remove it, or write a network)",
            "17:55: ports is empty (remove it to open every port)",
        ],
    ),
    (
        "egress to hosts that are none",
        "      accessLog: denied\n",
        '      accessLog: denied\n      egress: [{name: a, hosts: ["*", API.example, 10.0.0.1, "a*.b", "exаmple.org"]}]\n',
        [
            "17:34: wildcard in '*' ('*.' stands only as the whole first label, as in *.example.net)",
            "17:39: capitals in 'API.example' (write it in lower case)",
            "17:52: '10.0.0.1' ends in a number, so it is an address (list addresses under cidrs)",
            "17:62: wildcard in 'a*.b' ('*.' stands only as the whole first label, as in *.example.net)",
            "17:70: 'ex\\u0430mple.org' is not a DNS name (write it like api.example.org or *.example.net)",
        ],
    ),
    (
        "egress to networks that are none",
        "      accessLog: denied\n",
        "      accessLog: denied\n      egress: [{name: a, cidrs: [10.1.0.1/16, 10.0.0.1, 10.0.0.0/8, 10.0.0.0/8]}]\n",
        [
            "17:34: '10.1.0.1/16' has bits set behind its prefix (write 10.1.0.0/16, or 10.1.0.1/32)",
            "17:47: '10.0.0.1' is not a network (write one such as 10.1.0.0/16)",
            "17:69: item of cidrs is there twice (first on line 17: remove one)",
        ],
    ),
    (
        "egress to ports that are none",
        "      accessLog: denied\n",
        '      accessLog: denied\n      egress: [{name: a, hosts: [a.example], ports: [0, 65536, "443"]}]\n',
        [
            "17:54: item of ports 0 is out of range (from 1 to 65535)",
            "17:57: item of ports 65536 is out of range (from 1 to 65535)",
            "17:64: item of ports must be a whole number, not text (remove the quotes)",
        ],
    ),
]

# Files that have nothing of GOOD in them.
FILES: list[tuple[str, str | bytes, list[str]]] = [
    (
        "text for the services",
        "apiVersion: ringfence.io/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec:\n  trustDomain: shop.example\n  services: none\n",
        [
            "6:13: services must be a list, not a value",
        ],
    ),
    (
        "two documents",
        GOOD + "---\n" + GOOD,
        [
            "29:1: 2 documents in the mesh file (keep exactly one, of kind Mesh)",
        ],
    ),
    (
        "nothing",
        "",
        [
            "1:1: no document in the mesh file (keep exactly one, of kind Mesh)",
        ],
    ),
    (
        "a bare word",
        "mesh",
        [
            "1:1: document must be a mapping, not a value",
        ],
    ),
    (
        "bytes that are no text",
        b"kind: Mesh\nname: \xff\xfe\n",
        [
            "2:1: text is not valid UTF-8 (save the file as UTF-8)",
        ],
    ),
    (
        "a bomb",
        "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n",
        [
            "1:1: document lacks apiVersion (add apiVersion)",
            "1:1: document lacks kind (add kind)",
            "1:1: document lacks metadata (add metadata)",
            "1:1: document lacks spec (add spec)",
            "1:1: unknown field 'a' in document (use one of apiVersion, kind, metadata, spec)",
            "1:4: anchor or alias 'a' (aliases are not supported: write the value out)",
            "2:1: unknown field 'b' in document (use one of apiVersion, kind, metadata, spec)",
            "2:4: anchor or alias 'b' (aliases are not supported: write the value out)",
            "2:8: anchor or alias 'a' (aliases are not supported: write the value out)",
            "2:12: anchor or alias 'a' (aliases are not supported: write the value out)",
            "2:16: anchor or alias 'a' (aliases are not supported: write the value out)",
            "2:20: anchor or alias 'a' (aliases are not supported: write the value out)",
            "3:1: unknown field 'c' in document (use one of apiVersion, kind, metadata, spec)",
            "3:5: anchor or alias 'b' (aliases are not supported: write the value out)",
            "3:9: anchor or alias 'b' (aliases are not supported: write the value out)",
            "3:13: anchor or alias 'b' (aliases are not supported: write the value out)",
            "3:17: anchor or alias 'b' (aliases are not supported: write the value out)",
        ],
    ),
    (
        "deep nesting",
        "a: " + "[" * 100 + "]" * 100 + "\n",
        [
            "1:35: nested deeper than 32 levels (flatten it)",
        ],
    ),
]


def _problems(source: str | bytes) -> list[str]:
    document, problems = read_mesh(source, "mesh.yaml")
    assert (document is None) == bool(problems)
    return [str(problem).removeprefix("mesh.yaml:") for problem in problems]


def test_the_file_that_the_others_are_broken_from_is_good() -> None:
    assert _problems(GOOD) == []


@pytest.mark.parametrize(("name", "old", "new", "expected"), CHANGES, ids=[row[0] for row in CHANGES])
def test_change_draws_exactly_these_problems(name: str, old: str, new: str, expected: list[str]) -> None:
    assert GOOD.count(old) == 1, name
    assert _problems(GOOD.replace(old, new)) == expected


@pytest.mark.parametrize(("name", "source", "expected"), FILES, ids=[row[0] for row in FILES])
def test_file_draws_exactly_these_problems(name: str, source: str | bytes, expected: list[str]) -> None:
    assert _problems(source) == expected, name


def test_all_problems_of_a_file_are_told_at_once_in_the_order_of_their_places() -> None:
    broken = GOOD.replace("mesh: 15009", "mesh: 0").replace("protocol: tcp", "protocol: udp")
    broken = broken.replace("trustDomain: shop.example", "trustDomain: Shop Example").replace("accessLog", "acesslog")
    places = [problem.split(": ")[0] for problem in _problems(broken)]
    assert places == ["5:16", "16:7", "24:13", "27:34"]


def _intercepted(*upstreams: str, own: str = "") -> str:
    """GOOD where orders has its calls intercepted and calls ``upstreams``; ``own`` stands in payments."""
    good = GOOD.replace("      accessLog: denied\n", "      accessLog: denied\n      intercept: {}\n")
    good = good.replace("      mesh: 15009\n", f"      mesh: 15009\n{own}")
    calls = "".join(f"        - {{service: {upstream}}}\n" for upstream in upstreams)
    return good.replace('        - {service: payments, port: 8080, listen: "127.0.0.1:9102"}\n', calls)


@pytest.mark.parametrize(
    ("upstreams", "expected"),
    [
        (["payments, port: 8080"], []),
        (["payments, port: 8080", "payments, port: 7000"], []),
        (["payments, port: 8080", 'payments, port: 7000, listen: "127.0.0.1:9102"'], []),
        (
            ["payments, port: 8080", "payments, port: 8080"],
            ["22:21: upstream shop/payments:8080 is there twice, first on line 21 (remove one of them)"],
        ),
        (
            ["payments, port: 8080", 'payments, port: 8080, listen: "127.0.0.1:9102"'],
            ["22:21: upstream shop/payments:8080 is there twice, first on line 21 (remove one of them)"],
        ),
        (
            ["payments, port: 8080", "orders, port: 8080"],
            [
                "22:21: upstream shop/orders is dialled at 127.0.0.1:8080, which already means shop/payments on line 21 "
                "(give the services different addresses or ports, or remove intercept)"
            ],
        ),
    ],
)
def test_intercepted_address_and_port_mean_one_upstream(upstreams: list[str], expected: list[str]) -> None:
    assert _problems(_intercepted(*upstreams)) == expected


@pytest.mark.parametrize(
    ("virtual", "expected"),
    [
        ("10.0.0.8", []),
        (
            "10.0.0.7",
            [
                "23:21: upstream shop/orders is dialled at 10.0.0.7:8080, which already means shop/payments on line 22 "
                "(give the services different addresses or ports, or remove intercept)"
            ],
        ),
    ],
)
def test_virtual_addresses_of_two_upstreams_must_not_meet(virtual: str, expected: list[str]) -> None:
    own = "      address: 10.9.0.1\n      virtualAddresses: [10.0.0.7]\n"
    text = _intercepted("payments, port: 8080", "orders, port: 8080", own=own)
    assert (
        _problems(text.replace("      mesh: 15008\n", f"      mesh: 15008\n      virtualAddresses: [{virtual}]\n"))
        == expected
    )


@pytest.mark.parametrize("size", [1_000_000, 5_000_000])
def test_a_huge_file_ends_in_a_problem_and_not_in_work(size: int) -> None:
    text = "a: [" + "x," * (size // 2) + "]\n"
    assert len(_problems(text)) == 1


def test_more_services_than_a_mesh_may_have_are_told_at_the_list() -> None:
    services = "".join(f"    - {{name: s{number}, mesh: 1}}\n" for number in range(5_001))
    head = GOOD[: GOOD.index("    - name: orders")]
    told = [problem for problem in _problems(head + services) if "5001 services" in problem]
    assert told == ["10:5: 5001 services are more than 5000 (split the mesh)"]
