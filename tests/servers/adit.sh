# shellcheck shell=bash
# The program itself, as one process on a folder of the run. Sourced behind common.sh.

# shellcheck disable=SC2317 # `await` calls these by their names
adit_title() { echo adit; }
# shellcheck disable=SC2317
adit_ready() { http_answers "$first_port" /readyz; }

# Builds it, and sets `adit` to its command with the run's folder, and `url` to where it will be.
adit_prepare() {
  unset "${!ADIT_@}"
  build_adit
  # shellcheck disable=SC2154 # common.sh sets them
  adit=("$adit_program" --data "$run_dir/data" --listen "127.0.0.1:$first_port")
  # shellcheck disable=SC2034 # the callers use it
  url=http://127.0.0.1:$first_port
}

adit_start() {
  launch adit "${adit[@]}" up
  await adit
}

# new_key ROLE: prints a key of that role.
new_key() { "${adit[@]}" keys create "$1" --role "$1" | tail -n 1; }
