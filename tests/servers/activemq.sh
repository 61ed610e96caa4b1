# shellcheck shell=bash
# ActiveMQ with STOMP, on the settings in deploy/activemq, which are shipped with times of a day and a minute. Here empty
# queues go after five seconds and expired messages after one, so that tests can see it.

activemq_title() { echo ActiveMQ; }
activemq_packages() { echo activemq; }

activemq_find() {
  activemq_home=${ACTIVEMQ_HOME:-/usr/share/activemq}
  [ -f "$activemq_home/bin/activemq.jar" ] && command -v java >/dev/null
}

activemq_start() {
  local home=$run_dir/activemq opens=() package
  activemq_port=$((first_port + 8))
  mkdir -p "$home"/{conf,data,tmp}
  cp deploy/activemq/log4j.properties "$home/conf/"
  sed -e 's|"86400000"|"5000"|; s|"60000"|"1000"|' deploy/activemq/activemq.xml >"$home/conf/activemq.xml"
  printf 'adit.%s.password=adit\n' api packager operator >"$home/conf/credentials.properties"
  for package in lang util net security util.concurrent util.concurrent.atomic; do
    opens+=(--add-opens "java.base/java.$package=ALL-UNNAMED")
  done
  launch activemq java -Xmx512M -XX:-UsePerfData -Djava.io.tmpdir="$home/tmp" "${opens[@]}" \
    -Dlog4j.configuration="file:$home/conf/log4j.properties" \
    -Dactivemq.home="$activemq_home" -Dactivemq.base="$home" -Dactivemq.conf="$home/conf" \
    -Dactivemq.data="$home/data" -Dadit.stomp="127.0.0.1:$activemq_port" \
    -jar "$activemq_home/bin/activemq.jar" start "xbean:file:$home/conf/activemq.xml"
}

activemq_ready() { stomp_answers "$activemq_port" /; }

activemq_export() { export ADIT_TEST_ACTIVEMQ_URL="stomp://adit:adit@127.0.0.1:$activemq_port"; }
