"""``make`` takes torch's CPU build where its index answers, and never waits long for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

if shutil.which("make") is None:
    pytest.skip("needs make", allow_module_level=True)


class Index(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/cpu/torch/" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def index() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def chosen(*words: str) -> str:
    command = ["make", "-s", "torch-index", f"PYTHON={sys.executable}", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_an_index_of_cpu_builds_that_answers_is_taken(index):
    assert chosen(f"TORCH_CPU={index}/cpu") == f"{index}/cpu"


def test_one_without_torch_or_none_at_all_is_not(index):
    assert chosen(f"TORCH_CPU={index}/other") == ""
    assert chosen("TORCH_CPU=http://127.0.0.1:9/cpu") == ""


def test_one_that_does_not_answer_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/cpu"
        assert chosen(f"TORCH_CPU={address}", "PROBE_SECONDS=1") == ""
        assert time.monotonic() - begun < 50  # without a limit it never ends


def test_a_given_index_or_none_is_taken_unasked(index):
    assert chosen("TORCH_INDEX=https://example.org/simple") == "https://example.org/simple"
    assert chosen("TORCH_INDEX=", f"TORCH_CPU={index}/cpu") == ""
