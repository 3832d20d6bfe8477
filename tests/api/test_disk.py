"""The journal's disk is full, or fails: no paid call without its row, and everything goes on when it is well again."""

import os
import subprocess
from contextlib import suppress

import pytest

from router_gateway.ledger import journal as journal_module
from tests.api.building import EASY, error_of

ROOM_BYTES = 256 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root; tests/ledger/test_journal.py limits a file instead")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Use up the disk, to the last byte; `unlink` what comes back."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


async def fills_up(site, folder):
    """Requests until one is refused: the journal's last page takes some rows still. How many were answered."""
    ballast, answered = fill(folder), 0
    while (response := await site.chat(EASY)).status_code == 200:
        answered += 1
        assert answered < 50
    return ballast, answered, response


async def test_a_full_disk_refuses_paid_calls_and_loses_none(start, small_disk):
    site = await start(ledger_options={"directory": small_disk / "journal", "sync_interval_ms": 0})
    assert (await site.chat(EASY)).status_code == 200
    ballast, answered, refused = await fills_up(site, small_disk)
    error = error_of(refused, 503)
    assert error["code"] == "ledger_full"
    assert "No space left on device" in error["message"]
    assert refused.headers["x-should-retry"] == "true"
    asked = len(site.echo.calls)
    assert error_of(await site.chat(EASY, stream=True), 503)["code"] == "ledger_full"
    assert len(site.echo.calls) == asked, "nothing is sent to anybody"
    rows = await site.rows()
    assert rows["attempts"] == rows["decisions"] == asked == answered + 1, "what was paid for is in the database"
    ballast.unlink()
    assert (await site.chat(EASY)).status_code == 200
    assert (await site.rows())["attempts"] == asked + 1
    assert site.ledger.counters.rows_lost == 0


async def test_room_is_kept_for_the_calls_that_are_under_way(start, small_disk, monkeypatch):
    monkeypatch.setattr(journal_module, "_LOOK_EVERY_S", 0.0)
    options = {"directory": small_disk / "journal", "disk_free_bytes_min": ROOM_BYTES // 4}
    site = await start(ledger_options=options)
    assert (await site.chat(EASY)).status_code == 200
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (ROOM_BYTES - ROOM_BYTES // 4))
    refused = await site.chat(EASY)
    assert "disk is full" in error_of(refused, 503)["message"]
    disk = os.statvfs(small_disk)
    assert disk.f_bavail * disk.f_frsize > 0, "what is left is for attempts"
    assert len(site.echo.calls) == 1
    ballast.unlink()
    assert (await site.chat(EASY)).status_code == 200


async def test_with_interval_0_a_disk_that_fails_forbids_the_call(start, monkeypatch):
    site = await start(ledger_options={"sync_interval_ms": 0})
    synced, sync = [], journal_module.sync
    fails = [False]

    def failing(fd):
        if fails[0]:
            raise OSError(5, "Input/output error")
        synced.append(len(site.echo.calls))
        sync(fd)

    monkeypatch.setattr(journal_module, "sync", failing)
    assert (await site.chat(EASY)).status_code == 200
    assert synced[0] == 0, "the decision was synced before anybody was asked"
    assert len(site.echo.calls) == 1
    fails[0] = True
    assert error_of(await site.chat(EASY), 503)["code"] == "ledger_full"
    assert len(site.echo.calls) == 1
    fails[0] = False
    await site.rows()  # a disk that failed is believed again once the database has what it may lack
    assert (await site.chat(EASY)).status_code == 200
