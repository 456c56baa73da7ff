#!/bin/bash
# What the entrypoint of the official postgres image does: an empty data directory becomes the server that the
# environment asks for, /docker-entrypoint-initdb.d is run once (nobody hears it on TCP meanwhile), then the command.
set -eo pipefail
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  chown -R postgres: "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-local=trust --auth-host=trust
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  pg_ctl -w start -o "-c listen_addresses=''"
  run=(psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password -h /tmp --username "$POSTGRES_USER")
  [ "$POSTGRES_DB" = postgres ] || "${run[@]}" --dbname postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
  for script in /docker-entrypoint-initdb.d/*; do
    case "$script" in
      *.sh) . "$script" ;;
      *.sql) "${run[@]}" --dbname "$POSTGRES_DB" -f "$script" ;;
    esac
  done
  pg_ctl -w stop -m fast
fi
exec "$@"
