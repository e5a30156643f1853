"""From a data folder to PostgreSQL, while the folder is in use: what `mixdown db copy` is made of.

Enters: a data folder and an empty database. Leaves: the database with all that the folder held. A copy of
the folder's state is written into the database a piece at a time; what the log took since follows, chunk by
chunk, and is folded there as anything else is; at the end the folder takes no more, and what is left follows.
How far it is stands in the database, in the transactions that write, so that whoever is killed goes on.
"""
