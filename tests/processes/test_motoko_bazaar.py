"""A Motoko application over two subnets: futures side by side, queries called by updates, kept functions, timers, a lock."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icsim
from tests.processes.test_motoko_programs import TOPOLOGY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
BAZAAR = Path(__file__).resolve().parents[1] / "canisters" / "motoko_bazaar.wasm"


def stalls(net: icsim.Network, *subnets: str) -> list[icsim.Canister]:
    """Fresh stalls, one on each of these subnets."""
    made = [net.create_canister(subnet) for subnet in subnets]
    for one in made:
        one.install(BAZAAR)
    return made


def told(canister: icsim.Canister) -> dict[str, Any]:
    """What a stall tells of itself."""
    found: dict[str, Any] = canister.query("told")
    return found


def test_futures_side_by_side_and_the_cheapest_stall(icsim_network: Callable[..., icsim.Network]) -> None:
    """Queries called by an update, errors caught one by one; payment, refund, reject and trap, near and far."""
    net = icsim_network(TOPOLOGY, check_invariants=True)
    near, other, far = stalls(net, "here", "here", "there")
    other.call("offer", "lamp", 500)
    far.call("offer", "lamp", 300)
    everyone = [near.id, other.id, far.id]
    assert near.call("ask", everyone, "lamp") == [None, 500, 300]
    assert near.call("ask", everyone, "rug") == [None, None, None]
    assert told(other)["asked"] == told(far)["asked"] == 0, "a query changes nothing"
    assert near.call("cheapest", everyone, "lamp", 299) == "#canister_error"
    assert near.call("cheapest", everyone, "lamp", 1000) == "lamp sold, back 700"
    assert near.call("cheapest", everyone, "lamp", 1000) == "lamp sold, back 500"
    assert (told(other)["earned"], told(far)["earned"]) == (500, 300)
    with pytest.raises(icsim.CallRejected, match="nobody has lamp") as error:
        near.call("cheapest", everyone, "lamp", 1000)
    assert error.value.error_code == "IC0406"
    assert net.cycles_audit().holds


def test_kept_functions_are_called_in_order(icsim_network: Callable[..., icsim.Network]) -> None:
    """A publisher calls functions of its followers without waiting; each hears all news once, in order."""
    net = icsim_network(TOPOLOGY, check_invariants=True)
    publisher, near, far = stalls(net, "here", "here", "there")
    for follower in (near, far, publisher):
        follower.call("follow", publisher.id)
    for word in ("one", "two", "three"):
        assert publisher.call("announce", word) == 3
    net.tick(6)
    assert [told(one)["news"] for one in (publisher, near, far)] == ["one two three"] * 3


def test_a_lock_is_given_back_whatever_happens(icsim_network: Callable[..., icsim.Network]) -> None:
    """Two messages interleave at `await`: the second is refused; a trap after an await still runs `finally`."""
    net = icsim_network(TOPOLOGY, check_invariants=True)
    near, far = stalls(net, "here", "there")
    for other in (near, far):
        first, second = near.submit("exclusive", other.id, 4, False), near.submit("exclusive", other.id, 4, False)
        assert first.wait() == 10
        with pytest.raises(icsim.CallRejected, match="busy"):
            second.wait()
        with pytest.raises(icsim.CallRejected, match="in the middle") as error:
            near.call("exclusive", other.id, 2, True)
        assert error.value.error_code == "IC0503"
        assert told(near)["busy"] is False
    assert near.call("factorial", 12) == 479_001_600


def test_timers_call_until_they_are_cancelled_while_sandboxes_die(icsim_network: Callable[..., icsim.Network]) -> None:
    """A recurring timer that awaits another subnet, ended by a one-shot timer; sandboxes killed on the way change nothing."""
    found = []
    for kills in (False, True):
        net = icsim_network(TOPOLOGY, check_invariants=True)
        near, far = stalls(net, "here", "there")
        far.call("offer", "tea", 7)
        near.call("watch", far.id, "tea", 3)
        for _ in range(12):
            if kills:
                for pid in [pid for title, pid in sorted(net.processes().items()) if title.startswith("sandbox ")]:
                    with contextlib.suppress(ProcessLookupError):  # of one killed before
                        os.kill(pid, signal.SIGKILL)
            net.tick(2)
        found.append((told(near)["news"], net.height, net.state_hashes()))
        net.tick(20)
        assert told(near)["news"] == found[-1][0], "the timer is cancelled"
        net.close()
    news = found[0][0].split()
    assert news[0] == "open"
    assert sorted(news[1:]) in (["7"] * 3 + ["closed"], ["7"] * 4 + ["closed"]), "one call may be under way at the end"
    assert found[0] == found[1]
