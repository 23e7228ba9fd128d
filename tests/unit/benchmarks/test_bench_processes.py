from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from cryptography import x509

from benchmarks.certificates import write_certificates
from benchmarks.processes import cpu_seconds, free_ports, listening, resident_megabytes, running, wait_until
from benchmarks.works import BenchmarkError

BUSY = "print('up', flush=True)\nwhile True: pass"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_ends_with_its_block_whatever_happened_in_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="measuring failed"), running(python(BUSY), tmp_path, "busy") as process:
        raise RuntimeError("measuring failed")

    assert process.poll() is not None
    with pytest.raises(BenchmarkError, match="gone"):
        cpu_seconds(process.pid)


def test_cpu_time_and_memory_of_another_process_are_read(tmp_path: Path) -> None:
    with running(python(BUSY), tmp_path, "busy") as process:
        log = tmp_path / "busy.log"
        wait_until(lambda: "up\n" in log.read_text(), "busy", process, log, 30)
        start = cpu_seconds(process.pid)
        wait_until(lambda: cpu_seconds(process.pid) > start, "busy", process, log, 30)

        assert resident_megabytes(process.pid) > 1


def test_a_process_that_dies_while_it_is_awaited_is_told_with_its_log(tmp_path: Path) -> None:
    dying = running(python("raise SystemExit('no licence')"), tmp_path, "dead")

    with pytest.raises(BenchmarkError, match="no licence"), dying as process:
        wait_until(lambda: False, "it", process, tmp_path / "dead.log", 30)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no-such-program"), running(["no-such-program"], tmp_path, "none"):
        pass


def test_free_ports_differ_and_nobody_listens_on_them() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert not listening(ports[0])
    with socket.create_server(("127.0.0.1", ports[0])):
        assert listening(ports[0])


def test_certificates_carry_one_spiffe_id_and_are_signed_by_the_root(tmp_path: Path) -> None:
    spiffe_id = "spiffe://bench.example/ns/default/sa/api"

    write_certificates(tmp_path, {"api": spiffe_id})

    root = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    leaf = x509.load_pem_x509_certificate((tmp_path / "api.pem").read_bytes())
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [spiffe_id]
    assert (tmp_path / "api.key").stat().st_mode & 0o077 == 0
