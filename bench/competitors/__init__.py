"""What a user would build instead, as well as we can build it, with the same durability.

Each is a FastAPI application that keeps profiles in a database server and answers when the change is on disk.
They do less than Mixdown: no checks, no limits, no idempotency, no refusals, no order between connections.
"""
