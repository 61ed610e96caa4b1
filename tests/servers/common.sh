# shellcheck shell=bash
# What all test servers share: the temporary folder, free ports, installing, waiting, stopping; and what the tests in Python share.
# Sourced by scripts that say in `program` who speaks.
# Nothing here knows a server by name. Written for bash 3.2 (macOS) and later.
#
# A server NAME has a file NAME.sh that defines
#   NAME_title            what people call it
#   NAME_packages         the Debian packages that bring it
#   NAME_find             is it on this machine? keeps in variables what NAME_start needs
#   NAME_install          (optional) how to get it where NAME_packages alone do not
#   NAME_start            launches it with `launch`, which must not wait for it
#   NAME_ready            asks it whether it serves, once
#   NAME_export           tells the tests where it is
#   stop_signal_NAME      (optional) what makes it end soon, where TERM does not
#   kill_signal_NAME      (optional) what ends it without order, where KILL leaves something behind

run_dir=        # the run's temporary folder, while there is one
first_port=     # the first port of the run's block
launched=()     # names of the servers that were launched
skipped=()      # one line for each server that was not
failed_server=  # the server that stopped this run
refused_starts= # the policy-rc.d that `install_packages` wrote

# How long a server may take until it answers, in seconds. Loaded machines are slow; a broken server says so at once.
readonly start_deadline=120
readonly port_block=32

say() { printf '%s: %s\n' "$program" "$*"; }

fail() {
  printf '%s: %s\n' "$program" "$*" >&2
  exit 1
}

open_run_dir() {
  run_dir=$(mktemp -d "${TMPDIR:-/tmp}/adit-tests.XXXXXX")
  chmod 711 "$run_dir" # PostgreSQL's user must be able to walk through
  reserve_ports
}

# Runs at every exit: ends the servers, keeps their logs if anything failed (not if somebody ended it), removes the rest.
close_run_dir() {
  local status=$? logs
  if [ -z "$run_dir" ]; then return; fi
  trap '' INT TERM HUP
  if [ -n "$refused_starts" ]; then rm -f "$refused_starts"; fi
  stop_servers
  if [ "$status" -ne 0 ] && [ "$status" -lt 129 ] && compgen -G "$run_dir/*.log" >/dev/null; then
    logs=$(mktemp -d "${TMPDIR:-/tmp}/adit-tests-logs.XXXXXX")
    mv "$run_dir"/*.log "$logs"
    if [ -n "$failed_server" ]; then
      printf -- '--- the end of %s.log ---\n' "$failed_server" >&2
      tail -n 30 "$logs/$failed_server.log" >&2
    fi
    printf '%s: failed; the logs of its servers are in %s\n' "$program" "$logs" >&2
  fi
  rm -rf "$run_dir" "${TMPDIR:-/tmp}/adit-tests.$UID.$first_port.lock"
}

# --- ports ---

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

block_is_free() {
  local port
  for ((port = first_port; port < first_port + port_block; port++)); do
    # SeaweedFS takes a second port 10,000 above each of its own.
    port_is_free "$port" && port_is_free "$((port + 10000))" || return 1
  done
}

# Finds a block of free ports below those that the system hands to outgoing connections. The lock keeps two runs apart that
# look at the same moment; servers inherit it, so a block stays taken for as long as one of them lives.
reserve_ports() {
  local try
  for ((try = 0; try < 50; try++)); do
    first_port=$((11000 + port_block * (RANDOM % 250)))
    exec 9>"${TMPDIR:-/tmp}/adit-tests.$UID.$first_port.lock"
    if command -v flock >/dev/null && ! flock -n 9; then continue; fi
    if block_is_free; then return; fi
  done
  fail "no block of $port_block free ports between 11000 and 19000 after $try tries"
}

# --- installing ---

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# have_server NAME: is it here, perhaps now that it has been installed? If not, notes why.
have_server() {
  local name=$1 title packages
  if "${name}_find"; then return; fi
  title=$("${name}_title")
  packages=$("${name}_packages")
  if declare -F "${name}_install" >/dev/null; then
    "${name}_install" || true
  elif can_install; then
    # shellcheck disable=SC2086 # a list of words
    install_packages "$name" $packages || true
  else
    skip "$title" "it is not installed, and only root with apt-get can install it" "install $packages"
    return 1
  fi
  if "${name}_find"; then return; fi
  skip "$title" "not found after installing it: $(tail -n 1 "$run_dir/$name.log")" "install $packages"
  return 1
}

# install_packages NAME PACKAGE…: Debian packages, without starting the services that they bring.
install_packages() {
  local log=$run_dir/$1.log
  shift
  say "installing $*"
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    refused_starts=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$refused_starts"
    chmod 755 "$refused_starts"
  fi
  local status=0
  {
    apt-get -o DPkg::Lock::Timeout=300 update &&
      DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
  } </dev/null >>"$log" 2>&1 || status=$?
  if [ -n "$refused_starts" ]; then
    rm -f "$refused_starts"
    refused_starts=
  fi
  return "$status"
}

# python_tools NAME REQUIREMENTS: sets `venv` to a virtual environment with exactly these packages, which is named after them, kept
# for later runs and moved to its place when it is whole. False where there can be none; why stands in install.log.
python_tools() {
  local fresh log=$run_dir/install.log
  venv=${ADIT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adit-tests}/$1-$(cksum <"$2" | cut -d' ' -f1)
  if [ -x "$venv/bin/python" ]; then return; fi
  mkdir -p "$(dirname "$venv")"
  fresh=$(mktemp -d "$venv.XXXXXX")
  say "installing $1 into $venv"
  if ! make_venv "$fresh" && can_install; then
    if install_packages install python3-venv; then make_venv "$fresh" || true; fi
  fi
  if [ -x "$fresh/bin/pip" ] && "$fresh/bin/pip" install --require-hashes --no-deps -r "$2" >>"$log" 2>&1; then
    mv -T "$fresh" "$venv" 2>>"$log" || true
  fi
  rm -rf "$fresh"
  [ -x "$venv/bin/python" ]
}

make_venv() { python3 -m venv --clear "$1" >>"$run_dir/install.log" 2>&1; }

# need_python_tools WHAT NAME REQUIREMENTS OLDEST: ends the run where there are none: well on a developer's machine, badly in CI.
need_python_tools() {
  if python_tools "$2" "$3"; then return; fi
  skip "$1" "$2 cannot be installed: $(tail -n 1 "$run_dir/install.log")" \
    "install Python $4 or later with venv, and see that pip reaches its index"
  if [ "${CI:-}" = true ]; then fail 'in CI they must run'; fi
  exit 0
}

# Builds the program, and sets `adit_program` to where it is.
build_adit() {
  cargo build --locked -p adit
  # shellcheck disable=SC2034 # the callers use it
  adit_program=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/adit
}

# skip SERVER WHY REMEDY
skip() {
  skipped+=("skipped: $1 ($2; $3)")
  printf '%s\n' "${skipped[${#skipped[@]} - 1]}"
}

print_skipped() {
  if [ ${#skipped[@]} -gt 0 ]; then printf '%s\n' "${skipped[@]}"; fi
}

# --- starting, waiting, stopping ---

# launch NAME COMMAND…: in the background, with its output in NAME.log. The process must be the server itself.
launch() {
  local name=$1
  shift
  "$@" </dev/null >>"$run_dir/$name.log" 2>&1 &
  printf -v "pid_$name" %s "$!"
  disown # or bash would report its end
  launched+=("$name")
}

pid_of() {
  local variable=pid_$1
  printf %s "${!variable}"
}

is_running() { kill -0 "$(pid_of "$1")" 2>/dev/null; }

# poll CONDITION…: until it holds; false when it did not within the deadline.
poll() {
  local deadline=$((SECONDS + start_deadline))
  until "$@"; do
    if [ "$SECONDS" -ge "$deadline" ]; then return 1; fi
    sleep 0.1
  done
}

ready_or_ended() { "$1_ready" || ! is_running "$1"; }

# await NAME: until it answers; ends the run when it does not.
await() {
  if poll ready_or_ended "$1" && is_running "$1"; then return; fi
  failed_server=$1
  if is_running "$1"; then fail "$("$1_title") did not answer within $start_deadline s"; fi
  fail "$("$1_title") ended instead of starting"
}

# A server that ended while the tests ran explains failures that look like the tests' own.
check_servers() {
  local name
  for name in ${launched[@]+"${launched[@]}"}; do
    if ! is_running "$name"; then
      failed_server=$name
      printf '%s: %s ended while the tests ran\n' "$program" "$name" >&2
      return 1
    fi
  done
}

all_ended() {
  local name
  for name in "${launched[@]}"; do
    if is_running "$name"; then return 1; fi
  done
}

# Asks all servers to end, and ends those that have not after 15 seconds.
stop_servers() {
  local name signal deadline=$((SECONDS + 15))
  if [ ${#launched[@]} -eq 0 ]; then return; fi
  for name in "${launched[@]}"; do
    signal=stop_signal_$name
    kill "-${!signal:-TERM}" "$(pid_of "$name")" 2>/dev/null || true
  done
  until all_ended || [ "$SECONDS" -ge "$deadline" ]; do sleep 0.1; done
  for name in "${launched[@]}"; do
    kill -KILL "$(pid_of "$name")" 2>/dev/null || true
  done
  poll all_ended
}

# --- asking ---

# stomp_answers PORT VHOST: does a STOMP broker let the tests' user in?
stomp_answers() {
  local line=
  {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'CONNECT\naccept-version:1.2\nhost:%s\nlogin:adit\npasscode:adit\n\n\0' "$2" >&3
    IFS= read -r -t 5 line <&3 || true
    exec 3>&-
  } 2>/dev/null
  [ "$line" = CONNECTED ]
}

# http_answers PORT PATH: does an HTTP server answer 200?
http_answers() {
  local line=
  {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
    IFS= read -r -t 5 line <&3 || true
    exec 3>&-
  } 2>/dev/null
  case $line in HTTP/1.?' 200 '*) return 0 ;; *) return 1 ;; esac
}
