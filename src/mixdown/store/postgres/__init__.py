"""PostgreSQL: expressions over `jsonb` documents. Stores of its own follow the protocols of `store`."""
