"""What the coordinator of a Citus cluster refuses of a statement, or takes over the network without need.

Enters: a statement, as PostgreSQL has understood it (`trees`), with its parameters. Leaves: what is wrong
with it, in words. The rules are those of Citus 12 and 13 (their sources: `multi_router_planner.c`,
`query_pushdown_planning.c`, `recursive_planning.c`), or stricter where a statement would be taken, and slow.
Two ways are open to a statement about tables of partitions: it names one partition for each of them, always
the same, and goes to one node as it is; or it reads several, and each node does its part of it,
and the coordinator adds up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg

from mixdown.store.postgres.tables import DISTRIBUTED, DISTRIBUTION_COLUMN, SCHEMA
from tests.store.trees import Node, parsed, queries_below, within

SELECT, UPDATE, INSERT, DELETE = "1", "2", "3", "4"
_RELATION, _SUBQUERY, _VALUES = "0", "1", "5"
_FUNCTION_OF: Final = {
    "FUNCEXPR": "funcid",
    "AGGREF": "aggfnoid",
    "WINDOWFUNC": "winfnoid",
    "OPEXPR": "opfuncid",
    "DISTINCTEXPR": "opfuncid",
    "NULLIFEXPR": "opfuncid",
    "SCALARARRAYOPEXPR": "opfuncid",
}
_FIXED: Final = {"SQLVALUEFUNCTION": "s", "NEXTVALUEEXPR": "v"}
_CASTS: Final = {"RELABELTYPE", "FUNCEXPR", "COERCEVIAIO"}
_INNER, _LEFT, _FULL, _RIGHT = "0", "1", "2", "3"

Place = tuple[int, int]
"""A relation of a query: which query (by identity), and its number there."""


class Coordinator:
    """Judges statements about the tables of a store, by what a server knows of them."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """`connection` is to a database with the tables of a store, and nobody else's."""
        self._connection = connection
        self._trees: list[str] = []
        connection.add_notice_handler(self._noticed)
        for setting in ("client_min_messages = log", "debug_pretty_print = off"):
            connection.execute(f"SET {setting}".encode())
        rows = connection.execute(
            "SELECT c.oid, c.relname, coalesce(a.attnum, 0) FROM pg_class AS c"
            " LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = %s"
            " WHERE c.relnamespace = %s::regnamespace",
            (DISTRIBUTION_COLUMN, SCHEMA),
        ).fetchall()
        self._spread = {oid: (name, number) for oid, name, number in rows if name in DISTRIBUTED}
        self._names = {oid: name for oid, name, _ in rows}
        self._volatile = dict(connection.execute("SELECT oid::int8, provolatile FROM pg_proc").fetchall())
        self._equal = {
            oid
            for (oid,) in connection.execute(
                "SELECT o.oprcode::oid::int8 FROM pg_operator AS o WHERE o.oprname = '='"
                " AND o.oprleft = ANY(ARRAY[20, 21, 23]) AND o.oprright = ANY(ARRAY[20, 21, 23])"
            )
        }

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.message_primary == "parse tree:":
            self._trees.append(notice.message_detail or "")

    def trees_of(self, statement: str) -> list[Node]:
        """The trees of a statement without parameters, and of all that functions run on its behalf."""
        self._trees.clear()
        self._connection.execute("SET debug_print_parse = on")
        try:
            self._connection.execute(statement.encode())
        finally:
            self._connection.execute("SET debug_print_parse = off")
        return [parsed(tree) for tree in self._trees]

    def faults(
        self, statement: bytes, types: Sequence[int] = (), values: Mapping[int, int] | None = None
    ) -> list[str]:
        """What is wrong with a statement, which is not run. `values` are those of its parameters."""
        self._connection.execute("SET debug_print_parse = on")
        self._trees.clear()
        result = self._connection.pgconn.prepare(b"", statement, types)
        trees, self._trees = self._trees, []
        self._connection.execute("SET debug_print_parse = off")
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            return [f"it is not understood: {result.error_message.decode()}"]
        return [fault for tree in trees for fault in self.faults_of(parsed(tree), values)]

    def faults_of(self, tree: Node, values: Mapping[int, int] | None = None) -> list[str]:
        """The same of a tree."""
        inside = tree["utilityStmt"]
        if isinstance(inside, Node):
            return [each for query in queries_below(inside) for each in self.faults_of(query, values)]
        return list(_Statement(self, tree, values or {}).faults())

    # --- what a server knows

    def spread(self, entry: Node) -> int:
        """The number of the column `partition`, where an entry is a table of partitions; else 0."""
        if entry["rtekind"] != _RELATION:
            return 0
        return int(self._spread.get(entry.number("relid"), ("", 0))[1])

    def name(self, entry: Node) -> str:
        """The name of a table; of one of PostgreSQL's own, its number."""
        return str(self._names.get(entry.number("relid"), entry["relid"]))

    def is_equality(self, node: Node) -> bool:
        """Whether it is `=` of two integers."""
        return node.kind == "OPEXPR" and node.number("opfuncid") in self._equal

    def volatility(self, node: Node) -> str:
        """That of a node itself: i, s or v."""
        if node.kind in _FIXED:
            return _FIXED[node.kind]
        if node.kind in _FUNCTION_OF:
            return str(self._volatile[node.number(_FUNCTION_OF[node.kind])])
        if node.kind == "COERCEVIAIO":
            [[worst]] = self._connection.execute(
                "SELECT max(p.provolatile) FROM pg_type AS t JOIN pg_proc AS p"
                " ON p.oid IN (t.typinput, t.typoutput) WHERE t.oid = %s",
                (node.number("resulttype"),),
            ).fetchall()
            return str(worst)
        return "i"


class _Statement:
    """One statement before the coordinator."""

    def __init__(self, knows: Coordinator, tree: Node, values: Mapping[int, int]) -> None:
        self._knows = knows
        self._tree = tree
        self._values = values
        self._queries: list[tuple[Node, tuple[Node, ...]]] = []
        self._gather(tree, ())
        self._pins = {place: value for query, _ in self._queries for place, value in self._pinned(query)}

    def _gather(self, query: Node, above: tuple[Node, ...]) -> None:
        self._queries.append((query, above))
        for below in queries_below(query):
            self._gather(below, (*above, query))

    def _entries(self, query: Node) -> list[tuple[int, Node]]:
        return list(enumerate(query.listed("rtable"), 1))

    def _spread(self, query: Node) -> list[int]:
        """The tables of partitions in a query itself, by their numbers there."""
        return [number for number, entry in self._entries(query) if self._knows.spread(entry)]

    def _meets_spread(self, query: Node) -> bool:
        return any(self._spread(each) for each in within(query) if each.kind == "QUERY")

    def faults(self) -> Iterator[str]:
        """What is wrong."""
        if not any(self._spread(query) for query, _ in self._queries):
            return
        yield from self._of_all()
        if self._tree["commandType"] != SELECT:
            yield from self._of_write()
        elif not self._is_of_one():
            for query, above in self._queries:
                yield from self._of_several(query, above)

    # --- which partition

    def _is_of_one(self) -> bool:
        """Whether each table of partitions has its partition named, always the same."""
        wanted = [(id(query), number) for query, _ in self._queries for number in self._spread(query)]
        return all(place in self._pins for place in wanted) and len({self._pins[p] for p in wanted}) == 1

    def _pinned(self, query: Node) -> Iterator[tuple[Place, Any]]:
        """Tables of a query whose partition it names, and which that is."""
        known: dict[int, Any] = {}
        equal: list[tuple[int, int]] = []
        for condition in self._conditions(query["jointree"]):
            if not self._knows.is_equality(condition):
                continue
            left, right = condition.listed("args")
            sides = self._own_partition(query, left), self._own_partition(query, right)
            if all(sides):
                equal.append((sides[0] or 0, sides[1] or 0))
            elif any(sides):
                value = self._value(right if sides[0] else left)
                if value is not None:
                    known[sides[0] or sides[1] or 0] = value
        for _ in equal:
            for one, other in equal:
                if one in known or other in known:
                    value = known.get(one, known.get(other))
                    known.setdefault(one, value)
                    known.setdefault(other, value)
        for number, value in known.items():
            yield (id(query), number), value

    def _conditions(self, tree: Any) -> Iterator[Node]:
        """What must hold for each row of a FROM."""
        if not isinstance(tree, Node) or tree.kind not in ("FROMEXPR", "JOINEXPR"):
            return
        if tree.kind == "JOINEXPR" and tree["jointype"] != _INNER:
            return
        parts = tree.listed("fromlist") if tree.kind == "FROMEXPR" else [tree["larg"], tree["rarg"]]
        for part in parts:
            yield from self._conditions(part)
        yield from _conjuncts(tree["quals"])

    def _own_partition(self, query: Node, node: Any) -> int | None:
        """The number of the table whose column `partition` a node is, in this very query."""
        if not isinstance(node, Node) or node.kind != "VAR" or node.number("varlevelsup"):
            return None
        number = node.number("varno")
        entry = query.listed("rtable")[number - 1]
        return number if self._knows.spread(entry) == node.number("varattno") else None

    def _value(self, node: Node) -> Any:
        """What tells a value from others, where it is a constant or a parameter."""
        while node.kind in _CASTS:
            inner = node["arg"] if node.kind != "FUNCEXPR" else (node.listed("args") or [None])[0]
            if not isinstance(inner, Node):
                return None
            node = inner
        if node.kind == "PARAM":
            number = node.number("paramid")
            return self._values.get(number, f"${number}")
        if node.kind == "CONST" and isinstance(node["constvalue"], list):
            return int.from_bytes(bytes(int(each) & 0xFF for each in node["constvalue"][2:6]), "little")
        return None

    # --- rules of all statements

    def _of_all(self) -> Iterator[str]:
        for query, _ in self._queries:
            for _, entry in self._entries(query):
                if (
                    entry["rtekind"] == _RELATION
                    and entry["relkind"] != "v"
                    and not self._knows.spread(entry)
                ):
                    yield f"tables of partitions meet {self._knows.name(entry)}, which is the coordinator's"
            if query is not self._tree and query["commandType"] != SELECT:
                yield "it writes within WITH"
            if query.true("hasForUpdate") and not self._is_of_one():
                yield "it locks rows of several partitions"
        if any(node.kind == "VAR" and node.number("varattno") < 0 for node in within(self._tree)):
            yield "it reads a column of the system"

    # --- rules of statements that write

    def _of_write(self) -> Iterator[str]:
        target = self._tree.listed("rtable")[self._tree.number("resultRelation") - 1]
        column = self._knows.spread(target)
        if not column:
            yield "it writes a table of the coordinator"
            return
        yield from self._of_functions()
        if self._tree["commandType"] == INSERT:
            yield from self._of_insert(column)
            return
        if not self._is_of_one():
            yield "it does not name one partition, the same for each of its tables"
        if self._tree["commandType"] == UPDATE and _sets(self._tree.listed("targetList"), column):
            yield "it moves rows to another partition"

    def _of_insert(self, column: int) -> Iterator[str]:
        tree = self._tree
        if tree.true("hasSubLinks"):
            yield "a subquery stands among the values of an INSERT"
        if tree.listed("cteList"):
            yield "an INSERT begins with WITH"
        if any(entry["rtekind"] == _VALUES for _, entry in self._entries(tree)):
            yield "it inserts several rows of VALUES"
        given = next(
            (each["expr"] for each in tree.listed("targetList") if each.number("resno") == column), None
        )
        sources = [entry["subquery"] for _, entry in self._entries(tree) if entry["rtekind"] == _SUBQUERY]
        if given is None:
            yield "an INSERT gives no partition"
        elif not sources:
            if self._value(given) is None:
                yield "the partition of an INSERT is no constant"
        else:
            yield from self._of_source(sources[0], given)
        conflict = tree["onConflict"]
        if isinstance(conflict, Node):
            if conflict["action"] == "2" and _sets(conflict.listed("onConflictSet"), column):
                yield "ON CONFLICT moves rows to another partition"
            parts = [node for node in within(conflict["arbiterElems"]) if node.kind == "VAR"]
            if not any(node.number("varattno") == column for node in parts):
                yield "ON CONFLICT names no partition"

    def _of_source(self, source: Node, given: Node) -> Iterator[str]:
        if given.kind != "VAR":
            yield "the partition that a SELECT gives is no int"
            return
        chosen = source.listed("targetList")[given.number("varattno") - 1]["expr"]
        if self._meets_spread(source):
            if self._own_partition(source, chosen) is None:
                yield "what an INSERT takes from other partitions' tables goes through the coordinator"
        elif self._value(chosen) is None:
            yield "the partition that a SELECT gives is no constant"

    def _of_functions(self) -> Iterator[str]:
        tree, worst = self._tree, self._worst
        if worst(tree) == "v":
            yield "it calls a volatile function"
        if worst(tree["returningList"]) != "i":
            yield "RETURNING calls a function that is not immutable"
        if isinstance(tree["onConflict"], Node) and worst(tree["onConflict"]) != "i":
            yield "ON CONFLICT calls a function that is not immutable"
        if tree["commandType"] == INSERT:
            return
        for node in within([tree["targetList"], tree["jointree"]], into_queries=False):
            if node.kind in ("CASEEXPR", "COALESCEEXPR") and worst(node) != "i":
                yield "CASE or coalesce calls a function that is not immutable"
            elif self._knows.volatility(node) == "s" and _columns_in(node):
                yield "a stable function is given a column"

    def _worst(self, node: Any) -> str:
        return max((self._knows.volatility(each) for each in within(node)), default="i")

    # --- rules of statements that read several partitions

    def _of_several(self, query: Node, above: tuple[Node, ...]) -> Iterator[str]:
        if not self._meets_spread(query):
            return
        if query.true("hasRecursive"):
            yield "it is recursive over several partitions"
        if query.listed("groupingSets"):
            yield "it groups several partitions by sets"
        links = [node for node in within(query, into_queries=False) if node.kind == "SUBLINK"]
        met = [link for link in links if self._meets_spread(link["subselect"])]
        if met and not query.listed("rtable"):
            yield "without FROM, what a subquery finds is fetched as a whole"
        if any(not link["subselect"].listed("targetList") for link in met):
            yield "a subquery chooses no column"
        adds_up = query.true("hasAggs") or query.true("hasWindowFuncs")
        if adds_up and self._spread(query) and _links_outside_of_aggregates(query["targetList"]):
            yield "it adds up, and looks up beside it"
        yield from self._of_join(query)
        below = [entry["subquery"] for _, entry in self._entries(query) if entry["rtekind"] == _SUBQUERY]
        if any(isinstance(each["limitCount"], Node) and self._meets_spread(each) for each in below):
            yield "a subquery with LIMIT over several partitions is fetched as a whole"
        if above and self._looks_out(query):
            yield from self._of_correlated(query, above)

    def _of_join(self, query: Node) -> Iterator[str]:
        groups = {number: {number} for number in self._spread(query)}
        for condition in self._conditions(query["jointree"]) if groups else ():
            if self._knows.is_equality(condition):
                left, right = (self._own_partition(query, each) for each in condition.listed("args"))
                if left in groups and right in groups:
                    together = groups[left] | groups[right]
                    groups.update(dict.fromkeys(together, together))
        for join in within(query["jointree"], into_queries=False):
            if join.kind == "JOINEXPR" and join["jointype"] != _INNER:
                for one, other in self._tied(query, join):
                    together = groups[one] | groups[other]
                    groups.update(dict.fromkeys(together, together))
                outer, inner = join["larg"], join["rarg"]
                if join["jointype"] == _RIGHT:
                    outer, inner = inner, outer
                if self._is_spread(query, inner) and not self._is_spread(query, outer):
                    yield "what is of no partition is joined outside of what is"
        if len({frozenset(group) for group in groups.values()}) > 1:
            yield "tables are joined by other columns than the partition"

    def _tied(self, query: Node, join: Node) -> Iterator[Place]:
        for condition in _conjuncts(join["quals"]):
            if self._knows.is_equality(condition):
                left, right = (self._own_partition(query, each) for each in condition.listed("args"))
                if left and right:
                    yield left, right

    def _is_spread(self, query: Node, side: Any) -> bool:
        numbers = [node.number("rtindex") for node in within(side) if node.kind == "RANGETBLREF"]
        entries = [query.listed("rtable")[number - 1] for number in numbers]
        return any(self._knows.spread(each) or self._meets_spread(each) for each in entries)

    def _looks_out(self, query: Node, depth: int = 0) -> bool:
        """Whether a column of a query above stands in it."""
        own = within(query, into_queries=False)
        if any(node.kind == "VAR" and node.number("varlevelsup") > depth for node in own):
            return True
        return any(self._looks_out(below, depth + 1) for below in queries_below(query))

    def _of_correlated(self, query: Node, above: tuple[Node, ...]) -> Iterator[str]:
        if not self._spread(above[-1]):
            yield "a subquery looks up what is asked for outside of all partitions"
        for number in self._spread(query):
            if not any(
                self._is_tied_outside(query, number, condition)
                for condition in self._conditions(query["jointree"])
            ):
                yield "a subquery of several partitions looks into other partitions"

    def _is_tied_outside(self, query: Node, number: int, condition: Node) -> bool:
        if not self._knows.is_equality(condition):
            return False
        left, right = condition.listed("args")
        own = [each for each in (left, right) if self._own_partition(query, each) == number]
        others = [each for each in (left, right) if each.kind == "VAR" and each.number("varlevelsup")]
        return bool(own and others)


def _conjuncts(node: Any) -> Iterator[Node]:
    """The conditions that `AND` joins."""
    if not isinstance(node, Node):
        return
    if node.kind == "BOOLEXPR" and node["boolop"] == "and":
        for each in node.listed("args"):
            yield from _conjuncts(each)
    else:
        yield node


def _columns_in(node: Node) -> bool:
    return any(below.kind == "VAR" for below in within(node, into_queries=False))


def _sets(entries: Sequence[Node], column: int) -> bool:
    return any(entry.number("resno") == column and not entry.true("resjunk") for entry in entries)


def _links_outside_of_aggregates(node: Any) -> bool:
    if isinstance(node, Node):
        if node.kind == "AGGREF":
            return False
        if node.kind == "SUBLINK":
            return True
        return any(_links_outside_of_aggregates(each) for each in node.fields.values())
    return isinstance(node, list) and any(map(_links_outside_of_aggregates, node))
