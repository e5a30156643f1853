"""Mixpanel's rules of identity once more, as plainly as they can be written: all is computed anew each time.

It shares nothing with the product: a list of links in force, and loops over all of it.
"""

from __future__ import annotations

import re

SHAPE = re.compile(r"^(\$device:)?[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+$")


class Reference:
    """One project."""

    def __init__(self, limit: int = 500) -> None:
        self.limit = limit
        self.joined: list[tuple[str, str, str]] = []
        """(verb, one, other), oldest first."""
        self.aliases: dict[str, tuple[str, int]] = {}

    def cluster(self, one: str) -> set[str]:
        found = {one}
        while True:
            more = {
                each
                for _, left, right in self.joined
                if left in found or right in found
                for each in (left, right)
            }
            if more <= found:
                return found
            found |= more

    def known_user(self, cluster: set[str]) -> str | None:
        """The oldest known user of a cluster."""
        for verb, one, other in self.joined:
            if one not in cluster:
                continue
            if verb == "identify":
                return one
            if verb == "device":
                return other
            users = [each for each in (one, other) if not each.startswith("$device:")]
            if users:
                return users[0]
        return None

    def canonical(self, one: str) -> str:
        if one in self.aliases:
            one = self.aliases[one][0]
        cluster = self.cluster(one)
        if len(cluster) == 1:
            return one
        return self.known_user(cluster) or next(left for _, left, _ in self.joined if left in cluster)

    def since(self, one: str) -> int:
        return self.aliases[one][1] if one in self.aliases else 0

    def link(self, mode: str, verb: str, one: str, other: str, position: int) -> bool:
        """Whether the two stand for one person afterwards, or the mode does not know the verb."""
        known = {"simplified": ["device"], "original": ["identify", "create_alias", "merge"]}
        if verb not in known.get(mode, ["create_alias"]):
            return True
        if not one or not other:
            return False
        if one == other:
            return True
        if mode == "legacy":
            if other in self.aliases:
                return self.aliases[other][0] == one
            if len(self.cluster(other)) > 1:
                return self.canonical(one) == self.canonical(other)
            self.aliases[other] = (one, position + 1)
            return True
        return self._join(verb, one, other)

    def _join(self, verb: str, one: str, other: str) -> bool:
        left = self.aliases.get(one, (one,))[0] if verb != "device" else one
        right = self.aliases.get(other, (other,))[0]
        if verb == "device" and right.startswith("$device:"):
            return False
        same = self.canonical(one) == self.canonical(other)
        if verb == "device":
            if same:
                return True
            if one in self.aliases or len(self.cluster(one)) > 1:
                return False
        elif verb == "create_alias":
            if other in self.aliases or any(
                name == "create_alias" and alias == other for name, _, alias in self.joined
            ):
                return same
        elif same:
            return True
        if left == right:
            return True
        merged = self.known_user(self.cluster(right)) is not None
        if not same and verb == "identify" and (merged or not SHAPE.match(other)):
            return False
        if not same and verb != "device" and len(self.cluster(left) | self.cluster(right)) > self.limit:
            return False
        self.joined.append((verb, left, right))
        return True

    def unmerge(self, one: str) -> None:
        self.joined = [link for link in self.joined if one not in link[1:]]
        self.aliases = {
            alias: target for alias, target in self.aliases.items() if one not in (alias, target[0])
        }
