#!/bin/sh
# Serves what a run has pushed: with tensorflow_model_server if it is on the PATH, otherwise with the
# project's own server. `make serve` calls it.
#
#   serve.sh ROOT PORT REST_PORT PYTHON [FLAG...]    FLAGs are passed to the server
set -eu

root=$1
port=$2
rest_port=$3
python=$4
shift 4
config=$(cd "$(dirname "$0")/config" && pwd)

pushed() {
  for model in "$root"/serving/keras_ae/[0-9]*/saved_model.pb; do
    [ -e "$model" ] && return
  done
  return 1
}

if ! pushed; then
  echo "nothing has been pushed to $root/serving/keras_ae yet: run \`make run\` first; if it did not push, its last lines say why; to serve another run: make serve ROOT=FOLDER" >&2
  exit 1
fi
base_path=$(cd "$root/serving/keras_ae" && pwd)
set -- "--port=$port" "--rest_api_port=$rest_port" --model_name=keras_ae \
  "--model_base_path=$base_path" "--monitoring_config_file=$config/monitoring.config" "$@"

if server=$(command -v tensorflow_model_server); then
  echo "serving $base_path with TensorFlow Serving ($server): gRPC on port $port, REST on port $rest_port, on all interfaces"
  exec tensorflow_model_server "$@"
fi
echo "serving $base_path with the local server (no tensorflow_model_server on the PATH): gRPC on port $port, REST on port $rest_port"
exec "$python" -m serving.server "$@"
