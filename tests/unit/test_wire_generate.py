"""The committed wire code is what the protos say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.wire import generate
from ringfence.wire.generate import GenerationError, differences


def test_difference_is_a_missing_a_stale_and_an_orphaned_file(tmp_path: Path) -> None:
    (tmp_path / "a_pb2.py").write_bytes(b"old")
    (tmp_path / "gone_pb2_grpc.pyi").write_bytes(b"x")
    (tmp_path / "same_pb2.py").write_bytes(b"same")
    (tmp_path / "__init__.py").write_bytes(b"mine")
    wanted = {"a_pb2.py": b"new", "b_pb2.py": b"new", "same_pb2.py": b"same"}
    assert differences(wanted, tmp_path) == ["a_pb2.py", "b_pb2.py", "gone_pb2_grpc.pyi"]


def test_generated_modules_import_each_other_by_full_name(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    (tmp_path / "toy.proto").write_text(
        'syntax = "proto3"; package toy; message M {} service S { rpc R(M) returns (M); }'
    )
    made = generate.generate(tmp_path)
    assert set(made) == {"toy_pb2.py", "toy_pb2.pyi", "toy_pb2_grpc.py", "toy_pb2_grpc.pyi"}
    assert b"from ringfence.wire.gen import toy_pb2" in made["toy_pb2_grpc.py"]


def test_proto_that_is_broken_is_told_with_its_line(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    (tmp_path / "toy.proto").write_text("syntax = 'proto3';\nmessage {")
    with pytest.raises(GenerationError, match=r"toy\.proto:2"):
        generate.generate(tmp_path)


def test_folder_without_protos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"no \.proto file"):
        generate.generate(tmp_path)
