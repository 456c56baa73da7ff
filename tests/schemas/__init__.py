"""Small schemas, each with one trap of real Postgres, and the whole way of a fix through them."""
