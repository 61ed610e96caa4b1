# shellcheck shell=bash
# RabbitMQ with its STOMP plugin, on the settings in deploy/rabbitmq. Tests make virtual hosts of their own over its management
# interface, with the same policies.

# An orderly shutdown takes six seconds, for data that is thrown away.
# shellcheck disable=SC2034 # read by stop_servers
stop_signal_rabbitmq=KILL

rabbitmq_title() { echo RabbitMQ; }
rabbitmq_packages() { echo rabbitmq-server; }

# Debian's commands in /usr/sbin change to the user `rabbitmq`; those behind them run as anyone.
rabbitmq_find() {
  if [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; then
    rabbitmq_bin=/usr/lib/rabbitmq/bin
  else
    rabbitmq_bin=$(dirname "$(command -v rabbitmq-server)") || return 1
  fi
  command -v epmd >/dev/null
}

rabbitmq_settings() {
  local home=$1 shipped=$PWD/deploy/rabbitmq
  mkdir -p "$home"/{home,data,log,conf.d,definitions}
  cat >"$home/conf.d/tests.conf" <<CONF
stomp.listeners.tcp.1 = 127.0.0.1:$rabbitmq_port
management.tcp.port = $rabbitmq_console
load_definitions = $home/definitions
CONF
  # Loaded in this order: whoever is let in finds all policies in place.
  cp "$shipped/definitions.json" "$home/definitions/1.json"
  sed 's|"password_hash": "REPLACE[^"]*"|"password": "adit"|' "$shipped/users.json" >"$home/definitions/2.json"
  cat >"$home/definitions/3.json" <<'JSON'
{
  "users": [{ "name": "adit", "password": "adit", "tags": "administrator" }],
  "permissions": [
    { "user": "adit", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" }
  ]
}
JSON
}

rabbitmq_start() {
  local home=$run_dir/rabbitmq
  rabbitmq_port=$((first_port + 1))
  rabbitmq_console=$((first_port + 2))
  local names=$((first_port + 3)) nodes=$((first_port + 4))
  rabbitmq_settings "$home"
  # Erlang's name server would otherwise be started by the broker as a daemon, and outlive it.
  ERL_EPMD_ADDRESS=127.0.0.1 launch epmd epmd -port "$names"
  # RUNNING_UNDER_SYSTEMD: the script becomes the broker, instead of a shell that waits for it.
  launch rabbitmq env RUNNING_UNDER_SYSTEMD=yes ERL_CRASH_DUMP_SECONDS=0 \
    HOME="$home/home" PATH="$rabbitmq_bin:$PATH" \
    RABBITMQ_NODENAME=adit@localhost RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/log" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$PWD/deploy/rabbitmq/enabled_plugins" \
    RABBITMQ_CONFIG_FILE="$PWD/deploy/rabbitmq/rabbitmq.conf" RABBITMQ_CONFIG_FILES="$home/conf.d" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$home/none.config" RABBITMQ_CONF_ENV_FILE="$home/none.conf" \
    RABBITMQ_PID_FILE="$home/pid" RABBITMQ_LOGS=- RABBITMQ_DIST_PORT="$nodes" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    ERL_EPMD_PORT="$names" ERL_EPMD_ADDRESS=127.0.0.1 \
    "$rabbitmq_bin/rabbitmq-server"
}

rabbitmq_ready() { stomp_answers "$rabbitmq_port" /; }

rabbitmq_export() {
  export ADIT_TEST_RABBITMQ_URL="stomp://adit:adit@127.0.0.1:$rabbitmq_port"
  export ADIT_TEST_RABBITMQ_CONSOLE_URL="http://adit:adit@127.0.0.1:$rabbitmq_console"
}
