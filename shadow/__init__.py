"""A tenant's rows in an ephemeral Postgres schema: fence, mirror, shadow, statements, rehearsal, replay."""
