# shellcheck shell=bash
# PostgreSQL: a cluster of its own, made for this run. The tests' user may make databases and schemas.

# "Fast shutdown"; TERM would wait for clients to leave.
# shellcheck disable=SC2034 # read by stop_servers
stop_signal_postgres=INT
# "Immediate shutdown": what was not written is lost as in a crash, but its other processes are gone too, which would
# otherwise keep it from starting again.
# shellcheck disable=SC2034 # read by kill_all of tests/servers/private
kill_signal_postgres=QUIT

postgres_title() { echo PostgreSQL; }
postgres_packages() { echo postgresql; }

# Debian keeps the server's programs out of the PATH, in a folder for each version.
postgres_find() {
  local initdb
  initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
  if [ ! -x "$initdb" ]; then initdb=$(command -v initdb) || return 1; fi
  postgres_bin=$(dirname "$initdb")
}

postgres_start() {
  local home=$run_dir/postgres user=postgres
  postgres_port=$first_port
  postgres_as=()
  if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
    id "$user" >/dev/null 2>&1 || user=nobody
    postgres_as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
  fi
  if [ ! -e "$home" ]; then # else it is started again
    mkdir "$home"
    echo adit >"$home/password"
    if [ ${#postgres_as[@]} -gt 0 ]; then chown -R "$user" "$home"; fi
    postgres_prepare "$home" >>"$run_dir/postgres.log" 2>&1 || {
      failed_server=postgres
      fail "PostgreSQL could not make a cluster"
    }
  fi
  # Nothing outlives the run, so nothing waits for the disk; but a test may kill the server, so what is committed is
  # handed to the system.
  launch postgres ${postgres_as[@]+"${postgres_as[@]}"} "$postgres_bin/postgres" -D "$home/data" -p "$postgres_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
    -c fsync=off -c full_page_writes=off
}

# In the cluster's own folder: PostgreSQL's user may not be allowed into the caller's.
postgres_prepare() (
  cd "$1"
  ${postgres_as[@]+"${postgres_as[@]}"} "$postgres_bin/initdb" -D "$1/data" --username=adit --pwfile="$1/password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync &&
    echo 'CREATE DATABASE adit' |
    ${postgres_as[@]+"${postgres_as[@]}"} "$postgres_bin/postgres" --single -D "$1/data" postgres
)

postgres_ready() { "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$postgres_port"; }

postgres_export() { export ADIT_TEST_POSTGRES_URL="postgres://adit:adit@127.0.0.1:$postgres_port/adit"; }
