"""`mixdown profiles history|undo`, and reading back in time on the command line."""

from __future__ import annotations

from tests.cli.support import Cli
from tests.cli.support import user as sent


def test_undoing_puts_a_profile_back_by_one_more_update(shop: Cli) -> None:
    shop.send(sent("alice", plan="free", tags=["a"]))
    before = shop.json("profiles", "get", "alice", "--project", "shop")
    entry = shop.json("profiles", "history", "alice", "--project", "shop")["results"][0]
    then = str(entry["time_ms"])
    shop.send(sent("alice", plan="pro", more=1))
    assert shop.json("profiles", "get", "alice", "--project", "shop", "--as-of", then) == before
    undo = ("profiles", "undo", "alice", "--project", "shop", "--to", then)
    told = shop.json(*undo, "--yes")["sent"]
    assert (told["$set"]["plan"], told["$unset"]) == ("free", ["more"])
    assert shop.json("profiles", "get", "alice", "--project", "shop") == before
    assert shop.json(*undo, "--yes") == {"sent": None}
    shop("profiles", "delete", "alice", "--project", "shop", "--yes")
    shop(*undo, "--yes")
    assert shop.json("profiles", "get", "alice", "--project", "shop") == before
    shop("profiles", "undo", "alice", "--project", "shop", "--to", str(entry["time_ms"] - 1), "--yes")
    shop("profiles", "get", "alice", "--project", "shop", code=1)


def test_all_profiles_as_they_stood_are_exported(shop: Cli) -> None:
    shop.send(sent("alice", plan="free"), sent("bob", plan="free"))
    entry = shop.json("profiles", "history", "alice", "--project", "shop")["results"][0]
    shop.send(sent("alice", plan="pro"), sent("cyd", plan="pro"))
    shop("profiles", "delete", "bob", "--project", "shop", "--yes")
    lines = shop(
        "profiles", "export", "--project", "shop", "--as-of", str(entry["time_ms"])
    ).stdout.splitlines()
    assert [("free" in line, "alice" in line or "bob" in line) for line in lines] == [(True, True)] * 2
    result = shop("profiles", "export", "--project", "shop", "--as-of", "then", code=1)
    assert "--as-of" in result.stderr
