"""Weights from the Hub, through the real client and a Hub on this machine: what must happen when anything fails.

Numbers in the names are rows of the project's table of faults.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import PAGE, REPO, TINY, HubServer, random_tensors
from huggingface_hub import close_session, constants

from tiny_biomoe.config import Config
from tiny_biomoe.errors import WeightsError
from tiny_biomoe.weights import hub
from tiny_biomoe.weights import loading as weights

ROOT = Path(__file__).parents[1]
CONFIG = Config(name="tiny", architecture=TINY)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A repository in our format."""
    folder = tmp_path_factory.mktemp("repository")
    weights.save(folder, random_tensors(), CONFIG)
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that the client takes for its own, with time-outs and pauses that a test can wait for."""
    with HubServer() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses"), raising=False)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(hub, "PAUSES", (0.01, 0.01))
        yield running


@pytest.fixture
def published(server: HubServer, files: dict[str, bytes]) -> str:
    """The commit of our repository on the server."""
    return server.publish(files)


def environment(server: HubServer, cache: Path, **more: str) -> dict[str, str]:
    """For another process: the client's settings come from outside, as a user gives them."""
    hidden = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    return {**hidden, "HF_ENDPOINT": server.url, "HF_HOME": str(cache), "PYTHONPATH": str(ROOT), **more}


LOAD = f"from tiny_biomoe import weights; print(weights.load({REPO!r}).source)"


def in_cache(name: str) -> Path:
    """The one file of that name in the cache, as the client's link to it."""
    (found,) = Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{name}")
    return found


def no_connection(*_: object) -> None:
    raise AssertionError("a connection was opened")


# The road itself


def test_row_66_weights_and_their_commit(server: HubServer, published: str, files: dict[str, bytes]) -> None:
    loaded = weights.load(REPO)
    assert loaded.source == f"{REPO}@{published}"
    assert loaded.sha256 == hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert loaded.config == CONFIG
    assert all(np.array_equal(loaded.tensors[name], tensor) for name, tensor in random_tensors().items())


def test_what_the_cache_holds_is_not_fetched_again(server: HubServer, published: str) -> None:
    weights.load(REPO)
    before = server.asked("GET")
    assert weights.load(REPO).source == f"{REPO}@{published}"
    assert server.asked("GET") == before
    assert weights.load(REPO, force_download=True).source == f"{REPO}@{published}"
    assert server.asked("GET") > before


def test_row_66_a_branch_that_moved_is_another_commit(
    server: HubServer, published: str, files: dict[str, bytes]
) -> None:
    weights.load(REPO)
    moved = server.publish({**files, "README.md": b"another"})
    assert weights.load(REPO).source == f"{REPO}@{moved}"
    assert weights.load(REPO, revision=published).source == f"{REPO}@{published}"


def test_a_commit_in_the_cache_needs_no_connection(
    server: HubServer, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.load(REPO, revision=published)
    before = len(server.log)
    assert weights.load(REPO, revision=published).source == f"{REPO}@{published}"
    assert len(server.log) == before


def test_row_66_a_branch_that_moves_between_two_files_is_not_mixed(
    server: HubServer, published: str, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save(tmp_path / "next", random_tensors(seed=1), CONFIG)
    following = {entry.name: entry.read_bytes() for entry in (tmp_path / "next").iterdir()}
    download = hub.hf_hub_download

    def moves(repo: str, name: str, **options: object) -> str:
        path = download(repo, name, **options)
        if name == "config.json":
            server.publish(following)
        return path

    monkeypatch.setattr(hub, "hf_hub_download", moves)
    loaded = weights.load(REPO)
    assert loaded.source == f"{REPO}@{published}"
    assert loaded.sha256 == hashlib.sha256(files["model.safetensors"]).hexdigest()


def test_a_repository_of_the_authors_format_is_recognised(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = server.publish({"README.md": b"", "Tiny-BioMoE.pth": b"stands for the checkpoint"})
    monkeypatch.setattr(weights, "read_pth", lambda data, shapes, where: {"data": data})
    for offline in (False, True):
        loaded = weights.load(REPO, local_files_only=offline)
        assert loaded.tensors == {"data": b"stands for the checkpoint"}
        assert loaded.source == f"{REPO}@{commit}"
        assert loaded.config.name == "Tiny-BioMoE v1.0 (released)"


def test_a_foreign_config_beside_the_authors_checkpoint(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.publish({"config.json": b"{}", "Tiny-BioMoE.pth": b"stands for the checkpoint"})
    monkeypatch.setattr(weights, "read_pth", lambda data, shapes, where: {"data": data})
    assert weights.load(REPO).tensors == {"data": b"stands for the checkpoint"}


def test_a_repository_without_weights(server: HubServer) -> None:
    server.publish({"README.md": b""})
    with pytest.raises(WeightsError, match=r"neither config\.json with model\.safetensors nor Tiny-BioMoE\.pth"):
        weights.load(REPO)


def test_a_token_is_sent_and_never_shown(server: HubServer) -> None:
    assert "hf_secret" not in repr(hub.Place(REPO, token="hf_secret"))
    server.fault = "unauthorised"
    with pytest.raises(WeightsError) as caught:
        weights.load(REPO, token="hf_secret")
    assert "hf_secret" not in str(caught.value)


# Damage


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    damaged = {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "truncated": data[: len(data) // 2], "page": PAGE}[kind]
    path.write_bytes(damaged)  # through the client's link, into its blob


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("kind", ["flipped", "truncated", "page"])
def test_row_59_60_61_a_damaged_cache_is_mended(server: HubServer, published: str, name: str, kind: str) -> None:
    weights.load(REPO)
    damage(in_cache(name), kind)
    before = server.asked("GET")
    loaded = weights.load(REPO)
    assert all(np.array_equal(loaded.tensors[name], tensor) for name, tensor in random_tensors().items())
    assert server.asked("GET") > before


@pytest.mark.parametrize("kind", ["flipped", "truncated"])
def test_row_59_60_a_damaged_cache_offline_shows_both_hashes(server: HubServer, published: str, kind: str) -> None:
    stated = weights.load(REPO).sha256
    path = in_cache("model.safetensors")
    damage(path, kind)
    with pytest.raises(WeightsError, match=f"'{stated}' was stated.*force_download=True") as caught:
        weights.load(REPO, local_files_only=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in str(caught.value)


@pytest.mark.parametrize("kind", ["flipped", "truncated"])
def test_row_59_60_a_damaged_cache_and_no_server_tells_both(server: HubServer, published: str, kind: str) -> None:
    stated = weights.load(REPO).sha256
    damage(in_cache("model.safetensors"), kind)
    server.fault = "failing"
    with (
        pytest.warns(UserWarning, match=f"Used instead: commit {published}"),
        pytest.raises(WeightsError, match=rf"'{stated}' was stated.*No other copy could be fetched: .*fails \(503\)"),
    ):
        weights.load(REPO)


def test_row_59_a_server_that_sends_other_bytes_is_asked_once_more(
    server: HubServer, published: str, files: dict[str, bytes]
) -> None:
    server.fault = "flipped"
    with pytest.raises(WeightsError, match="sha256") as caught:
        weights.load(REPO)
    sound = files["model.safetensors"]
    for data in (sound, sound[:-1] + bytes([sound[-1] ^ 1])):
        assert hashlib.sha256(data).hexdigest() in str(caught.value)
    assert sum(line.startswith("GET /blobs/") for line in server.log) == 2


def test_row_59_without_a_stated_hash_the_hubs_own_is_used(server: HubServer, files: dict[str, bytes]) -> None:
    server.publish({**files, "config.json": CONFIG.to_json().encode()})
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert weights.load(REPO).sha256 == digest
    damage(in_cache("model.safetensors"), "flipped")
    with pytest.raises(WeightsError, match=f"'{digest}' was stated"):
        weights.load(REPO, local_files_only=True)
    assert weights.load(REPO).sha256 == digest


def test_row_60_a_transfer_that_is_cut_off_each_time(server: HubServer, published: str, monkeypatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server.fault = "truncated"
    with pytest.raises(WeightsError, match="no answer from .*RemoteProtocolError"):
        weights.load(REPO)
    server.fault = None
    assert weights.load(REPO).source == f"{REPO}@{published}"


def test_row_61_a_page_as_the_body_of_a_file(server: HubServer, published: str) -> None:
    server.fault = "page for body"
    with pytest.raises(WeightsError, match=r"model\.safetensors: an HTML page and not the file itself"):
        weights.load(REPO)


def test_row_61_a_sign_in_page_in_place_of_the_hub(server: HubServer, published: str) -> None:
    server.fault = "page"
    with pytest.raises(WeightsError, match="is not a Hub's .*sign-in page or a proxy"):
        weights.load(REPO)


# Refusals


MESSAGES = {
    "no repository": "there is no such repository on the Hub, and no such file or folder here",
    "unauthorised": r"shows no such repository to you \(401\): if it is private, sign in with `hf auth login`",
    "gated": f"access is gated: accept its owner's conditions at http://.*/{REPO}, and sign in",
    "forbidden": r"refuses access \(403",
    "limited": r"the server of the Hub fails \(429\)",
    "failing": r"the server of the Hub fails \(503\), not your side: try later, or load a local copy",
}


@pytest.mark.parametrize("fault", MESSAGES)
def test_row_62_each_refusal_has_its_message(server: HubServer, published: str, fault: str) -> None:
    server.fault = fault
    with pytest.raises(WeightsError, match=f"{REPO}@main: .*{MESSAGES[fault]}"):
        weights.load(REPO)


def test_row_62_an_unknown_revision(server: HubServer, published: str) -> None:
    with pytest.raises(WeightsError, match="the repository has no revision 'v9': pass a branch, a tag or a commit"):
        weights.load(REPO, revision="v9")


@pytest.mark.parametrize("fault", ["no repository", "unauthorised", "gated"])
def test_row_62_the_cache_is_no_way_around_a_refusal(server: HubServer, published: str, fault: str) -> None:
    weights.load(REPO)
    server.fault = fault
    with pytest.raises(WeightsError, match=MESSAGES[fault]):
        weights.load(REPO)


def test_row_63_a_failing_server_is_asked_three_times(server: HubServer, published: str) -> None:
    server.fault = "failing"
    with pytest.raises(WeightsError, match=MESSAGES["failing"]):
        weights.load(REPO)
    assert server.asked("HEAD") == 3
    assert server.asked("GET") == 0


def test_row_63_a_server_that_fails_at_the_files_alone(server: HubServer, published: str) -> None:
    server.fault = "failing files"
    with pytest.raises(WeightsError, match=MESSAGES["failing"]):
        weights.load(REPO)
    assert server.asked("GET") == 3


@pytest.mark.parametrize("fault", ["failing", "limited", "stalled", "page"])
def test_row_63_65_without_an_answer_the_cache_is_used_and_said_so(
    server: HubServer, published: str, fault: str
) -> None:
    weights.load(REPO)
    server.fault = fault
    with pytest.warns(UserWarning, match=f"Used instead: commit {published}, from the cache"):
        assert weights.load(REPO).source == f"{REPO}@{published}"
    with pytest.raises(WeightsError, match=f"{REPO}@main"):
        weights.load(REPO, force_download=True)


def test_row_63_nobody_listens(server: HubServer, published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(WeightsError, match="no answer from .*ConnectError"):
        weights.load(REPO)


# Time, connections, disk


def test_row_65_a_stalled_server_is_left_after_the_time_out(server: HubServer, published: str) -> None:
    server.fault = "stalled"
    start = time.monotonic()
    with pytest.raises(WeightsError, match="no answer from .*ReadTimeout.*HF_HUB_ETAG_TIMEOUT=1 s.*try later"):
        weights.load(REPO)
    assert 0.9 < time.monotonic() - start < 5


def test_row_65_a_server_that_stalls_at_the_files(
    server: HubServer, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    server.fault = "stalled files"
    start = time.monotonic()
    with pytest.raises(WeightsError, match="ReadTimeout.*HF_HUB_DOWNLOAD_TIMEOUT=0.2 s"):
        weights.load(REPO)
    assert time.monotonic() - start < 30


def test_row_64_local_files_only_opens_no_connection(
    server: HubServer, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.load(REPO)
    before = len(server.log)
    close_session()  # no connection is left over
    monkeypatch.setattr(socket.socket, "connect", no_connection)
    monkeypatch.setattr(socket, "getaddrinfo", no_connection)
    assert weights.load(REPO, local_files_only=True).source == f"{REPO}@{published}"
    with pytest.raises(
        WeightsError, match=rf"not in the cache.*local_files_only=True.*hf download {REPO} --revision v9$"
    ):
        weights.load(REPO, revision="v9", local_files_only=True)
    with pytest.raises(WeightsError, match="cannot be fetched again without a connection"):
        weights.load(REPO, local_files_only=True, force_download=True)
    assert len(server.log) == before


def test_row_64_offline_mode_opens_no_connection(server: HubServer, published: str, tmp_path: Path) -> None:
    """In a process of its own, whose client has not yet asked anything."""
    weights.load(REPO, cache_dir=tmp_path / "home" / "hub")
    before = len(server.log)
    closed = "import socket\ndef closed(*_): raise SystemExit('a connection was opened')\n"
    closed += "socket.socket.connect = socket.getaddrinfo = closed\n"
    code = f"{closed}{LOAD}\nfrom tiny_biomoe import WeightsError\n"
    code += "try: weights.load('owner/other')\nexcept WeightsError as error: print(error)"
    settings = environment(server, tmp_path / "home", HF_HUB_OFFLINE="1")
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=120)
    source, error = done.stdout.splitlines()
    assert source == f"{REPO}@{published}"
    assert "not in the cache, and no connection may be opened (HF_HUB_OFFLINE is set)" in error
    assert error.endswith("hf download owner/other")
    assert len(server.log) == before


def test_row_64_how_to_fetch_beforehand_names_the_cache(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="--cache-dir '.*/my cache'$"):
        weights.load(REPO, local_files_only=True, cache_dir=tmp_path / "my cache")


def test_row_67_a_cache_that_cannot_be_made(server: HubServer, published: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"the cache '.*/file/cache' cannot be written .*make room, or pass another"):
        weights.load(REPO, cache_dir=tmp_path / "file" / "cache")


def test_row_67_a_cache_that_is_full(server: HubServer, published: str, tmp_path: Path) -> None:
    """In a process of its own, which may write no file beyond 100 kB."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n" + LOAD
    settings = environment(server, tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"WeightsError: {REPO}@main: the cache '{tmp_path}/home/hub' cannot be written" in last
    assert "File too large" in last
    assert not list((tmp_path / "home").rglob("*.incomplete"))


def test_row_67_a_read_only_cache_will_do_if_it_holds_the_files(
    server: HubServer, published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.load(REPO)

    def read_only(path: str, *_: object, **__: object) -> None:
        number = errno.EEXIST if Path(path).exists() else errno.EROFS
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "mkdir", read_only)
    assert weights.load(REPO).source == f"{REPO}@{published}"
    with pytest.raises(WeightsError, match="the cache '.*/new' cannot be written .*Read-only file system"):
        weights.load(REPO, cache_dir=tmp_path / "new")


def test_row_68_eight_processes_for_the_first_time(server: HubServer, published: str, tmp_path: Path) -> None:
    settings = environment(server, tmp_path / "home", OMP_NUM_THREADS="1")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    ended = [(process.communicate(timeout=300), process.returncode) for process in started]
    assert [code for _, code in ended] == [0] * 8, ended[0][0][1]
    assert {output.strip() for (output, _), _ in ended} == {f"{REPO}@{published}"}
