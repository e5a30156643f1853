"""`mixdown db copy`: a folder moves to PostgreSQL while it is used; both are asked the same."""
