"""A Hub on this machine, small enough to read and with faults to order, and weights small enough to serve.

It speaks what huggingface_hub's client needs of one repository: the file of a revision, its commit, its etag. Large
files are redirected to another host, as on the Hub, where "localhost" plays the other to "127.0.0.1".
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit

import torch
from torch import Tensor

from tiny_biomoe.config import Architecture
from tiny_biomoe.weights.shapes import tensor_shapes

REPO = "owner/tiny"
LARGE = (".safetensors", ".pth")
PAGE = b"<!DOCTYPE html><html><body>Please sign in to this network</body></html>"
REFUSALS = {  # fault: status, X-Error-Code, X-Error-Message
    "no repository": (404, "RepoNotFound", "Repository not found"),
    "unauthorised": (401, None, "Invalid username or password."),
    "gated": (403, "GatedRepo", "Access to model owner/tiny is restricted"),
    "forbidden": (403, None, "Forbidden"),
    "limited": (429, None, "Too many requests"),
    "failing": (503, None, "Service unavailable"),
}
BODIES = {  # fault: what a large file looks like on its way; its announced size stays
    "flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "truncated": lambda data: data[: len(data) // 2],
    "page for body": lambda data: PAGE.ljust(len(data)),
}
TINY = Architecture(
    spectral_widths=(8, 8, 8, 8),
    spectral_mlp_ratios=(1, 1, 1, 1),
    spectral_heads=(0, 0, 2, 2),
    stem_width=4,
    waterfall_widths=(24, 24, 8),
    waterfall_heads=(2, 2, 2),
    waterfall_key_dim=4,
)


def random_tensors(architecture: Architecture = TINY, seed: int = 0) -> dict[str, Tensor]:
    """Values that no two tensors share, variances positive, each exact in float16."""
    generator = torch.Generator().manual_seed(seed)
    shapes = tensor_shapes(architecture)
    tensors = {name: torch.randint(1, 1000, shape, generator=generator) for name, shape in shapes.items()}
    return {name: (tensor / 1024).half().float() for name, tensor in tensors.items()}


class HubServer:
    """One repository, `REPO`, at `url`. `publish` adds a commit and moves the branch "main" to it.

    `fault` is None or one of `REFUSALS`, `BODIES`, "failing files", "stalled", "stalled files", "page".
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.log: list[str] = []  # "METHOD path" of each request
        self.fault: str | None = None
        self.closing = threading.Event()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.other_host = f"http://localhost:{self._server.server_port}"

    def publish(self, files: dict[str, bytes]) -> str:
        """Add a commit; its id is returned."""
        commit = hashlib.sha1(repr([*self.commits, *files.items()]).encode()).hexdigest()
        self.commits[commit] = files
        self.branches["main"] = commit
        return commit

    def asked(self, method: str) -> int:
        """How many requests of a method were received for files."""
        return sum(line.startswith(method) and "/api/" not in line for line in self.log)

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.server_hub, unquote(urlsplit(self.path).path)
        hub.log.append(f"{self.command} {path}")
        reading = self.command == "GET"
        if hub.fault == "stalled" or (hub.fault == "stalled files" and reading):
            hub.closing.wait()
            self.close_connection = True
        elif hub.fault == "page":
            self._send(200, PAGE, {"Content-Type": "text/html"})
        elif hub.fault in REFUSALS or (hub.fault == "failing files" and reading):
            self._refuse(*REFUSALS.get(hub.fault, REFUSALS["failing"]))
        elif path.startswith("/blobs/"):
            files = (data for commit in hub.commits.values() for data in commit.values())
            self._send(200, next(data for data in files if hashlib.sha256(data).hexdigest() == path[7:]), {})
        elif path.startswith(f"/{REPO}/resolve/"):
            self._resolve(*path.removeprefix(f"/{REPO}/resolve/").rsplit("/", 1))
        else:
            self._refuse(*REFUSALS["no repository"])

    def _resolve(self, revision: str, name: str) -> None:
        hub = self.server_hub
        commit = hub.branches.get(revision, revision)
        if commit not in hub.commits:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if name not in hub.commits[commit]:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        data = hub.commits[commit][name]
        headers = {"X-Repo-Commit": commit}
        if not name.endswith(LARGE):
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return self._send(200, data, {**headers, "ETag": f'"{git}"'})
        digest = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        return self._send(302, b"", {**headers, "Location": f"{hub.other_host}/blobs/{digest}"})

    def _refuse(self, status: int, code: str | None, message: str, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self._send(status, b"", {name: value for name, value in headers.items() if value is not None})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        change = BODIES.get(self.server_hub.fault or "") if "/blobs/" in self.path else None
        body = change(data) if change else data
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = len(body) < len(data)
