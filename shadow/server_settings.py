"""The settings of every Postgres that we start ourselves, whether from embedded programs or in a container.

Read by the embedded supervisor, which runs without site-packages, and by the docker sandbox; standard library only.
"""

EVERY = {
    "max_connections": "200",
    "max_locks_per_transaction": "256",
    "shared_buffers": "128MB",
    # In the data directory, so that even a server killed with -9 leaves nothing in /dev/shm (64 MB in a container).
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    "jit": "off",
    "ssl": "off",
    "password_encryption": "scram-sha-256",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    # LOG, FATAL and PANIC only: an ERROR's text may hold a row's value.
    "log_min_messages": "log",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
THROW_AWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "checkpoint_timeout": "30min",
    # Shadows live for hours and are analysed by whoever loads them; a worker in a template delays copies.
    "autovacuum": "off",
}
